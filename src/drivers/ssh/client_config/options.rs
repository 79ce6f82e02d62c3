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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::drivers::ssh) enum Family {
    Any,
    V4,
    V6,
}

/// Where the agent listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::drivers::ssh) enum Agent {
    /// Where `SSH_AUTH_SOCK` says.
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
    pub(in crate::drivers::ssh) ciphers: Option<Vec<String>>,
    pub(in crate::drivers::ssh) macs: Option<Vec<String>>,
    pub(in crate::drivers::ssh) host_keys: Option<Vec<String>>,
    pub(in crate::drivers::ssh) public_keys: Option<Vec<String>>,
}

impl Simple {
    /// As known_hosts files name it.
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
    let mut simple = Simple {
        hostname: String::new(),
        port: 22,
        user: String::new(),
        family: Family::Any,
        host_key_alias: None,
        known_hosts: Vec::new(),
        new_keys_to: None,
        hash_names: false,
        identity_files: Vec::new(),
        identities_only: false,
        agent: Agent::FromEnvironment,
        algorithms: Algorithms::default(),
        other_ways: Vec::new(),
        via: None,
    };
    let mut jumps = Vec::new();
    let (mut paths, mut global) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        let key = key.to_ascii_lowercase();
        let not = || Err(format!("{key} {value}"));
        let yes = matches!(value, "yes" | "true");
        match key.as_str() {
            "host" => {}
            "hostname" => value.clone_into(&mut simple.hostname),
            "user" if value.contains(['%', '$']) => return not(),
            "user" => value.clone_into(&mut simple.user),
            "port" => match value.parse() {
                Ok(port) => simple.port = port,
                Err(_) => return not(),
            },
            "addressfamily" => match value {
                "any" => {}
                "inet" => simple.family = Family::V4,
                "inet6" => simple.family = Family::V6,
                _ => return not(),
            },
            "hostkeyalias" => simple.host_key_alias = Some(value.to_owned()),
            "userknownhostsfile" => paths.extend(words(value).ok_or_else(|| line.to_owned())?),
            "globalknownhostsfile" => global.extend(words(value).ok_or_else(|| line.to_owned())?),
            "hashknownhosts" => simple.hash_names = yes,
            "identityfile" if value == "none" => {}
            "identityfile" => simple.identity_files.push(PathBuf::from(value)),
            "identitiesonly" => simple.identities_only = yes,
            "identityagent" => match value {
                "none" => simple.agent = Agent::None,
                "SSH_AUTH_SOCK" => {}
                _ => simple.agent = Agent::At(PathBuf::from(value)),
            },
            "proxyjump" if value == "none" => {}
            "proxyjump" => jumps = parse_jumps(value).ok_or_else(|| line.to_owned())?,
            "kexalgorithms" if differs(line, defaults) => simple.algorithms.kex = list(value),
            "ciphers" if differs(line, defaults) => simple.algorithms.ciphers = list(value),
            "macs" if differs(line, defaults) => simple.algorithms.macs = list(value),
            "hostkeyalgorithms" if differs(line, defaults) => {
                simple.algorithms.host_keys = list(value);
            }
            "pubkeyacceptedalgorithms" if differs(line, defaults) => {
                simple.algorithms.public_keys = list(value);
            }
            // Who asks for it gets it when the server wants no more than a key; else `ssh` is asked.
            "gssapiauthentication" if yes => simple.other_ways.push("GSSAPIAuthentication"),
            "gssapiauthentication" => {}
            "hostbasedauthentication" if yes => simple.other_ways.push("HostbasedAuthentication"),
            // We refuse or accept new keys as the environment's configuration says.
            "stricthostkeychecking" => {}
            // We learn no keys by it, and lose nothing.
            "updatehostkeys" => {}
            "controlpath" if value == "none" => {}
            "proxycommand" if value == "none" => {}
            "pubkeyauthentication" if matches!(value, "no" | "false") => return not(),
            "pubkeyauthentication" => {}
            "preferredauthentications" if value.split(',').any(|way| way == "publickey") => {}
            "sendenv" if value.split(' ').all(is_locale) => {}
            _ if HARMLESS.contains(&key.as_str()) => {}
            _ if !differs(line, defaults) => {}
            _ => return not(),
        }
    }
    if simple.hostname.is_empty() || simple.user.is_empty() {
        return Err("ssh -G names no host or no user".to_owned());
    }
    let expand = |path: &Path| expand(path, name, &simple, home);
    let identity_files =
        simple.identity_files.iter().map(|path| expand(path)).collect::<Result<_, _>>()?;
    let agent = match &simple.agent {
        Agent::At(path) => Agent::At(expand(path)?),
        Agent::FromEnvironment | Agent::None => simple.agent.clone(),
    };
    let user_files = paths.iter().map(|path| expand(path)).collect::<Result<Vec<_>, _>>()?;
    let global = global.iter().map(|path| expand(path)).collect::<Result<Vec<_>, _>>()?;
    simple.identity_files = identity_files;
    simple.agent = agent;
    simple.new_keys_to = user_files.first().cloned();
    simple.known_hosts = user_files.into_iter().chain(global).collect();
    Ok(Answer { simple, jumps })
}

/// The home directory of the account, as OpenSSH sees it.
pub(super) fn home(defaults: &str) -> Option<PathBuf> {
    let line = defaults.lines().find_map(|line| line.strip_prefix("userknownhostsfile "))?;
    let home = line.split(' ').next()?.strip_suffix("/.ssh/known_hosts")?;
    home.starts_with('/').then(|| PathBuf::from(home))
}

fn differs(line: &str, defaults: &str) -> bool {
    !defaults.lines().any(|default| default == line)
}

fn list(value: &str) -> Option<Vec<String>> {
    Some(value.split(',').map(str::to_owned).collect())
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
fn expand(path: &Path, name: &str, of: &Simple, home: &Path) -> Result<PathBuf, String> {
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
