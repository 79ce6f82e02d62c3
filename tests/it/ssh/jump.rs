//! A whole fleet behind one jump host, whose sshd takes no more logins at once than it does by default.

use towpath::drivers::fleet::{Exit, Fleet as _, Place};
use towpath::drivers::ssh::SshFleet;
use towpath::model::{Connect, Transport};

use super::WAIT_MAX;
use super::sshd::{Net, Sshd};
use crate::local_driver::step;

/// As many as 40 of `ssh -J` at once would be too many for it: it lets ten be on their way in, and breaks off
/// more and more of the others.
const NODES: usize = 40;

#[tokio::test]
async fn forty_nodes_behind_one_jump_host_cost_it_one_login() {
    let net = Net::new();
    let mut jump = net.node("jump");
    jump.stop();
    std::fs::write(jump.dir.join("sshd_more"), "MaxStartups 10:30:100\n").unwrap();
    jump.start();
    net.tell(&jump);
    let names: Vec<String> = (1..=NODES).map(|it| format!("web-{it:02}")).collect();
    let nodes: Vec<Sshd> = names.iter().map(|it| net.node(it)).collect();
    for name in &names {
        let config = net.root.join("hosts").join(name);
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, format!("{text}  ProxyJump jump\n")).unwrap();
    }
    let ssh = std::sync::Arc::new(SshFleet::new("store"));
    let mut asked = tokio::task::JoinSet::new();
    for name in &names {
        let mut settings = net.settings();
        settings.transport = Transport::Auto;
        settings.timeout = WAIT_MAX;
        let place = Place { connect: Connect::Ssh(settings), ..net.place(name) };
        let ssh = std::sync::Arc::clone(&ssh);
        asked.spawn(async move {
            let it = step("it", "echo x >> count");
            tokio::time::timeout(WAIT_MAX, ssh.ensure_step(&place, &it)).await
        });
    }
    while let Some(ended) = asked.join_next().await {
        assert_eq!(ended.unwrap().unwrap().unwrap().exit, Exit::Code(0), "{}", jump.log());
    }
    assert_eq!(jump.logins(), 1, "{}", jump.log());
    for node in &nodes {
        assert_eq!((node.logins(), node.read("count").lines().count()), (1, 1), "{}", node.name);
    }
}
