//! The log: an operator's story at info, ours at debug; and errors written out with their causes.

use std::error::Error;
use std::fmt::Write as _;

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
    let filter = tracing_subscriber::EnvFilter::try_new(level)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Fails only if a log was started before, and then that one serves.
    let _ = if json { builder.json().try_init() } else { builder.with_target(false).try_init() };
}
