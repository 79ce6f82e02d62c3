//! Sudden deaths for tests: the process ends as by kill -9 at a chosen entry of the journal, or stays there
//! until it is told to go on, so that others can die meanwhile. Built without `debug_assertions`, as releases
//! are, it can do nothing.
//!
//! `TOWPATH_DIES=before:7` is the seventh time that something is to be written, nothing of it
//! written; `after:7` is when it is durable, and nothing follows from it yet. `before:settled` is the
//! first time that something of that name is to be.
//!
//! `TOWPATH_STAYS=DIR` writes each moment as a line `before 7 [ENTRY,…]` to `DIR/moments`, and passes it when
//! somebody has opened the pipe `DIR/go` for writing. Its hands go on meanwhile with what they have begun.

use crate::record::journal::NewEntry;

/// Before or after it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Before,
    After,
}

/// Passes a moment, or does not.
#[cfg(not(debug_assertions))]
pub(super) fn pass(_moment: Moment, _rows: &[NewEntry]) {}

/// Passes a moment, or does not.
#[cfg(debug_assertions)]
pub(super) fn pass(moment: Moment, rows: &[NewEntry]) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let (dies, stays) = (std::env::var_os("TOWPATH_DIES"), std::env::var_os("TOWPATH_STAYS"));
    if dies.is_none() && stays.is_none() {
        return;
    }
    let word = match moment {
        Moment::Before => "before",
        Moment::After => "after",
    };
    let number = match moment {
        Moment::Before => WRITTEN.fetch_add(1, Ordering::SeqCst) + 1,
        Moment::After => WRITTEN.load(Ordering::SeqCst),
    };
    // The names of things in an entry: what happened is among them.
    let names = |it: &NewEntry| {
        let texts = it.body.split('"').skip(1).step_by(2);
        texts.fold(it.kind.clone(), |all, name| format!("{all} {name}"))
    };
    let what: Vec<String> = rows.iter().map(names).collect();
    let what = what.join("; ");
    if let Some(directory) = stays {
        let bodies: Vec<&str> = rows.iter().map(|it| it.body.as_str()).collect();
        stay(
            std::path::Path::new(&directory),
            &format!("{word} {number} [{}]\n", bodies.join(",")),
        );
    }
    let wanted = dies.as_ref().and_then(|it| it.to_str()?.split_once(':'));
    let Some((when, at)) = wanted else { return };
    if when == word && (at == number.to_string() || what.split([' ', ';']).any(|it| it == at)) {
        tracing::error!(what, "dies {word} this is written, as it was told");
        let me = rustix::process::getpid();
        // It cannot fail: the process is ours.
        let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
    }
}

/// Tells of a moment, and waits until somebody has heard of it.
#[cfg(debug_assertions)]
fn stay(directory: &std::path::Path, moment: &str) {
    use std::io::Write as _;
    let file = std::fs::File::options().create(true).append(true).open(directory.join("moments"));
    let told = file.and_then(|mut it| it.write_all(moment.as_bytes()));
    // Until somebody has opened it, and closed it again.
    if let Err(error) = told.and_then(|()| std::fs::read(directory.join("go"))) {
        tracing::error!(%error, "a moment cannot be told");
    }
}
