//! Towpath: from a config change to a proven, promoted rollout.

pub mod model;
pub mod observe;

pub mod drivers;
pub mod git;
pub mod record;
