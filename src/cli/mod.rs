//! The command line: one file per verb. Results go to stdout, the story to stderr, all through [`Ui`].

mod demo;
mod run;
mod plan;
mod standing;
mod traffic;
mod status;
mod explain;
mod rollout;
mod steplog;
mod summary;
mod orders;
mod rollback;

mod init;
mod validate;
mod edit;
mod schema;
mod screen;
mod recipes;
mod mr;
mod nodes;
mod log;
mod audit;
mod at;
mod completions;

mod source;
mod person;
mod entry;
mod lines;

mod failure;
mod ui;

use clap::{Parser, Subcommand};

pub use demo::node_main as demo_node;
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
    Demo(demo::Args),
    Init(init::Args),
    Run(run::Args),
    Plan(plan::Args),
    Status(status::Args),
    Explain(explain::Args),
    Rollout(rollout::Args),
    Promote(orders::Promote),
    Rollback(orders::Rollback),
    PostMigrate(orders::PostMigrate),
    DropPatch(orders::DropPatch),
    Approve(orders::Approve),
    Abort(orders::Abort),
    Retry(orders::Retry),
    Resume(orders::Resume),
    Exclude(orders::Exclude),
    Pause(orders::Pause),
    Pin(orders::Pin),
    Lock(orders::Lock),
    Freeze(orders::Freeze),
    Weight(orders::Weight),
    Confirm(orders::Confirm),
    Accept(orders::Accept),
    Nudge(orders::Nudge),
    Validate(validate::Args),
    Edit(edit::Args),
    Schema(schema::Args),
    Recipes(recipes::Args),
    Mr(mr::Args),
    Log(log::Args),
    Audit(audit::Args),
    Completions(completions::Args),
}

/// Runs what was asked; the answer is the exit status.
pub fn run(cli: Cli, ui: &Ui) -> u8 {
    let Cli { verb, common } = cli;
    let result = match verb {
        Verb::Demo(args) => demo::run(&args, ui),
        Verb::Run(args) => run::run(&args, &common, ui),
        Verb::Plan(args) => plan::run(&args, &common, ui),
        Verb::Status(args) => status::run(&args, &common, ui),
        Verb::Rollout(args) => rollout::run(&args, &common, ui),
        Verb::Explain(args) => explain::run(&args, &common, ui),
        Verb::Promote(args) => orders::promote(args, &common, ui),
        Verb::Rollback(args) => orders::rollback(args, &common, ui),
        Verb::PostMigrate(args) => orders::post_migrate(args, &common, ui),
        Verb::DropPatch(args) => orders::drop_patch(args, &common, ui),
        Verb::Approve(args) => orders::approve(args, &common, ui),
        Verb::Abort(args) => orders::abort(args, &common, ui),
        Verb::Retry(args) => orders::retry(args, &common, ui),
        Verb::Resume(args) => orders::resume(args, &common, ui),
        Verb::Exclude(args) => orders::exclude(args, &common, ui),
        Verb::Pause(args) => orders::pause(args, &common, ui),
        Verb::Pin(args) => orders::pin(args, &common, ui),
        Verb::Lock(args) => orders::lock(args, &common, ui),
        Verb::Freeze(args) => orders::freeze(args, &common, ui),
        Verb::Weight(args) => orders::weight(args, &common, ui),
        Verb::Confirm(args) => orders::confirm(args, &common, ui),
        Verb::Accept(args) => orders::accept(args, &common, ui),
        Verb::Nudge(orders::Nudge {}) => orders::nudge(&common, ui),
        Verb::Init(args) => init::run(&args, &common, ui),
        Verb::Validate(args) => validate::run(&args, &common, ui),
        Verb::Edit(args) => edit::run(&args, &common, ui),
        Verb::Schema(args) => schema::run(&args, &common, ui),
        Verb::Recipes(args) => recipes::run(&args, ui),
        Verb::Mr(args) => mr::run(&args, &common, ui),
        Verb::Log(args) => log::run(&args, &common, ui),
        Verb::Audit(args) => audit::run(&args, &common, ui),
        Verb::Completions(args) => {
            completions::run(&args, ui);
            Ok(0)
        }
    };
    match result {
        Ok(status) => status,
        Err(failure) => {
            ui.failure(&failure);
            failure.kind.status()
        }
    }
}
