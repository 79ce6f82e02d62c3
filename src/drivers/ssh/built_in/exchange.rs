//! Whether the key exchange that we agree on with a server is the one that `ssh` would have agreed
//! on, or a better one. Our client does not know all that `ssh` knows; and what it does not offer,
//! a server's log would never show to be missing.
//!
//! Invariant: never weaker than the user's `ssh`, unless the user's configuration says so. What is
//! read here is signed by the server before anybody believes it: its offer is a part of what the
//! exchange hashes.

use std::sync::{Arc, Mutex, PoisonError};

use crate::drivers::ssh::client_config::Algorithms;

/// What a server may send before its offer ends: some lines of greeting, and one packet.
const OFFER_MAX: usize = 128 << 10;
/// The exchange that is safe against a recording that a quantum computer opens one day.
pub(super) const BEST: &str = "mlkem768x25519-sha256";

/// What a server offers, listened to as its first bytes come by.
#[derive(Clone, Debug, Default)]
pub(super) struct Offer(Arc<Mutex<Heard>>);

#[derive(Debug)]
enum Heard {
    /// The bytes so far.
    Part(Vec<u8>),
    /// The names of key exchanges.
    Whole(Vec<String>),
    /// It is none that we understand.
    Strange,
}

impl Default for Heard {
    fn default() -> Self {
        Self::Part(Vec::new())
    }
}

impl Offer {
    /// Takes in what the server sent.
    pub(super) fn hear(&self, bytes: &[u8]) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Heard::Part(part) = &mut *heard else { return };
        part.extend_from_slice(bytes);
        let now = match read(part) {
            Ok(Some(names)) => Heard::Whole(names),
            Ok(None) if part.len() <= OFFER_MAX => return,
            Ok(None) | Err(Strange) => Heard::Strange,
        };
        *heard = now;
    }

    /// Says what `ssh` would have that `agreed` is not; `Ok` if there is nothing.
    pub(super) fn check(&self, agreed: &str, algorithms: &Algorithms) -> Result<(), String> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Heard::Whole(offered) = &*heard else {
            return Err("what key exchanges the server offers cannot be read".to_owned());
        };
        let Algorithms { kex, kex_of_ssh, .. } = algorithms;
        if kex.is_none() && agreed == BEST {
            return Ok(());
        }
        match kex_of_ssh.iter().find(|name| offered.contains(name)) {
            Some(theirs) if theirs == agreed => Ok(()),
            Some(theirs) => Err(format!(
                "ssh and the server agree on the key exchange {theirs}, which the built-in client does not know; where {agreed} is enough for you, name that in `KexAlgorithms`"
            )),
            None => Err(format!("ssh itself would not agree on the key exchange {agreed}")),
        }
    }
}

/// The names to offer where the user's configuration has none: the best, and then what `ssh`
/// offers, in its order.
pub(super) fn usual(kex_of_ssh: &[String]) -> Vec<String> {
    let others = kex_of_ssh.iter().filter(|name| *name != BEST).cloned();
    std::iter::once(BEST.to_owned()).chain(others).collect()
}

struct Strange;

/// Reads the names of key exchanges; `None` while they are not all there.
fn read(bytes: &[u8]) -> Result<Option<Vec<String>>, Strange> {
    /// What a server may say in between.
    const IGNORE: u8 = 2;
    const DEBUG: u8 = 4;
    const KEXINIT: u8 = 20;
    let mut rest = bytes;
    loop {
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let is_version = rest.starts_with(b"SSH-");
        rest = &rest[end + 1..];
        if is_version {
            break;
        }
    }
    loop {
        let Some((length, after)) = number(rest) else { return Ok(None) };
        if length > OFFER_MAX {
            return Err(Strange);
        }
        let Some(packet) = after.get(..length) else { return Ok(None) };
        // The length of the padding, and what kind of message it is.
        match packet.get(1) {
            Some(&KEXINIT) => {
                let (length, names) = packet.get(18..).and_then(number).ok_or(Strange)?;
                let names = names.get(..length).ok_or(Strange)?;
                let names = std::str::from_utf8(names).map_err(|_| Strange)?;
                return Ok(Some(names.split(',').map(str::to_owned).collect()));
            }
            Some(&IGNORE | &DEBUG) => rest = &after[length..],
            Some(_) | None => return Err(Strange),
        }
    }
}

/// A number of four bytes, and what comes behind it.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((usize::try_from(u32::from_be_bytes(*number)).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(payload: &[u8]) -> Vec<u8> {
        let padding = 8;
        let length = u32::try_from(1 + payload.len() + padding).unwrap();
        [&length.to_be_bytes()[..], &[8], payload, &vec![0; padding]].concat()
    }

    fn kexinit(names: &str) -> Vec<u8> {
        let length = u32::try_from(names.len()).unwrap().to_be_bytes();
        packet(&[&[20][..], &[9; 16], &length, names.as_bytes(), &[0; 40]].concat())
    }

    fn offer(bytes: &[u8]) -> Offer {
        let offer = Offer::default();
        // It comes as it comes.
        bytes.chunks(7).for_each(|piece| offer.hear(piece));
        offer
    }

    fn says(names: &str) -> Offer {
        offer(&[b"SSH-2.0-x\r\n", &kexinit(names)[..], b"more"].concat())
    }

    fn list(names: &str) -> Vec<String> {
        names.split(',').map(str::to_owned).collect()
    }

    /// With the lists of `ssh` and of the user.
    fn check(offered: &Offer, agreed: &str, ssh: &str, user: Option<&str>) -> Result<(), String> {
        let (kex_of_ssh, kex) = (list(user.unwrap_or(ssh)), user.map(list));
        offered.check(agreed, &Algorithms { kex, kex_of_ssh, ..Algorithms::default() })
    }

    #[test]
    fn what_ssh_would_agree_on_is_good_and_what_is_better_too() {
        let ssh = "sntrup,curve25519,ecdh";
        assert_eq!(check(&says("curve25519,sntrup"), "curve25519", "curve25519", None), Ok(()));
        assert_eq!(check(&says("ecdh,curve25519"), "curve25519", ssh, None), Ok(()));
        assert_eq!(check(&says(&format!("sntrup,{BEST},curve25519")), BEST, ssh, None), Ok(()));
        let why = check(&says("curve25519,sntrup"), "curve25519", ssh, None).unwrap_err();
        assert!(why.contains("exchange sntrup,") && why.contains("KexAlgorithms"), "{why}");
        // Neither is post-quantum, and still it is another one than ssh's.
        let why = check(&says("dh,odd"), "dh", "odd,dh", None).unwrap_err();
        assert!(why.contains("exchange odd,"), "{why}");
    }

    #[test]
    fn what_the_user_lists_is_kept_to_the_letter() {
        let both = says(&format!("{BEST},sntrup,curve25519"));
        let user = Some("curve25519,sntrup");
        assert_eq!(check(&both, "curve25519", "sntrup", user), Ok(()));
        assert!(check(&both, BEST, "sntrup", user).is_err());
        let gone = says("sntrup");
        assert!(check(&gone, "curve25519", "sntrup", user).is_err());
    }

    #[test]
    fn an_offer_is_found_behind_a_greeting_and_not_believed_by_halves() {
        let greeted = [b"hello\nSSH-2.0-x\n", &packet(b"\x02xx")[..], &kexinit("a,b")].concat();
        assert_eq!(check(&offer(&greeted), "a", "a", None), Ok(()));
        for end in [0, 5, 12, 40, greeted.len() - 70] {
            let half = offer(&greeted[..end]);
            assert!(check(&half, "a", "a", None).unwrap_err().contains("cannot be read"), "{end}");
        }
        for strange in [
            [b"SSH-2.0-x\n", &packet(b"\x01bye")[..]].concat(),
            [b"SSH-2.0-x\n", &packet(b"\x14short")[..]].concat(),
            b"SSH-2.0-x\n\xff\xff\xff\xff\0\0".to_vec(),
            [b"SSH-2.0-x\n", &kexinit("a,\u{e9}")[..]]
                .concat()
                .iter()
                .map(|it| if *it == 0xa9 { 0xff } else { *it })
                .collect(),
            vec![b'a'; OFFER_MAX + 7],
        ] {
            let why = check(&offer(&strange), "a", "a", None).unwrap_err();
            assert!(why.contains("cannot be read"), "{why}");
        }
    }
}
