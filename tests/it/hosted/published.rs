//! The forges' own published descriptions of their APIs against what our clients ask and what the doubles
//! answer. They are fetched, not kept here: `tests/published/fetch.sh DIR` brings them, and with
//! `TOWPATH_TEST_API_DESCRIPTIONS=DIR` every call in every test of this directory is held against them, and
//! every answer is filled up with whatever else the description says is always there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use serde_json::{Map, Value, json};

use super::double_calls::Answer;
use super::gitlab_double::Face;

/// How deep an answer that is filled up may go.
const DEEP_MAX: usize = 7;
/// What the layers around an operation answer, whatever it is: who are you, you may not, too much.
const ANYWHERE: [u16; 4] = [401, 403, 404, 429];

/// One forge's description: `OpenAPI` 3 or Swagger 2.
pub(crate) struct Description {
    root: Value,
    /// Before every path, as the description writes it.
    prefix: &'static str,
    /// Swagger 2 cannot say that something may be `null`.
    nulls: bool,
}

/// One call, as it was sent.
#[derive(Clone, Copy)]
pub(crate) struct Said<'a> {
    pub(crate) verb: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a BTreeMap<String, String>,
    pub(crate) body: &'a str,
}

/// How often each operation was asked for, over all tests of this process.
static SEEN: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

fn directory() -> Option<PathBuf> {
    std::env::var_os("TOWPATH_TEST_API_DESCRIPTIONS").map(PathBuf::from)
}

/// The description of a forge, if there is one.
pub(crate) fn of(face: Face) -> Option<&'static Description> {
    static ALL: OnceLock<Vec<Option<Description>>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let load = |name: &str, prefix, nulls| {
            let text = std::fs::read(directory()?.join(name)).ok()?;
            let root = serde_json::from_slice(&text).unwrap();
            Some(Description { root, prefix, nulls })
        };
        vec![
            load("gitlab.json", "/api/v4", false),
            load("github.json", "", false),
            load("forgejo.json", "", true),
        ]
    });
    all[face as usize].as_ref()
}

impl Description {
    /// What is wrong with a call and its answer; and fills the answer up.
    pub(crate) fn hold(&self, said: Said<'_>, answer: &mut Answer) -> Vec<String> {
        let path = format!("{}{}", self.prefix, said.path);
        let Some((template, operation)) = self.operation(said.verb, &path) else {
            return vec![format!("{} {path} is not in the description", said.verb)];
        };
        let name = format!("{} {template}", said.verb);
        *SEEN.lock().unwrap().entry(name.clone()).or_default() += 1;
        let mut wrong = Vec::new();
        self.request(operation, said, &mut wrong);
        self.answer(operation, answer, &mut wrong);
        wrong.into_iter().map(|it| format!("{name}: {it}")).collect()
    }

    fn follow<'a>(&'a self, mut value: &'a Value) -> &'a Value {
        while let Some(name) = value.get("$ref").and_then(Value::as_str) {
            let pointer = name.trim_start_matches('#');
            value = self.root.pointer(pointer).unwrap_or_else(|| panic!("{name} is nowhere"));
        }
        value
    }

    /// The template that fits a path with the fewest variables.
    fn operation(&self, verb: &str, path: &str) -> Option<(&str, &Value)> {
        let words: Vec<&str> = path.split('/').collect();
        let fits = |template: &str| {
            let parts: Vec<&str> = template.split('/').collect();
            let same = |(part, word): (&&str, &&str)| part.starts_with('{') || part == word;
            // The name of a ref may have slashes, and a path has.
            let ends = ["/git/refs/{ref}", "/contents/{path}"];
            let long = ends.iter().any(|it| template.ends_with(it)) && words.len() > parts.len();
            (parts.len() == words.len() || long) && parts.iter().zip(&words).all(same)
        };
        let paths = self.root["paths"].as_object().unwrap().iter();
        let found = paths.filter(|(template, _)| fits(template)).filter_map(|(template, all)| {
            Some((template.as_str(), all.get(verb.to_ascii_lowercase())?))
        });
        found.min_by_key(|(template, _)| template.matches('{').count())
    }

    fn request(&self, operation: &Value, said: Said<'_>, wrong: &mut Vec<String>) {
        let all = operation["parameters"].as_array().cloned().unwrap_or_default();
        let all: Vec<&Value> = all.iter().map(|it| self.follow(it)).cloned().map(leak).collect();
        for (name, value) in said.query {
            let known = all.iter().find(|it| it["in"] == "query" && it["name"] == name.as_str());
            let Some(known) = known else {
                wrong.push(format!("the query parameter `{name}` does not exist"));
                continue;
            };
            // Swagger 2 has no schema around it.
            let schema = known.get("schema").unwrap_or(known);
            let schema = self.follow(schema);
            // A range of dates is written with a sign before one, which the format does not say.
            let ranges =
                known["description"].as_str().is_some_and(|it| it.contains("date-time range"));
            let value = value.strip_prefix(">=").filter(|_| ranges).unwrap_or(value);
            let value = match schema["type"].as_str() {
                Some("integer") => value.parse::<i64>().map_or(json!(value), Value::from),
                Some("boolean") => value.parse::<bool>().map_or(json!(value), Value::from),
                _ => json!(value),
            };
            self.fits(schema, &value, &format!("?{name}"), wrong);
        }
        let body = self.body(operation, &all);
        let sent: Value = serde_json::from_str(said.body).unwrap_or(Value::Null);
        // An empty object where nothing is expected is no more than nothing.
        let nothing = sent.is_null() || sent.as_object().is_some_and(Map::is_empty);
        match body {
            None if nothing => {}
            None => wrong.push("it takes no body".to_owned()),
            Some(_) if sent.is_null() => {}
            Some(schema) => {
                self.fits(schema, &sent, "body", wrong);
                let mut missing = Vec::new();
                self.missing(schema, &sent, "body", &mut missing);
                wrong.extend(missing.into_iter().map(|it| format!("{it} is required")));
            }
        }
    }

    fn body<'a>(&'a self, operation: &'a Value, parameters: &[&'a Value]) -> Option<&'a Value> {
        if let Some(body) = operation.get("requestBody") {
            let body = self.follow(body);
            return body.pointer("/content/application~1json/schema").map(|it| self.follow(it));
        }
        let body = parameters.iter().find(|it| it["in"] == "body")?;
        Some(self.follow(&body["schema"]))
    }

    fn answer(&self, operation: &Value, answer: &mut Answer, wrong: &mut Vec<String>) {
        let status = answer.status;
        let Some(found) = operation["responses"].get(status.to_string()) else {
            if !ANYWHERE.contains(&status) {
                wrong.push(format!("it never answers {status}"));
            }
            return;
        };
        let found = self.follow(found);
        let schema = found
            .pointer("/content/application~1json/schema")
            .or_else(|| found.get("schema"))
            .map(|it| self.follow(it));
        let Some(schema) = schema.filter(|_| status < 300) else { return };
        // "One if the name is exact, else a list" is what Swagger 2 cannot say.
        let one = schema["type"] == "array" && answer.body.is_object();
        let schema = if one && of_refs(operation) { &schema["items"] } else { schema };
        self.fits(schema, &answer.body, "answer", wrong);
        self.fill(schema, &mut answer.body, 0);
        let mut missing = Vec::new();
        self.missing(schema, &answer.body, "answer", &mut missing);
        wrong.extend(missing.into_iter().map(|it| format!("{it} is always there")));
    }

    /// All properties that an object may have.
    fn properties<'a>(&'a self, schema: &'a Value, all: &mut BTreeMap<&'a str, &'a Value>) {
        for (name, of) in schema["properties"].as_object().into_iter().flatten() {
            all.insert(name, of);
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.properties(self.follow(part), all);
        }
    }

    fn required<'a>(&'a self, schema: &'a Value, all: &mut BTreeSet<&'a str>) {
        let names = schema["required"].as_array().into_iter().flatten();
        all.extend(names.filter_map(Value::as_str));
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.required(self.follow(part), all);
        }
    }

    /// The alternatives of a schema that has some.
    fn either<'a>(&'a self, schema: &'a Value) -> Option<Vec<&'a Value>> {
        let all = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
        // GitHub says "at least one of these must be there" in the same way.
        let all = all.iter().filter(|it| it.get("required").is_none() || it.get("type").is_some());
        let all: Vec<&Value> = all.map(|it| self.follow(it)).collect();
        (!all.is_empty() && schema.get("properties").is_none()).then_some(all)
    }

    /// Whether a value is of the type and has nothing that is not described.
    fn fits(&self, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
        let schema = self.follow(schema);
        if value.is_null() {
            if !self.takes_null(schema) {
                wrong.push(format!("{at} is never null"));
            }
            return;
        }
        if let Some(all) = self.either(schema) {
            let tried = all.iter().map(|it| {
                let mut found = Vec::new();
                self.fits(it, value, at, &mut found);
                found
            });
            if let Some(best) = tried.min_by_key(Vec::len) {
                wrong.extend(best);
            }
            return;
        }
        let kinds: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(it) if it.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let is = |it: &&str| *it == kind || (*it == "number" && kind == "integer");
        if !kinds.is_empty() && !kinds.iter().any(is) {
            return wrong.push(format!("{at} is of {kinds:?}, not {kind}"));
        }
        if let Some(words) = schema["enum"].as_array()
            && !words.contains(value)
        {
            wrong.push(format!("{at} is never {value}"));
        }
        if schema["format"] == "date-time"
            && let Some(text) = value.as_str()
            && text.parse::<jiff::Timestamp>().is_err()
        {
            wrong.push(format!("{at} is no date: {text}"));
        }
        if let Some(longest) = schema["maxLength"].as_u64()
            && value.as_str().is_some_and(|it| it.chars().count() as u64 > longest)
        {
            wrong.push(format!("{at} is longer than {longest}"));
        }
        for (number, one) in value.as_array().into_iter().flatten().enumerate() {
            self.fits(&schema["items"], one, &format!("{at}[{number}]"), wrong);
        }
        if let Some(map) = value.as_object() {
            if let Some(most) = schema["maxProperties"].as_u64().filter(|it| map.len() as u64 > *it)
            {
                wrong.push(format!("{at} has more than {most} entries"));
            }
            let mut known = BTreeMap::new();
            self.properties(schema, &mut known);
            let more = schema.get("additionalProperties").is_some_and(|it| *it != json!(false));
            for (name, one) in map {
                match known.get(name.as_str()) {
                    Some(of) => self.fits(of, one, &format!("{at}.{name}"), wrong),
                    None if known.is_empty() || more => {}
                    None => wrong.push(format!("{at}.{name} does not exist")),
                }
            }
        }
    }

    fn takes_null(&self, schema: &Value) -> bool {
        let schema = self.follow(schema);
        self.nulls
            || schema["nullable"] == true
            || schema["type"].as_array().is_some_and(|it| it.contains(&json!("null")))
            || schema["type"] == "null"
            || (schema.get("type").is_none() && schema.get("properties").is_none())
            || self.either(schema).is_some_and(|all| all.iter().any(|it| self.takes_null(it)))
    }

    /// Properties that are required and not there.
    fn missing(&self, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
        let schema = self.follow(schema);
        if let Some(all) = self.either(schema) {
            let tried = all.iter().map(|it| {
                let (mut odd, mut found) = (Vec::new(), Vec::new());
                self.fits(it, value, at, &mut odd);
                self.missing(it, value, at, &mut found);
                (odd.len() + found.len(), found)
            });
            if let Some((_, best)) = tried.min_by_key(|it| it.0) {
                found.extend(best);
            }
            return;
        }
        for (number, one) in value.as_array().into_iter().flatten().enumerate() {
            self.missing(&schema["items"], one, &format!("{at}[{number}]"), found);
        }
        let Some(map) = value.as_object() else { return };
        let (mut known, mut required) = (BTreeMap::new(), BTreeSet::new());
        self.properties(schema, &mut known);
        self.required(schema, &mut required);
        for name in required {
            match (map.get(name), known.get(name)) {
                (None, _) => found.push(format!("{at}.{name}")),
                (Some(one), Some(of)) => self.missing(of, one, &format!("{at}.{name}"), found),
                (Some(_), None) => {}
            }
        }
    }

    /// Adds what is always there and was not given, as small as it may be.
    fn fill(&self, schema: &Value, value: &mut Value, deep: usize) {
        let schema = self.follow(schema);
        if deep > DEEP_MAX {
            return;
        }
        if let Some(all) = self.either(schema) {
            let best = all.into_iter().min_by_key(|it| {
                let mut odd = Vec::new();
                self.fits(it, value, "", &mut odd);
                odd.len()
            });
            if let Some(best) = best {
                self.fill(best, value, deep);
            }
            return;
        }
        for one in value.as_array_mut().into_iter().flatten() {
            self.fill(&schema["items"], one, deep + 1);
        }
        let Some(map) = value.as_object_mut() else { return };
        let (mut known, mut required) = (BTreeMap::new(), BTreeSet::new());
        self.properties(schema, &mut known);
        self.required(schema, &mut required);
        for name in required {
            let Some(of) = known.get(name) else { continue };
            match map.get_mut(name) {
                Some(one) => self.fill(of, one, deep + 1),
                None => drop(map.insert(name.to_owned(), self.smallest(of, deep + 1))),
            }
        }
    }

    fn smallest(&self, schema: &Value, deep: usize) -> Value {
        let schema = self.follow(schema);
        if self.takes_null(schema) {
            return Value::Null;
        }
        if let Some(first) = schema["enum"].as_array().and_then(|it| it.first()) {
            return first.clone();
        }
        if let Some(all) = self.either(schema) {
            return self.smallest(all[0], deep);
        }
        match schema["type"].as_str() {
            Some("string") if schema["format"] == "date-time" => json!("2026-11-21T00:00:00Z"),
            Some("string") => json!("x"),
            Some("integer" | "number") => json!(1),
            Some("boolean") => json!(false),
            Some("array") => json!([]),
            _ => {
                let mut made = Value::Object(Map::new());
                self.fill(schema, &mut made, deep);
                made
            }
        }
    }
}

fn of_refs(operation: &Value) -> bool {
    operation["operationId"] == "repoListGitRefs"
}

/// Parameters are few, and the test ends soon.
fn leak(value: Value) -> &'static Value {
    Box::leak(Box::new(value))
}

#[test]
fn a_description_finds_what_does_not_fit() {
    let root = json!({
        "paths": { "/pulls/{n}/merge": { "put": {
            "parameters": [{ "name": "page", "in": "query", "schema": { "type": "integer" } }],
            "requestBody": { "content": { "application/json": { "schema": { "$ref": "#/s/merge" } } } },
            "responses": { "200": { "content": { "application/json": { "schema": {
                "type": "object", "required": ["merged", "by"], "properties": {
                    "merged": { "type": "boolean" }, "at": { "type": "string", "format": "date-time" },
                    "by": { "type": "object", "required": ["id"], "properties": { "id": { "type": "integer" } } },
                },
            } } } } },
        } } },
        "s": { "merge": { "type": "object", "required": ["sha"], "properties": {
            "sha": { "type": "string" }, "how": { "type": "string", "enum": ["merge"] },
        } } },
    });
    let it = Description { root, prefix: "", nulls: false };
    let held = |query: &[(&str, &str)], body: Value, status: u16, answer: Value| {
        let query = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let body = body.to_string();
        let said = Said { verb: "PUT", path: "/pulls/7/merge", query: &query, body: &body };
        let mut answer = Answer { status, body: answer, ..Answer::default() };
        let wrong = it.hold(said, &mut answer);
        (wrong.join("; ").replace("PUT /pulls/{n}/merge: ", ""), answer.body)
    };
    let (wrong, full) =
        held(&[("page", "1")], json!({ "sha": "a" }), 200, json!({ "merged": true }));
    assert_eq!(wrong, "");
    assert_eq!(full, json!({ "merged": true, "by": { "id": 1 } }), "filled up");
    let said = |query, body, status, answer| held(query, body, status, answer).0;
    let good = json!({ "sha": "a" });
    assert_eq!(
        said(&[("pages", "1")], good.clone(), 404, json!({})),
        "the query parameter `pages` does not exist"
    );
    assert_eq!(
        said(&[("page", "x")], good.clone(), 404, json!({})),
        "?page is of [\"integer\"], not string"
    );
    assert_eq!(
        said(&[], json!({ "how": "squash" }), 404, json!({})),
        "body.how is never \"squash\"; body.sha is required"
    );
    assert_eq!(
        said(&[], json!({ "sha": 1, "x": 1 }), 404, json!({})),
        "body.sha is of [\"string\"], not integer; body.x does not exist"
    );
    assert_eq!(said(&[], good.clone(), 418, json!({})), "it never answers 418");
    let odd = json!({ "merged": null, "at": "today", "who": 1 });
    assert_eq!(
        said(&[], good, 200, odd),
        "answer.at is no date: today; answer.merged is never null; answer.who does not exist"
    );
}

#[test]
fn what_we_ask_and_what_the_doubles_answer_is_as_published() {
    let Some(directory) = directory() else {
        println!(
            "skipped: TOWPATH_TEST_API_DESCRIPTIONS is not set (see tests/published/fetch.sh)"
        );
        return;
    };
    let there = super::contract::FACES.into_iter().filter(|face| of(*face).is_some());
    let there: Vec<Face> = there.collect();
    assert!(there.len() > 1, "no descriptions in {}", directory.display());
    for face in &there {
        // Each asserts at its end that nothing was found.
        super::contract::the_whole_way(*face);
    }
    let seen = SEEN.lock().unwrap();
    for (operation, times) in &*seen {
        println!("{times:5} {operation}");
    }
    assert!(seen.len() >= 20, "only {} operations were held against them", seen.len());
}
