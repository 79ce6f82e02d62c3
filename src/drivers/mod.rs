//! Ports to the world, and what speaks through them.

pub mod forge;
pub mod local_forge;
