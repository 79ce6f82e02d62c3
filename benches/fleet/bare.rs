//! The SSH library of the built-in client without anything of ours: log in, some shell commands, log out. No runner, no
//! fence, nothing durable, and whoever answers is trusted: what a client in this language can reach at best.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use russh::client::{self, Handle};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{ChannelMsg, Preferred, kex};
use tokio::sync::Semaphore;

use crate::sshd::PORT;

/// Does not ask who the server is.
struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

/// Runs these commands, one after the other, on all of these nodes.
pub(crate) async fn run(
    names: &[String],
    key: &Path,
    user: &str,
    commands: &[String],
    at_once: usize,
) {
    let key = Arc::new(russh::keys::load_secret_key(key, None).expect("a key"));
    let preferred = Preferred { kex: Cow::Borrowed(&[kex::CURVE25519]), ..Preferred::DEFAULT };
    let config = Arc::new(client::Config { preferred, ..client::Config::default() });
    let places = Arc::new(Semaphore::new(at_once));
    let commands: Arc<[String]> = commands.into();
    let tasks: Vec<_> = names
        .iter()
        .map(|name| {
            let (places, config) = (Arc::clone(&places), Arc::clone(&config));
            let (key, commands) = (Arc::clone(&key), Arc::clone(&commands));
            let (name, user) = (name.clone(), user.to_owned());
            tokio::spawn(async move {
                let _place = places.acquire().await.expect("it is open");
                one(&name, &user, config, key, &commands).await.expect("a node");
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("it ends well");
    }
}

async fn one(
    name: &str,
    user: &str,
    config: Arc<client::Config>,
    key: Arc<PrivateKey>,
    commands: &[String],
) -> Result<(), russh::Error> {
    let mut node: Handle<Trusting> = client::connect(config, (name, PORT), Trusting).await?;
    let key = PrivateKeyWithHashAlg::new(key, None);
    assert!(node.authenticate_publickey(user, key).await?.success(), "{name} does not let us in");
    for command in commands {
        let mut channel = node.channel_open_session().await?;
        channel.exec(true, command.as_str()).await?;
        let mut code = None;
        while let Some(message) = channel.wait().await {
            if let ChannelMsg::ExitStatus { exit_status } = message {
                code = Some(exit_status);
            }
        }
        assert_eq!(code, Some(0), "{command} on {name}");
    }
    node.disconnect(russh::Disconnect::ByApplication, "", "").await
}
