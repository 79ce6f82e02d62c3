//! Towpath: from a config change to a proven, promoted rollout.

pub mod model;
pub mod text;

pub mod config;
pub mod observe;
pub mod rollout;
pub mod planner;
pub mod controller;
pub mod record;
