//! The command line: one file per verb. Results go to stdout, the story to stderr, all through [`Ui`].

mod ui;

mod failure;

use clap::{Parser, Subcommand};

pub use failure::{Failure, Kind};
pub use ui::Ui;

/// From a config change to a proven, promoted rollout.
#[derive(Debug, Parser)]
#[command(name = "towpath", version, about, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,

    #[command(flatten)]
    pub common: Common,
}

/// What every verb understands.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// The controller's settings
    #[arg(long, global = true, value_name = "FILE", default_value = "towpath.toml")]
    pub settings: std::path::PathBuf,

    /// Answer as JSON, one document or one event a line
    #[arg(long, global = true)]
    pub json: bool,

    /// How much of the log to show: error, warn, info, debug
    #[arg(long, global = true, value_name = "LEVEL", default_value = "warn")]
    pub log: String,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {}

/// Runs what was asked; the answer is the exit status.
pub fn run(cli: Cli, ui: &Ui) -> u8 {
    let Cli { verb, common: _ } = cli;
    let result: Result<u8, Failure> = match verb {};
    match result {
        Ok(status) => status,
        Err(failure) => {
            ui.failure(&failure);
            failure.kind.status()
        }
    }
}
