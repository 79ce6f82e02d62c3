//! One integration binary: what needs the real program, real processes or real files.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod crashes;
mod gates;
mod hostile;
mod journal;
mod local_driver;
mod local_driver_crashes;
mod local_driver_ends;
mod people;
mod troubles;
mod whole_loop;
mod world;
