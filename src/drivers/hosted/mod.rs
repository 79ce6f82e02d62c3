//! Merge requests on a forge that people have: one algorithm for all of them over a small port,
//! [`api::Api`], that each forge's file implements.

pub mod api;
