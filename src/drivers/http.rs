//! Looks at a URL, for health checks and version probes. Bounded in time and size, and it goes
//! nowhere but where it was sent.

use std::error::Error as _;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Url};

use super::local::one_line;
use crate::model::format_duration;

/// Most of a body that is kept. Nobody's health page says more that matters.
pub const BODY_MAX: usize = 64 * 1024;
/// Redirects followed on one host, e.g. to add a slash or to log in.
const REDIRECTS_MAX: usize = 5;
/// Longest explanation.
const WHY_MAX: usize = 300;

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status of the last answer.
    pub status: u16,
    /// The body, cut at [`BODY_MAX`].
    pub body: Vec<u8>,
}

/// Fetches `url`; `timeout` is for the whole, from the name to the last byte. The error is a
/// sentence for people and holds neither the URL nor credentials.
pub async fn get(url: &str, timeout: Duration) -> Result<HttpAnswer, String> {
    let url: Url = url.parse().map_err(|error| format!("not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("not an http or https URL".to_owned());
    }
    let client = client()?;
    match tokio::time::timeout(timeout, fetch(client, url)).await {
        Ok(answer) => answer.map_err(explain),
        Err(_) => Err(format!("no answer within {}", format_duration(timeout))),
    }
}

async fn fetch(client: &Client, url: Url) -> Result<HttpAnswer, reqwest::Error> {
    let mut answer = client.get(url).send().await?;
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    while body.len() < BODY_MAX
        && let Some(chunk) = answer.chunk().await?
    {
        let room = BODY_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok(HttpAnswer { status, body })
}

/// Sends a request of one's own, without a deadline: the caller has one.
pub(super) async fn send(request: reqwest::Request) -> Result<reqwest::Response, String> {
    client()?.execute(request).await.map_err(explain)
}

/// The next part of a body.
pub(super) async fn chunk(answer: &mut reqwest::Response) -> Result<Option<Vec<u8>>, String> {
    let chunk = answer.chunk().await.map_err(explain)?;
    Ok(chunk.map(|it| it.to_vec()))
}

fn client() -> Result<&'static Client, String> {
    static CLIENT: OnceLock<Result<Client, String>> = OnceLock::new();
    let made = CLIENT.get_or_init(|| {
        // Fails only if one is installed already, and then it serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("towpath/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::custom(redirect))
            // A proxy of the controller's own environment is not on the way to a node.
            .no_proxy()
            // Every look is a new one: a kept connection may lead to what was there before.
            .pool_max_idle_per_host(0);
        client.build().map_err(explain)
    });
    made.as_ref().map_err(Clone::clone)
}

fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let Some(from) = attempt.previous().last() else { return attempt.stop() };
    let to = attempt.url();
    if attempt.previous().len() > REDIRECTS_MAX {
        attempt.error(format!("more than {REDIRECTS_MAX} redirects"))
    } else if from.host_str() != to.host_str() {
        attempt.error("redirected to another host")
    } else if from.scheme() == "https" && to.scheme() != "https" {
        attempt.error("redirected from https to http")
    } else {
        attempt.follow()
    }
}

/// The chain of causes without the URL, which may carry a token.
pub(super) fn explain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !why.ends_with(&cause_text) {
            why = format!("{why}: {cause_text}");
        }
        source = cause.source();
    }
    one_line(why.as_bytes(), WHY_MAX)
}

#[cfg(test)]
mod tests;
