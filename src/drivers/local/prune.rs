//! Forgets old steps, so that a node that lives for years does not fill with markers.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use super::files::{NodeFiles, Seen};
use super::order::Siblings;

/// Steps remembered per node. A node runs one at a time and a rollout asks a few of it, so what a
/// controller may still ask about after a crash is among the last.
const KEPT_ON_NODE: usize = 200;
/// Steps remembered beside the controller, where those of all services of an environment run.
const KEPT_BESIDE: usize = 2000;
/// Directories set aside for removal begin with this; no key does.
const GONE: &str = ".gone-";

/// Removes the oldest steps beyond the bound; never one that is running. Best effort: what fails
/// now is done after the next step.
pub(super) fn prune(node: &NodeFiles, siblings: Siblings) {
    let kept = match siblings {
        Siblings::None => KEPT_ON_NODE,
        Siblings::Many => KEPT_BESIDE,
    };
    let Ok(entries) = fs::read_dir(node.steps()) else { return };
    let mut steps: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(GONE) {
            let _ = fs::remove_dir_all(entry.path());
        } else if let Ok(changed) = entry.metadata().and_then(|it| it.modified()) {
            steps.push((changed, entry.path()));
        }
    }
    let Some(over) = steps.len().checked_sub(kept) else { return };
    steps.sort();
    for (_, path) in steps.into_iter().take(over) {
        let Some(key) = path.file_name().and_then(|name| name.to_str()) else { continue };
        match node.step(key).look() {
            // Absent: what a full disk left of a step that never began.
            Ok(Seen::Done(_) | Seen::Lost(_) | Seen::Absent) => {
                // At once, then piece by piece: half a step must never be looked at.
                let gone = path.with_file_name(format!("{GONE}{key}"));
                if fs::rename(&path, &gone).is_ok() {
                    let _ = fs::remove_dir_all(gone);
                }
            }
            Ok(Seen::Starting | Seen::Running(_) | Seen::Orphaned(_)) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::fleet::{Exit, StepEnd};
    use crate::model::Timestamp;

    #[test]
    fn the_last_ones_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let node = NodeFiles { dir: dir.path().to_owned() };
        node.create().unwrap();
        let end = StepEnd {
            exit: Exit::Code(0),
            started_at: Timestamp(0),
            finished_at: Timestamp(0),
            tail: String::new(),
        };
        for at in 0..KEPT_ON_NODE + 10 {
            let step = node.step(&format!("k{at}"));
            fs::create_dir(&step.dir).unwrap();
            step.write_exit(&end).unwrap();
            let changed = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(at as u64);
            fs::File::open(&step.dir).unwrap().set_modified(changed).unwrap();
        }
        prune(&node, Siblings::Many);
        assert_eq!(fs::read_dir(node.steps()).unwrap().count(), KEPT_ON_NODE + 10);
        prune(&node, Siblings::None);
        assert_eq!(fs::read_dir(node.steps()).unwrap().count(), KEPT_ON_NODE);
        assert!(!node.step("k9").dir.exists() && node.step("k10").dir.exists());
    }
}
