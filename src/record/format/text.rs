//! Texts and numbers that are checked when they are read: a name, a ref, an id, a time, a span.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::model::{
    Arg, CiName, Condition, EnvironmentName, GateName, NodeName, Only, PersonName, Ref, RepoPath,
    Revision, RoleName, RolloutId, ServiceName, Target, Timestamp, VariableName, ZoneName,
};
use crate::rollout::OpId;

/// Longest span that is read: ten years. The config allows one; more is not our writing.
const SPAN_MAX_MS: u64 = 10 * 366 * 86_400_000;
/// Last moment that is read: the end of year 9999, as far as calendars go.
const TIME_MAX_MS: u64 = 253_402_207_200_000;

/// A value that is written as text and checked by its own parser.
pub(super) trait Spelled: Sized {
    fn spell(&self) -> String;
    fn read(text: &str) -> Result<Self, String>;
}

/// Mirror of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text<T>(pub(super) T);

impl<T: Spelled> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.spell())
    }
}

impl<'de, T: Spelled> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::read(&text).map(Self).map_err(D::Error::custom)
    }
}

macro_rules! spelled {
    ($($ty:ty),*) => {$(
        impl Spelled for $ty {
            fn spell(&self) -> String {
                self.to_string()
            }

            fn read(text: &str) -> Result<Self, String> {
                Self::parse(text).map_err(|error| error.to_string())
            }
        }
    )*};
}

spelled!(
    Only,
    Ref,
    RepoPath,
    Revision,
    ServiceName,
    EnvironmentName,
    NodeName,
    PersonName,
    CiName,
    GateName,
    RoleName,
    VariableName,
    ZoneName,
    Condition
);

impl Spelled for RolloutId {
    fn spell(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| not("the id of a rollout", text))
    }
}

impl Spelled for Arg {
    fn spell(&self) -> String {
        self.as_str().to_owned()
    }

    fn read(text: &str) -> Result<Self, String> {
        Ok(Self::new(text))
    }
}

impl Spelled for Target {
    fn spell(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Result<Self, String> {
        let (service, environment) =
            text.split_once('/').ok_or_else(|| not("service/environment", text))?;
        Ok(Self { service: Spelled::read(service)?, environment: Spelled::read(environment)? })
    }
}

impl Spelled for OpId {
    fn spell(&self) -> String {
        self.slug()
    }

    fn read(text: &str) -> Result<Self, String> {
        let id = Self::parse(text).filter(|id| id.slug() == text);
        id.ok_or_else(|| not("the place of an operation, such as 2-0-1-0-3", text))
    }
}

/// In documents for people: RFC 3339, to the millisecond.
impl Spelled for Timestamp {
    fn spell(&self) -> String {
        self.to_jiff().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
    }

    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| not("a time, such as 2026-11-21T10:00:00Z", text))
    }
}

fn not(what: &str, text: &str) -> String {
    let text: String = text.chars().take(80).collect();
    format!("`{}` is not {what}", text.escape_debug())
}

/// A point in time, in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct At(pub(super) Timestamp);

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0.0)
    }
}

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ms = u64::deserialize(deserializer)?;
        if ms > TIME_MAX_MS {
            return Err(D::Error::custom(format!("{ms} ms is beyond the year 9999")));
        }
        Ok(Self(Timestamp(ms)))
    }
}

/// A span of time, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ms(pub(super) Duration);

impl Serialize for Ms {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX))
    }
}

impl<'de> Deserialize<'de> for Ms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ms = u64::deserialize(deserializer)?;
        if ms > SPAN_MAX_MS {
            return Err(D::Error::custom(format!("{ms} ms is longer than ten years")));
        }
        Ok(Self(Duration::from_millis(ms)))
    }
}

/// A program and its arguments; there is always a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Command(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let argv = Vec::<String>::deserialize(deserializer)?;
        if argv.first().is_none_or(String::is_empty) {
            return Err(D::Error::custom("a command without a program"));
        }
        Ok(Self(argv))
    }
}

/// The one version there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct V1;

impl Serialize for V1 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(1)
    }
}

impl<'de> Deserialize<'de> for V1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            1 => Ok(Self),
            other => Err(D::Error::custom(format!("unknown version {other}"))),
        }
    }
}

/// Wraps what may be there.
pub(super) fn opt<T: Clone>(value: Option<&T>) -> Option<Text<T>> {
    value.cloned().map(Text)
}

/// Unwraps what may be there.
pub(super) fn unopt<T>(text: Option<Text<T>>) -> Option<T> {
    text.map(|Text(value)| value)
}

/// Wraps a set.
pub(super) fn set<T: Clone + Ord>(values: &BTreeSet<T>) -> BTreeSet<Text<T>> {
    values.iter().cloned().map(Text).collect()
}

/// Unwraps a set.
pub(super) fn unset<T: Ord>(texts: BTreeSet<Text<T>>) -> BTreeSet<T> {
    texts.into_iter().map(|Text(value)| value).collect()
}
