//! The command line: one file per verb. Results go to stdout, the story to stderr, all through [`Ui`].

pub mod init;
pub mod validate;
pub mod edit;
pub mod schema;
pub mod mr;
pub mod log;
pub mod audit;
pub mod at;
pub mod completions;

pub mod source;
pub mod person;
mod entry;
mod lines;
mod ui;

mod failure;

use clap::{Parser, Subcommand};

pub use failure::{Failure, Kind};
pub use ui::{Tone, Ui};

/// From a config change to a proven, promoted rollout.
#[derive(Debug, Parser)]
#[command(name = "towpath", version, about, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,

    /// What every verb understands
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
#[expect(missing_docs, reason = "each says what it does in its own file, for --help too")]
#[derive(Debug, Subcommand)]
pub enum Verb {
    Init(init::Args),
    Validate(validate::Args),
    Edit(edit::Args),
    Schema(schema::Args),
    Mr(mr::Args),
    Log(log::Args),
    Audit(audit::Args),
    Completions(completions::Args),
}

/// Runs what was asked; the answer is the exit status.
pub fn run(cli: Cli, ui: &Ui) -> u8 {
    let Cli { verb, common } = cli;
    let result: Result<u8, Failure> = match verb {
        Verb::Init(args) => init::run(&args, &common, ui),
        Verb::Validate(args) => validate::run(&args, &common, ui),
        Verb::Edit(args) => edit::run(&args, &common, ui),
        Verb::Schema(args) => schema::run(&args, &common, ui),
        Verb::Mr(args) => mr::run(&args, &common, ui),
        Verb::Log(args) => log::run(&args, &common, ui),
        Verb::Audit(args) => audit::run(&args, &common, ui),
        Verb::Completions(args) => completions::run(&args, &common, ui),
    };
    match result {
        Ok(status) => status,
        Err(failure) => {
            ui.failure(&failure);
            failure.kind.status()
        }
    }
}
