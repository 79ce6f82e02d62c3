//! `towpath completions`: what a shell needs to complete our words.

use clap::CommandFactory as _;

use super::{Cli, Ui};

/// Print what a shell needs to complete `towpath`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  towpath completions bash > ~/.local/share/bash-completion/completions/towpath
  towpath completions fish > ~/.config/fish/completions/towpath.fish")]
pub struct Args {
    /// Which shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: clap_complete::Shell,
}

/// Runs it.
pub(super) fn run(args: &Args, ui: &Ui) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "towpath", &mut script);
    ui.result(String::from_utf8_lossy(&script).trim_end());
}
