//! What only the system's `ssh` can do of a user's configuration: certificates. And ways to nodes that the
//! built-in client has of its own, by `ssh`: jump hosts.

use std::process::Command;

use towpath::drivers::fleet::{Exit, Fleet as _};
use towpath::drivers::ssh::SshFleet;

use super::sshd::{Net, keygen, user};
use crate::local_driver::step;

#[tokio::test]
async fn a_user_certificate_of_an_authority_that_the_node_trusts_logs_in() {
    let net = Net::new();
    let mut node = net.node("web-01");
    let authority = net.root.join("authority");
    keygen(&authority);
    // No key is let in for its own sake.
    node.stop();
    std::fs::write(node.dir.join("authorized_keys"), "").unwrap();
    let more = format!("TrustedUserCAKeys {}.pub\n", authority.display());
    std::fs::write(node.dir.join("sshd_more"), more).unwrap();
    node.start();
    net.tell(&node);
    let (place, it) = (net.place("web-01"), step("it", "echo x >> count"));
    let refused = SshFleet::new("store").ensure_step(&place, &it).await.unwrap_err();
    assert!(refused.to_string().contains("does not let us in"), "{refused}");

    let mut sign = Command::new("ssh-keygen");
    sign.args(["-q", "-I", "towpath", "-V", "-5m:+1h", "-n", &user(), "-s"]).arg(&authority);
    assert!(sign.arg(net.root.join("id.pub")).status().unwrap().success());
    assert!(net.root.join("id-cert.pub").exists());
    let end = SshFleet::new("store").ensure_step(&place, &it).await.unwrap();
    assert_eq!(end.exit, Exit::Code(0));
    assert_eq!(node.read("count").lines().count(), 1);
    assert!(node.log().contains("CERT"), "{}", node.log());
}

#[tokio::test]
async fn a_jump_host_of_the_configuration_is_gone_through() {
    let net = Net::new();
    let (jump, mut node) = (net.node("jump"), net.node("web-01"));
    let config = net.root.join("hosts/web-01");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}  ProxyJump jump\n")).unwrap();
    let (place, it) = (net.place("web-01"), step("it", "echo x >> count"));
    let end = SshFleet::new("store").ensure_step(&place, &it).await.unwrap();
    assert_eq!(end.exit, Exit::Code(0));
    assert_eq!((jump.logins(), node.logins()), (1, 1), "{}", jump.log());
    assert_eq!(node.read("count").lines().count(), 1);
    // A node that is away behind a jump host that is there.
    node.stop();
    let error = SshFleet::new("store").ensure_step(&place, &it).await.unwrap_err();
    assert!(error.may_work_later(), "{error}");
}
