//! One integration binary: what needs the real program, real processes or real files.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::needless_raw_string_hashes, reason = "snapshots are written by a program")]
#![expect(clippy::disallowed_methods, reason = "real processes are waited for in real time")]

mod cli;
mod cli_edit;
mod cli_history;
mod cli_init;
mod cli_mr;
mod cli_validate;
mod journal;
mod local_driver;
mod local_driver_crashes;
mod local_driver_ends;
mod ssh;

mod world;
mod zones;
mod alerts;
mod break_glass;
mod recalls;
mod rollback_races;
mod crashes;
mod fleet;
mod gates;
mod haproxy;
mod haste;
mod hosted;
mod hot_patches;
mod hostile;
mod operations;
mod overtaken;
mod records;
mod inventory;
mod lanes;
mod lost;
mod odd_nodes;
mod people;
mod pipelines;
mod post_deploy;
mod postgres;
mod tour;
mod troubles;
mod screen;
mod standing;
mod watching;
mod webhooks;
mod whole_loop;
