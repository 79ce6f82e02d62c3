//! The written form of commands and questions that a plan carries.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model;

use super::alerts::{AlertSource, meaning, mirror};
use super::text::{Command, Ms, Text};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Connect {
    Local {
        #[serde(skip_serializing_if = "Option::is_none")]
        directory: Option<String>,
    },
    Ssh {
        host: Text<model::Arg>,
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        config: Option<String>,
        host_keys: HostKeys,
        transport: Transport,
        #[serde(skip_serializing_if = "Option::is_none")]
        directory: Option<String>,
        timeout_ms: Ms,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        addresses: BTreeMap<Text<model::NodeName>, Address>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Address {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
}

impl From<&model::Address> for Address {
    fn from(model::Address { host, port, user }: &model::Address) -> Self {
        Self { host: host.clone(), port: *port, user: user.clone() }
    }
}

impl From<Address> for model::Address {
    fn from(Address { host, port, user }: Address) -> Self {
        Self { host, port, user }
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum HostKeys {
    Known,
    AcceptNew,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Transport {
    Auto,
    Openssh,
    BuiltIn,
}

impl From<&model::Connect> for Connect {
    fn from(connect: &model::Connect) -> Self {
        match connect {
            model::Connect::Local { directory } => Self::Local { directory: directory.clone() },
            model::Connect::Ssh(model::Ssh {
                host,
                user,
                port,
                config,
                host_keys,
                transport,
                directory,
                timeout,
                addresses,
            }) => Self::Ssh {
                host: Text(host.clone()),
                user: user.clone(),
                port: *port,
                config: config.clone(),
                host_keys: match host_keys {
                    model::HostKeys::Known => HostKeys::Known,
                    model::HostKeys::AcceptNew => HostKeys::AcceptNew,
                },
                transport: match transport {
                    model::Transport::Auto => Transport::Auto,
                    model::Transport::OpenSsh => Transport::Openssh,
                    model::Transport::BuiltIn => Transport::BuiltIn,
                },
                directory: directory.clone(),
                timeout_ms: Ms(*timeout),
                addresses: addresses
                    .iter()
                    .map(|(node, it)| (Text(node.clone()), it.into()))
                    .collect(),
            },
        }
    }
}

impl From<Connect> for model::Connect {
    fn from(connect: Connect) -> Self {
        match connect {
            Connect::Local { directory } => Self::Local { directory },
            Connect::Ssh {
                host: Text(host),
                user,
                port,
                config,
                host_keys,
                transport,
                directory,
                timeout_ms: Ms(timeout),
                addresses,
            } => Self::Ssh(model::Ssh {
                host,
                user,
                port,
                config,
                host_keys: match host_keys {
                    HostKeys::Known => model::HostKeys::Known,
                    HostKeys::AcceptNew => model::HostKeys::AcceptNew,
                },
                transport: match transport {
                    Transport::Auto => model::Transport::Auto,
                    Transport::Openssh => model::Transport::OpenSsh,
                    Transport::BuiltIn => model::Transport::BuiltIn,
                },
                directory,
                timeout,
                addresses: Arc::new(
                    addresses.into_iter().map(|(Text(node), it)| (node, it.into())).collect(),
                ),
            }),
        }
    }
}

/// A command, or a pipeline: told apart by their keys, so that what was written before there were
/// pipelines is still read.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged, try_from = "AnyDeed")]
pub(super) enum Deed {
    Run(Run),
    Trigger(Trigger),
}

#[derive(Debug, Serialize)]
pub(super) struct Run {
    argv: Command,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    env: Vec<(String, String)>,
    timeout_ms: Ms,
}

#[derive(Debug, Serialize)]
pub(super) struct Trigger {
    ci: Text<model::CiName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow: Option<String>,
    branch: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    variables: BTreeMap<String, String>,
    timeout_ms: Ms,
}

/// The keys of both.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyDeed {
    argv: Option<Command>,
    #[serde(default)]
    env: Vec<(String, String)>,
    ci: Option<Text<model::CiName>>,
    workflow: Option<String>,
    branch: Option<String>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    timeout_ms: Ms,
}

impl TryFrom<AnyDeed> for Deed {
    type Error = &'static str;

    fn try_from(any: AnyDeed) -> Result<Self, Self::Error> {
        let AnyDeed { argv, env, ci, workflow, branch, variables, timeout_ms } = any;
        match (argv, ci, branch) {
            (Some(argv), None, None) if workflow.is_none() && variables.is_empty() => {
                Ok(Self::Run(Run { argv, env, timeout_ms }))
            }
            (None, Some(ci), Some(branch)) if env.is_empty() => {
                Ok(Self::Trigger(Trigger { ci, workflow, branch, variables, timeout_ms }))
            }
            _ => Err("a deed is a command or a pipeline"),
        }
    }
}

impl From<&model::Deed> for Deed {
    fn from(deed: &model::Deed) -> Self {
        match deed {
            model::Deed::Run { argv, variables, timeout } => Self::Run(Run {
                argv: Command(argv.clone()),
                env: variables.clone(),
                timeout_ms: Ms(*timeout),
            }),
            model::Deed::Trigger { call, timeout } => {
                let model::Trigger { ci, workflow, branch, variables } = call.clone();
                Self::Trigger(Trigger {
                    ci: Text(ci),
                    workflow,
                    branch,
                    variables,
                    timeout_ms: Ms(*timeout),
                })
            }
        }
    }
}

impl From<Deed> for model::Deed {
    fn from(deed: Deed) -> Self {
        match deed {
            Deed::Run(Run { argv: Command(argv), env, timeout_ms: Ms(timeout) }) => {
                Self::Run { argv, variables: env, timeout }
            }
            Deed::Trigger(Trigger {
                ci: Text(ci),
                workflow,
                branch,
                variables,
                timeout_ms: Ms(timeout),
            }) => {
                Self::Trigger { call: model::Trigger { ci, workflow, branch, variables }, timeout }
            }
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Question {
    Run {
        argv: Command,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        env: Vec<(String, String)>,
        timeout_ms: Ms,
        #[serde(skip_serializing_if = "Option::is_none")]
        absent: Option<u8>,
    },
    Http {
        url: String,
        timeout_ms: Ms,
    },
    Alerts {
        sources: Vec<AlertSource>,
    },
}

impl From<&model::Question> for Question {
    fn from(question: &model::Question) -> Self {
        match question {
            model::Question::Run { argv, variables, timeout, absent } => Self::Run {
                argv: Command(argv.clone()),
                env: variables.clone(),
                timeout_ms: Ms(*timeout),
                absent: *absent,
            },
            model::Question::Http { url, timeout } => {
                Self::Http { url: url.clone(), timeout_ms: Ms(*timeout) }
            }
            model::Question::Alerts(alerts) => Self::Alerts { sources: mirror(alerts) },
        }
    }
}

impl From<Question> for model::Question {
    fn from(question: Question) -> Self {
        match question {
            Question::Run { argv: Command(argv), env, timeout_ms: Ms(timeout), absent } => {
                Self::Run { argv, variables: env, timeout, absent }
            }
            Question::Http { url, timeout_ms: Ms(timeout) } => Self::Http { url, timeout },
            Question::Alerts { sources } => Self::Alerts(meaning(sources)),
        }
    }
}
