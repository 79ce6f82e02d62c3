//! What is written is read back the same; what was tampered with is refused; old files still load.

mod comments;
mod journal;
mod properties;
mod record;
mod samples;
mod tampering;
