//! The journal of a process that is killed, and of one whose disk is full.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use towpath::model::Timestamp;
use towpath::record::journal::{Journal, NewEntry};

/// Set for the child process that appends: to which journal.
const PATH: &str = "TOWPATH_TEST_JOURNAL";

fn entry(body: String) -> NewEntry {
    NewEntry { stream: "a".to_owned(), kind: "event".to_owned(), body }
}

/// Not a test by itself: appends until it is killed or fails, and acknowledges each on stderr.
#[test]
fn appender() {
    let Some(path) = std::env::var_os(PATH) else { return };
    let mut journal = Journal::open(Path::new(&path), "appender", Timestamp(1)).unwrap();
    let mut err = std::io::stderr();
    loop {
        let body = format!("{:0>1000}", 7);
        match journal.append(&[entry(body)], Timestamp(1)) {
            Ok(seqs) => writeln!(err, "acknowledged {}", seqs[0].0).unwrap(),
            Err(error) => {
                writeln!(err, "failed {error}").unwrap();
                let next = journal.append(&[entry(String::new())], Timestamp(1)).unwrap_err();
                writeln!(err, "then {next}").unwrap();
                return;
            }
        }
    }
}

fn appender_command(prefix: &str, path: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{prefix} exec \"$0\" --exact journal::appender --nocapture")])
        .arg(std::env::current_exe().unwrap())
        .env(PATH, path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn acknowledged(line: &str) -> Option<u64> {
    line.strip_prefix("acknowledged ")?.parse().ok()
}

#[test]
fn what_a_killed_controller_was_told_is_durable_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    for round in 0..10 {
        let mut child = appender_command("", &path).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut last = 0;
        for _ in 0..=round * 7 {
            let line = lines.next().unwrap().unwrap();
            last = acknowledged(&line).ok_or(line).unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said between our last look and its death counts as well.
        last =
            lines.map_while(Result::ok).filter_map(|it| acknowledged(&it)).last().unwrap_or(last);
        let journal = Journal::open(&path, "test", Timestamp(1)).unwrap();
        let there = journal.replay().unwrap().len() as u64;
        assert!(there == last || there == last + 1, "{there} {last}");
    }
}

#[test]
fn a_file_that_cannot_grow_ends_the_writer_loudly_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    drop(Journal::open(&path, "test", Timestamp(1)).unwrap());
    // Ignored, so that the write fails as on a full disk, instead of the signal.
    let output = appender_command("trap '' XFSZ; ulimit -f 200;", &path).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("failed writing the journal\nthen the journal failed before"), "{text}");
    let last = text.lines().rev().find_map(acknowledged).unwrap();
    let journal = Journal::open(&path, "test", Timestamp(1)).unwrap();
    let there = journal.replay().unwrap().len() as u64;
    assert!(there == last || there == last + 1, "{there} {last}");
}
