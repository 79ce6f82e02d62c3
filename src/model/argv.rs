//! Commands as argument lists with places to fill in. Never a shell string.

use super::{EnvironmentName, NodeName, Ref, ServiceName};

/// Names that may stand in braces.
pub const PLACEHOLDERS: [&str; 5] = ["ref", "node", "service", "environment", "from"];

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
}

impl Values {
    fn get(&self, name: &str) -> Option<&str> {
        match name {
            "ref" => Some(self.reference.as_str()),
            "from" => Some(self.from.as_ref().map_or("", Ref::as_str)),
            "node" => Some(self.node.as_ref().map_or("", NodeName::as_str)),
            "service" => Some(self.service.as_str()),
            "environment" => Some(self.environment.as_str()),
            _ => None,
        }
    }

    /// The same values as environment variables for the command: `TOWPATH_REF` and so on.
    pub fn variables(&self) -> Vec<(String, String)> {
        PLACEHOLDERS
            .iter()
            .filter_map(|name| {
                let value = self.get(name)?;
                Some((format!("TOWPATH_{}", name.to_ascii_uppercase()), value.to_owned()))
            })
            .collect()
    }
}

/// A brace that names nothing we know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{{{0}}}` is not a placeholder")]
pub struct UnknownPlaceholder(pub String);

/// One argument, perhaps with places to fill in.
///
/// `{name}` is a place where `name` is one of [`PLACEHOLDERS`]; `${…}` and braces around anything
/// but a lower-case word are ordinary text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Arg(String);

impl Arg {
    /// Checks that every place has a name we know.
    pub fn parse(text: &str) -> Result<Self, UnknownPlaceholder> {
        for (_, name) in places(text) {
            if !PLACEHOLDERS.contains(&name) {
                return Err(UnknownPlaceholder(name.to_owned()));
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
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
        let word = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
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
        };
        let fill = |text: &str| Arg::parse(text).map(|arg| arg.fill(&values));
        assert_eq!(fill("{service}={ref}").unwrap(), "shop=1.4.2");
        assert_eq!(fill("-f=${Version}").unwrap(), "-f=${Version}");
        assert_eq!(fill("{\"a\": {node}}").unwrap(), "{\"a\": web-01}");
        assert_eq!(fill("[{from}]").unwrap(), "[]");
        assert_eq!(fill("{reff}").unwrap_err().to_string(), "`{reff}` is not a placeholder");
    }
}
