//! Entry: dispatches to the step runner before anything else is set up.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(verb) if verb == "step-runner" => towpath::drivers::local::runner_main(args),
        Some(_) | None => ExitCode::SUCCESS,
    }
}
