//! Towpath: from a config change to a proven, promoted rollout.

pub mod config;
pub mod controller;
pub mod model;
pub mod observe;
pub mod planner;
pub mod rollout;
