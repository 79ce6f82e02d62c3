//! Towpath.

pub mod text;
