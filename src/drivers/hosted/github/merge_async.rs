//! GitHub's merge in the background, where the server has it: asked for with the head that was checked, and looked at
//! for a few seconds. What is under way after that shows at the next look; it is never asked for twice at once.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::GitHub;
use crate::drivers::hosted::api::{ApiError, MergeAnswer};
use crate::drivers::hosted::client::{Repeat, read, said};
use crate::drivers::hosted::transport::{Reply, Verb};
use crate::drivers::local::one_line;
use crate::model::Revision;

/// Waits before the looks at it, in all less than the deadline of one answer.
const WAITS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// Longest quotation of it.
const WHY_MAX: usize = 240;
/// Longest name of a merge under way; the real ones have 36.
const UUID_MAX: usize = 64;

#[derive(Deserialize)]
struct Said {
    status: String,
    details: Details,
}

#[derive(Deserialize)]
struct Details {
    message: String,
    uuid: Option<String>,
    sha: Option<String>,
    expected_head_sha: Option<String>,
}

impl Said {
    fn message(&self) -> String {
        one_line(self.details.message.as_bytes(), WHY_MAX)
    }

    fn uuid(&self) -> Option<&str> {
        let plain = |it: &&str| {
            let fits = it.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            fits && (1..=UUID_MAX).contains(&it.len())
        };
        self.details.uuid.as_deref().filter(plain)
    }
}

impl GitHub {
    /// Merges exactly this head in the background. Nothing if the server has no such thing.
    pub(super) fn merge_async(
        &self,
        number: u64,
        sha: Revision,
    ) -> Result<Option<MergeAnswer>, ApiError> {
        if self.lacks_async.get() {
            return Ok(None);
        }
        let doing = format!("merging #{number}");
        let path = self.pull(number, "/merge-async");
        let method = self.method.get().unwrap_or("merge");
        let body = json!({
            "sha": sha.to_string(), "merge_method": method, "merge_action": "direct_merge",
        });
        let reply = self.client.act(&doing, Verb::Put, &path, &body, Repeat::Never)?;
        match reply.status {
            404 | 405 => {
                self.lacks_async.set(true);
                Ok(None)
            }
            200 | 202 | 400 | 409 => self.watch(&doing, &path, sha, &reply).map(Some),
            422 => Ok(Some(MergeAnswer::NotYet { why: said(&reply) })),
            _ => Err(match self.fine(&doing, reply) {
                Ok(reply) => {
                    ApiError::NotUnderstood { doing, why: format!("status {}", reply.status) }
                }
                Err(error) => error,
            }),
        }
    }

    fn watch(
        &self,
        doing: &str,
        path: &str,
        sha: Revision,
        reply: &Reply,
    ) -> Result<MergeAnswer, ApiError> {
        let mut now: Said = read(doing, reply)?;
        let other = now.details.expected_head_sha.as_ref().is_some_and(|it| *it != sha.to_string());
        if reply.status == 409 && other {
            let why = "another head of it is being merged at this moment".to_owned();
            return Ok(MergeAnswer::NotYet { why });
        }
        for wait in WAITS {
            if now.status != "pending" {
                break;
            }
            let Some(uuid) = now.uuid() else { break };
            self.client.wait(wait);
            let reply = self.client.get(doing, &format!("{path}/{uuid}"))?;
            if reply.status == 404 {
                let why = "GitHub forgot that it is merging it".to_owned();
                return Ok(MergeAnswer::NotYet { why });
            }
            now = read(doing, &self.fine(doing, reply)?)?;
        }
        let why = now.message();
        match now.status.as_str() {
            "merged" => {
                let sha = now.details.sha.as_deref().and_then(|it| Revision::parse(it).ok());
                return Ok(MergeAnswer::Merged { sha });
            }
            // It has come since we asked for the rules.
            "enqueued" => self.queue_is_known(true),
            "failed" if why.contains("merge queue") => self.queue_is_known(true),
            _ => {}
        }
        // Whatever it says, known or not: what the pull request shows then is what counts.
        let word = one_line(now.status.as_bytes(), WHY_MAX);
        Ok(MergeAnswer::NotYet { why: format!("GitHub says {word} of the merge: {why}") })
    }
}
