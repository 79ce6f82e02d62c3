//! Eligible or not, as the real `ssh -G` tells it.

use super::*;
use crate::drivers::ssh::known_hosts::Called;
use crate::drivers::ssh::testing::settings;

fn host(name: &str, config: &Path) -> Host {
    let mut settings = settings();
    settings.config = Some(config.to_str().unwrap().to_owned());
    Host { name: name.to_owned(), settings }
}

async fn ask(text: &str, name: &str) -> Result<Arc<Simple>, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    std::fs::write(&path, text).unwrap();
    match ClientConfig::new("ssh").of(&host(name, &path)).await {
        Eligible::Simple(simple) => Ok(simple),
        Eligible::Not { why } => Err(why),
    }
}

#[tokio::test]
async fn what_the_built_in_client_can_do() {
    for text in [
        "",
        "Host *\n  SendEnv LANG LC_*\n  HashKnownHosts yes\n  GSSAPIAuthentication yes\n",
        "User deploy\nPort 2222\nHostName web.example\nIdentityFile ~/.ssh/deploy\n",
        "IdentitiesOnly yes\nIdentityAgent none\nForwardAgent yes\nCompression yes\n",
        "UserKnownHostsFile /tmp/a ~/b\nGlobalKnownHostsFile none\nHostKeyAlias web\n",
        "ServerAliveInterval 5\nLocalForward 1234 db:5432\nLogLevel DEBUG\n",
        "PreferredAuthentications publickey\nKexAlgorithms curve25519-sha256\n",
        "Match host web\n  User root\n",
        "ControlMaster auto\nStrictHostKeyChecking no\n",
    ] {
        let answer = ask(text, "web").await;
        assert!(answer.is_ok(), "{text}: {answer:?}");
    }
}

#[tokio::test]
async fn what_only_the_system_s_ssh_can_do() {
    for (text, named) in [
        ("ProxyCommand nc %h %p\n", "proxycommand"),
        ("ControlPath /tmp/%C\n", "controlpath"),
        ("CanonicalizeHostname yes\n", "canonicalizehostname"),
        ("PKCS11Provider /usr/lib/x.so\n", "pkcs11provider"),
        ("CertificateFile ~/.ssh/x-cert.pub\n", "certificatefile"),
        ("KnownHostsCommand /bin/true\n", "knownhostscommand"),
        ("RevokedHostKeys /etc/revoked\n", "revokedhostkeys"),
        ("VerifyHostKeyDNS yes\n", "verifyhostkeydns"),
        ("RemoteCommand tmux\n", "remotecommand"),
        ("PermitLocalCommand yes\nLocalCommand true\n", "permitlocalcommand"),
        ("Tunnel yes\n", "tunnel"),
        ("SetEnv A=b\n", "setenv"),
        ("SendEnv SECRET\n", "sendenv"),
        ("BindAddress 127.0.0.1\n", "bindaddress"),
        ("CheckHostIP yes\n", "checkhostip"),
        ("NoHostAuthenticationForLocalhost yes\n", "nohostauthenticationforlocalhost"),
        ("PubkeyAuthentication no\n", "pubkeyauthentication"),
        ("PreferredAuthentications password\n", "preferredauthentications"),
        ("GSSAPIKeyExchange yes\n", "gssapikeyexchange"),
        ("RequiredRSASize 4096\n", "requiredrsasize"),
        ("RekeyLimit 1G 1h\n", "rekeylimit"),
        ("SessionType none\n", "sessiontype"),
        ("CASignatureAlgorithms ssh-ed25519\n", "casignaturealgorithms"),
        ("IdentityFile ~/.ssh/%C\n", "%C"),
        ("IdentityAgent $AGENT\n", "$AGENT"),
        ("UserKnownHostsFile \"/tmp/a b\"\n", "userknownhostsfile"),
        ("Nonsense yes\n", "Bad configuration option"),
        ("Host web\n ProxyJump b\nHost b\n ProxyJump a\nHost a\n ProxyJump b\n", "circle"),
    ] {
        let answer = ask(text, "web").await;
        let why = answer.map(|simple| format!("{simple:?}")).unwrap_err();
        assert!(why.contains(named), "{text}: {why}");
    }
}

#[tokio::test]
async fn every_part_is_found() {
    let simple = ask(
        "HostName %h.example\nPort 2222\nUser deploy\nHashKnownHosts yes\nIdentitiesOnly yes\n\
         IdentityFile /keys/%r@%h\nIdentityAgent /run/agent\nUserKnownHostsFile /k/a /k/b\n\
         GlobalKnownHostsFile /k/c\nAddressFamily inet\nCiphers aes128-ctr\n",
        "web",
    )
    .await
    .unwrap();
    assert_eq!((simple.hostname.as_str(), simple.port), ("web.example", 2222));
    assert_eq!((simple.user.as_str(), simple.family), ("deploy", Family::V4));
    assert_eq!(simple.identity_files, [Path::new("/keys/deploy@web.example")]);
    assert_eq!(simple.agent, Agent::At("/run/agent".into()));
    assert_eq!(simple.known_hosts, [Path::new("/k/a"), Path::new("/k/b"), Path::new("/k/c")]);
    assert_eq!(simple.new_keys_to.as_deref(), Some(Path::new("/k/a")));
    assert!(simple.hash_names && simple.identities_only);
    assert_eq!(simple.algorithms.ciphers, Some(vec!["aes128-ctr".to_owned()]));
    assert_eq!(simple.algorithms.kex, None);
    assert_eq!(simple.called(), Called::at("web.example", 2222));
}

#[tokio::test]
async fn jumps_are_hosts_with_a_configuration_of_their_own() {
    let text = "Host web\n ProxyJump a,root@b:2222\nHost a\n User alice\nHost b\n ProxyJump z\n";
    let web = ask(text, "web").await.unwrap();
    let b = web.via.as_ref().unwrap();
    assert_eq!((b.hostname.as_str(), b.user.as_str(), b.port), ("b", "root", 2222));
    let a = b.via.as_ref().unwrap();
    assert_eq!((a.hostname.as_str(), a.user.as_str(), a.port, &a.via), ("a", "alice", 22, &None));
}

/// An `ssh` that counts how often it is asked.
fn counting(dir: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let program = dir.join("ssh");
    let script = format!("#!/bin/sh\necho >> {}/asked\nexec ssh \"$@\"\n", dir.display());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[tokio::test]
async fn one_question_serves_a_fleet_until_the_file_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (program, path) = (counting(dir.path()), dir.path().join("config"));
    let asked = || std::fs::read_to_string(dir.path().join("asked")).unwrap().len();
    std::fs::write(&path, "Host web-*\n User deploy\nHost db-?\n HostName db.example\n").unwrap();
    let config = ClientConfig::new(&program);
    let of = async |name: &str| match config.of(&host(name, &path)).await {
        Eligible::Simple(simple) => (simple.user.clone(), simple.hostname.clone()),
        Eligible::Not { why } => panic!("{why}"),
    };
    for number in 1..50 {
        let name = format!("web-{number}");
        assert_eq!(of(&name).await, ("deploy".to_owned(), name));
    }
    // Once for the defaults, once for the fleet.
    assert_eq!(asked(), 2);
    assert_eq!(of("db-1").await.1, "db.example");
    assert_eq!(of("db-2").await.1, "db.example");
    assert_eq!(asked(), 3);
    std::fs::write(&path, "Host web-*\n User somebody\n").unwrap();
    assert_eq!(of("web-1").await.0, "somebody");
    assert_eq!(asked(), 4);
    // What only ssh can tell apart is asked for each.
    std::fs::write(&path, "Match host web-1\n User one\n").unwrap();
    assert_eq!(of("web-1").await.0, "one");
    assert_ne!(of("web-2").await.0, "one");
    assert_eq!(of("web-1").await.0, "one");
    assert_eq!(asked(), 6);
    // A name that a HostName names is not carried over to others.
    std::fs::write(&path, "Host web-*\n HostName web-1\n").unwrap();
    assert_eq!(of("web-1").await.1, "web-1");
    assert_eq!(of("web-2").await.1, "web-1");
    assert_eq!(asked(), 8);
}

#[tokio::test]
async fn an_answer_holds_until_an_included_file_changes_comes_or_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (program, path) = (counting(dir.path()), dir.path().join("config"));
    let asked = || std::fs::read_to_string(dir.path().join("asked")).unwrap().len();
    let file = |name: &str| dir.path().join(name);
    std::fs::create_dir(file("more")).unwrap();
    let text = format!(
        "Include {0}/one\nInclude {0}/absent {0}/more/*.conf\nUser main\n",
        dir.path().display()
    );
    std::fs::write(&path, text).unwrap();
    std::fs::write(file("one"), "Port 1001\n").unwrap();
    let config = ClientConfig::new(&program);
    let of = async || match config.of(&host("web-1", &path)).await {
        Eligible::Simple(simple) => (simple.user.clone(), simple.port),
        Eligible::Not { why } => panic!("{why}"),
    };
    // Each of these is asked for once, and then known.
    let mut count = 1;
    let mut expect = async |user: &str, port: u16, change: &str| {
        count += 1;
        for _ in 0..3 {
            assert_eq!(of().await, (user.to_owned(), port), "{change}");
            assert_eq!(asked(), count, "{change}");
        }
    };
    expect("main", 1001, "at first").await;
    std::fs::write(file("one"), "Port 10022\n").unwrap();
    expect("main", 10022, "an included file changes").await;
    std::fs::write(file("absent"), "User absent\n").unwrap();
    expect("absent", 10022, "a file that was named comes").await;
    std::fs::remove_file(file("absent")).unwrap();
    expect("main", 10022, "and goes").await;
    std::fs::write(file("more/a.conf"), format!("Include {}\n", file("deep").display())).unwrap();
    expect("main", 10022, "a file that a pattern names comes").await;
    std::fs::write(file("deep"), "User deep\n").unwrap();
    expect("deep", 10022, "a file that an included one includes comes").await;
    std::fs::write(file("deep"), "User deeper\n").unwrap();
    expect("deeper", 10022, "and changes").await;
    std::fs::remove_file(file("more/a.conf")).unwrap();
    expect("main", 10022, "a file that a pattern names goes").await;
    std::fs::remove_file(file("one")).unwrap();
    expect("main", 22, "the first one goes").await;
}
