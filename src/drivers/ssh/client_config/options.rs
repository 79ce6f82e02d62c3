//! What `ssh -G` prints of a host, read with distrust: either the built-in client can do all of
//! it, or the system's `ssh` must. Pure.
//!
//! Invariant: an option that is not named here, and is not as OpenSSH has it by default, means that
//! the built-in client is not used. Harmless ones are listed, one by one.

use std::path::{Path, PathBuf};

use crate::drivers::ssh::known_hosts::Called;

/// All that the built-in client needs to log in to a host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::drivers::ssh) struct Simple {
    pub(in crate::drivers::ssh) hostname: String,
    pub(in crate::drivers::ssh) port: u16,
    pub(in crate::drivers::ssh) user: String,
    pub(in crate::drivers::ssh) family: Family,
    pub(in crate::drivers::ssh) host_key_alias: Option<String>,
    /// The user's files first. New keys go to the first of these, if the user has one.
    pub(in crate::drivers::ssh) known_hosts: Vec<PathBuf>,
    pub(in crate::drivers::ssh) new_keys_to: Option<PathBuf>,
    /// Whether names are hashed before they are written.
    pub(in crate::drivers::ssh) hash_names: bool,
    pub(in crate::drivers::ssh) identity_files: Vec<PathBuf>,
    /// Keys of the agent that no identity file names are not used.
    pub(in crate::drivers::ssh) identities_only: bool,
    pub(in crate::drivers::ssh) agent: Agent,
    /// What the user allows, where it is not what OpenSSH allows by default.
    pub(in crate::drivers::ssh) algorithms: Algorithms,
    /// Ways to log in that the user allows, and that only the system's `ssh` knows.
    pub(in crate::drivers::ssh) other_ways: Vec<&'static str>,
    /// Through which host; `None` is straight.
    pub(in crate::drivers::ssh) via: Option<Box<Simple>>,
}

/// Which addresses of a name are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::drivers::ssh) enum Family {
    #[default]
    Any,
    V4,
    V6,
}

/// Where the agent listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::drivers::ssh) enum Agent {
    /// Where `SSH_AUTH_SOCK` says.
    #[default]
    FromEnvironment,
    /// There.
    At(PathBuf),
    /// It is not asked.
    None,
}

/// Lists of algorithms, the best first; `None` is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::drivers::ssh) struct Algorithms {
    pub(in crate::drivers::ssh) kex: Option<Vec<String>>,
    /// What `ssh` itself would offer, by default or not.
    pub(in crate::drivers::ssh) kex_of_ssh: Vec<String>,
    pub(in crate::drivers::ssh) ciphers: Option<Vec<String>>,
    pub(in crate::drivers::ssh) macs: Option<Vec<String>>,
    pub(in crate::drivers::ssh) host_keys: Option<Vec<String>>,
    pub(in crate::drivers::ssh) public_keys: Option<Vec<String>>,
}

impl Simple {
    /// As `known_hosts` files name it.
    pub(in crate::drivers::ssh) fn called(&self) -> Called {
        match &self.host_key_alias {
            Some(alias) => Called::alias(alias),
            None => Called::at(&self.hostname, self.port),
        }
    }
}

/// What `ssh -G` said, and the jumps that are still to be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) simple: Simple,
    pub(super) jumps: Vec<Jump>,
}

/// One host of a `ProxyJump`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Jump {
    pub(super) host: String,
    pub(super) user: Option<String>,
    pub(super) port: Option<u16>,
}

/// Options that change nothing for a session without terminal, forwarding and questions, or only
/// how it is spoken of.
const HARMLESS: [&str; 44] = [
    "addkeystoagent",
    "batchmode",
    "canonicaldomains",
    "canonicalizefallbacklocal",
    "canonicalizemaxdots",
    "canonicalizepermittedcnames",
    "clearallforwardings",
    "compression",
    "connectionattempts",
    "connecttimeout",
    "controlmaster",
    "controlpersist",
    "dynamicforward",
    "enableescapecommandline",
    "escapechar",
    "exitonforwardfailure",
    "fingerprinthash",
    "forwardagent",
    "forwardx11",
    "forwardx11timeout",
    "forwardx11trusted",
    "gatewayports",
    "ignoreunknown",
    "ipqos",
    "kbdinteractiveauthentication",
    "localforward",
    "loglevel",
    "logverbose",
    "numberofpasswordprompts",
    "obscurekeystroketiming",
    "passwordauthentication",
    "permitremoteopen",
    "remoteforward",
    "requesttty",
    "serveralivecountmax",
    "serveraliveinterval",
    "stdinnull",
    "streamlocalbindmask",
    "streamlocalbindunlink",
    "syslogfacility",
    "tag",
    "tcpkeepalive",
    "visualhostkey",
    "xauthlocation",
];

/// Reads what `ssh -G` printed of a host, and of none in particular.
pub(super) fn read(name: &str, text: &str, defaults: &str, home: &Path) -> Result<Answer, String> {
    let mut read = Reading::default();
    for line in text.lines() {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        let key = key.to_ascii_lowercase();
        let understood = read.place(&key, value)
            || read.files(&key, value)
            || read.way(&key, value)
            || HARMLESS.contains(&key.as_str());
        if key == "kexalgorithms" {
            read.algorithms.kex_of_ssh = value.split(',').map(str::to_owned).collect();
        }
        let differs = || !defaults.lines().any(|default| default == line);
        if !understood && differs() && !read.algorithm(&key, value) {
            return Err(format!("{key} {value}"));
        }
    }
    if read.hostname.is_empty() || read.user.is_empty() {
        return Err("ssh -G names no host or no user".to_owned());
    }
    if read.algorithms.kex_of_ssh.is_empty() {
        return Err("ssh -G shows no KexAlgorithms".to_owned());
    }
    let expand = |path: &PathBuf| expand(path, name, &read, home);
    let all = |paths: &[PathBuf]| paths.iter().map(expand).collect::<Result<Vec<_>, _>>();
    let user_files = all(&read.user_files)?;
    let simple = Simple {
        identity_files: all(&read.identity_files)?,
        agent: match &read.agent {
            Agent::At(path) => Agent::At(expand(path)?),
            Agent::FromEnvironment | Agent::None => read.agent.clone(),
        },
        new_keys_to: user_files.first().cloned(),
        known_hosts: user_files.into_iter().chain(all(&read.global_files)?).collect(),
        hostname: read.hostname,
        port: read.port,
        user: read.user,
        family: read.family,
        host_key_alias: read.host_key_alias,
        hash_names: read.hash_names,
        identities_only: read.identities_only,
        algorithms: read.algorithms,
        other_ways: read.other_ways,
        via: None,
    };
    Ok(Answer { simple, jumps: read.jumps })
}

/// What was read so far, paths as they are written.
#[derive(Default)]
struct Reading {
    hostname: String,
    port: u16,
    user: String,
    family: Family,
    host_key_alias: Option<String>,
    user_files: Vec<PathBuf>,
    global_files: Vec<PathBuf>,
    hash_names: bool,
    identity_files: Vec<PathBuf>,
    identities_only: bool,
    agent: Agent,
    algorithms: Algorithms,
    other_ways: Vec<&'static str>,
    jumps: Vec<Jump>,
}

/// Each takes a line that it understands, and says so.
impl Reading {
    fn place(&mut self, key: &str, value: &str) -> bool {
        match (key, value) {
            ("host", _) | ("proxycommand" | "proxyjump" | "controlpath", "none") => true,
            ("hostname", _) => {
                value.clone_into(&mut self.hostname);
                true
            }
            ("user", _) => {
                value.clone_into(&mut self.user);
                !value.contains(['%', '$'])
            }
            ("port", _) => value.parse().is_ok_and(|port| {
                self.port = port;
                true
            }),
            ("addressfamily", "any" | "inet" | "inet6") => {
                self.family = match value {
                    "inet" => Family::V4,
                    "inet6" => Family::V6,
                    _ => Family::Any,
                };
                true
            }
            ("proxyjump", _) => parse_jumps(value).is_some_and(|jumps| {
                self.jumps = jumps;
                true
            }),
            _ => false,
        }
    }

    fn files(&mut self, key: &str, value: &str) -> bool {
        match (key, value) {
            ("hostkeyalias", _) => self.host_key_alias = Some(value.to_owned()),
            ("userknownhostsfile" | "globalknownhostsfile", _) => {
                let Some(paths) = words(value) else { return false };
                let global = key.starts_with('g');
                let files = if global { &mut self.global_files } else { &mut self.user_files };
                files.extend(paths);
            }
            ("hashknownhosts", _) => self.hash_names = is_yes(value),
            ("identityfile", "none") | ("identityagent", "SSH_AUTH_SOCK") => {}
            ("identityfile", _) => self.identity_files.push(PathBuf::from(value)),
            ("identitiesonly", _) => self.identities_only = is_yes(value),
            ("identityagent", "none") => self.agent = Agent::None,
            ("identityagent", _) => self.agent = Agent::At(PathBuf::from(value)),
            _ => return false,
        }
        true
    }

    fn way(&mut self, key: &str, value: &str) -> bool {
        match key {
            // Who asks for it gets it when the server wants no more than a key; else ssh is asked.
            "gssapiauthentication" if is_yes(value) => self.other_ways.push("GSSAPIAuthentication"),
            "hostbasedauthentication" if is_yes(value) => {
                self.other_ways.push("HostbasedAuthentication");
            }
            "pubkeyauthentication" => return !matches!(value, "no" | "false"),
            "preferredauthentications" => return value.split(',').any(|way| way == "publickey"),
            "sendenv" => return value.split(' ').all(is_locale),
            // New keys are refused or accepted as the environment's configuration says; we learn
            // none by updates, and lose nothing.
            "stricthostkeychecking" | "updatehostkeys" | "gssapiauthentication" => {}
            _ => return false,
        }
        true
    }

    /// Only where it is not as OpenSSH has it by default.
    fn algorithm(&mut self, key: &str, value: &str) -> bool {
        let list = match key {
            "kexalgorithms" => &mut self.algorithms.kex,
            "ciphers" => &mut self.algorithms.ciphers,
            "macs" => &mut self.algorithms.macs,
            "hostkeyalgorithms" => &mut self.algorithms.host_keys,
            "pubkeyacceptedalgorithms" => &mut self.algorithms.public_keys,
            _ => return false,
        };
        *list = Some(value.split(',').map(str::to_owned).collect());
        true
    }
}

fn is_yes(value: &str) -> bool {
    matches!(value, "yes" | "true")
}

/// The home directory of the account, as OpenSSH sees it.
pub(super) fn home(defaults: &str) -> Option<PathBuf> {
    let line = defaults.lines().find_map(|line| line.strip_prefix("userknownhostsfile "))?;
    let home = line.split(' ').next()?.strip_suffix("/.ssh/known_hosts")?;
    home.starts_with('/').then(|| PathBuf::from(home))
}

/// Locale settings: scripts that read them are no scripts for a fleet.
fn is_locale(name: &str) -> bool {
    name == "LANG" || name == "LANGUAGE" || name.starts_with("LC_")
}

/// Paths in a row; `None` where one of them may hold a space.
fn words(value: &str) -> Option<Vec<PathBuf>> {
    if value == "none" {
        return Some(Vec::new());
    }
    let path = |word: &str| word.starts_with(['/', '~', '%']).then(|| PathBuf::from(word));
    value.split(' ').map(path).collect()
}

/// Fills in what OpenSSH fills in in file names, or says what it would take.
fn expand(path: &Path, name: &str, of: &Reading, home: &Path) -> Result<PathBuf, String> {
    let text = path.to_str().ok_or("a path that is not text")?;
    let not = || format!("the path {text}");
    if text.contains('$') {
        return Err(not());
    }
    let (mut expanded, rest) = match text.strip_prefix('~') {
        Some(rest) if rest.starts_with('/') => (home.to_str().ok_or_else(not)?.to_owned(), rest),
        Some(_) => return Err(not()),
        None => (String::new(), text),
    };
    let mut rest = rest.chars();
    while let Some(char) = rest.next() {
        if char != '%' {
            expanded.push(char);
            continue;
        }
        match rest.next() {
            Some('%') => expanded.push('%'),
            Some('d') => expanded.push_str(home.to_str().ok_or_else(not)?),
            Some('h') => expanded.push_str(&of.hostname),
            Some('n') => expanded.push_str(name),
            Some('p') => expanded.push_str(&of.port.to_string()),
            Some('r') => expanded.push_str(&of.user),
            Some(_) | None => return Err(not()),
        }
    }
    // Relative ones belong to the directory that ssh is started in, which is ours.
    Ok(PathBuf::from(expanded))
}

/// Reads `[user@]host[:port]`, several with commas, and `ssh://…`.
pub(super) fn parse_jumps(value: &str) -> Option<Vec<Jump>> {
    value.split(',').map(parse_jump).collect()
}

fn parse_jump(text: &str) -> Option<Jump> {
    let text = text.strip_prefix("ssh://").unwrap_or(text).trim_end_matches('/');
    let (user, place) = match text.rsplit_once('@') {
        Some((user, place)) => (Some(user.to_owned()), place),
        None => (None, text),
    };
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, port.strip_prefix(':'))
        }
        None => match place.split_once(':') {
            Some((_, rest)) if rest.contains(':') => (place, None),
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let bad = host.is_empty() || host.starts_with('-') || host.contains(['%', '$']);
    let port = port.map(str::parse).transpose().ok()?;
    (!bad).then(|| Jump { host: host.to_owned(), user, port })
}
