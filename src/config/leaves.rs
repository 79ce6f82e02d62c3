//! The single values of the format: names, refs, spans of time, shares, commands. Each reads one
//! scalar as it is written; YAML's guesses about types never take part.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::model::{
    Arg, Argv, CiName, EnvironmentName, GateName, NodeName, PLACEHOLDERS, PersonName, PipelineName,
    RecipeName, Ref, RoleName, ServiceName, Share, StageName, VariableName, ZoneName,
    parse_duration,
};
use crate::text::{self, Node, Scalar, Style, Value};

use super::calendar::Window;
use super::ranges::Nodes;
use super::reader::{Leaf, Read, Reader, Refused, Shape, shortened};

mod machine;

pub(super) use machine::{
    BackendName, InputName, PlainHost, Port, ProjectPath, ServerName, SocketName, SshHost,
    TheirName, UnixName, Weight, WholePath, WorkflowFile, ZoneGroups,
};

/// Characters of a name that is quoted back; the checks themselves have their own bounds.
fn named<T, E: std::fmt::Display>(read: Result<T, E>, text: &str) -> Result<T, Refused> {
    /// Longest name of any kind, in bytes.
    const NAME_MAX: usize = 255;
    read.map_err(|bad| match text.len() {
        ..=NAME_MAX => Refused::value(bad.to_string(), ""),
        _ => Refused::value(format!("`{}` is too long for a name", shortened(text)), ""),
    })
}

macro_rules! names {
    ($($ty:ty, $what:literal, $pattern:expr;)+) => { $(
        impl Leaf for $ty {
            const WHAT: &'static str = $what;
            fn shape() -> Shape {
                Shape::Text(Some($pattern))
            }
            fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
                named(Self::parse(&scalar.text), &scalar.text)
            }
        }
    )+ };
}

const LABEL: &str = "^[a-z0-9][a-z0-9-]{0,62}$";
const HOST: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$";

names! {
    EnvironmentName, "the name of an environment", LABEL;
    ServiceName, "the name of a service", LABEL;
    RoleName, "the name of a role", LABEL;
    RecipeName, "the name of a recipe", LABEL;
    PipelineName, "the name of a pipeline", LABEL;
    CiName, "the name of a CI", LABEL;
    StageName, "the name of a stage", LABEL;
    GateName, "the name of a gate", LABEL;
    NodeName, "the name of a node", HOST;
    PersonName, "the name of a person", HOST;
    ZoneName, "the name of a zone", HOST;
}

impl Leaf for String {
    const WHAT: &'static str = "text";
    fn shape() -> Shape {
        Shape::Text(None)
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        Ok(scalar.text.clone().into_owned())
    }
}

impl Leaf for bool {
    const WHAT: &'static str = "`true` or `false`";
    fn shape() -> Shape {
        Shape::Bool
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        let wrong = |hint: String| Refused {
            code: "wrong-type",
            message: format!(
                "expected {}, found `{}`",
                Self::WHAT,
                shortened(&text::visible(&scalar.text))
            ),
            hint,
        };
        match (scalar.style, scalar.text.as_ref()) {
            (Style::Plain, "true") => Ok(true),
            (Style::Plain, "false") => Ok(false),
            (_, "true" | "false") => Err(wrong("leave out the quotes".to_owned())),
            (_, other) => Err(wrong(match other.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "y" | "1" => "write `true`".to_owned(),
                "false" | "no" | "off" | "n" | "0" => "write `false`".to_owned(),
                _ => String::new(),
            })),
        }
    }
}

/// Reads a whole number that is written with digits only.
fn whole(scalar: &Scalar<'_>, what: &str, max: u32) -> Result<u32, Refused> {
    let digits = scalar.text.bytes().all(|b| b.is_ascii_digit());
    let number = scalar.text.parse().ok().filter(|number| digits && *number <= max);
    number.ok_or_else(|| Refused {
        code: "wrong-type",
        message: format!("expected {what}, found `{}`", shortened(&text::visible(&scalar.text))),
        hint: String::new(),
    })
}

/// Largest number that any key may have. More nodes than that have no one fleet.
const NUMBER_MAX: u32 = 1_000_000;

impl Leaf for u32 {
    const WHAT: &'static str = "a whole number";
    fn shape() -> Shape {
        Shape::Number(0, NUMBER_MAX)
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        whole(scalar, Self::WHAT, NUMBER_MAX)
    }
}

/// An exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(pub(super) u8);

impl Leaf for Status {
    const WHAT: &'static str = "an exit status from 1 to 255";
    fn shape() -> Shape {
        Shape::Number(1, u32::from(u8::MAX))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        let number = whole(scalar, Self::WHAT, u32::from(u8::MAX))?;
        match u8::try_from(number) {
            Ok(0) => Err(Refused::value(
                "0 is not a status for `absent`",
                "0 says that the version was printed",
            )),
            Ok(status) => Ok(Self(status)),
            Err(_) => Err(Refused::value(format!("{number} is no exit status"), "")),
        }
    }
}

/// The version of the format. There is one yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FormatVersion;

impl Leaf for FormatVersion {
    const WHAT: &'static str = "the version of the format";
    fn shape() -> Shape {
        Shape::Number(1, 1)
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        match scalar.text.as_ref() {
            "1" => Ok(Self),
            other => Err(Refused::value(
                format!("format version `{}` is not known", shortened(&text::visible(other))),
                "this Towpath reads version 1",
            )),
        }
    }
}

impl Leaf for Duration {
    const WHAT: &'static str = "a duration such as 90s, 20m, 1h30m or 2d";
    fn shape() -> Shape {
        Shape::Text(Some("^(?=.)([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        parse_duration(&scalar.text).map_err(|bad| Refused::value(bad.to_string(), ""))
    }
}

impl Leaf for Share {
    const WHAT: &'static str = "a share such as 3 or 10%";
    fn shape() -> Shape {
        Shape::Any(vec![
            Shape::Number(0, NUMBER_MAX),
            Shape::Text(Some("^([0-9]{1,2}|100)%$|^[0-9]{1,7}$")),
        ])
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        Self::parse(&scalar.text).map_err(|bad| Refused::value(bad.to_string(), ""))
    }
}

impl Leaf for Ref {
    const WHAT: &'static str = "a ref";
    fn shape() -> Shape {
        Shape::Text(Some("^[A-Za-z0-9][A-Za-z0-9._~+:/@-]{0,254}$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        let text = scalar.text.as_ref();
        let ambiguity = (scalar.style == Style::Plain).then(|| text::ambiguity(text)).flatten();
        if let Some(taken) = ambiguity {
            return Err(Refused {
                code: "quote-it",
                message: format!(
                    "the ref `{}` could be taken for {taken}",
                    shortened(&text::visible(text))
                ),
                hint: format!("quote it: '{}'", shortened(&text::visible(text))),
            });
        }
        Self::parse(text).map_err(|bad| Refused::value(bad.to_string(), ""))
    }
}

impl Leaf for Arg {
    const WHAT: &'static str = "an argument";
    fn shape() -> Shape {
        Shape::Text(None)
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        if scalar.text.contains('\0') {
            return Err(Refused::value("an argument cannot contain a NUL byte", ""));
        }
        let arg = Self::new(&scalar.text);
        // What is a typing error is told where it stands; whether a variable is defined depends on
        // who uses it. No variable may have such a name.
        let slip = arg.asks_for().find_map(|it| Some((it, misspelled(it)?)));
        if let Some((name, near)) = slip {
            return Err(Refused {
                code: "unknown-placeholder",
                message: shortened(&format!("`{{{name}}}` is not a placeholder")),
                hint: format!("did you mean `{{{near}}}`?"),
            });
        }
        Ok(arg)
    }
}

impl Leaf for VariableName {
    const WHAT: &'static str = "the name of a variable";
    fn shape() -> Shape {
        Shape::Text(Some("^[a-z][a-z0-9_]{0,62}$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        let name = named(Self::parse(&scalar.text), &scalar.text)?;
        match misspelled(name.as_str()) {
            None => Ok(name),
            Some(near) => Err(Refused::value(
                format!("`{{{name}}}` could be taken for a misspelled `{{{near}}}`"),
                "give the variable another name",
            )),
        }
    }
}

/// The place of our own that a name is most likely a slip for.
fn misspelled(name: &str) -> Option<&'static str> {
    let near = text::closest(name, PLACEHOLDERS)?;
    (near.as_bytes().first() == name.as_bytes().first()).then_some(near)
}

/// What a variable is: text, however it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VariableValue(pub(super) String);

impl Leaf for VariableValue {
    const WHAT: &'static str = "the value of a variable";
    fn shape() -> Shape {
        Shape::Text(None)
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        /// Longest value: a path, an URL, a list of some packages.
        const LENGTH_MAX: usize = 4096;
        let text = scalar.text.as_ref();
        if text.len() > LENGTH_MAX || text.contains(char::is_control) {
            return Err(Refused::value(
                "the value is too long, or has control characters in it",
                "write one line of at most 4096 bytes",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Read for Argv {
    fn shape() -> Shape {
        Shape::List(Box::new(<Arg as Read>::shape()))
    }

    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self> {
        if !matches!(node.value, Value::Seq(_)) {
            at.expected(
                node,
                "a program and its arguments",
                "write it as a list: `[./deploy, --now]`; for a shell: `[sh, -c, '…']`",
            );
            return None;
        }
        let argv = Self::new(Vec::<Arg>::read(node, at)?);
        if argv.is_none() {
            at.error(&node.span, "bad-value", "there is no program to run", "write its name first");
        }
        argv
    }
}

/// An URL that we ask, with places to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url(pub(super) Arg);

impl Leaf for Url {
    const WHAT: &'static str = "an http or https URL";
    fn shape() -> Shape {
        Shape::Text(Some("^https?://[^/@\\s]+(/\\S*)?$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        let url = scalar.text.as_ref();
        let shown = || shortened(&text::visible(url));
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let Some(rest) = rest else {
            let message = format!("`{}` is not an http or https URL", shown());
            return Err(Refused::value(message, "write `https://…`"));
        };
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if host.contains('@') {
            return Err(Refused::value(
                "the URL contains a user or a password",
                "secrets do not belong into the config; remove the part before `@`",
            ));
        }
        if host.is_empty() || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let message = format!("`{}` is not an http or https URL", shown());
            return Err(Refused::value(message, ""));
        }
        <Arg as Leaf>::parse(scalar).map(Self)
    }
}

/// Nodes that an entry stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeRange(pub(super) Nodes);

impl Leaf for NodeRange {
    const WHAT: &'static str = "a node, or a range of nodes such as \"web-[01..40]\"";
    fn shape() -> Shape {
        Shape::Text(Some("^[A-Za-z0-9\\[][A-Za-z0-9._\\[\\]-]{0,300}$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        let range = |text: &str| Nodes::parse(text).map_err(|why| Refused::value(why, RANGE));
        match scalar.text.len() {
            ..=300 => range(&scalar.text).map(Self),
            _ => Err(Refused::value("the name is too long", RANGE)),
        }
    }
}

/// How a range is written.
const RANGE: &str = "write a name such as web-1, or a range such as \"web-[01..40]\"";

/// A date and time on the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WallTime(pub(super) DateTime);

impl Leaf for WallTime {
    const WHAT: &'static str = "a date and time such as 2026-12-19 18:00";
    fn shape() -> Shape {
        Shape::Text(Some("^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        /// Length of `2026-12-19 18:00`.
        const LENGTH: usize = 16;
        let text = scalar.text.as_ref();
        let read = DateTime::strptime("%Y-%m-%d %H:%M", text).ok();
        read.filter(|_| text.len() == LENGTH).map(Self).ok_or_else(|| {
            let message = format!("`{}` is not {}", shortened(&text::visible(text)), Self::WHAT);
            Refused::value(message, "the time zone has a key of its own")
        })
    }
}

/// A time zone by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Zone(pub(super) TimeZone);

impl Leaf for Zone {
    const WHAT: &'static str = "a time zone such as Europe/Berlin";
    fn shape() -> Shape {
        Shape::Text(Some("^[A-Za-z][A-Za-z0-9_+/-]*$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        TimeZone::get(&scalar.text).map(Self).map_err(|_| {
            let name = shortened(&text::visible(&scalar.text));
            let message = format!("the time zone `{name}` is not known");
            Refused::value(message, "write a name such as Europe/Berlin or UTC")
        })
    }
}

impl Leaf for Window {
    const WHAT: &'static str = "a window such as Mon-Fri 08:00-16:00 Europe/Berlin";
    fn shape() -> Shape {
        Shape::Text(Some("^\\S+ +[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2} +\\S+$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        Self::parse(&scalar.text).map_err(|bad| Refused::value(bad.to_string(), ""))
    }
}
