//! What people want tried again, what they ask for in comments, and whom they leave out.

use std::collections::BTreeSet;

use super::samples::{at, kept, target, word};
use crate::model::{Command, Comment, NodeName};
use crate::rollout::{Fact, Kept};

/// With what is kept of them.
pub(super) fn of_comments() -> [Fact; 3] {
    let comment = Some(Comment { id: 41, at: at(5) });
    let command = Command::Retry { target: target(), comment };
    let asked = Fact::Asked { word: word(), command };
    let mut obeyed = retried();
    obeyed.history.obeyed = BTreeSet::from([41, 42]);
    [Fact::Kept(Box::new(retried())), asked, Fact::Kept(Box::new(obeyed))]
}

/// A node that does not answer is left out, and waited for again.
pub(super) fn left_out() -> [Fact; 2] {
    [false, true].map(|lift| {
        let node = NodeName::parse("web-01").unwrap();
        let command = Command::LeaveOut { target: target(), node, lift };
        Fact::Asked { word: word(), command }
    })
}

fn retried() -> Kept {
    let mut kept = kept();
    kept.history.retried = Some(at(6));
    kept
}
