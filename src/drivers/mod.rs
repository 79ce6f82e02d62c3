//! Hands: one file per port, one folder per family of implementations. They know the nouns, not
//! the brain.

pub mod alerts;
pub mod balancer;
pub mod ci;
pub mod clock;
pub mod deployments;
pub mod fleet;
pub mod fleets;
pub mod forge;

pub mod haproxy;
pub mod hosted;
pub mod http;
mod answers;
pub mod inventory;
pub mod local;
pub mod local_forge;
pub mod ssh;
