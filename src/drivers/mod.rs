//! Hands: one file per port, one folder per family of implementations. They know the nouns, not
//! the brain.

pub mod balancer;
pub mod clock;
pub mod fleet;
pub mod forge;

pub mod hosted;
pub mod http;
pub mod local;
pub mod local_forge;
