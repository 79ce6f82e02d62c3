//! Mirrors of real remotes on loopback.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::testing::{Bare, branch, environment, program};
use super::tests::{all, commit, shown, update};
use super::*;

/// A `git daemon` on loopback that serves one directory and takes pushes.
struct Daemon {
    child: Child,
    port: u16,
}

impl Daemon {
    fn serve(base: &std::path::Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("/usr/lib/git-core/git-daemon")
            .args(["--listen=127.0.0.1", "--export-all", "--enable=receive-pack", "--reuseaddr"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", base.display()))
            .arg(base)
            .envs(environment())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let daemon = Self { child, port };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn check_remote(bare: &Bare, url: &str) {
    let mirrors = tempfile::tempdir().unwrap();
    let location = Location::parse(url).unwrap();
    let open = || Repository::open(&location, mirrors.path(), program()).unwrap();
    let repository = open();
    let main = branch("main");
    let first = repository.poll(&main).unwrap();
    assert_eq!(shown(&repository.changes(None, first, &all).unwrap()), "a.yaml = a");
    let second = bare.push("main", &[("a.yaml", "b")]);
    assert_eq!(open().poll(&main).unwrap(), second);

    // A push that expects what is no longer there.
    let ours = commit(&repository, second, &[("a.yaml", Some("c"))]);
    let theirs = bare.push("main", &[("a.yaml", "d")]);
    let moved = repository.update(&update(main.name(), Some(second), Some(ours)));
    assert!(matches!(moved, Err(Error::Moved { now, .. }) if now == Some(theirs)), "{moved:?}");

    // All or none, and then for good; twice is once.
    assert_eq!(repository.poll(&main).unwrap(), theirs);
    let ours = commit(&repository, theirs, &[("a.yaml", Some("c"))]);
    let mr = RefName::merge_request(1);
    let both = [
        Update { name: main.name(), old: Some(theirs), new: Some(ours) },
        Update { name: mr.clone(), old: None, new: Some(first) },
    ];
    repository.update(&both).unwrap();
    repository.update(&both).unwrap();
    assert_eq!(bare.open().head(&main).unwrap(), ours);
    assert_eq!(repository.find(&mr).unwrap(), Some(first));
    assert_eq!(repository.poll(&main).unwrap(), ours);
    bare.git(&["update-ref", "-d", mr.as_str()]);
    assert_eq!(repository.poll(&main).unwrap(), ours);
    assert_eq!(repository.find(&mr).unwrap(), None);

    // A rewritten history is seen as one.
    bare.git(&["update-ref", "refs/heads/main", &second.to_string()]);
    let rewritten = bare.push("main", &[("a.yaml", "e")]);
    assert_eq!(repository.poll(&main).unwrap(), rewritten);
    assert!(!repository.descends(rewritten, ours).unwrap());
    assert!(matches!(repository.poll(&branch("other")), Err(Error::NoBranch { .. })));
}

#[test]
fn a_remote_is_mirrored_and_pushed_to() {
    let bare = Bare::with(&[("a.yaml", "a")]);
    let daemon = Daemon::serve(bare.dir.path());
    check_remote(&bare, &format!("git://127.0.0.1:{}/", daemon.port));
}

#[test]
fn a_file_url_is_mirrored_and_pushed_to() {
    let bare = Bare::with(&[("a.yaml", "a")]);
    check_remote(&bare, &format!("file://{}", bare.dir.path().display()));
}

#[test]
fn a_remote_that_does_not_answer_is_no_empty_repository() {
    let mirrors = tempfile::tempdir().unwrap();
    let bare = Bare::with(&[("a.yaml", "a")]);
    let url = format!("file://{}", bare.dir.path().display());
    let location = Location::parse(&url).unwrap();
    let repository = Repository::open(&location, mirrors.path(), program()).unwrap();
    assert!(matches!(repository.head(&branch("main")), Err(Error::NoBranch { .. })));
    let head = repository.poll(&branch("main")).unwrap();
    std::fs::rename(bare.dir.path().join("HEAD"), bare.dir.path().join("gone")).unwrap();
    let error = repository.poll(&branch("main")).unwrap_err();
    assert_eq!(error.fault(), Fault::Later, "{error}");
    assert_eq!(repository.head(&branch("main")).unwrap(), head);
}
