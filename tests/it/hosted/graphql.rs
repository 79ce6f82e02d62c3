//! GitHub's published GraphQL schema against what our client asks there and what the double answers: a reader for
//! as much of the language as we write. The schema is fetched, not kept here (see `published.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::Value;

/// The schema, as the introspection of it says.
pub(super) struct Schema {
    types: BTreeMap<String, Value>,
    roots: BTreeMap<&'static str, String>,
}

/// A value in a query.
enum Given {
    Variable(String),
    Word(String),
    Number,
    Text,
    List(Vec<Given>),
    Object(Vec<(String, Given)>),
}

struct Words<'a>(std::iter::Peekable<std::vec::IntoIter<&'a str>>);

/// The schema, if there is one.
pub(super) fn schema() -> Option<&'static Schema> {
    static ALL: OnceLock<Option<Schema>> = OnceLock::new();
    ALL.get_or_init(|| {
        let directory = PathBuf::from(std::env::var_os("TOWPATH_TEST_API_DESCRIPTIONS")?);
        let text = std::fs::read(directory.join("github-graphql.json")).ok()?;
        Some(Schema::new(&serde_json::from_slice(&text).unwrap()))
    })
    .as_ref()
}

impl Schema {
    fn new(root: &Value) -> Self {
        let root = &root["__schema"];
        let name = |it: &Value| it["name"].as_str().unwrap_or_default().to_owned();
        let types = root["types"].as_array().unwrap().iter();
        let types = types.map(|it| (name(it), it.clone())).collect();
        let roots = [("query", "queryType"), ("mutation", "mutationType")];
        Self { types, roots: roots.map(|(word, key)| (word, name(&root[key]))).into() }
    }

    /// What is wrong with a question and its answer.
    pub(super) fn hold(&self, body: &str, answer: &Value) -> Vec<String> {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let query = body["query"].as_str().unwrap_or_default();
        let mut wrong = Vec::new();
        let mut words = Words::new(query);
        let Some(root) = self.roots.get(words.next()).cloned() else {
            return vec![format!("neither query nor mutation: {query}")];
        };
        let mut variables = BTreeMap::new();
        if words.takes("(") {
            while !words.takes(")") {
                words.expect("$");
                let name = words.next().to_owned();
                words.expect(":");
                variables.insert(name, words.kind());
            }
        }
        for (name, kind) in &variables {
            match body["variables"].get(name) {
                Some(value) => self.fits(kind, value, name, &mut wrong),
                None if kind.ends_with('!') => wrong.push(format!("${name} is not given")),
                None => {}
            }
        }
        let data = Some(&answer["data"]).filter(|it| !it.is_null());
        words.expect("{");
        self.selection(&mut words, &root, &variables, data, &mut BTreeSet::new(), &mut wrong);
        wrong
    }

    /// A value of JSON as a variable of a type.
    fn fits(&self, kind: &str, value: &Value, at: &str, wrong: &mut Vec<String>) {
        let bare = kind.trim_end_matches('!');
        let good = match (bare.strip_prefix('['), value) {
            (_, Value::Null) => kind == bare,
            (Some(inner), Value::Array(all)) => {
                let inner = inner.trim_end_matches(']');
                all.iter().for_each(|it| self.fits(inner, it, at, wrong));
                true
            }
            (None, Value::String(text)) => match bare {
                "GitObjectID" => text.len() == 40,
                _ => matches!(bare, "ID" | "String"),
            },
            (None, Value::Number(_)) => bare == "Int",
            _ => false,
        };
        if !good || !self.types.contains_key(bare.trim_matches(['[', ']', '!'])) {
            wrong.push(format!("${at}: {kind} does not take {value}"));
        }
    }

    fn field(&self, of: &str, name: &str) -> Option<&Value> {
        self.types.get(of)?["fields"].as_array()?.iter().find(|it| it["name"] == name)
    }

    /// The fields behind `{`, until `}`. `data` is what was answered, if anything was.
    fn selection(
        &self,
        words: &mut Words<'_>,
        of: &str,
        variables: &BTreeMap<String, String>,
        data: Option<&Value>,
        seen: &mut BTreeSet<String>,
        wrong: &mut Vec<String>,
    ) {
        while !words.takes("}") {
            if words.takes("...") {
                words.expect("on");
                let kind = words.next().to_owned();
                words.expect("{");
                // Which of the fragments an answer is about, its `__typename` says, or its kind of node.
                let named = data.and_then(|it| it.get("__typename")).and_then(Value::as_str);
                let data = data.filter(|_| named.is_none_or(|it| it == kind));
                self.selection(words, &kind, variables, data, seen, wrong);
                continue;
            }
            let name = words.next().to_owned();
            let answer = data.map(|it| (it, it.get(&name)));
            seen.insert(name.clone());
            if name == "__typename" {
                continue;
            }
            let Some(field) = self.field(of, &name) else {
                wrong.push(format!("{of}.{name} does not exist"));
                return;
            };
            self.arguments(words, &field["args"], variables, &format!("{of}.{name}"), wrong);
            let (kind, inner) = named(&field["type"]);
            if let Some((_, None)) = answer {
                wrong.push(format!("{of}.{name} was asked for and not answered"));
            }
            if matches!(answer, Some((_, Some(Value::Null)))) && kind.ends_with('!') {
                wrong.push(format!("{of}.{name} is never null"));
            }
            if words.takes("{") {
                let answer = answer.and_then(|(_, it)| it).filter(|it| !it.is_null());
                self.answers(words, &inner, variables, answer, &format!("{of}.{name}"), wrong);
            } else if let Some(value) = answer.and_then(|(_, it)| it).and_then(Value::as_str) {
                let words = self.types[&inner]["enumValues"].as_array();
                if words.is_some_and(|all| all.iter().all(|it| it["name"] != value)) {
                    wrong.push(format!("{of}.{name} is never {value}"));
                }
            }
        }
    }

    fn answers(
        &self,
        words: &mut Words<'_>,
        inner: &str,
        variables: &BTreeMap<String, String>,
        answer: Option<&Value>,
        at: &str,
        wrong: &mut Vec<String>,
    ) {
        let all: Vec<Option<&Value>> = match answer {
            Some(Value::Array(all)) => all.iter().filter(|it| !it.is_null()).map(Some).collect(),
            other => vec![other],
        };
        let rest = words.0.clone();
        for one in if all.is_empty() { vec![None] } else { all } {
            words.0 = rest.clone();
            let mut seen = BTreeSet::new();
            self.selection(words, inner, variables, one, &mut seen, wrong);
            for key in one.and_then(Value::as_object).into_iter().flat_map(|it| it.keys()) {
                if !seen.contains(key) {
                    wrong.push(format!("{at}.{key} was answered and not asked for"));
                }
            }
        }
    }

    fn arguments(
        &self,
        words: &mut Words<'_>,
        known: &Value,
        variables: &BTreeMap<String, String>,
        at: &str,
        wrong: &mut Vec<String>,
    ) {
        let given = if words.takes("(") { words.pairs(")") } else { Vec::new() };
        self.inputs(known, &given, variables, at, wrong);
    }

    fn inputs(
        &self,
        known: &Value,
        given: &[(String, Given)],
        variables: &BTreeMap<String, String>,
        at: &str,
        wrong: &mut Vec<String>,
    ) {
        let known = known.as_array().cloned().unwrap_or_default();
        for (name, value) in given {
            match known.iter().find(|it| it["name"] == name.as_str()) {
                Some(it) => {
                    let (kind, inner) = named(&it["type"]);
                    self.input(&kind, &inner, value, variables, &format!("{at}({name})"), wrong);
                }
                None => wrong.push(format!("{at} takes no {name}")),
            }
        }
        for needed in known.iter().filter(|it| it["type"]["kind"] == "NON_NULL") {
            let name = needed["name"].as_str().unwrap();
            let default = !needed["defaultValue"].is_null();
            if !default && !given.iter().any(|(it, _)| it == name) {
                wrong.push(format!("{at} needs {name}"));
            }
        }
    }

    fn input(
        &self,
        kind: &str,
        inner: &str,
        value: &Given,
        variables: &BTreeMap<String, String>,
        at: &str,
        wrong: &mut Vec<String>,
    ) {
        let of = &self.types[inner];
        let good = match value {
            Given::Variable(name) => variables
                .get(name)
                .is_some_and(|it| it == kind || it.strip_suffix('!').is_some_and(|it| it == kind)),
            Given::Word(word) => of["enumValues"]
                .as_array()
                .is_some_and(|all| all.iter().any(|it| it["name"] == word.as_str())),
            Given::Number => inner == "Int",
            Given::Text => matches!(inner, "String" | "ID"),
            Given::List(all) => {
                all.iter().for_each(|it| self.input(inner, inner, it, variables, at, wrong));
                kind.starts_with('[')
            }
            Given::Object(all) => {
                self.inputs(&of["inputFields"], all, variables, at, wrong);
                of["kind"] == "INPUT_OBJECT"
            }
        };
        if !good {
            wrong.push(format!("{at} is of {kind}"));
        }
    }
}

/// How a type is written, and its name without anything around.
fn named(of: &Value) -> (String, String) {
    match of["kind"].as_str() {
        Some("NON_NULL") => {
            let (kind, name) = named(&of["ofType"]);
            (format!("{kind}!"), name)
        }
        Some("LIST") => {
            let (kind, name) = named(&of["ofType"]);
            (format!("[{kind}]"), name)
        }
        _ => {
            let name = of["name"].as_str().unwrap_or_default().to_owned();
            (name.clone(), name)
        }
    }
}

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Self {
        let mut all = Vec::new();
        let mut rest = text;
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            let Some(first) = rest.chars().next() else { break };
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let length = match first {
                '.' => 3,
                '"' => rest[1..].find('"').unwrap() + 2,
                _ if word(first) => rest.find(|c| !word(c)).unwrap_or(rest.len()),
                _ => 1,
            };
            let (one, more) = rest.split_at(length);
            all.push(one);
            rest = more;
        }
        Self(all.into_iter().peekable())
    }

    fn next(&mut self) -> &'a str {
        self.0.next().expect("the query ends too early")
    }

    fn takes(&mut self, word: &str) -> bool {
        self.0.next_if(|it| *it == word).is_some()
    }

    fn expect(&mut self, word: &str) {
        assert_eq!(self.next(), word, "in a query of ours");
    }

    /// A type as it is written.
    fn kind(&mut self) -> String {
        let mut kind = String::new();
        if self.takes("[") {
            kind = format!("[{}]", self.kind());
            self.expect("]");
        } else {
            kind.push_str(self.next());
        }
        if self.takes("!") {
            kind.push('!');
        }
        kind
    }

    fn pairs(&mut self, end: &str) -> Vec<(String, Given)> {
        let mut all = Vec::new();
        while !self.takes(end) {
            let name = self.next().to_owned();
            self.expect(":");
            all.push((name, self.given()));
        }
        all
    }

    fn given(&mut self) -> Given {
        match self.next() {
            "$" => Given::Variable(self.next().to_owned()),
            "{" => Given::Object(self.pairs("}")),
            "[" => {
                let mut all = Vec::new();
                while !self.takes("]") {
                    all.push(self.given());
                }
                Given::List(all)
            }
            text if text.starts_with('"') => Given::Text,
            number if number.starts_with(|c: char| c.is_ascii_digit()) => Given::Number,
            word => Given::Word(word.to_owned()),
        }
    }
}

#[test]
fn a_schema_finds_what_does_not_fit() {
    let named = |kind: &str, name: &str| serde_json::json!({ "kind": kind, "name": name });
    let must = |of: Value| serde_json::json!({ "kind": "NON_NULL", "ofType": of });
    let (id, int) = (named("SCALAR", "ID"), named("SCALAR", "Int"));
    let schema = Schema::new(&serde_json::json!({ "__schema": {
        "queryType": { "name": "Query" }, "mutationType": { "name": "Mutation" },
        "types": [
            { "name": "Query", "fields": [{ "name": "pull", "type": named("OBJECT", "Pull"),
                "args": [{ "name": "id", "type": must(id.clone()) }, { "name": "how", "type": named("ENUM", "How") }] }] },
            { "name": "Pull", "fields": [{ "name": "number", "type": must(int.clone()), "args": [] }] },
            { "name": "How", "enumValues": [{ "name": "WELL" }] },
            { "name": "ID" }, { "name": "Int" },
        ],
    } }));
    let held = |query: &str, variables: Value, answer: Value| {
        let body = serde_json::json!({ "query": query, "variables": variables }).to_string();
        schema.hold(&body, &answer).join("; ")
    };
    let good = "query($id: ID!) { pull(id: $id, how: WELL) { number } }";
    let is = |data: Value| serde_json::json!({ "data": { "pull": data } });
    let (one, fine) = (serde_json::json!({ "id": "a" }), is(serde_json::json!({ "number": 1 })));
    assert_eq!(held(good, one.clone(), fine.clone()), "");
    assert_eq!(held(good, serde_json::json!({}), fine.clone()), "$id is not given");
    assert_eq!(
        held(good, serde_json::json!({ "id": 7 }), fine.clone()),
        "$id: ID! does not take 7"
    );
    let said = |query: &str| held(query, one.clone(), is(Value::Null));
    assert_eq!(said(&good.replace("WELL", "BADLY")), "Query.pull(how) is of How");
    assert_eq!(said(&good.replace("id: $id, ", "")), "Query.pull needs id");
    assert_eq!(said(&good.replace("how:", "who:")), "Query.pull takes no who");
    assert_eq!(said(&good.replace("number", "title")), "Pull.title does not exist");
    assert_eq!(said(&good.replace("ID!", "ID")), "Query.pull(id) is of ID!");
    assert_eq!(
        held(good, one.clone(), is(serde_json::json!({ "title": "x" }))),
        "Pull.number was asked for and not answered; Query.pull.title was answered and not asked for"
    );
    assert_eq!(
        held(good, one, is(serde_json::json!({ "number": null }))),
        "Pull.number is never null"
    );
}
