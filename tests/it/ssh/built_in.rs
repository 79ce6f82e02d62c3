//! The contract of the other tests here, kept by the built-in client: the same files once more,
//! under a name by which [`sshd`] knows which client is meant.

use super::{Rig, WAIT_MAX, sshd};

#[path = "logins.rs"]
mod logins;
#[path = "steps.rs"]
mod steps;
