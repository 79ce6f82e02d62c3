//! Walks the tour of the README: every `$` line is run by a shell, and every other line of its block
//! must be part of what was printed, in order.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn the_tour_of_the_readme_can_be_walked() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut script = String::from("set -e\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n");
    let mut expected = Vec::new();
    for line in console_lines(&readme) {
        match line.strip_prefix("$ ") {
            Some(command) => writeln!(script, "{command}").unwrap(),
            None => expected.push(line.trim().to_owned()),
        }
    }
    assert!(expected.len() > 10, "the tour shows what to expect");
    let towpath = Path::new(env!("CARGO_BIN_EXE_towpath"));
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", towpath.parent().unwrap().display());
    let output = Command::new("timeout")
        .args(["180", "bash", "-c", &script])
        .current_dir(home.path())
        .env_clear()
        .env("PATH", path)
        .env("HOME", home.path())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    let log = std::fs::read_to_string(home.path().join("tour/run.log")).unwrap_or_default();
    assert!(output.status.success(), "{said}\n{told}\n{log}");
    let all = format!("{said}\n{told}");
    for line in expected {
        assert!(
            all.lines().any(|it| it.contains(&line)),
            "the README shows `{line}`, but what was printed is:\n{all}"
        );
    }
}

/// The lines of all `console` blocks.
fn console_lines(readme: &str) -> Vec<&str> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in readme.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            line if inside => lines.push(line),
            _ => {}
        }
    }
    lines
}
