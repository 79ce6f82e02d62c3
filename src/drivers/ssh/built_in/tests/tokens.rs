//! Certificates and FIDO keys: what the built-in client cannot use is left to `ssh`, and the log says why.

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{KeypairData, SkEd25519};
use russh::keys::{PrivateKey, ssh_key};

use super::*;

/// An sshd that lets in nobody but whom this user's authority vouches for.
fn trusting(user: &User) -> Sshd {
    keygen(&user.path("authority"), &["-t", "ed25519"]);
    let trusts = format!("TrustedUserCAKeys {}.pub", user.path("authority").display());
    let sshd = user.sshd(&trusts);
    std::fs::write(sshd.path("allowed"), "").unwrap();
    sshd
}

/// The user's authority vouches for a key.
fn certify(user: &User, key: &str) {
    let account = Command::new("id").arg("-un").output().unwrap();
    let account = String::from_utf8(account.stdout).unwrap();
    let mut sign = Command::new("ssh-keygen");
    sign.args(["-q", "-I", "towpath", "-V", "-5m:+1h", "-n", account.trim(), "-s"]);
    sign.arg(user.path("authority")).arg(user.path(&format!("{key}.pub")));
    assert!(sign.status().unwrap().success());
    assert!(user.path(&format!("{key}-cert.pub")).exists());
}

#[tokio::test]
async fn a_certificate_beside_a_key_is_left_to_ssh_and_the_log_says_why() {
    let user = User::new();
    let sshd = trusting(&user);
    certify(&user, "id");
    let (_listening, logged) = listen();
    let (client, mut host) = (client(), user.host(&sshd));
    says(&error(&host).await, &["/id, for which there is a certificate", "transport: auto"]);
    host.settings.transport = Transport::Auto;
    assert_eq!(run(&client, &host, "echo in").await.unwrap(), "in\n");
    assert!(sshd.log().contains("ED25519-CERT"), "{}", sshd.log());
    let told = reasons(&logged);
    assert!(
        told.len() == 1 && told[0].contains("/id, for which there is a certificate"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_certificate_that_the_agent_holds_is_left_to_ssh_and_the_log_says_why() {
    let mut user = User::new();
    let sshd = trusting(&user);
    keygen(&user.path("held"), &["-t", "ed25519"]);
    certify(&user, "held");
    let socket = user.agent(&["held"]);
    user.configure(&format!("IdentityAgent {}", socket.display()));
    let (_listening, logged) = listen();
    let (client, mut host) = (client(), user.host(&sshd));
    says(&error(&host).await, &["a certificate of the agent", "transport: auto"]);
    host.settings.transport = Transport::Auto;
    assert_eq!(run(&client, &host, "echo in").await.unwrap(), "in\n");
    assert!(sshd.log().contains("ED25519-CERT"), "{}", sshd.log());
    let told = reasons(&logged);
    assert!(told.len() == 1 && told[0].contains("a certificate of the agent"), "{told:?}");
}

/// A key of a token that nobody has, in its file and beside it.
fn token(user: &User, name: &str) {
    let public = ssh_key::public::SkEd25519::new(
        ssh_key::public::Ed25519PublicKey([7; 32]),
        "ssh:".to_owned(),
    );
    let pair = SkEd25519::new(public, 1, vec![1, 2, 3]).unwrap();
    let key = PrivateKey::new(KeypairData::SkEd25519(pair), "token").unwrap();
    key.write_openssh_file(user.path(name), LineEnding::LF).unwrap();
    let public = key.public_key().to_openssh().unwrap();
    std::fs::write(user.path(&format!("{name}.pub")), public + "\n").unwrap();
}

#[tokio::test]
async fn a_fido_key_is_left_to_ssh_and_the_log_says_why() {
    let user = User::new();
    let sshd = user.sshd("");
    token(&user, "token");
    // It is ssh's own business to let the user touch it, or to say that it is not there. Both the key's
    // file and its public half alone may stand in its place.
    for named in ["token", "token.pub"] {
        let allowed = std::fs::read_to_string(user.path("token.pub")).unwrap();
        std::fs::write(sshd.path("allowed"), allowed).unwrap();
        user.configure(&format!("IdentitiesOnly yes\nIdentityFile {}", user.path(named).display()));
        let (_listening, logged) = listen();
        let mut host = user.host(&sshd);
        let refused = error(&host).await;
        assert!(matches!(refused, LoginError::Settings { .. }), "{refused}");
        says(&refused, &["/token", "a FIDO key", "transport: auto"]);
        host.settings.transport = Transport::Auto;
        let refused = run(&client(), &host, "true").await;
        assert!(refused.is_err() || refused.is_ok_and(|printed| printed.is_empty()));
        let told = reasons(&logged);
        assert!(told.len() == 1 && told[0].contains("a FIDO key"), "{named}: {told:?}");
        // Where another key lets us in, nobody asks for it.
        std::fs::copy(user.path("id.pub"), sshd.path("allowed")).unwrap();
        assert_eq!(run(&client(), &host, "echo in").await.unwrap(), "in\n");
        assert_eq!(reasons(&logged).len(), 1);
    }
}
