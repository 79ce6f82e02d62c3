//! The whole room against real repositories, hostile ones too.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use proptest::prelude::*;

use super::testing::{Bare, branch, program};
use super::*;
use crate::model::{EnvironmentName, ServiceName, Target, Timestamp};

pub(super) const AT: Timestamp = Timestamp(1_795_255_300_000);

pub(super) fn all(_: Look<'_>) -> bool {
    true
}

pub(super) fn path(text: &str) -> RepoPath {
    RepoPath::parse(text).unwrap()
}

pub(super) fn commit(
    repository: &Repository,
    parent: Revision,
    edits: &[(&str, Option<&str>)],
) -> Revision {
    let edits: Vec<_> =
        edits.iter().map(|(at, text)| (path(at), text.map(|it| it.as_bytes().to_vec()))).collect();
    let bot = Identity::towpath();
    let commit = Commit {
        parent: Some(parent),
        edits: &edits,
        message: "an edit",
        author: &bot,
        committer: &bot,
        at: AT,
    };
    repository.commit(&commit).unwrap()
}

pub(super) fn update(name: RefName, old: Option<Revision>, new: Option<Revision>) -> Vec<Update> {
    vec![Update { name, old, new }]
}

/// Changes as `path=text` lines, the way a reader would write them.
pub(super) fn shown(changes: &[Change]) -> String {
    let line = |change: &Change| match &change.now {
        None => format!("{} gone", change.place),
        Some(Entry::File { bytes, .. }) => {
            format!("{} = {}", change.place, String::from_utf8_lossy(bytes).trim())
        }
        Some(Entry::Other(kind)) => format!("{} {kind:?}", change.place),
    };
    changes.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn heads_are_read_and_what_is_not_there_is_an_error() {
    let bare = Bare::with(&[("towpath.yaml", "version: 1\n")]);
    let repository = bare.open();
    let first = repository.head(&branch("main")).unwrap();
    assert_eq!(repository.poll(&branch("main")).unwrap(), first);
    let second = bare.push("main", &[("services/a.yaml", "a\n")]);
    assert_eq!(repository.poll(&branch("main")).unwrap(), second);
    assert!(matches!(repository.poll(&branch("other")), Err(Error::NoBranch { .. })));
    assert!(repository.descends(second, first).unwrap());
    assert!(repository.descends(second, second).unwrap());
    assert!(!repository.descends(first, second).unwrap());
    let nowhere = Revision::new([7; 20]);
    assert!(!repository.descends(second, nowhere).unwrap());
    assert!(matches!(repository.descends(nowhere, first), Err(Error::Missing { .. })));
    assert!(matches!(repository.changes(None, nowhere, &all), Err(Error::Missing { .. })));
}

#[test]
fn a_branch_named_like_a_hash_is_a_branch() {
    let bare = Bare::with(&[("a.yaml", "1\n")]);
    let first = bare.open().head(&branch("main")).unwrap();
    bare.push("main", &[("a.yaml", "2\n")]);
    let hash = first.to_string();
    let other = bare.push(&hash, &[("b.yaml", "3\n")]);
    assert_eq!(bare.open().head(&branch(&hash)).unwrap(), other);
    assert!(bare.open().read_at(first, &path("b.yaml")).unwrap().is_none());
}

#[test]
fn only_what_changed_and_is_wanted_is_read() {
    let bare = Bare::with(&[("towpath.yaml", "1"), ("README.md", "x"), ("services/a.yaml", "a")]);
    let repository = bare.open();
    let first = repository.head(&branch("main")).unwrap();
    let edits = [
        ("services/a.yaml", None),
        ("services/b/c.yml", Some("c")),
        ("services/b/d.txt", Some("d")),
        ("src/e.yaml", Some("e")),
        ("towpath.yaml", Some("2")),
    ];
    let second = commit(&repository, first, &edits);
    let changes = repository.changes(Some(first), second, &is_config).unwrap();
    let want = "services/a.yaml gone\nservices/b/c.yml = c\ntowpath.yaml = 2";
    assert_eq!(shown(&changes), want);
    assert_eq!(repository.changes(Some(second), second, &is_config).unwrap(), []);
    let everything = repository.changes(None, second, &is_config).unwrap();
    assert_eq!(shown(&everything), "services/b/c.yml = c\ntowpath.yaml = 2");
    assert_eq!(repository.files_at(second, &is_config).unwrap().len(), 2);
}

/// Makes a commit of a tree from `mktree` lines.
fn crafted(bare: &Bare, lines: &[u8]) -> Revision {
    let tree = bare.git_with(&["mktree", "--missing", "-z"], lines);
    let tree = String::from_utf8(tree).unwrap();
    Revision::parse(&bare.git(&["commit-tree", "-m", "crafted", tree.trim()])).unwrap()
}

/// Writes a tree object byte by byte, which git's own tools would refuse to make.
fn raw_tree(bare: &Bare, entries: &[(&str, &[u8], &str)]) -> Revision {
    let mut bytes = Vec::new();
    for (mode, name, id) in entries {
        bytes.extend_from_slice(format!("{mode} ").as_bytes());
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend_from_slice(Revision::parse(id).unwrap().as_bytes());
    }
    let args = ["hash-object", "--literally", "-t", "tree", "-w", "--stdin"];
    let tree = String::from_utf8(bare.git_with(&args, &bytes)).unwrap();
    Revision::parse(&bare.git(&["commit-tree", "-m", "crafted", tree.trim()])).unwrap()
}

#[test]
fn hostile_entries_are_named_and_never_read() {
    let bare = Bare::with(&[("a.yaml", "a")]);
    let blob = |bytes: &[u8]| {
        let id = bare.git_with(&["hash-object", "-w", "--stdin"], bytes);
        String::from_utf8(id).unwrap().trim().to_owned()
    };
    let (small, large) = (blob(b"x"), blob(&vec![b'x'; 300 << 10]));
    let commit = bare.git(&["rev-parse", "main"]);
    let mut lines = Vec::new();
    lines.extend(format!("120000 blob {small}\tlink.yaml\0").bytes());
    lines.extend(format!("160000 commit {commit}\tmodule.yaml\0").bytes());
    lines.extend(format!("100644 blob {large}\tlarge.yaml\0").bytes());
    lines.extend(format!("100644 blob {small}\tbad-").bytes());
    lines.extend([0xff, 0xfe, b'.', b'y', b'a', b'm', b'l', 0]);
    lines.extend(format!("100644 blob {small}\tback\\slash\0").bytes());
    lines.extend(format!("100644 blob {small}\tnew\nline\0").bytes());
    let head = crafted(&bare, &lines);
    let want = "back\\\\slash = x\nbad-\\xff\\xfe.yaml = x\nlarge.yaml TooLarge { size: 307200 }\n\
                link.yaml Symlink\nmodule.yaml Submodule\nnew\\nline = x";
    let changes = bare.open().changes(None, head, &all).unwrap();
    assert_eq!(shown(&changes), want);
    let bad = changes.iter().filter(|it| matches!(it.place, Place::Bad(_))).count();
    assert_eq!(bad, 3);
    assert!(matches!(bare.open().read_at(head, &path("large.yaml")), Err(Error::TooMuch { .. })));
    assert!(matches!(bare.open().read_at(head, &path("link.yaml")), Err(Error::NotAFile { .. })));
}

#[test]
fn trees_that_git_would_not_make_are_refused_or_bounded() {
    let bare = Bare::with(&[("a/b.yaml", "a")]);
    let repository = bare.open();
    let blob = bare.git(&["rev-parse", "main:a/b.yaml"]);
    let tree = bare.git(&["rev-parse", "main:a"]);

    let dots = raw_tree(&bare, &[("100644", b".", &blob), ("40000", b"..", &tree)]);
    let changes = repository.changes(None, dots, &all).unwrap();
    assert!(changes.iter().all(|it| matches!(it.place, Place::Bad(_))), "{changes:?}");
    assert_eq!(changes.len(), 2);

    let unsorted = raw_tree(&bare, &[("100644", b"b", &blob), ("100644", b"a", &blob)]);
    assert!(matches!(repository.changes(None, unsorted, &all), Err(Error::Malformed { .. })));
    let twice = raw_tree(&bare, &[("100644", b"a", &blob), ("100644", b"a", &blob)]);
    assert!(matches!(repository.changes(None, twice, &all), Err(Error::Malformed { .. })));
    let lying = raw_tree(&bare, &[("100644", b"a.yaml", &tree)]);
    assert_eq!(shown(&repository.changes(None, lying, &all).unwrap()), "a.yaml Odd");

    // A tree of a tree of a tree…: ten names each, ten deep, is ten thousand million files.
    let mut inner = tree;
    for _ in 0..10 {
        let names: Vec<[u8; 1]> = (b'0'..=b'9').map(|it| [it]).collect();
        let entries: Vec<_> =
            names.iter().map(|name| ("40000", name.as_slice(), inner.as_str())).collect();
        let commit = raw_tree(&bare, &entries);
        inner = bare.git(&["rev-parse", &format!("{commit}^{{tree}}")]);
    }
    let bomb = raw_tree(&bare, &[("40000", b"services", &inner)]);
    let deep = |look: Look<'_>| matches!(look, Look::Folder(_));
    assert!(matches!(repository.changes(None, bomb, &deep), Err(Error::TooMuch { .. })));
}

#[test]
fn a_missing_object_is_an_error_and_not_an_empty_file() {
    let bare = Bare::with(&[("a.yaml", "a")]);
    let head = crafted(&bare, format!("100644 blob {}\ta.yaml\0", "1".repeat(40)).as_bytes());
    assert!(matches!(bare.open().changes(None, head, &all), Err(Error::Missing { .. })));
    let head = crafted(&bare, format!("040000 tree {}\ta\0", "1".repeat(40)).as_bytes());
    assert!(matches!(bare.open().changes(None, head, &all), Err(Error::Missing { .. })));
}

#[test]
fn the_same_edit_at_the_same_time_is_the_same_commit() {
    let bare = Bare::with(&[("services/a.yaml", "a"), ("services/b.yaml", "b")]);
    let repository = bare.open();
    let head = repository.head(&branch("main")).unwrap();
    let edits = [("services/a.yaml", Some("c")), ("x/y/z.yaml", Some("z")), ("gone", None)];
    let made = commit(&repository, head, &edits);
    assert_eq!(commit(&bare.open(), head, &edits), made);
    assert_eq!(
        bare.git(&["diff", "--name-only", &head.to_string(), &made.to_string()]),
        "services/a.yaml\nx/y/z.yaml"
    );
    assert_eq!(
        bare.git(&["log", "-1", "--format=%an %ae %ct", &made.to_string()]),
        "Towpath towpath@localhost 1795255300"
    );
    bare.git(&["fsck", "--strict", "--no-dangling"]);
    assert_eq!(repository.head(&branch("main")).unwrap(), head);
}

#[test]
fn an_edit_keeps_the_mode_and_follows_no_link() {
    let bare = Bare::with(&[("a.yaml", "a")]);
    let blob = bare.git(&["rev-parse", "main:a.yaml"]);
    let lines = format!("100755 blob {blob}\trun.yaml\0120000 blob {blob}\tlink.yaml\0");
    let head = crafted(&bare, lines.as_bytes());
    let repository = bare.open();
    let made = commit(&repository, head, &[("run.yaml", Some("b"))]);
    let listed = bare.git(&["ls-tree", &made.to_string(), "run.yaml"]);
    assert!(listed.starts_with("100755"), "{listed}");
    let bot = Identity::towpath();
    let edits = [(path("link.yaml"), Some(b"x".to_vec()))];
    let refused = Commit {
        parent: Some(head),
        edits: &edits,
        message: "",
        author: &bot,
        committer: &bot,
        at: AT,
    };
    assert!(matches!(repository.commit(&refused), Err(Error::NotAFile { .. })));
}

#[test]
fn refs_move_only_from_where_they_were_thought_to_be() {
    let bare = Bare::with(&[("a.yaml", "a")]);
    let repository = bare.open();
    let main = branch("main").name();
    let first = repository.head(&branch("main")).unwrap();
    let a = commit(&repository, first, &[("a.yaml", Some("b"))]);
    let b = commit(&repository, first, &[("a.yaml", Some("c"))]);
    repository.update(&update(main.clone(), Some(first), Some(a))).unwrap();
    // Lost answers: the same again is done.
    repository.update(&update(main.clone(), Some(first), Some(a))).unwrap();
    let moved = repository.update(&update(main.clone(), Some(first), Some(b)));
    assert!(matches!(moved, Err(Error::Moved { now, .. }) if now == Some(a)));
    let rewind = repository.update(&update(main.clone(), Some(a), Some(b)));
    assert!(matches!(rewind, Err(Error::Rewind { .. })));
    let gone = repository.update(&update(main.clone(), Some(a), None));
    assert!(matches!(gone, Err(Error::Rewind { .. })));

    // All or none.
    let both = [
        Update { name: Branch::records().name(), old: None, new: Some(b) },
        Update { name: main, old: Some(first), new: Some(b) },
    ];
    assert!(matches!(repository.update(&both), Err(Error::Moved { .. })));
    assert_eq!(repository.find(&Branch::records().name()).unwrap(), None);
}

#[test]
fn a_proposal_may_be_rebuilt_and_removed() {
    let bare = Bare::with(&[("a.yaml", "a")]);
    let repository = bare.open();
    let first = repository.head(&branch("main")).unwrap();
    let [a, b] = ["b", "c"].map(|it| commit(&repository, first, &[("a.yaml", Some(it))]));
    let target = Target::new(
        &ServiceName::parse("shop").unwrap(),
        &EnvironmentName::parse("staging").unwrap(),
    );
    let name = Branch::proposing(&target).name();
    repository.update(&update(name.clone(), None, Some(a))).unwrap();
    repository.update(&update(name.clone(), Some(a), Some(b))).unwrap();
    repository.update(&update(name.clone(), Some(b), None)).unwrap();
    assert_eq!(repository.find(&name).unwrap(), None);
}

#[test]
fn a_branch_that_a_person_has_checked_out_is_not_moved() {
    let dir = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| testing::run(dir.path(), args, b"");
    git(&["init", "--quiet", "-b", "main", "."]);
    git(&["commit", "--quiet", "--allow-empty", "-m", "first"]);
    git(&["worktree", "add", "--quiet", "-b", "other", "elsewhere"]);
    let repository = Repository::open(&Location::local(dir.path()), dir.path(), program()).unwrap();
    let first = repository.head(&branch("main")).unwrap();
    let next = commit(&repository, first, &[("a.yaml", Some("a"))]);
    for name in ["main", "other"] {
        let moved = repository.update(&update(branch(name).name(), Some(first), Some(next)));
        assert!(matches!(moved, Err(Error::CheckedOut { .. })), "{name}: {moved:?}");
    }
    repository.update(&update(Branch::records().name(), None, Some(next))).unwrap();
}

#[test]
fn racing_writers_all_get_their_turn_and_lose_nothing() {
    let bare = Bare::with(&[("a.yaml", "a")]);
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let repository = bare.open();
            std::thread::spawn(move || {
                for round in 0..5 {
                    let file = format!("{writer}-{round}.yaml");
                    loop {
                        let head = repository.head(&branch("main")).unwrap();
                        let next = commit(&repository, head, &[(&file, Some("x"))]);
                        let name = branch("main").name();
                        match repository.update(&update(name, Some(head), Some(next))) {
                            Ok(()) => break,
                            Err(error) => assert_eq!(error.fault(), Fault::Later, "{error}"),
                        }
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(bare.git(&["rev-list", "--count", "main"]), "21");
    assert_eq!(bare.git(&["ls-tree", "--name-only", "main"]).lines().count(), 21);
}

#[test]
fn a_push_rings_the_bell() {
    let bare = Bare::with(&[("a.yaml", "a")]);
    let (send, rung) = mpsc::channel();
    let watch = bare.open().watch(move || send.send(()).unwrap_or_default()).unwrap();
    assert!(watch.is_some());
    let person = tempfile::tempdir().unwrap();
    testing::run(person.path(), &["clone", "--quiet", bare.dir.path().to_str().unwrap(), "."], b"");
    testing::run(person.path(), &["commit", "--quiet", "--allow-empty", "-m", "next"], b"");
    testing::run(person.path(), &["push", "--quiet", "origin", "main"], b"");
    rung.recv_timeout(Duration::from_secs(10)).expect("a ring");
    while rung.recv_timeout(Duration::from_millis(200)).is_ok() {}
    bare.git(&["pack-refs", "--all"]);
    rung.recv_timeout(Duration::from_secs(10)).expect("a ring for packed-refs");
}

#[test]
fn a_child_that_hangs_is_killed_with_its_children() {
    let bare = Bare::with(&[("a.yaml", "a")]);
    let left = bare.dir.path().join("left");
    let mut slow = Program { deadline: Duration::from_millis(200), ..program() };
    let alias = format!("!(sleep 1; touch {}) & sleep 30", left.display());
    let config = [("COUNT", "1"), ("KEY_0", "alias.slow"), ("VALUE_0", &alias)];
    slow.environment
        .extend(config.map(|(name, value)| (format!("GIT_CONFIG_{name}"), value.to_owned())));
    let ended = slow.run(bare.dir.path(), "slow", &[], b"");
    assert!(matches!(ended, Err(Error::TimedOut { .. })));
    // Were a grandchild alive, its file would be there when this much longer command has ended.
    let mut patient = Program { deadline: Duration::from_secs(20), ..slow.clone() };
    patient.environment.push(("GIT_CONFIG_VALUE_0".to_owned(), "!sleep 1.2".to_owned()));
    patient.run(bare.dir.path(), "slow", &[], b"").unwrap();
    assert!(!left.exists());
    let absent = Program { path: "/nonexistent/git".into(), ..program() };
    assert!(matches!(absent.run(bare.dir.path(), "fetch", &[], b""), Err(Error::Start { .. })));
}

#[test]
fn twenty_thousand_files_are_walked() {
    let names: Vec<String> = (0..20_000).map(|it| format!("services/{it:05}.yaml")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
    let bare = Bare::with(&files);
    let repository = bare.open();
    let head = repository.head(&branch("main")).unwrap();
    assert_eq!(repository.changes(None, head, &is_config).unwrap().len(), 20_000);
    let next = commit(&repository, head, &[("services/00042.yaml", Some("x"))]);
    let changes = repository.changes(Some(head), next, &is_config).unwrap();
    assert_eq!(shown(&changes), "services/00042.yaml = x");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_are_those_of_diff_tree(
        before in files(),
        after in files(),
    ) {
        let bare = Bare::new();
        let commit = |files: &BTreeMap<String, String>, to: &str| {
            let files: Vec<_> = files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            bare.push(to, &files)
        };
        let (a, b) = (commit(&before, "a"), commit(&after, "b"));
        let ours: Vec<String> = bare.open().changes(Some(a), b, &all).unwrap().iter()
            .map(|it| format!("{}{}", if it.now.is_none() { "D " } else { "" }, it.place)).collect();
        let listed = bare.git(&["diff-tree", "-r", "--name-status", "--no-renames", &a.to_string(), &b.to_string()]);
        let mut theirs: Vec<String> = listed.lines().map(|line| {
            let (status, path) = line.split_once('\t').unwrap();
            format!("{}{path}", if status == "D" { "D " } else { "" })
        }).collect();
        let mut ours = ours;
        ours.sort();
        theirs.sort();
        prop_assert_eq!(ours, theirs);
    }
}

/// Few names, so that files become folders and back.
fn files() -> impl Strategy<Value = BTreeMap<String, String>> {
    let part = prop_oneof!["a", "b", "a-b", "a\\.b", "ab", "a0"];
    let path = proptest::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"));
    proptest::collection::btree_map(path, "[xy]", 1..12).prop_map(|files| {
        let names: Vec<String> = files.keys().cloned().collect();
        let is_folder = |name: &str| names.iter().any(|it| it.starts_with(&format!("{name}/")));
        files.into_iter().filter(|(name, _)| !is_folder(name)).collect()
    })
}
