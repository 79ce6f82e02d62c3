//! What the answer to a question means, wherever it was asked. Everything but a clear answer is
//! no answer.

use std::time::Duration;

use super::local::one_line;
use super::{clock, http};
use crate::model::Ref;
use crate::observe::{Fact, Verdict};

/// What a node says that is asked about alerts.
pub(super) const NOT_HERE: &str = "alert sources are asked beside the controller, not on a node";

/// Most a version probe may print; a ref has 255 bytes.
pub(super) const OUTPUT_MAX: usize = 4096;
/// How much of rubbish an explanation quotes.
const QUOTED_MAX: usize = 120;

/// How a command ended, and the beginning of what it printed: at most one byte more than
/// [`OUTPUT_MAX`] of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its exit status; else how it ended, in words.
    pub(super) status: Result<i32, String>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// What is wrong with a version that is none.
const NOTHING_SAID: &str =
    "it printed nothing: let it exit with the status of `absent` where nothing is installed";

impl Answer {
    /// Which version it names; `None` if nothing is installed.
    pub(super) fn version(&self, absent: Option<u8>) -> Result<Option<Ref>, String> {
        let code = self.status.as_ref().ok();
        if absent.is_some() && code.copied() == absent.map(i32::from) {
            return Ok(None);
        }
        if code != Some(&0) {
            return Err(self.complaint());
        }
        if self.stdout.len() > OUTPUT_MAX {
            return Err(format!("the probe printed more than {OUTPUT_MAX} bytes"));
        }
        let said = self.stdout.trim_ascii();
        if said.is_empty() {
            // Who says nothing does not say that nothing is installed.
            return Err(NOTHING_SAID.to_owned());
        }
        parse(said).map(Some)
    }

    /// Whether it says yes.
    pub(super) fn verdict(&self) -> Verdict {
        if self.status == Ok(0) { Verdict::Pass } else { Verdict::Fail { why: self.complaint() } }
    }

    fn complaint(&self) -> String {
        let said = [&self.stderr, &self.stdout].map(|it| one_line(it, QUOTED_MAX));
        let end = match &self.status {
            Ok(code) => format!("exit status {code}"),
            Err(how) => how.clone(),
        };
        match said.into_iter().find(|it| !it.is_empty()) {
            None => end,
            Some(said) => format!("{end}: {said}"),
        }
    }
}

/// Which version a URL names.
pub(super) async fn fetch_version(url: &str, timeout: Duration) -> Result<Option<Ref>, String> {
    let answer = http::get(url, timeout).await?;
    if !(200..300).contains(&answer.status) {
        return Err(format!("HTTP status {}", answer.status));
    }
    if answer.body.trim_ascii().is_empty() {
        // A server that says nothing does not say that nothing is installed.
        return Err("the answer is empty".to_owned());
    }
    parse(&answer.body).map(Some)
}

/// Whether a URL answers 2xx.
pub(super) async fn fetch_verdict(url: &str, timeout: Duration) -> Verdict {
    match http::get(url, timeout).await {
        Err(why) => Verdict::Error { why },
        Ok(answer) if (200..300).contains(&answer.status) => Verdict::Pass,
        Ok(answer) => Verdict::Fail { why: format!("HTTP status {}", answer.status) },
    }
}

/// What is known now.
pub(super) fn fact<T>(answer: Result<T, String>) -> Fact<T> {
    let at = clock::now();
    match answer {
        Ok(value) => Fact::Known { value, at },
        Err(why) => Fact::Unknown { why, at },
    }
}

fn parse(bytes: &[u8]) -> Result<Ref, String> {
    let text = std::str::from_utf8(bytes.trim_ascii()).ok();
    text.and_then(|text| Ref::parse(text).ok())
        .ok_or_else(|| format!("`{}` is not a ref", one_line(bytes, QUOTED_MAX)))
}
