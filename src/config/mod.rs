//! Text at a commit → [`Snapshot`] and every diagnostic. Pure: bytes in, values out.

pub mod calendar;
mod snapshot;

pub use snapshot::{
    Broken, Environment, Freeze, GateSpec, On, Promote, Recipe, Role, Root, Service, Skip,
    Snapshot, Spec, StageGate, StageKind, StageSpec, TargetSpec,
};
