//! The log: an operator's story at info, ours at debug; and errors written out with their causes.

use std::error::Error;
use std::fmt::Write as _;
use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// An error with all its causes in one line: `doing this: because of that`.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

/// Sends log lines of at least `level` to stderr, as text or JSON.
pub fn start(level: &str, json: bool) {
    let filter = filter(level);
    // Who reads a file sees the colours as noise.
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr);
    // Fails only if a log was started before, and then that one serves.
    let _ = if json { builder.json().try_init() } else { builder.with_target(false).try_init() };
}

/// What is logged: of others only what goes wrong, for at info they tell of themselves. Who names them is obeyed.
fn filter(level: &str) -> EnvFilter {
    /// Watches files, and says at info that a watch ended with the directory that it was for.
    const NOISY: &str = "notify";
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    match format!("{NOISY}=warn").parse() {
        Ok(quiet) if !level.contains(NOISY) => filter.add_directive(quiet),
        Ok(_) | Err(_) => filter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_watches_files_does_not_tell_of_itself() {
        let shown = |level: &str| filter(level).to_string();
        assert!(shown("info").contains("notify=warn"), "{}", shown("info"));
        let named = shown("info,notify=debug");
        assert!(named.contains("notify=debug") && !named.contains("warn"), "{named}");
    }
}
