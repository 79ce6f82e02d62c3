//! Examples, and the same questions put to `ssh-keygen -F`.

use std::collections::BTreeSet;
use std::process::Command;

use proptest::prelude::*;

use super::*;

fn key(of: u8) -> Vec<u8> {
    let mut key = vec![0, 0, 0, 11];
    key.extend(b"ssh-ed25519");
    key.extend([0, 0, 0, 32]);
    key.extend([of; 32]);
    key
}

fn text(of: u8) -> String {
    format!("ssh-ed25519 {}", BASE64.encode(&key(of)))
}

fn ask(lines: &str, host: &str, port: u16, presented: u8) -> Standing {
    let file = KnownHosts::parse(lines.as_bytes());
    standing(&[&file], &Called::at(host, port), &key(presented))
}

#[test]
fn a_key_is_known_under_its_name_and_port_only() {
    let lines = format!("web,10.0.0.1 {}\n[db]:2222 {}\r\n", text(1), text(2));
    assert_eq!(ask(&lines, "web", 22, 1), Standing::Known);
    assert_eq!(ask(&lines, "WEB", 22, 1), Standing::Known);
    assert_eq!(ask(&lines, "10.0.0.1", 22, 1), Standing::Known);
    assert_eq!(ask(&lines, "web", 22, 2), Standing::Changed { at: (0, 1) });
    assert_eq!(ask(&lines, "web2", 22, 1), Standing::Unknown);
    assert_eq!(ask(&lines, "db", 2222, 2), Standing::Known);
    assert_eq!(ask(&lines, "db", 2222, 1), Standing::Changed { at: (0, 2) });
    assert_eq!(ask(&lines, "db", 22, 2), Standing::Unknown);
    // As OpenSSH: the key of the machine serves another port, another key there says nothing.
    assert_eq!(ask(&lines, "web", 2222, 1), Standing::Known);
    assert_eq!(ask(&lines, "web", 2222, 3), Standing::Unknown);
}

#[test]
fn patterns_may_exclude() {
    let lines = format!("web-?,db-*,!db-9 {}\n", text(1));
    assert_eq!(ask(&lines, "web-1", 22, 1), Standing::Known);
    assert_eq!(ask(&lines, "web-10", 22, 1), Standing::Unknown);
    assert_eq!(ask(&lines, "db-", 22, 1), Standing::Known);
    assert_eq!(ask(&lines, "db-9", 22, 1), Standing::Unknown);
    assert_eq!(ask(&lines, "db-99", 22, 1), Standing::Known);
}

#[test]
fn a_revoked_key_is_never_known() {
    let lines = format!("web {}\n@revoked * {}\n", text(1), text(1));
    assert_eq!(ask(&lines, "web", 22, 1), Standing::Revoked);
    assert_eq!(ask(&lines, "other", 2222, 1), Standing::Revoked);
    let lines = format!("@revoked web {}\nweb {}\n", text(1), text(2));
    assert_eq!(ask(&lines, "web", 22, 2), Standing::Known);
    let revoked_at_home = format!("[web]:2222 {}\n@revoked web {}\n", text(1), text(2));
    assert_eq!(ask(&revoked_at_home, "web", 2222, 1), Standing::Known);
}

#[test]
fn an_authority_vouches_for_no_plain_key() {
    let lines = format!("@cert-authority *.example {}\n", text(1));
    assert_eq!(ask(&lines, "web.example", 22, 1), Standing::ByAuthority);
    assert_eq!(ask(&lines, "web.example", 22, 2), Standing::ByAuthority);
    let lines = format!("{lines}web.example {}\n", text(2));
    assert_eq!(ask(&lines, "web.example", 22, 2), Standing::Known);
    assert_eq!(ask(&lines, "web.example", 22, 3), Standing::Changed { at: (0, 2) });
}

#[test]
fn one_right_key_among_several_is_enough_and_files_are_read_together() {
    let first = KnownHosts::parse(format!("web {}\n", text(1)).as_bytes());
    let second = KnownHosts::parse(format!("\nweb {}\n", text(2)).as_bytes());
    let web = Called::at("web", 22);
    assert_eq!(standing(&[&first, &second], &web, &key(2)), Standing::Known);
    assert_eq!(standing(&[&first, &second], &web, &key(3)), Standing::Changed { at: (0, 1) });
    assert_eq!(standing(&[], &web, &key(3)), Standing::Unknown);
}

#[test]
fn what_is_not_understood_vouches_for_nobody_and_is_named() {
    let lines = format!(
        "web\nweb ssh-ed25519\nweb ssh-rsa {key}\n@trusted web {text}\n|2|a|b {text}\n|1|AAAA|AAAA \
         {text}\nweb ssh-ed25519 !!!!\n\0 {text}\n# web {text}\n\u{feff}web {text}\n",
        key = BASE64.encode(&key(1)),
        text = text(1),
    );
    assert_eq!(ask(&lines, "web", 22, 1), Standing::Unknown);
    assert_eq!(KnownHosts::parse(lines.as_bytes()).skipped.len(), 8);
    let long = format!("{} {}\n", "web,".repeat(20_000), text(1));
    assert_eq!(ask(&long, "web", 22, 1), Standing::Unknown);
}

#[test]
fn a_line_of_ours_is_read_back() {
    for salt in [None, Some([7; 20])] {
        for host in [Called::at("web", 22), Called::at("::1", 2222), Called::alias("w")] {
            let line = line_for(&host, "ssh-ed25519", &key(1), salt);
            let file = KnownHosts::parse(line.as_bytes());
            assert_eq!(standing(&[&file], &host, &key(1)), Standing::Known, "{line}");
            assert_eq!(kinds(&[&file], &host), ["ssh-ed25519"]);
        }
    }
}

/// Which lines `ssh-keygen -F` finds.
fn openssh_finds(path: &std::path::Path, name: &str) -> BTreeSet<usize> {
    let output = Command::new("ssh-keygen").args(["-F", name, "-f"]).arg(path).output().unwrap();
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |text: &str| {
        let (_, number) = text.strip_prefix("# Host ")?.split_once(" found: line ")?;
        number.split_whitespace().next()?.parse().ok()
    };
    found.lines().filter_map(line).collect()
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ab]{1,3}",
        r"\[[ab]{1,2}\]:(22|2222)",
        Just("::1".to_owned()),
        Just("[::1]:2222".to_owned()),
        "[ab]\\.[AB]",
    ]
}

fn pattern() -> impl Strategy<Value = String> {
    prop_oneof![4 => name(), 2 => "!?[ab*?]{1,4}", 1 => r"!?\[[ab*?]{1,2}\]:[2*?]{1,4}", 1 => Just(String::new())]
}

fn line() -> impl Strategy<Value = String> {
    let names = prop_oneof![
        3 => proptest::collection::vec(pattern(), 1..4).prop_map(|names| names.join(",")),
        2 => (name(), any::<[u8; 20]>()).prop_map(|(name, salt)| {
            let hash = hash_of(&salt, &name.to_ascii_lowercase());
            format!("|1|{}|{}", BASE64.encode(&salt), BASE64.encode(&hash))
        }),
    ];
    let marker = prop_oneof![5 => Just(""), 1 => Just("@revoked "), 1 => Just("@cert-authority "), 1 => Just("@other ")];
    let end = prop_oneof![Just(""), Just(" a comment"), Just("\r"), Just(" c\r")];
    let whole = (marker, names, 0_u8..3, end)
        .prop_map(|(marker, names, of, end)| format!("{marker}{names} {}{end}", text(of)));
    prop_oneof![8 => whole, 1 => "[ab#|@ =]{0,20}", 1 => Just("# a note".to_owned())]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Every file, every name: we find the lines that OpenSSH finds.
    #[test]
    fn we_find_what_openssh_finds(lines in proptest::collection::vec(line(), 0..12), name in name()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_hosts");
        let text = lines.join("\n") + "\n";
        std::fs::write(&path, &text).unwrap();
        let ours = KnownHosts::parse(text.as_bytes());
        let lower = name.to_ascii_lowercase();
        let found: BTreeSet<usize> = ours.about(&lower).map(|line| line.number).collect();
        prop_assert_eq!(found, openssh_finds(&path, &lower), "{} in\n{}", name, text);
    }

    #[test]
    fn nothing_makes_it_fall(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let file = KnownHosts::parse(&bytes);
        prop_assert!(standing(&[&file], &Called::at("a", 22), &key(1)) != Standing::Known);
    }

    #[test]
    fn a_wildcard_is_a_regular_expression(pattern in "[ab*?]{0,8}", name in "[ab]{0,8}") {
        fn slow(pattern: &[u8], name: &[u8]) -> bool {
            match (pattern.split_first(), name.split_first()) {
                (None, rest) => rest.is_none(),
                (Some((b'*', after)), rest) => {
                    slow(after, name) || rest.is_some_and(|(_, name)| slow(pattern, name))
                }
                (Some((byte, after)), Some((first, rest))) => {
                    (*byte == b'?' || byte == first) && slow(after, rest)
                }
                (Some(_), None) => false,
            }
        }
        prop_assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), slow(pattern.as_bytes(), name.as_bytes()));
    }
}
