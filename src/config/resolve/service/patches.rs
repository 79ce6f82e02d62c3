//! Hot patches of a service: each named once, and each with the refs that contain it.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::files::Notes;
use crate::config::place::At;
use crate::config::raw;
use crate::model::Ref;

/// The patches by ref.
pub(super) fn resolve(
    raw: &[raw::Patch],
    blocked: &BTreeSet<Ref>,
    notes: &mut Notes<'_>,
) -> BTreeMap<Ref, BTreeSet<Ref>> {
    let mut patches = BTreeMap::new();
    for raw::Patch { reference: At { value: patch, place }, contained_in } in raw {
        let mut within = BTreeSet::new();
        for At { value, place } in contained_in.iter().flatten() {
            if value == patch {
                let message = format!("`{patch}` is said to be contained in itself");
                notes.error(*place, "bad-value", message, "name later refs, or leave it out");
            }
            within.insert(value.clone());
        }
        if blocked.contains(patch) {
            let message = format!("the patch `{patch}` is also blocked");
            notes.warning(*place, "blocked", message, "a blocked ref is never deployed");
        }
        if patches.insert(patch.clone(), within).is_some() {
            let message = format!("the patch `{patch}` is there twice");
            notes.error(*place, "repeated", message, "write all its refs into one entry");
        }
    }
    patches
}
