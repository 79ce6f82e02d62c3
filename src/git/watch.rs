//! Says at once when a ref of a repository on this machine may have moved. Only a doorbell: it carries
//! nothing, may ring for nothing, and what it misses the poller finds.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::{Error, Repository};

/// Rings at most once in this time; a push moves several files.
const QUIET: Duration = Duration::from_millis(20);

/// Watches until dropped.
pub struct Watch {
    // Dropping it ends the events, which ends the thread that rings.
    _watcher: RecommendedWatcher,
}

impl Repository {
    /// Calls `ring` when refs may have moved: at the first sign, and once more after a burst. A mirror
    /// has nothing to watch: `Ok(None)`.
    pub fn watch(&self, ring: impl FnMut() + Send + 'static) -> Result<Option<Watch>, Error> {
        if self.is_mirror() {
            return Ok(None);
        }
        // One place is enough: a bell that was pressed twice rings once.
        let (press, pressed) = sync_channel(1);
        let heard = move |event: notify::Result<notify::Event>| press_bell(&press, &event);
        let mut watcher = notify::recommended_watcher(heard).map_err(Error::Watch)?;
        let directory = self.directory();
        // `packed-refs` and HEAD lie in the directory itself, loose refs below `refs`.
        watcher.watch(directory, RecursiveMode::NonRecursive).map_err(Error::Watch)?;
        watcher.watch(&directory.join("refs"), RecursiveMode::Recursive).map_err(Error::Watch)?;
        let reftable = directory.join("reftable");
        if reftable.exists() {
            watcher.watch(&reftable, RecursiveMode::NonRecursive).map_err(Error::Watch)?;
        }
        thread::spawn(move || answer(&pressed, ring));
        Ok(Some(Watch { _watcher: watcher }))
    }
}

fn press_bell(press: &SyncSender<()>, event: &notify::Result<notify::Event>) {
    let matters = match event {
        // A lock file that comes or goes says nothing; the rename that ends it names the ref as well.
        Ok(event) => !event.kind.is_access() && !event.paths.iter().all(|it| is_lock(it)),
        // Lost events: look.
        Err(_) => true,
    };
    if matters {
        match press.try_send(()) {
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }
}

fn is_lock(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "lock")
}

fn answer(pressed: &Receiver<()>, mut ring: impl FnMut()) {
    while pressed.recv().is_ok() {
        ring();
        // What comes meanwhile waits in the channel, and rings once, after the quiet.
        thread::sleep(QUIET);
    }
}
