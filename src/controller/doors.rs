//! Where a controller is to be asked over HTTP, and who may ring there: as the settings describe it.

use std::net::SocketAddr;

use crate::drivers::hosted::open::TokenAt;

/// The HTTP listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAt {
    /// On which address.
    pub listen: SocketAddr,
    /// Who may ring, and where the secret that shows it is kept.
    pub keys: Vec<(Scheme, TokenAt)>,
}

/// How a webhook shows who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// GitLab's secret token, sent as it is.
    GitLabToken,
    /// GitLab's signing token: the Standard Webhooks signature.
    GitLabSigned,
    /// GitHub's signature.
    GitHub,
    /// Gitea's signature.
    Gitea,
    /// Forgejo's signature.
    Forgejo,
}

impl Scheme {
    /// The forge that uses it, as in the settings, in the path and in metrics.
    pub fn forge(self) -> &'static str {
        match self {
            Self::GitLabToken | Self::GitLabSigned => "gitlab",
            Self::GitHub => "github",
            Self::Gitea => "gitea",
            Self::Forgejo => "forgejo",
        }
    }
}
