//! Arguments, log, exit status; nothing else. What nodes run is dispatched before all that.

use std::process::ExitCode;

use clap::Parser as _;
use towpath::cli::{self, Cli, Ui};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(verb) if verb == "step-runner" => return towpath::drivers::local::runner_main(args),
        Some(verb) if verb == "demo-node" => {
            let words: Vec<String> = args.map(|it| it.to_string_lossy().into_owned()).collect();
            return cli::demo_node(&words);
        }
        Some(_) | None => {}
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout and is no error; a usage error has its own status.
            let json = std::env::args_os().any(|it| it == "--json");
            if error.use_stderr() && json {
                Ui::new(true).failure(&cli::Failure::usage(&error.to_string()));
            } else {
                let _ = error.print();
            }
            let status = if error.use_stderr() { cli::Kind::Usage.status() } else { 0 };
            return ExitCode::from(status);
        }
    };
    towpath::telemetry::start(&cli.common.log, cli.common.json);
    let ui = Ui::new(cli.common.json);
    ExitCode::from(cli::run(cli, &ui))
}
