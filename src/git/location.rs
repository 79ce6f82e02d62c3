//! Where the config repo is. Checked, so that no location can become an option or a command of git.

use std::fmt;
use std::path::{Path, PathBuf};

/// Why a text is no location.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the place of a repository: {rule}")]
pub struct BadLocation {
    text: String,
    rule: &'static str,
}

/// Longest location, in bytes.
const LOCATION_MAX: usize = 2048;
/// Transports that git itself carries out; `ext::` and other helpers run commands.
const SCHEMES: [&str; 4] = ["https", "ssh", "git", "file"];

/// A repository on this machine, or one that we keep a mirror of.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A bare repository, a working tree's root, or its `.git`: used in place, object database only.
    Local(PathBuf),
    /// A URL, reached through the `git` program.
    Remote(Url),
}

/// A checked URL. Shown without the credentials that may be in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(String);

impl Location {
    /// Reads a path or a URL: `https://`, `ssh://`, `git://`, `file://`, or `user@host:path`.
    pub fn parse(text: &str) -> Result<Self, BadLocation> {
        let bad = |rule| BadLocation { text: redact(text).escape_debug().to_string(), rule };
        if text.is_empty() || text.len() > LOCATION_MAX {
            return Err(bad("it is empty or too long"));
        }
        if text.starts_with('-') {
            return Err(bad("it must not begin with `-`"));
        }
        if text.chars().any(char::is_control) {
            return Err(bad("it holds control characters"));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            if !SCHEMES.contains(&scheme) {
                return Err(bad("use https, ssh, git or file"));
            }
            let authority = rest.split('/').next().unwrap_or_default();
            let host = authority.rsplit('@').next().unwrap_or_default();
            let host_ok = if scheme == "file" { host.is_empty() } else { is_host(host) };
            if !host_ok || authority.starts_with('-') || rest.chars().any(char::is_whitespace) {
                return Err(bad("its host is not a plain host name"));
            }
            return Ok(Self::Remote(Url(text.to_owned())));
        }
        if text.contains("::") {
            return Err(bad("transport helpers are not allowed"));
        }
        if let Some((host, path)) = text.split_once(':')
            && !host.contains('/')
        {
            let name = host.rsplit('@').next().unwrap_or_default();
            if !is_host(name) || path.starts_with('-') || path.is_empty() {
                return Err(bad("use user@host:path"));
            }
            return Ok(Self::Remote(Url(text.to_owned())));
        }
        Ok(Self::Local(PathBuf::from(text)))
    }

    /// A directory of this machine.
    pub fn local(path: impl AsRef<Path>) -> Self {
        Self::Local(path.as_ref().to_owned())
    }
}

fn is_host(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
}

/// The text without the `user:password@` of a URL.
fn redact(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            match rest[..end].rfind('@') {
                Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
                None => text.to_owned(),
            }
        }
        None => text.to_owned(),
    }
}

impl Url {
    /// A directory of this machine, as git is asked for it; nothing where that could be read as something else.
    pub(super) fn of_path(path: &Path) -> Option<Self> {
        path.to_str().filter(|_| path.is_absolute()).map(|it| Self(it.to_owned()))
    }

    /// The URL with its credentials: for git, never for people.
    pub(super) fn secret(&self) -> &str {
        &self.0
    }

    /// Takes the credentials out of what a program said.
    pub(super) fn scrub(&self, said: &str) -> String {
        let shown = redact(&self.0);
        let said = said.replace(&self.0, &shown);
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let authority = &rest[..rest.find('/').unwrap_or(rest.len())];
        let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
        match user.split_once(':') {
            Some((_, password)) if !password.is_empty() => said.replace(password, "***"),
            Some(_) | None => said,
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&redact(&self.0))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => f.pad(&path.to_string_lossy()),
            Self::Remote(url) => f.pad(&redact(&url.0)),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_cannot_become_an_option_or_a_command() {
        for bad in [
            "",
            "-uhttps://x",
            "--upload-pack=touch x",
            "ext::sh -c x",
            "ssh://-oProxyCommand=x/y",
            "ssh://a@-oProxyCommand=x/y",
            "-oProxyCommand=x:y",
            "git@-host:x",
            "http://example.com/x",
            "https://ex ample.com/x",
            "file://host/x",
            "https://a/\nx",
            "host:-x",
        ] {
            assert!(Location::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["https://u:p@example.com/x.git", "git@example.com:x/y.git", "file:///srv/x"] {
            assert!(matches!(Location::parse(good), Ok(Location::Remote(_))), "{good}");
        }
        assert!(matches!(Location::parse("/srv/config.git"), Ok(Location::Local(_))));
        assert!(matches!(Location::parse("./a:b"), Ok(Location::Local(_))));
    }

    #[test]
    fn credentials_are_never_shown() {
        let location = Location::parse("https://bot:s3cret@example.com/x.git").unwrap();
        assert_eq!(location.to_string(), "https://example.com/x.git");
        assert!(!format!("{location:?}").contains("s3cret"));
        let Location::Remote(url) = location else { panic!("a URL") };
        let said = "fatal: https://bot:s3cret@example.com/x.git: password s3cret refused";
        assert_eq!(url.scrub(said), "fatal: https://example.com/x.git: password *** refused");
        let bad = Location::parse("http://bot:s3cret@example.com/x").unwrap_err();
        assert!(!bad.to_string().contains("s3cret"));
    }
}
