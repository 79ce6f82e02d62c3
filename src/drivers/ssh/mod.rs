//! Nodes that are reached by SSH: a small runner on each, which Towpath installs itself, and one
//! channel to it that stays open.

mod built_in;
mod choose;
mod client_config;
mod known_hosts;
mod transport;

pub use transport::{Complaints, Host, LoginError, Session};

#[cfg(test)]
mod testing {
    //! What the tests of this folder share.

    use std::time::Duration;

    use crate::model::{Arg, HostKeys, Ssh, Transport};

    /// A host that is called as the node is, with nothing else said.
    pub(super) fn settings() -> Ssh {
        Ssh {
            host: Arg::parse("{node}").unwrap(),
            user: None,
            port: None,
            config: None,
            host_keys: HostKeys::Known,
            transport: Transport::Auto,
            directory: None,
            timeout: Duration::from_secs(20),
        }
    }
}
