//! The desired version of a service. The grammar is our own: git and libgit2 accept far worse.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Longest ref, in bytes.
const REF_MAX: usize = 255;

/// Why a text is no ref.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a valid ref: use 1 to 255 of A-Z a-z 0-9 . _ ~ + : / @ -, beginning with a letter or digit, without `..`, `//`, `@{{` or `.lock`"
)]
pub struct BadRef {
    text: String,
}

/// The version that a target should run: tag, commit, package version, image tag or digest.
///
/// Equality is of the text. There is no `Ord` by age: see [`Ref::age_order`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ref(Arc<str>);

impl Ref {
    /// Checks a text from outside.
    pub fn parse(text: &str) -> Result<Self, BadRef> {
        let ok = text.len() <= REF_MAX
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~+:/@-".contains(&b))
            && !["..", "//", "@{", ".lock"].iter().any(|bad| text.contains(bad));
        if ok {
            Ok(Self(Arc::from(text)))
        } else {
            let text: String = text.chars().take(80).collect();
            Err(BadRef { text: text.escape_debug().to_string() })
        }
    }

    /// The ref as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Orders two refs by age where both are versions (a digit first, perhaps behind a `v`), by
    /// dpkg's rules (deb-version(7)); `None` where nothing can be said, as for commits.
    pub fn age_order(&self, other: &Self) -> Option<Ordering> {
        let version = |it: &Self| {
            let text = it.as_str();
            let text = text.strip_prefix('v').unwrap_or(text);
            let dotted = text.starts_with(|c: char| c.is_ascii_digit()) && text.contains('.');
            dotted.then(|| text.parse::<debversion::Version>().ok()).flatten()
        };
        Some(version(self)?.cmp(&version(other)?))
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::str::FromStr for Ref {
    type Err = BadRef;
    fn from_str(text: &str) -> Result<Self, BadRef> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_that_could_become_options_or_paths_are_refused() {
        for bad in ["", "-rf", "a..b", "a//b", "x@{1}", "a.lock", "a b", "a\n", "$(x)", "ü", "/a"]
        {
            assert!(Ref::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["1.4.2", "v1", "17.2.1-ee.0", "registry/x@sha256:abcd", "1.0~rc1+b2"] {
            assert!(Ref::parse(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn age_is_known_for_versions_only() {
        let order = |a: &str, b: &str| Ref::parse(a).unwrap().age_order(&Ref::parse(b).unwrap());
        assert_eq!(order("1.9.0", "1.10.0"), Some(Ordering::Less));
        assert_eq!(order("v2.0", "v1.9"), Some(Ordering::Greater));
        assert_eq!(order("1.0~rc1", "1.0"), Some(Ordering::Less));
        assert_eq!(order("deadbeef", "1.0"), None);
        assert_eq!(order("main", "dev"), None);
    }
}
