//! The contract of the other tests here, kept by the built-in client: the same files once more,
//! under a name by which [`sshd`] knows which client is meant.

use super::{Rig, WAIT_MAX, sshd};

#[expect(clippy::duplicate_mod, reason = "one contract, two clients")]
#[path = "logins.rs"]
mod logins;
#[expect(clippy::duplicate_mod, reason = "one contract, two clients")]
#[path = "steps.rs"]
mod steps;
