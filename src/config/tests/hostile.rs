//! Files that mean harm get a clear answer, soon.

use std::fmt::Write as _;

use expect_test::expect;

use super::{REVISION, file, load, over_base, shown};
use crate::config::{Change, Content, Loaded};

/// What is found when these bytes stand where a good service was; at most this much of it.
fn first(body: impl Into<Vec<u8>>) -> String {
    let mut loaded = load("");
    loaded.apply(REVISION, [file("services/shop.yaml", body)]);
    assert_eq!(loaded.snapshot().services.len(), 1, "kept");
    assert!(loaded.snapshot().broken.services.len() == 1, "held");
    let shown = shown(&loaded.findings());
    assert!(shown.len() < 40_000, "{} bytes", shown.len());
    shown.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn hostile_files_are_refused_one_by_one() {
    let bomb = "a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n";
    let deep = "[".repeat(50_000);
    let wide = "x: y\n".repeat(80_000);
    let cases: [(&str, Vec<u8>); 11] = [
        ("empty", Vec::new()),
        ("comments", b"# a\n# b\n".to_vec()),
        ("latin-1", b"service: caf\xe9\n".to_vec()),
        ("nul", b"service: shop\0\n".to_vec()),
        ("tab", b"service: shop\n\trecipe: x\n".to_vec()),
        ("twice", b"service: shop\nservice: shop\n".to_vec()),
        ("bomb", bomb.into()),
        ("deep", deep.into()),
        ("large", wide.into()),
        ("two documents", b"service: shop\n---\nservice: shop\n".to_vec()),
        ("list", b"[service, shop]\n".to_vec()),
    ];
    let mut out = String::new();
    for (name, body) in cases {
        writeln!(out, "{name}: {}", first(body)).unwrap();
    }
    expect![[r#"
        empty: services/shop.yaml: the file says nothing [empty]
        comments: services/shop.yaml: the file says nothing [empty]
        latin-1: services/shop.yaml:1:13: not UTF-8 at byte 12 [not-utf8]
        nul: services/shop.yaml:1:14: unexpected character: `\u{0}' [syntax]
        tab: services/shop.yaml:2:1: a tab is used for indentation [tab]
        twice: services/shop.yaml:2:1: key `service` is given twice [duplicate-key]
        bomb: services/shop.yaml:1:4: anchor `&a` is not allowed [anchor]
        deep: services/shop.yaml:1:33: nested more than 32 levels deep [too-deep]
        large: services/shop.yaml: the file has 400000 bytes, at most 262144 are read [too-large]
        two documents: services/shop.yaml:2:1: a second document starts here [many-documents]
        list: services/shop.yaml:1:1: expected a mapping of keys to values, found a list [wrong-type]
    "#]].assert_eq(&out);
}

#[test]
fn a_file_full_of_targets_is_answered_in_time() {
    let mut body = "service: shop\nrecipe: simple\ntargets: {".to_owned();
    while body.len() < 255 * 1024 {
        write!(body, "e{}: {{ref: a}},", body.len()).unwrap();
    }
    body.push_str("}\n");
    assert!(first(body).contains("is not known"));
    let mut ring = "service: shop\nrecipe: simple\ntargets:\n".to_owned();
    for at in 0..4000 {
        writeln!(ring, " e{at}: {{ref: a, promote: {{after: [e{}]}}}}", (at + 1) % 4000).unwrap();
    }
    assert!(ring.len() < 256 * 1024);
    assert!(first(ring).contains("is not known"));
    let many = "service: shop\nrecipe: simple\ntargets:\n".to_owned()
        + &(0..100_000).fold(String::new(), |all, at| all + &format!(" e{at}: {{ref: a}}\n"));
    assert!(first(many).contains("at most 262144 are read"));
    let nodes = "environment: staging\nconnect: local\nversion: {run: [v]}\nroles:\n".to_owned()
        + &(0..2000)
            .fold(String::new(), |all, at| all + &format!(" r{at}: {{nodes: ['n[1..10000]']}}\n"));
    let mut loaded = load("");
    loaded.apply(REVISION, [file("environments/staging.yaml", nodes)]);
    assert!(shown(&loaded.findings()).contains("at most 10000 are possible"));
}

#[test]
fn what_is_no_regular_file_is_not_followed() {
    let odd = |path: &str, content| Change { path: path.to_owned(), content };
    let mut all = over_base("");
    all.extend([
        odd("services/link.yaml", Content::Symlink),
        odd("services/more", Content::Symlink),
        odd("recipes/sub", Content::Submodule),
        odd("recipes/big.yaml", Content::TooLarge { size: 5_000_000_000 }),
        odd("services/../../etc/passwd.yaml", Content::Bytes(Vec::new())),
        odd("services/\u{fffd}.yaml", Content::BadPath),
        odd("docs/link", Content::Symlink),
        odd("services/x\u{1b}[2J.yaml", Content::Bytes(Vec::new())),
    ]);
    let loaded = Loaded::load(REVISION, all);
    expect![[r#"
        recipes/big.yaml: the file has 5000000000 bytes, at most 262144 are read [too-large]
            split it: one file per service or environment
        recipes/sub: this is a submodule [submodule]
            put the files themselves here; submodules are not entered
        services/../../etc/passwd.yaml: this is no path inside the repository [bad-path]
            use UTF-8, and no `..`
        services/link.yaml: this is a symbolic link [symlink]
            put the file itself here; links are not followed
        services/more: this is a symbolic link [symlink]
            put the file itself here; links are not followed
        services/x\u{1b}[2J.yaml: `x\u{1b}[2J` is not a valid service name: use 1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit [misplaced-file]
            the name of the file is the name of what it describes
        services/�.yaml: this is no path inside the repository [bad-path]
            use UTF-8, and no `..`
    "#]].assert_eq(&shown(&loaded.findings()));
    assert_eq!(loaded.target_count(), 2);
}

#[test]
fn a_directory_that_becomes_a_link_takes_nothing_away() {
    let mut loaded = load("");
    let link = Change { path: "services".to_owned(), content: Content::Symlink };
    let gone = Change { path: "services/shop.yaml".to_owned(), content: Content::Gone };
    let touched = loaded.apply(REVISION, [gone, link]);
    assert!(touched.everything && touched.refs.is_empty());
    assert_eq!(loaded.target_count(), 2);
    let broken = loaded.snapshot().broken.root.as_deref();
    assert_eq!(broken, Some("services: this is a symbolic link"));
    let back = Change { path: "services".to_owned(), content: Content::Gone };
    assert_eq!(loaded.apply(REVISION, [back]).refs.len(), 2);
    assert_eq!(loaded.target_count(), 0);
}
