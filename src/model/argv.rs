//! Commands as argument lists with places to fill in. Never a shell string.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::{EnvironmentName, NodeName, Ref, ServiceName};

/// Names that may always stand in braces.
pub const PLACEHOLDERS: [&str; 5] = ["ref", "node", "service", "environment", "from"];

/// A place that is the service's name unless a variable of that name says else: most packages are
/// called what the service is.
pub const PACKAGE: &str = "package";

/// The place in a question whether a ref contains a hot patch that is the patch; no variable.
pub const PATCH: &str = "patch";

/// The name of a variable of the config: what may stand in braces beside [`PLACEHOLDERS`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariableName(Arc<str>);

/// Why a text names no variable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadVariable {
    /// It breaks the grammar.
    #[error(
        "`{0}` is not a valid variable name: use 1 to 63 of a-z, 0-9 and `_`, beginning with a letter"
    )]
    Grammar(String),
    /// It means something already.
    #[error("`{{{0}}}` has a meaning of its own")]
    Reserved(String),
}

impl VariableName {
    /// Checks a text from outside.
    pub fn parse(text: &str) -> Result<Self, BadVariable> {
        /// Longest name, as for all others.
        const LENGTH_MAX: usize = 63;
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let good = text.len() <= LENGTH_MAX
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(fits);
        if !good {
            return Err(BadVariable::Grammar(text.escape_debug().to_string()));
        }
        if PLACEHOLDERS.contains(&text) || text == PATCH {
            return Err(BadVariable::Reserved(text.to_owned()));
        }
        Ok(Self(Arc::from(text)))
    }

    /// The place of the patch in a question about one; the config cannot define it.
    pub fn patch() -> Self {
        Self(Arc::from(PATCH))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VariableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What the config's variables are. The values are data: they never become a command.
pub type Variables = BTreeMap<VariableName, String>;

/// What fills the places of an [`Argv`] or a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    /// `{ref}`: what should run.
    pub reference: Ref,
    /// `{from}`: what ran before, or nothing.
    pub from: Option<Ref>,
    /// `{node}`: where; nothing for what runs beside the controller.
    pub node: Option<NodeName>,
    /// `{service}`.
    pub service: ServiceName,
    /// `{environment}`.
    pub environment: EnvironmentName,
    /// What the config defines besides.
    pub extra: Arc<Variables>,
    /// What the node itself is said to have; wins over `extra`.
    pub own: Arc<Variables>,
}

impl Values {
    fn get(&self, name: &str) -> Option<&str> {
        match name {
            "ref" => Some(self.reference.as_str()),
            "from" => Some(self.from.as_ref().map_or("", Ref::as_str)),
            "node" => Some(self.node.as_ref().map_or("", NodeName::as_str)),
            "service" => Some(self.service.as_str()),
            "environment" => Some(self.environment.as_str()),
            other => {
                let mut all = self.own.iter().chain(self.extra.iter());
                let value = all.find(|(it, _)| it.as_str() == other);
                let value = value.map(|(_, value)| value.as_str());
                value.or_else(|| (other == PACKAGE).then_some(self.service.as_str()))
            }
        }
    }

    /// Whether there is something to stand in this place.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The same values as environment variables for the command: `TOWPATH_REF` and so on.
    pub fn variables(&self) -> Vec<(String, String)> {
        let defined: BTreeSet<&VariableName> = self.extra.keys().chain(self.own.keys()).collect();
        let defined = defined.into_iter().map(VariableName::as_str).filter(|it| *it != PACKAGE);
        PLACEHOLDERS
            .into_iter()
            .chain([PACKAGE])
            .chain(defined)
            .filter_map(|name| {
                let value = self.get(name)?;
                Some((format!("TOWPATH_{}", name.to_ascii_uppercase()), value.to_owned()))
            })
            .collect()
    }
}

/// One argument, perhaps with places to fill in.
///
/// `{name}` is a place where `name` is one of [`PLACEHOLDERS`] or a variable; `${…}` and braces
/// around anything but a lower-case word are ordinary text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Arg(String);

impl Arg {
    /// An argument as it is written; whether its places are known is seen where it is used.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The names of its places that are not among [`PLACEHOLDERS`].
    pub fn asks_for(&self) -> impl Iterator<Item = &str> {
        places(&self.0).map(|(_, name)| name).filter(|name| !PLACEHOLDERS.contains(name))
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names of its places, in order.
    pub fn places(&self) -> impl Iterator<Item = &str> {
        places(&self.0).map(|(_, name)| name)
    }

    /// The text with every place filled.
    pub fn fill(&self, values: &Values) -> String {
        self.fill_with(|name| values.get(name))
    }

    /// The text with every place filled by what may stand inside a quoted string: a quote or a
    /// backslash in a value cannot end it. Names and refs have none; this does not rely on it.
    pub fn fill_quoted(&self, values: &Values) -> String {
        let escaped = PLACEHOLDERS.map(|name| {
            let value = values.get(name).unwrap_or_default();
            let escape = |c: char| match c {
                '\\' | '"' | '\'' | '`' => format!("\\{c}"),
                '\n' => "\\n".to_owned(),
                other => other.to_string(),
            };
            (name, value.chars().map(escape).collect::<String>())
        });
        let value = |name: &str| escaped.iter().find(|(it, _)| *it == name);
        self.fill_with(|name| value(name).map(|(_, value)| value.as_str()))
    }

    /// The text with every place filled that `value` knows.
    pub fn fill_with<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> String {
        let mut filled = String::with_capacity(self.0.len());
        let mut done = 0;
        for (at, name) in places(&self.0) {
            if let Some(value) = value(name) {
                filled.push_str(&self.0[done..at]);
                filled.push_str(value);
                done = at + name.len() + 2;
            }
        }
        filled.push_str(&self.0[done..]);
        filled
    }
}

/// Every `{word}` with the byte offset of its brace, in order.
fn places(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices('{').filter_map(|(at, _)| {
        let name = text[at + 1..].split('}').next()?;
        let closed = text[at + 1 + name.len()..].starts_with('}');
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let word = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(fits);
        (closed && word && !text[..at].ends_with('$')).then_some((at, name))
    })
}

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Argv(Vec<Arg>);

impl Argv {
    /// `None` if there is no program to run.
    pub fn new(args: Vec<Arg>) -> Option<Self> {
        args.first().is_some_and(|program| !program.as_str().is_empty()).then_some(Self(args))
    }

    /// The arguments as written, the program first.
    pub fn args(&self) -> &[Arg] {
        &self.0
    }

    /// The names of its places that are not among [`PLACEHOLDERS`].
    pub fn asks_for(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(Arg::asks_for)
    }

    /// The arguments with every place filled.
    pub fn fill(&self, values: &Values) -> Vec<String> {
        self.0.iter().map(|arg| arg.fill(values)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_and_all_else_is_text() {
        let values = Values {
            reference: Ref::parse("1.4.2").unwrap(),
            from: None,
            node: NodeName::parse("web-01").ok(),
            service: ServiceName::parse("shop").unwrap(),
            environment: EnvironmentName::parse("staging").unwrap(),
            extra: Arc::new(Variables::from([
                (VariableName::parse("suite").unwrap(), "{ref}; rm -rf /".to_owned()),
                (VariableName::parse("rack").unwrap(), "none".to_owned()),
            ])),
            own: Arc::new(Variables::from([(
                VariableName::parse("rack").unwrap(),
                "r7".to_owned(),
            )])),
        };
        let fill = |text: &str| Arg::new(text).fill(&values);
        assert_eq!(fill("{service}={ref}"), "shop=1.4.2");
        assert_eq!(fill("-f=${Version}"), "-f=${Version}");
        assert_eq!(fill("{\"a\": {node}}"), "{\"a\": web-01}");
        assert_eq!(fill("[{from}]"), "[]");
        assert_eq!(fill("{package}"), "shop");
        assert_eq!(fill("{suite}"), "{ref}; rm -rf /", "a value is data, and no place itself");
        let places = Arg::new("{reff} {node} {suite} {a1}");
        assert_eq!(places.asks_for().collect::<Vec<_>>(), ["reff", "suite", "a1"]);
        let variables = values.variables();
        assert!(variables.contains(&("TOWPATH_PACKAGE".to_owned(), "shop".to_owned())));
        assert!(variables.iter().any(|(name, _)| name == "TOWPATH_SUITE"));
        assert_eq!(fill("{rack}"), "r7", "what is said of the node goes before the rest");
        let racks: Vec<_> = variables.iter().filter(|(name, _)| name == "TOWPATH_RACK").collect();
        assert_eq!(racks, [&("TOWPATH_RACK".to_owned(), "r7".to_owned())]);
    }

    #[test]
    fn a_variable_cannot_take_the_place_of_a_built_in_one() {
        for bad in ["", "ref", "node", "patch", "Ref", "1a", "a-b", "_a", "a b", &"a".repeat(64)] {
            assert!(VariableName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(VariableName::parse("apt_suite_2").is_ok());
    }
}
