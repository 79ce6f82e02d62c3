//! Whether a webhook comes from who may ring: decided over the raw bytes, in constant time, before
//! anything in them is looked at. What a genuine one says is never read.

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::HeaderMap;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::controller::Scheme;
use crate::model::{Secret, Timestamp};

/// How far the clock of who signs may be from ours.
const TOLERANCE_SECONDS: u64 = 300;
/// Signatures that one webhook may carry: two while a secret is exchanged.
const SIGNATURES_MAX: usize = 8;
/// How GitLab's signing tokens begin.
const SIGNING_PREFIX: &str = "whsec_";

/// Why a secret cannot be used. Never holds it.
#[derive(Debug, thiserror::Error)]
#[error("the signing token of gitlab is none: it begins with `whsec_`, and base64 follows")]
pub struct BadKey;

/// What shows that a webhook is genuine.
pub struct Key {
    scheme: Scheme,
    bytes: Vec<u8>,
}

impl Key {
    /// A key from its secret.
    pub fn new(scheme: Scheme, secret: &Secret) -> Result<Self, BadKey> {
        let text = secret.expose();
        let bytes = match scheme {
            Scheme::GitLabSigned => {
                let encoded = text.strip_prefix(SIGNING_PREFIX).ok_or(BadKey)?;
                BASE64.decode(encoded.as_bytes()).ok().filter(|it| !it.is_empty()).ok_or(BadKey)?
            }
            Scheme::GitLabToken | Scheme::GitHub | Scheme::Gitea | Scheme::Forgejo => {
                text.as_bytes().to_vec()
            }
        };
        Ok(Self { scheme, bytes })
    }

    /// The forge that it belongs to.
    pub fn forge(&self) -> &'static str {
        self.scheme.forge()
    }

    /// Whether there is something to check at all; without it no body need be read.
    pub fn is_offered(&self, headers: &HeaderMap) -> bool {
        one(headers, self.header()).is_some()
    }

    /// Whether a webhook was sent by somebody who knows the secret.
    pub fn fits(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> bool {
        let Some(said) = one(headers, self.header()) else { return false };
        match self.scheme {
            Scheme::GitLabToken => {
                // Hashed, so that not even the length of the secret shows.
                Sha256::digest(said).as_slice().ct_eq(Sha256::digest(&self.bytes).as_slice()).into()
            }
            Scheme::GitLabSigned => self.standard(said, headers, body, now),
            Scheme::GitHub => {
                said.strip_prefix(b"sha256=").is_some_and(|hex| self.signed(hex, body))
            }
            Scheme::Gitea | Scheme::Forgejo => self.signed(said, body),
        }
    }

    fn header(&self) -> &'static str {
        match self.scheme {
            Scheme::GitLabToken => "x-gitlab-token",
            Scheme::GitLabSigned => "webhook-signature",
            Scheme::GitHub => "x-hub-signature-256",
            Scheme::Gitea => "x-gitea-signature",
            Scheme::Forgejo => "x-forgejo-signature",
        }
    }

    /// Hexadecimal HMAC of the body.
    fn signed(&self, hex: &[u8], body: &[u8]) -> bool {
        HEXLOWER_PERMISSIVE.decode(hex).is_ok_and(|mac| self.verify(&[body], &mac))
    }

    /// Standard Webhooks: `id.timestamp.body`, not too old, by any of the signatures.
    fn standard(&self, said: &[u8], headers: &HeaderMap, body: &[u8], now: Timestamp) -> bool {
        let (Some(id), Some(at)) = (one(headers, "webhook-id"), one(headers, "webhook-timestamp"))
        else {
            return false;
        };
        let seconds = std::str::from_utf8(at).ok().and_then(|it| it.parse::<u64>().ok());
        if seconds.is_none_or(|it| it.abs_diff(now.0 / 1000) > TOLERANCE_SECONDS) {
            return false;
        }
        let mut signatures = said.split(|byte| *byte == b' ').take(SIGNATURES_MAX);
        signatures.any(|it| {
            let mac = it.strip_prefix(b"v1,").and_then(|it| BASE64.decode(it).ok());
            mac.is_some_and(|mac| self.verify(&[id, b".", at, b".", body], &mac))
        })
    }

    fn verify(&self, parts: &[&[u8]], mac: &[u8]) -> bool {
        // HMAC takes keys of every length.
        let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(&self.bytes) else { return false };
        for part in parts {
            hmac.update(part);
        }
        hmac.verify_slice(mac).is_ok()
    }
}

/// A header that is there once: of two, nobody knows which one counts.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?;
    all.next().is_none().then(|| first.as_bytes())
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const ALL: [Scheme; 5] =
        [Scheme::GitLabToken, Scheme::GitLabSigned, Scheme::GitHub, Scheme::Gitea, Scheme::Forgejo];
    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn key(scheme: Scheme, secret: &str) -> Key {
        Key::new(scheme, &Secret::new(secret).unwrap()).ok().unwrap()
    }

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let each = all.iter();
        each.map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        })
        .collect()
    }

    #[test]
    fn the_vector_that_github_documents() {
        let secret = b"It's a Secret to Everybody";
        let spaced = Key { scheme: Scheme::GitHub, bytes: secret.to_vec() };
        let mac = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let good = headers(&[("x-hub-signature-256", &format!("sha256={mac}"))]);
        assert!(spaced.fits(&good, b"Hello, World!", NOW));
        assert!(!spaced.fits(&good, b"Hello, World?", NOW));
        assert!(!spaced.fits(&headers(&[("x-hub-signature-256", mac)]), b"Hello, World!", NOW));
        let hex = headers(&[("x-gitea-signature", mac), ("x-forgejo-signature", mac)]);
        for scheme in [Scheme::Gitea, Scheme::Forgejo] {
            let key = Key { scheme, bytes: spaced.bytes.clone() };
            assert!(key.fits(&hex, b"Hello, World!", NOW));
            assert!(!key.fits(&good, b"Hello, World!", NOW), "another kind's header");
        }
    }

    #[test]
    fn the_vector_of_standard_webhooks() {
        let key = key(Scheme::GitLabSigned, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let (id, at, body) =
            ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        let mac = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let with = |id, at, mac| {
            headers(&[("webhook-id", id), ("webhook-timestamp", at), ("webhook-signature", mac)])
        };
        let now = |seconds: u64| Timestamp(seconds * 1000);
        assert!(key.fits(&with(id, at, mac), body, now(1_614_265_330)));
        let many = format!("{}{mac}", "v1,AAAA ".repeat(8));
        let second = format!("v1,AAAA {mac}");
        assert!(key.fits(&with(id, at, &second), body, now(1_614_265_630)));
        for (headers, now) in [
            (with(id, at, mac), now(1_614_265_631)),
            (with(id, at, mac), now(1_614_265_029)),
            (with(id, "1614265331", mac), now(1_614_265_331)),
            (with("msg_other", at, mac), now(1_614_265_330)),
            (with(id, "", mac), now(1_614_265_330)),
            (with(id, at, &mac[3..]), now(1_614_265_330)),
            (with(id, at, &many), now(1_614_265_330)),
        ] {
            assert!(!key.fits(&headers, body, now), "{headers:?}");
        }
    }

    #[test]
    fn a_token_fits_whole_and_once() {
        let key = key(Scheme::GitLabToken, "right");
        assert!(key.fits(&headers(&[("x-gitlab-token", "right")]), b"", NOW));
        for bad in ["", "righ", "rightt", "Right"] {
            assert!(!key.fits(&headers(&[("x-gitlab-token", bad)]), b"", NOW), "{bad}");
        }
        let twice = headers(&[("x-gitlab-token", "right"), ("x-gitlab-token", "right")]);
        assert!(!key.fits(&twice, b"", NOW) && !key.is_offered(&twice));
        for bad in ["whsec_", "right", "whsec_%"] {
            assert!(Key::new(Scheme::GitLabSigned, &Secret::new(bad).unwrap()).is_err());
        }
    }

    proptest! {
        #[test]
        fn rubbish_never_fits_and_never_panics(
            value in proptest::collection::vec(any::<u8>(), 0..200),
            id in proptest::collection::vec(any::<u8>(), 0..50),
            prefix in proptest::sample::select(vec!["", "sha256=", "v1,", "v1, v1,"]),
            body in proptest::collection::vec(any::<u8>(), 0..200),
            now in any::<u64>(),
        ) {
            let mut headers = HeaderMap::new();
            let value = [prefix.as_bytes(), &value].concat();
            for name in ["x-gitlab-token", "webhook-signature", "x-hub-signature-256", "x-gitea-signature", "x-forgejo-signature"] {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    headers.insert(name, value);
                }
            }
            for name in ["webhook-id", "webhook-timestamp"] {
                if let Ok(id) = HeaderValue::from_bytes(&id) {
                    headers.insert(name, id);
                }
            }
            for scheme in ALL {
                let key = key(scheme, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
                prop_assert!(!key.fits(&headers, &body, Timestamp(now)));
            }
        }
    }
}
