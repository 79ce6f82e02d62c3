//! One login: connect, exchange keys, know the server, prove who we are.
//!
//! Key exchange: `mlkem768x25519-sha256` (post-quantum) first, then what the user's `ssh` offers, in
//! its order, with strict key exchange; a list that the user's configuration gives is kept as it is.
//! `ssh` knows some that russh does not, `sntrup761x25519-sha512` among them: [`super::exchange`]
//! sees to it that a server that `ssh` would agree with on one of those is left to `ssh`.

use std::borrow::Cow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, AuthResult, DisconnectReason, Handle, Session};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{MethodKind, Names, Preferred, cipher, kex, mac};
use tokio::sync::oneshot;

use super::exchange::{self, Offer};
use super::host_key::{Books, Presented};
use super::keys::{self, Keys};
use super::wire::{self, Speaks, Wire};
use super::{Failure, Lease};
use crate::drivers::ssh::client_config::Simple;
use crate::drivers::ssh::known_hosts::{self, KnownHosts};
use crate::drivers::ssh::transport::LoginError;
use crate::model::HostKeys;

/// How often a silent server is asked whether it is there, and how often it may not answer.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVES_MAX: usize = 3;
/// What a server may send ahead on one channel.
const WINDOW: u32 = 256 << 10;
/// Packets of one channel that wait for its reader before the whole login waits.
const PACKETS_MAX: usize = 16;
/// How many keys are tried; sshd itself ends it after six.
const KEYS_MAX: usize = 20;

/// One login.
pub(super) struct Login {
    pub(super) handle: Handle<Client>,
    pub(super) active: AtomicUsize,
    /// As many sessions as the server lets it have.
    pub(super) most: AtomicUsize,
    ended: Ended,
    /// Ends the connection with the login.
    _knife: oneshot::Sender<()>,
    /// The jump that it goes through.
    _via: Option<Lease>,
}

/// Why the server ended it, in its words.
type Ended = Arc<Mutex<Option<String>>>;

/// What a login needs from its surroundings.
pub(super) struct Surroundings<'a> {
    pub(super) books: &'a Arc<Books>,
    pub(super) agent: Option<&'a Path>,
    pub(super) rule: HostKeys,
}

impl Login {
    /// Logs in, through `via` if there is one.
    pub(super) async fn open(
        host: &Arc<Simple>,
        around: &Surroundings<'_>,
        via: Option<Lease>,
    ) -> Result<Self, Failure> {
        let books = around.books.of(host)?;
        let books: Vec<&KnownHosts> = books.iter().map(AsRef::as_ref).collect();
        let config = Arc::new(client::Config {
            window_size: WINDOW,
            channel_buffer_size: PACKETS_MAX,
            keepalive_interval: Some(KEEPALIVE),
            keepalive_max: KEEPALIVES_MAX,
            preferred: preferred(host, &known_hosts::kinds(&books, &host.called()))?,
            ..client::Config::default()
        });
        let speaks = match &via {
            None => wire::connect(&host.hostname, host.port, host.family).await?,
            Some(via) => reach(via, host).await?,
        };
        let offer = Offer::default();
        let (wire, knife) = Wire::new(speaks, offer.clone());
        let ended = Ended::default();
        let client = Client {
            host: Arc::clone(host),
            books: Arc::clone(around.books),
            rule: around.rule,
            offer,
            ended: Arc::clone(&ended),
        };
        let mut handle = client::connect_stream(config, wire, client).await?;
        let keys = Keys::of(host, around.agent, handle.agent_session_binding()).await;
        authenticate(&mut handle, host, keys, &ended).await?;
        Ok(Self {
            handle,
            active: AtomicUsize::new(0),
            most: AtomicUsize::new(usize::MAX),
            ended,
            _knife: knife,
            _via: via,
        })
    }

    /// Whether it can still be used.
    pub(super) fn lives(&self) -> bool {
        !self.handle.is_closed()
    }

    /// Why it ended, as far as anybody said.
    pub(super) fn end(&self) -> String {
        end_of(&self.ended)
    }

    /// Whether the server would let it have one more session, as far as we know.
    pub(super) fn has_room(&self, most: usize) -> bool {
        self.active.load(Ordering::Relaxed) < self.most.load(Ordering::Relaxed).min(most)
    }
}

fn end_of(ended: &Ended) -> String {
    let said = ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
    said.unwrap_or_else(|| "it closed the connection".to_owned())
}

async fn reach(via: &Lease, host: &Simple) -> Result<Speaks, Failure> {
    let (name, port) = (host.hostname.clone(), u32::from(host.port));
    match via.login.handle.channel_open_direct_tcpip(name, port, "127.0.0.1", 0).await {
        Ok(channel) => Ok(wire::carry(channel)),
        Err(russh::Error::ChannelOpenFailure(reason)) => {
            let why = format!("the jump host cannot reach {}: {reason:?}", host.called().name());
            Err(Failure::Login(LoginError::Connect { why }))
        }
        Err(_) => Err(Failure::Login(LoginError::Closed {
            why: format!("the jump host's login: {}", via.login.end()),
        })),
    }
}

async fn authenticate(
    handle: &mut Handle<Client>,
    host: &Simple,
    mut keys: Keys,
    ended: &Ended,
) -> Result<(), Failure> {
    let mut tried = Vec::new();
    let Keys { agent, held, own, skipped } = &mut keys;
    let mut room = KEYS_MAX;
    for key in held.iter().take(room) {
        let Some(agent) = agent.as_mut() else { break };
        room -= 1;
        let hash = keys::hash_of(key);
        let fingerprint = key.fingerprint(HashAlg::Sha256);
        let answer = handle.authenticate_publickey_with(&host.user, key.clone(), hash, agent).await;
        match answer {
            Ok(answer) if settled(&answer, handle, ended, &tried)? => return Ok(()),
            Ok(_) => tried.push(format!("{fingerprint} of the agent")),
            // It may hold the key and not be allowed to sign with it.
            Err(error) => skipped.push(format!("{fingerprint} of the agent ({error})")),
        }
    }
    for key in own.iter().take(room) {
        let fingerprint = key.fingerprint(HashAlg::Sha256);
        let key = PrivateKeyWithHashAlg::new(Arc::clone(key), None);
        let answer = handle.authenticate_publickey(&host.user, key).await?;
        if settled(&answer, handle, ended, &tried)? {
            return Ok(());
        }
        tried.push(fingerprint.to_string());
    }
    let tried = if tried.is_empty() { "none".to_owned() } else { tried.join(", ") };
    let why = format!("{}, keys tried: {tried}", host.user);
    if !skipped.is_empty() {
        let why = format!("{why}; not usable by the built-in client: {}", skipped.join("; "));
        return Err(Failure::Unsupported { why });
    }
    if !host.other_ways.is_empty() {
        let why = format!("{why}; only ssh itself knows {}", host.other_ways.join(", "));
        return Err(Failure::Unsupported { why });
    }
    Err(Failure::Login(LoginError::Denied { why }))
}

/// Whether we are in; an error if there is no use in trying more.
fn settled(
    answer: &AuthResult,
    handle: &Handle<Client>,
    ended: &Ended,
    tried: &[String],
) -> Result<bool, Failure> {
    match answer {
        AuthResult::Success => Ok(true),
        AuthResult::Failure { partial_success: true, .. } => {
            Err(Failure::Unsupported { why: "the server wants more than a key".to_owned() })
        }
        AuthResult::Failure { .. } if handle.is_closed() => {
            let why = end_of(ended);
            // That it had enough of our keys is a denial, however it ends.
            Err(Failure::Login(match tried.len() {
                0 => LoginError::Closed { why },
                tried => LoginError::Denied { why: format!("{why}, after {tried} other keys") },
            }))
        }
        AuthResult::Failure { remaining_methods, .. }
            if remaining_methods.contains(&MethodKind::PublicKey) =>
        {
            Ok(false)
        }
        AuthResult::Failure { .. } => {
            Err(Failure::Unsupported { why: "the server accepts no keys".to_owned() })
        }
    }
}

/// Our side of the protocol.
pub(super) struct Client {
    host: Arc<Simple>,
    books: Arc<Books>,
    rule: HostKeys,
    offer: Offer,
    ended: Ended,
}

impl client::Handler for Client {
    type Error = Failure;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Failure> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else {
            let why = "the server shows a certificate".to_owned();
            return Err(Failure::Unsupported { why });
        };
        let bytes = key.to_bytes().map_err(|error| {
            Failure::Login(LoginError::Closed { why: format!("its host key: {error}") })
        })?;
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let (host, books) = (Arc::clone(&self.host), Arc::clone(&self.books));
        let rule = self.rule;
        let check = move || books.check(&Presented { host: &host, key: &bytes, fingerprint }, rule);
        // Files are read, and perhaps written.
        match tokio::task::spawn_blocking(check).await {
            Ok(checked) => checked.map(|()| true),
            Err(error) => {
                Err(Failure::Login(LoginError::Closed { why: format!("its host key: {error}") }))
            }
        }
    }

    /// Before anybody says who we are, the keys of agents and files among it.
    async fn kex_done(
        &mut self,
        _secret: Option<&[u8]>,
        names: &Names,
        _session: &mut Session,
    ) -> Result<(), Failure> {
        let checked = self.offer.check(names.kex.as_ref(), &self.host.algorithms);
        checked.map_err(|why| Failure::Unsupported { why })
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Failure>) -> Result<(), Failure> {
        let said = match reason {
            DisconnectReason::ReceivedDisconnect(said) => {
                said.message.chars().take(200).flat_map(char::escape_debug).collect()
            }
            DisconnectReason::Error(error) => error.to_string(),
        };
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
        Ok(())
    }
}

/// What we offer, the best first.
fn preferred(host: &Simple, on_file: &[&str]) -> Result<Preferred, Failure> {
    let mut preferred = Preferred::DEFAULT;
    let wanted = &host.algorithms;
    let known = |name: &str| kex::Name::try_from(name).ok();
    let mut chosen = match &wanted.kex {
        Some(names) => in_order("KexAlgorithms", names, known)?,
        None => in_order("KexAlgorithms", &exchange::usual(&wanted.kex_of_ssh), known)?,
    };
    chosen.push(kex::EXTENSION_SUPPORT_AS_CLIENT);
    chosen.push(kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT);
    preferred.kex = Cow::Owned(chosen);
    if let Some(names) = &wanted.ciphers {
        let known = |name: &str| cipher::Name::try_from(name).ok();
        preferred.cipher = Cow::Owned(in_order("Ciphers", names, known)?);
    }
    if let Some(names) = &wanted.macs {
        preferred.mac = Cow::Owned(in_order("MACs", names, |name| mac::Name::try_from(name).ok())?);
    }
    let mut kinds = vec![
        Algorithm::Ed25519,
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    ];
    if let Some(names) = &wanted.host_keys {
        let place = |kind: &Algorithm| names.iter().position(|name| name == kind.as_str());
        kinds.retain(|kind| place(kind).is_some());
        kinds.sort_by_key(place);
    }
    // The server is asked for the key that is on file, as OpenSSH does.
    let is_on_file = |kind: &Algorithm| on_file.contains(&kind.as_str());
    if !on_file.is_empty() && !kinds.iter().any(is_on_file) || kinds.is_empty() {
        let why = format!("host keys of the kind that is on file ({})", on_file.join(", "));
        return Err(Failure::Unsupported { why });
    }
    kinds.sort_by_key(|kind| !is_on_file(kind));
    preferred.key = Cow::Owned(kinds);
    Ok(preferred)
}

/// Those of the user's that we know, if the one that they like best is among them.
fn in_order<T>(
    option: &str,
    names: &[String],
    known: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, Failure> {
    let known = |name: &String| {
        if matches!(name.as_str(), "none" | "clear") { None } else { known(name) }
    };
    let best = names.first().and_then(known);
    if best.is_none() {
        let name = names.first().map_or("", String::as_str);
        return Err(Failure::Unsupported { why: format!("{option} {name}") });
    }
    Ok(names.iter().filter_map(known).collect())
}
