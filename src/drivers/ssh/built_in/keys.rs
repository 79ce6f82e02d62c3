//! The keys to log in with: the agent's and those in files, in OpenSSH's order.
//!
//! Invariant: a key that we cannot use is named, so that whoever is not let in learns why, and
//! `auto` hands over to the system's `ssh`, which may be able to.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::agent::client::AgentClient;
use russh::keys::agent::{AgentIdentity, AgentSessionBinding};
use russh::keys::{Algorithm, HashAlg, PrivateKey, PublicKey};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::drivers::ssh::client_config::{Agent, Simple};

/// Biggest file that is a key.
const FILE_MAX: u64 = 64 << 10;
/// Longest that an agent may take to say which keys it has. Signing may ask a person; that is
/// bounded by the login's own deadline.
const LISTING_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// What there is to log in with.
#[derive(Default)]
pub(super) struct Keys {
    pub(super) agent: Option<AgentClient<UnixStream>>,
    /// Keys that the agent signs with.
    pub(super) held: Vec<PublicKey>,
    /// Keys from files that the agent does not have.
    pub(super) own: Vec<Arc<PrivateKey>>,
    /// What we cannot use, and why.
    pub(super) skipped: Vec<String>,
}

/// An identity file.
struct Identity {
    public: Option<PublicKey>,
    private: Option<Arc<PrivateKey>>,
    skipped: Option<String>,
}

impl Keys {
    /// All that the configuration names. `socket` is what the environment says of the agent.
    pub(super) async fn of(
        host: &Simple,
        socket: Option<&Path>,
        binding: Option<&AgentSessionBinding>,
    ) -> Self {
        let files = host.identity_files.clone();
        let read = move || files.iter().filter_map(|path| read(path)).collect::<Vec<_>>();
        let identities = tokio::task::spawn_blocking(read).await.unwrap_or_default();
        let mut keys = Self::default();
        let socket = match &host.agent {
            Agent::FromEnvironment => socket.map(Path::to_owned),
            Agent::At(path) => Some(path.clone()),
            Agent::None => None,
        };
        if let Some(socket) = socket {
            keys.ask_agent(&socket, binding).await;
        }
        let named: Vec<&PublicKey> =
            identities.iter().filter_map(|identity| identity.public.as_ref()).collect();
        let place = |key: &PublicKey| {
            named.iter().position(|named| named.key_data() == key.key_data()).unwrap_or(usize::MAX)
        };
        if host.identities_only {
            keys.held.retain(|key| place(key) != usize::MAX);
        }
        keys.held.sort_by_key(|key| place(key));
        for identity in &identities {
            let held = identity.public.as_ref().is_some_and(|public| {
                keys.held.iter().any(|held| held.key_data() == public.key_data())
            });
            if !held {
                keys.own.extend(identity.private.clone());
                keys.skipped.extend(identity.skipped.clone());
            }
        }
        keys.keep_allowed(host);
        keys
    }

    async fn ask_agent(&mut self, socket: &Path, binding: Option<&AgentSessionBinding>) {
        let ask = async {
            let mut agent = AgentClient::connect(UnixStream::connect(socket).await?);
            if let Some(binding) = binding {
                // An old agent knows no keys that are bound to destinations, and refuses.
                let _ = agent.bind_session(binding, false).await;
            }
            let held = agent.request_identities().await?;
            Ok::<_, russh::keys::Error>((agent, held))
        };
        match timeout(LISTING_MAX, ask).await {
            Ok(Ok((agent, held))) => {
                self.agent = Some(agent);
                for identity in held {
                    match identity {
                        AgentIdentity::PublicKey { key, .. } if is_token(&key.algorithm()) => {
                            self.skipped.push("a FIDO key of the agent".to_owned());
                        }
                        AgentIdentity::PublicKey { key, .. } => self.held.push(key),
                        AgentIdentity::Certificate { .. } => {
                            self.skipped.push("a certificate of the agent".to_owned());
                        }
                    }
                }
            }
            // As OpenSSH: an agent that is not there has no keys.
            Ok(Err(russh::keys::Error::IO(error))) => {
                tracing::debug!(%error, "agent is not there");
            }
            Ok(Err(error)) => self.skipped.push(format!("the agent's keys ({error})")),
            Err(_) => self.skipped.push("the agent's keys (it does not answer)".to_owned()),
        }
    }

    fn keep_allowed(&mut self, host: &Simple) {
        let Some(allowed) = &host.algorithms.public_keys else { return };
        let allows = |algorithm: &Algorithm| match algorithm {
            Algorithm::Rsa { .. } => allowed.iter().any(|name| name == "rsa-sha2-512"),
            other => allowed.iter().any(|name| name == other.as_str()),
        };
        self.held.retain(|key| allows(&key.algorithm()));
        self.own.retain(|key| allows(&key.algorithm()));
    }
}

/// With which hash a key signs.
pub(super) fn hash_of(key: &PublicKey) -> Option<HashAlg> {
    matches!(key.algorithm(), Algorithm::Rsa { .. }).then_some(HashAlg::Sha512)
}

fn is_token(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256)
}

/// Reads an identity file; `None` if there is none, as for most of OpenSSH's default names.
fn read(path: &Path) -> Option<Identity> {
    let beside = |end: &str| PathBuf::from(format!("{}{end}", path.display()));
    let skip = |public, why: &str| {
        let skipped = Some(format!("{}, {why}", path.display()));
        Some(Identity { public, private: None, skipped })
    };
    let public =
        || text_of(&beside(".pub")).ok().and_then(|text| PublicKey::from_openssh(&text).ok());
    if beside("-cert.pub").exists() {
        return skip(public(), "for which there is a certificate");
    }
    let text = match text_of(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some(named(path, public()?));
        }
        Err(error) => return skip(public(), &format!("which cannot be read ({error})")),
    };
    // A public key in the identity's place names one of the agent's.
    if let Ok(public) = PublicKey::from_openssh(&text) {
        return Some(named(path, public));
    }
    if is_open_to_others(path) {
        return skip(public(), "which others may read: `chmod go= ` it");
    }
    match russh::keys::decode_secret_key(&text, None) {
        Ok(key) if key.is_encrypted() => {
            skip(Some(key.public_key().clone()), "which has a passphrase: add it to an agent")
        }
        Ok(key) if matches!(key.algorithm(), Algorithm::Rsa { .. }) => {
            skip(Some(key.public_key().clone()), "an RSA key")
        }
        Ok(key) if is_token(&key.algorithm()) => skip(Some(key.public_key().clone()), "a FIDO key"),
        Ok(key) => Some(Identity {
            public: Some(key.public_key().clone()),
            private: Some(Arc::new(key)),
            skipped: None,
        }),
        Err(russh::keys::Error::KeyIsEncrypted) => {
            skip(public(), "which has a passphrase: add it to an agent")
        }
        Err(_) => skip(public(), "a key of a kind that the built-in client does not know"),
    }
}

/// One of the agent's keys; a token's may be used without an agent, and not by us.
fn named(path: &Path, public: PublicKey) -> Identity {
    let of_token = is_token(&public.algorithm());
    let skipped = of_token.then(|| format!("{}, a FIDO key", path.display()));
    Identity { public: Some(public), private: None, skipped }
}

fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// As OpenSSH: the account's own key file is for nobody else to read.
fn is_open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|seen| {
        seen.uid() == rustix::process::getuid().as_raw() && seen.mode() & 0o077 != 0
    })
}
