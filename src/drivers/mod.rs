//! Hands: one file per port, one folder per family of implementations. They know the nouns, not
//! the brain.

pub mod alerts;
pub mod balancer;
pub mod clock;
pub mod fleet;
pub mod forge;

pub mod http;
pub mod local;
pub mod local_forge;
