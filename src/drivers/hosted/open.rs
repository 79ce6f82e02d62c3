//! From settings to a forge: where it is, by which token, and what git may show it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::api::Api;
use super::client::{Client, encoded};
use super::gitea::Gitea;
use super::github::{self, GitHub};
use super::gitlab::GitLab;
use super::transport::{BadUrl, Manner};
use super::{Hosted, Moved, Options, Pages};
use crate::drivers::forge::Forge;
use crate::git::{Identity, Location, Repository, Token};
use crate::model::{Branch, Secret};

/// Longest file that a token is read from.
const TOKEN_BYTES_MAX: u64 = 4096;

/// Which of the forges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// gitlab.com, or one's own.
    GitLab,
    /// github.com, or one's own GitHub Enterprise Server.
    GitHub,
    /// A Gitea.
    Gitea,
    /// A Forgejo, such as codeberg.org.
    Forgejo,
}

impl Kind {
    /// Where its API is, if its pages are at `url`, and how it wants to be spoken to.
    pub fn api(self, url: &str) -> (String, Manner) {
        let url = url.trim_end_matches('/');
        match self {
            Self::GitLab => (format!("{url}/api/v4"), Manner::default()),
            Self::GitHub if origin(url) == "https://github.com" => {
                ("https://api.github.com".to_owned(), github::MANNER)
            }
            Self::GitHub => (format!("{url}/api/v3"), github::MANNER),
            Self::Gitea | Self::Forgejo => {
                (format!("{url}/api/v1"), Manner { scheme: "token", ..Manner::default() })
            }
        }
    }
}

/// Where a token is kept. Named in the settings, which never hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenAt {
    /// An environment variable.
    Variable(String),
    /// A file.
    File(PathBuf),
}

/// A forge as the settings describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedAt {
    /// Which of them.
    pub kind: Kind,
    /// Its address, such as `https://gitlab.example.com`.
    pub url: String,
    /// The project, such as `group/config`.
    pub project: String,
    /// The token of the bot.
    pub token: TokenAt,
    /// The token of a second account, that may approve.
    pub approver: Option<TokenAt>,
    /// The label of our merge requests.
    pub label: String,
    /// Checks that must be there and green.
    pub checks: BTreeSet<String>,
    /// Whether rollouts are told on its page of environments.
    pub deployments: bool,
}

/// Why there is no forge. Never holds a token.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The variable is not set.
    #[error(
        "the environment variable {0}, which towpath.toml names, is not set, or holds no token"
    )]
    Variable(String),
    /// The file cannot be read.
    #[error("reading the token in {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{0} holds no token: one word on one line")]
    NoToken(PathBuf),
    /// Its address cannot be used.
    #[error(transparent)]
    Url(#[from] BadUrl),
}

impl TokenAt {
    /// Reads it.
    pub fn read(&self) -> Result<Secret, OpenError> {
        match self {
            Self::Variable(name) => {
                let value = std::env::var_os(name).and_then(|it| it.into_string().ok());
                let secret = value.and_then(|it| Secret::new(&it));
                secret.ok_or_else(|| OpenError::Variable(name.clone()))
            }
            Self::File(path) => {
                let failed = |source| OpenError::File { path: path.clone(), source };
                let mut text = String::new();
                let file = std::fs::File::open(path).map_err(failed)?;
                std::io::Read::read_to_string(
                    &mut std::io::Read::take(file, TOKEN_BYTES_MAX),
                    &mut text,
                )
                .map_err(failed)?;
                Secret::new(&text).ok_or_else(|| OpenError::NoToken(path.clone()))
            }
        }
    }
}

impl HostedAt {
    /// What people call it.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::GitLab => "GitLab",
            Kind::GitHub => "GitHub",
            Kind::Gitea => "Gitea",
            Kind::Forgejo => "Forgejo",
        }
    }

    /// Where people find the merge requests.
    pub fn web_url(&self) -> String {
        let (url, project) = (self.url.trim_end_matches('/'), self.project.trim_matches('/'));
        match self.kind {
            Kind::GitLab => format!("{url}/{project}/-/merge_requests"),
            Kind::GitHub | Kind::Gitea | Kind::Forgejo => format!("{url}/{project}/pulls"),
        }
    }

    /// Where people look at the repository.
    fn pages(&self) -> Pages {
        let path: Vec<String> = self.project.trim_matches('/').split('/').map(encoded).collect();
        let root = format!("{}/{}", self.url.trim_end_matches('/'), path.join("/"));
        let (commit, folder) = match self.kind {
            Kind::GitLab => ("/-/commit/", "/-/tree/"),
            Kind::GitHub => ("/commit/", "/tree/"),
            Kind::Gitea | Kind::Forgejo => ("/commit/", "/src/branch/"),
        };
        Pages { commit: format!("{root}{commit}"), folder: format!("{root}{folder}") }
    }

    /// The token that git may use for a repository, if that is on the same server.
    pub fn git_token(&self, location: &Location) -> Result<Option<Token>, OpenError> {
        let origin = self::origin(&self.url);
        let same = match location {
            Location::Local(_) => false,
            Location::Remote(url) => self::origin(&url.to_string()) == origin,
        };
        if !same || !origin.starts_with("https://") {
            return Ok(None);
        }
        let user = match self.kind {
            // Any name will do with a token.
            Kind::GitLab | Kind::Gitea | Kind::Forgejo => "oauth2",
            Kind::GitHub => "x-access-token",
        };
        Ok(Some(Token { origin, user: user.to_owned(), secret: self.token.read()? }))
    }

    /// Opens it. `watching` looks, and does nothing about what it sees; `moved` is how a promotion changes a file.
    pub fn open(
        &self,
        repository: Repository,
        base: &Branch,
        store: &str,
        watching: bool,
        moved: Moved,
    ) -> Result<Box<dyn Forge>, OpenError> {
        let Self { kind, url, project, token, approver, label, checks, deployments: _ } = self;
        let options = Options {
            label: label.clone(),
            checks: checks.clone(),
            store: store.to_owned(),
            moved,
            watching,
            pages: self.pages(),
        };
        let (url, project) = (url.trim_end_matches('/'), project.trim_matches('/'));
        let (base_url, manner) = kind.api(url);
        let client = |token: &TokenAt| -> Result<Client, OpenError> {
            Ok(Client::of(&base_url, token.read()?, &manner)?)
        };
        let approver = approver.as_ref().map(client).transpose()?;
        let client = client(token)?;
        let api: Box<dyn Api> = match kind {
            Kind::GitLab => Box::new(GitLab::new(client, approver, project)),
            Kind::GitHub => Box::new(GitHub::new(client, approver, project)),
            Kind::Gitea | Kind::Forgejo => {
                Box::new(Gitea::new(client, approver, self.name(), project))
            }
        };
        let (git, bot) = (Box::new(repository), Identity::towpath());
        Ok(Box::new(Hosted::new(api, git, base.clone(), bot, options)))
    }
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return String::new() };
    let host = rest.split('/').next().unwrap_or_default();
    format!("{scheme}://{host}").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str, token: TokenAt) -> HostedAt {
        HostedAt {
            kind: Kind::GitLab,
            url: url.to_owned(),
            project: "group/config".to_owned(),
            token,
            approver: None,
            label: "towpath".to_owned(),
            checks: BTreeSet::new(),
            deployments: false,
        }
    }

    #[test]
    fn the_token_goes_to_its_own_server_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "glpat-0123456789\n").unwrap();
        let at = at("https://gitlab.example.com", TokenAt::File(file.clone()));
        let token = |text: &str| at.git_token(&Location::parse(text).unwrap()).unwrap();
        let ours = token("https://gitlab.example.com/group/config.git").unwrap();
        assert_eq!(ours.origin, "https://gitlab.example.com");
        for other in [
            "https://gitlab.example.com.evil.example/group/config.git",
            "https://example.com/gitlab.example.com/config.git",
            "ssh://git@gitlab.example.com/group/config.git",
            "git://gitlab.example.com/group/config.git",
            "/srv/config.git",
        ] {
            assert!(token(other).is_none(), "{other}");
        }
        std::fs::write(&file, "two words").unwrap();
        let said = at.token.read().map(|_| ()).unwrap_err().to_string();
        assert!(said.contains("token") && !said.contains("words"), "{said}");
        let absent = TokenAt::Variable("TOWPATH_NO_SUCH_VARIABLE".to_owned());
        assert!(matches!(absent.read(), Err(OpenError::Variable(_))));
    }

    #[test]
    fn people_are_shown_where_to_look() {
        let at = at("https://gitlab.example.com/", TokenAt::Variable("X".to_owned()));
        assert_eq!(at.web_url(), "https://gitlab.example.com/group/config/-/merge_requests");
        for (kind, name) in
            [(Kind::GitHub, "GitHub"), (Kind::Gitea, "Gitea"), (Kind::Forgejo, "Forgejo")]
        {
            let at = HostedAt { kind, ..at.clone() };
            assert_eq!(at.web_url(), "https://gitlab.example.com/group/config/pulls");
            assert_eq!(at.name(), name);
        }
    }
}
