//! Tests of the room, by what is asked of it.

mod edits;
mod inserts;
mod proofs;
mod properties;
mod reading;
mod scalars;
