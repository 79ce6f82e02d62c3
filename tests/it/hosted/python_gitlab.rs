//! An independent client, python-gitlab, drives the double of GitLab: whoever wrote that did not write ours.
//!
//! `TOWPATH_TEST_PYTHON` names an interpreter that has it. Without, one is made under `target/tmp` with pip;
//! where that cannot be (no Python, no registry) it is skipped, and says so, but not in CI.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::contract::Place;
use super::gitlab_double::Face;
use super::{FILE, PROJECT};

/// The version that was tried.
const PACKAGE: &str = "python-gitlab>=8,<9";

fn runs(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).output().is_ok_and(|it| it.status.success())
}

/// An interpreter with the package.
fn python() -> Option<PathBuf> {
    let has = |python: &Path| runs(Command::new(python).args(["-c", "import gitlab"]));
    if let Some(named) = std::env::var_os("TOWPATH_TEST_PYTHON") {
        return Some(PathBuf::from(named));
    }
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-gitlab");
    let python = home.join("bin/python");
    if has(&python) {
        return Some(python);
    }
    // Made aside and renamed, so that a run that was killed leaves nothing half.
    let made = runs(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home));
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE];
    (made && runs(Command::new(&python).args(pip)) && has(&python)).then_some(python)
}

#[test]
fn another_client_finds_the_gitlab_that_it_knows() {
    let Some(python) = python() else {
        let ci = std::env::var_os("CI").is_some();
        assert!(!ci, "python3 with venv and pip is needed in CI: see .ci/run");
        eprintln!("SKIPPED: python-gitlab is not to be had: set TOWPATH_TEST_PYTHON");
        return;
    };
    let mut place = Place::with(Face::GitLab);
    let head = place.push("feature", "notes.md", "a feature").to_string();
    place.hand(|it| it.approvals_required = 1);
    place.hand(|it| it.strangers = true);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/hosted/python_gitlab.py");
    let url = place.server.as_ref().unwrap().url.clone();
    let said = Command::new(python).arg(script).args([&url, PROJECT, &head]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(said.status.success(), "{}\n{}", text(&said.stdout), text(&said.stderr));
    assert!(text(&said.stdout).contains("agrees"));
    assert_eq!(place.hand(|it| it.file("main", "notes.md")).as_deref(), Some("a feature"));
    assert_eq!(place.hand(|it| it.file("main", FILE)).as_deref(), Some(super::TEXT));
}
