//! Towpath: from a config change to a proven, promoted rollout.

pub mod model;
pub mod text;

pub mod config;
pub mod observe;
