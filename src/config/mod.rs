//! Text at a commit → [`Snapshot`] and everything that is wrong with it. Pure: bytes in, values out.
//!
//! A file is read as a tree, the tree as a record of [`raw`], the records together as the
//! snapshot. [`Loaded`] does so from commit to commit, only for what changed.

pub mod builtin;
mod example;
mod inventory;
mod load;
mod machines;
mod resolve;
pub mod schema;

mod files;
mod leaves;
mod place;
mod ranges;
mod raw;
mod reader;

pub mod calendar;
mod snapshot;

#[cfg(test)]
mod tests;

pub use example::minimal;
pub use files::{Change, Content};
pub use load::{Loaded, Preview, RefChange, Touched};
pub use place::Finding;
pub use snapshot::{
    Approval, Broken, By, Environment, Freeze, GateSpec, InventorySpec, Lack, On, Promote, Recipe,
    Role, RollbackOn, Root, Seats, Service, Skip, Snapshot, Spec, StageGate, StageKind, StageSpec,
    StatusSpec, TargetSpec,
};
