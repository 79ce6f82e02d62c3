//! Checked names. A name that exists is safe as a path segment, a branch name and an argument.

use std::fmt;
use std::sync::Arc;

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {what} name: {rule}")]
pub struct BadName {
    text: String,
    what: &'static str,
    rule: &'static str,
}

const LABEL_RULE: &str = "use 1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit";
const HOST_RULE: &str =
    "use 1 to 253 of a-z, A-Z, 0-9, `-`, `_` and single dots, beginning with a letter or digit";

/// Longest name, as in a DNS label.
const LABEL_MAX: usize = 63;
/// Longest node name, as for a DNS host.
const HOST_MAX: usize = 253;

fn is_label(text: &str) -> bool {
    text.len() <= LABEL_MAX
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_host(text: &str) -> bool {
    text.len() <= HOST_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        && !text.contains("..")
        && !text.ends_with('.')
}

macro_rules! name {
    ($(#[$doc:meta])* $ty:ident, $what:literal, $check:ident, $rule:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $ty(Arc<str>);

        impl $ty {
            /// Checks a text from outside.
            pub fn parse(text: &str) -> Result<Self, BadName> {
                if $check(text) {
                    Ok(Self(Arc::from(text)))
                } else {
                    Err(BadName { text: text.escape_debug().to_string(), what: $what, rule: $rule })
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::str::FromStr for $ty {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                Self::parse(text)
            }
        }
    };
}

name!(/// What is deployed, e.g. `shop`.
    ServiceName, "service", is_label, LABEL_RULE);
name!(/// Where, e.g. `staging`.
    EnvironmentName, "environment", is_label, LABEL_RULE);
name!(/// What a node is for, e.g. `web` or `gitaly`.
    RoleName, "role", is_label, LABEL_RULE);
name!(/// One machine, or one member of a local fleet.
    NodeName, "node", is_host, HOST_RULE);
name!(/// What fails together: a rack, a room, an availability zone.
    ZoneName, "zone", is_host, HOST_RULE);
name!(/// The ordered stages that a service's rollouts follow.
    RecipeName, "recipe", is_label, LABEL_RULE);
name!(/// Promotion rules that many services share.
    PipelineName, "pipeline", is_label, LABEL_RULE);
name!(/// A CI that runs pipelines for stages.
    CiName, "CI", is_label, LABEL_RULE);
name!(/// One stage of a recipe.
    StageName, "stage", is_label, LABEL_RULE);
name!(/// A gate of the user's own.
    GateName, "gate", is_label, LABEL_RULE);
name!(/// A person who asked for something: a login, or a user name of this machine.
    PersonName, "person", is_host, HOST_RULE);

/// One service in one environment: the unit of every decision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// What.
    pub service: ServiceName,
    /// Where.
    pub environment: EnvironmentName,
}

impl Target {
    /// Pairs a service with an environment.
    pub fn new(service: &ServiceName, environment: &EnvironmentName) -> Self {
        Self { service: service.clone(), environment: environment.clone() }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.service, self.environment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_options_paths_or_commands_are_refused() {
        for bad in ["", "-x", "Shop", "a/b", "a b", "..", "a\n", "é", &"a".repeat(64)] {
            assert!(ServiceName::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "-x", "a..b", "a/b", "a;b", ".a", "a."] {
            assert!(NodeName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(NodeName::parse("web-01.example.com").is_ok());
    }
}
