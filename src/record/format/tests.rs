//! What is written is read back the same; what was tampered with is refused; old files still load.

mod journal;
mod properties;
mod record;
mod rollback;
mod samples;
mod comments;
mod tampering;
