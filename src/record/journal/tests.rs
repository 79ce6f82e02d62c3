//! What the journal promises, and what it notices.

use super::*;

fn entry(stream: &str, body: &str) -> NewEntry {
    NewEntry { stream: stream.to_owned(), kind: "event".to_owned(), body: body.to_owned() }
}

fn open(path: &Path) -> Journal {
    Journal::open(path, "pid 1 on here", Timestamp(1000)).unwrap()
}

/// A journal of two streams, closed.
fn written() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let mut journal = open(&path);
    for round in 0..3 {
        let entries = [entry("a", &format!("{{\"r\":{round}}}")), entry("b", "{}")];
        journal.append(&entries, Timestamp(2000 + round)).unwrap();
    }
    (dir, path)
}

#[test]
fn what_is_imported_keeps_its_times_and_comes_whole() {
    let (_dir, path) = written();
    let mut journal = open(&path);
    let rows = [(entry("c", "1"), Timestamp(10)), (entry("c", "2"), Timestamp(20))];
    journal.import(&rows).unwrap();
    drop(journal);
    let entries = open(&path).replay().unwrap();
    let last: Vec<_> = entries[6..].iter().map(|it| (it.seq.0, it.at, it.body.as_str())).collect();
    assert_eq!(last, [(7, Timestamp(10), "1"), (8, Timestamp(20), "2")]);
}

#[test]
fn what_was_appended_is_replayed_and_goes_on() {
    let (_dir, path) = written();
    let mut journal = open(&path);
    let entries = journal.replay().unwrap();
    let seqs: Vec<u64> = entries.iter().map(|it| it.seq.0).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    assert_eq!(entries[4].number, 3);
    assert_eq!(entries[4].body, "{\"r\":2}");
    assert_eq!(entries[4].at, Timestamp(2002));
    assert_eq!(journal.append(&[entry("a", "")], Timestamp(3)).unwrap(), [Seq(7)]);
    assert_eq!(journal.replay().unwrap().len(), 7);
    assert_eq!(journal.append(&[], Timestamp(3)).unwrap(), []);
}

#[test]
fn any_tampering_is_noticed_and_placed() {
    for (change, stream, seq) in [
        ("UPDATE entry SET body = '{\"r\":9}' WHERE seq = 3", "a", 3),
        ("UPDATE entry SET kind = 'other' WHERE seq = 4", "b", 4),
        ("UPDATE entry SET at = 1 WHERE seq = 1", "a", 1),
        ("UPDATE entry SET hash = zeroblob(32) WHERE seq = 5", "a", 5),
        ("DELETE FROM entry WHERE seq = 3", "a", 5),
        ("DELETE FROM entry WHERE seq = 6", "b", 6),
        ("DELETE FROM entry WHERE stream = 'b'", "b", 6),
        ("UPDATE entry SET seq = 10 WHERE seq = 6", "b", 10),
        ("UPDATE stream SET number = 4 WHERE name = 'a'", "a", 5),
        ("UPDATE store SET id = 'another'", "a", 1),
        ("UPDATE entry SET stream = 'a', number = 4 WHERE seq = 6", "a", 6),
    ] {
        let (_dir, path) = written();
        Connection::open(&path).unwrap().execute(change, []).unwrap();
        let error = open(&path).replay().unwrap_err();
        let want = format!("the chain of stream {stream} is broken at entry {seq}");
        assert_eq!(error.to_string(), want, "{change}");
    }
}

#[test]
fn a_second_controller_is_refused_and_told_who_holds_it() {
    let (_dir, path) = written();
    let first = Journal::open(&path, "pid 123 on host", Timestamp(1_795_255_200_000)).unwrap();
    let error = Journal::open(&path, "pid 124 on host", Timestamp(0)).unwrap_err();
    let want = format!("{} is held by pid 123 on host since 2026-11-21T10:00:00Z", path.display());
    assert_eq!(error.to_string(), want);
    drop(first);
    open(&path);
}

#[test]
fn a_reader_beside_a_writer_sees_whole_transactions() {
    let (_dir, path) = written();
    let mut journal = open(&path);
    let reader = Journal::open_read_only(&path).unwrap();
    assert_eq!(reader.replay().unwrap().len(), 6);
    journal.append(&[entry("c", "1"), entry("c", "2")], Timestamp(1)).unwrap();
    assert_eq!(reader.replay().unwrap().len(), 8);
    assert_eq!(reader.store(), journal.store());
    let absent = path.with_file_name("absent");
    assert!(matches!(Journal::open_read_only(&absent), Err(JournalError::Open { .. })));
    assert!(!absent.exists());
}

#[test]
fn epochs_rise_over_restarts_and_begin_with_the_generation() {
    let (_dir, path) = written();
    let mut journal = open(&path);
    let first = journal.epoch();
    assert_eq!(first, Epoch::first(Timestamp(1000)));
    assert_eq!(journal.store().generation, Timestamp(1000));
    assert_eq!(journal.next_epoch().unwrap(), first.next());
    drop(journal);
    let mut journal = Journal::open(&path, "x", Timestamp(5000)).unwrap();
    assert_eq!(journal.epoch(), first.next());
    assert_eq!(journal.next_epoch().unwrap(), first.next().next());
    assert_eq!(journal.store().id.len(), 32);
}

#[test]
fn a_pruned_stream_keeps_its_place() {
    let (_dir, path) = written();
    let mut journal = open(&path);
    journal.prune("b").unwrap();
    journal.prune("unknown").unwrap();
    assert_eq!(journal.replay().unwrap().len(), 3);
    drop(journal);
    let mut journal = open(&path);
    // The highest position was of the pruned stream; it is not given again.
    assert_eq!(journal.append(&[entry("b", "")], Timestamp(1)).unwrap(), [Seq(7)]);
    let entries = journal.replay().unwrap();
    assert_eq!(entries.last().map(|it| it.number), Some(4));
    Connection::open(&path).unwrap().execute("DELETE FROM entry WHERE seq = 7", []).unwrap();
    assert!(matches!(journal.replay(), Err(JournalError::Broken { .. })));
}

#[test]
fn of_what_stands_for_others_only_the_last_is_kept() {
    let (_dir, path) = written();
    let mut journal = open(&path);
    for (forgets, at) in [("b", 2), ("unknown", 3), ("a", 4)] {
        journal.append(&[entry("kept", forgets)], Timestamp(at)).unwrap();
        journal.forget(forgets, "kept").unwrap();
        let entries = journal.replay().unwrap();
        let kept: Vec<_> = entries.iter().filter(|it| it.stream == "kept").collect();
        assert_eq!(kept.iter().map(|it| it.at.0).collect::<Vec<_>>(), [at]);
        assert!(entries.iter().all(|it| it.stream != forgets));
    }
    // Once more changes nothing, and nor does a restart.
    journal.forget("a", "kept").unwrap();
    let entries = journal.replay().unwrap();
    drop(journal);
    let mut journal = open(&path);
    assert_eq!(journal.replay().unwrap(), entries);
    assert_eq!(journal.append(&[entry("kept", "")], Timestamp(5)).unwrap(), [Seq(10)]);
    assert_eq!(journal.replay().unwrap().last().map(|it| it.number), Some(4));
    assert!(matches!(journal.forget("a", "kept"), Ok(())));
    Connection::open(&path)
        .unwrap()
        .execute("DELETE FROM entry WHERE stream = 'kept'", [])
        .unwrap();
    assert!(matches!(journal.replay(), Err(JournalError::Broken { .. })));
}

#[test]
fn other_files_are_refused_and_left_alone() {
    let (_dir, path) = written();
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();
    let error = Journal::open(&path, "x", Timestamp(0)).unwrap_err().to_string();
    assert_eq!(error, format!("{} has format 2, this towpath knows 1", path.display()));
    let foreign = path.with_file_name("foreign");
    Connection::open(&foreign).unwrap().execute("CREATE TABLE t (x)", []).unwrap();
    let error = Journal::open(&foreign, "x", Timestamp(0)).unwrap_err();
    assert!(matches!(error, JournalError::Foreign { .. }));
    let text = path.with_file_name("text");
    std::fs::write(&text, "this is no database at all, but it is long enough to be one".repeat(20))
        .unwrap();
    let before = std::fs::read(&text).unwrap();
    let error = Journal::open(&text, "x", Timestamp(0)).unwrap_err();
    assert!(matches!(error, JournalError::Open { .. }), "{error:?}");
    assert_eq!(std::fs::read(&text).unwrap(), before);
}

#[test]
fn corruption_is_an_error_and_never_fewer_entries() {
    let (_dir, path) = written();
    let mut journal = open(&path);
    let long = "x".repeat(3000);
    for _ in 0..50 {
        journal.append(&[entry("a", &long)], Timestamp(1)).unwrap();
    }
    // The last connection to close moves everything from the log to the file.
    drop(journal);
    let whole = std::fs::read(&path).unwrap();
    for page in 1..whole.len() / 4096 {
        let mut broken = whole.clone();
        broken[page * 4096..(page + 1) * 4096].fill(0xa5);
        std::fs::write(&path, &broken).unwrap();
        let read = Journal::open(&path, "x", Timestamp(0)).and_then(|journal| journal.replay());
        // A page that only an index uses harms no reading.
        if let Ok(entries) = read {
            assert_eq!(entries.len(), 56, "page {page}");
        }
    }
}

#[test]
fn a_full_disk_poisons_and_loses_nothing() {
    let (_dir, path) = written();
    let mut journal = open(&path);
    let pages: i64 =
        journal.reader.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    journal
        .reader
        .connection
        .pragma_update_and_check(None, "max_page_count", pages + 4, |_| Ok(()))
        .unwrap();
    let long = entry("a", &"x".repeat(3000));
    let mut kept = 6;
    let error = loop {
        match journal.append(std::slice::from_ref(&long), Timestamp(1)) {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
    };
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(
        (error.to_string().as_str(), source.as_str()),
        ("writing the journal", "database or disk is full")
    );
    assert!(matches!(journal.next_epoch(), Err(JournalError::Poisoned)));
    assert!(matches!(journal.append(&[], Timestamp(1)), Err(JournalError::Poisoned)));
    assert!(matches!(journal.prune("a"), Err(JournalError::Poisoned)));
    drop(journal);
    let mut journal = open(&path);
    assert_eq!(journal.replay().unwrap().len(), kept);
    journal.append(&[long], Timestamp(1)).unwrap();
    assert_eq!(journal.replay().unwrap().len(), kept + 1);
}
