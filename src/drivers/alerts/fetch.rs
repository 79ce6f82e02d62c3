//! One question to a server over HTTP, and its whole answer as JSON; or why there is none.

use reqwest::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, HeaderValue,
};
use reqwest::{Method, Request, Url};
use serde::de::DeserializeOwned;

use crate::drivers::http;
use crate::drivers::local::one_line;
use crate::model::{AlertSource, Login, Timestamp, format_duration};

/// Largest answer. A thousand firing alerts with long texts take about 2 MB.
const BODY_MAX: usize = 8 << 20;
/// Largest file with a secret.
const SECRET_MAX: u64 = 16 * 1024;
/// How much of what was not understood is quoted.
const QUOTED_MAX: usize = 200;
/// How far a server's clock may be from ours. Beyond, "now" is not the same question to both.
pub(super) const SKEW_MAX: std::time::Duration = std::time::Duration::from_mins(1);

/// What to ask.
pub(super) struct Ask<'a> {
    /// Of the API, e.g. `/api/v2/alerts`.
    pub(super) path: &'a str,
    /// In the URL, or in the body.
    pub(super) fields: &'a [(&'a str, String)],
    /// Queries may be longer than URLs can be.
    pub(super) in_body: bool,
}

/// A status, and the JSON that came with it.
pub(super) struct Fetched<T> {
    pub(super) status: u16,
    pub(super) body: Result<T, String>,
}

/// Asks, and reads the answer to its end.
pub(super) async fn fetch<T: DeserializeOwned>(
    source: &AlertSource<String>,
    ask: &Ask<'_>,
    now: Timestamp,
) -> Result<Fetched<T>, String> {
    let request = request(source, ask).await?;
    let mut answer = http::send(request).await?;
    let status = answer.status().as_u16();
    clocks_agree(answer.headers(), now)?;
    if let Some(encoding) = answer.headers().get(CONTENT_ENCODING)
        && encoding != "identity"
    {
        let encoding = one_line(encoding.as_bytes(), 40);
        return Err(format!("it answered in the encoding `{encoding}`, which was not asked for"));
    }
    let html = answer
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|it| it.as_bytes().to_ascii_lowercase().starts_with(b"text/html"));
    let mut body = Vec::new();
    while let Some(chunk) = http::chunk(&mut answer).await? {
        if body.len() + chunk.len() > BODY_MAX {
            return Err(format!("its answer is larger than {} MiB", BODY_MAX >> 20));
        }
        body.extend_from_slice(&chunk);
    }
    if status == 401 || status == 403 {
        return Err(format!(
            "HTTP status {status}: it does not let us in, see `bearer_token_file` and `basic_auth_file`"
        ));
    }
    let start = body.trim_ascii_start();
    if html || start.starts_with(b"<") {
        return Err(format!(
            "HTTP status {status} with a web page: is the URL right, or is a login in front of it?"
        ));
    }
    if status >= 500 && !start.starts_with(b"{") {
        return Err(format!("HTTP status {status}: {}", one_line(start, QUOTED_MAX)));
    }
    if start.is_empty() {
        return Err(format!("HTTP status {status} with an empty answer"));
    }
    let read = serde_json::from_slice(&body);
    let body = read.map_err(|error| {
        let error = one_line(error.to_string().as_bytes(), QUOTED_MAX);
        format!("its answer is not understood ({error}): {}", one_line(&body, QUOTED_MAX))
    });
    Ok(Fetched { status, body })
}

async fn request(source: &AlertSource<String>, ask: &Ask<'_>) -> Result<Request, String> {
    let text = format!("{}{}", source.url, ask.path);
    let mut url: Url = text.parse().map_err(|error| format!("not a URL: {error}"))?;
    url.query_pairs_mut().extend_pairs(ask.fields);
    let mut request = if ask.in_body {
        let form = url.query().unwrap_or_default().to_owned();
        url.set_query(None);
        let mut request = Request::new(Method::POST, url);
        *request.body_mut() = Some(form.into());
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, form);
        request
    } else {
        Request::new(Method::GET, url)
    };
    if let Some(login) = &source.login {
        request.headers_mut().insert(AUTHORIZATION, authorization(login).await?);
    }
    Ok(request)
}

/// The secret, read now: it may have been renewed since the last question.
async fn authorization(login: &Login) -> Result<HeaderValue, String> {
    let (file, scheme) = match login {
        Login::Bearer { file } => (file, "Bearer"),
        Login::Basic { file } => (file, "Basic"),
    };
    let cannot = |why: &str| format!("the secret in {} {why}", one_line(file.as_bytes(), 200));
    let about = tokio::fs::metadata(file)
        .await
        .map_err(|error| cannot(&format!("cannot be read: {error}")))?;
    if !about.is_file() || about.len() > SECRET_MAX {
        return Err(cannot("is no file of a secret's size"));
    }
    let text = tokio::fs::read_to_string(file)
        .await
        .map_err(|error| cannot(&format!("cannot be read: {error}")))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(cannot("is empty"));
    }
    let shown = match login {
        Login::Bearer { .. } => secret.to_owned(),
        Login::Basic { .. } if !secret.contains(':') => {
            return Err(cannot("is not `user:password`"));
        }
        Login::Basic { .. } => base64(secret.as_bytes()),
    };
    let value = HeaderValue::from_str(&format!("{scheme} {shown}"));
    let mut value = value.map_err(|_| cannot("has characters that cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What a server thinks the time is. One that lives in another time answers another question.
fn clocks_agree(headers: &HeaderMap, now: Timestamp) -> Result<(), String> {
    let Some(date) = headers.get(DATE) else { return Ok(()) };
    let text = date.to_str().ok();
    let time = text.and_then(|it| jiff::fmt::rfc2822::parse(it).ok());
    let Some(theirs) = time.and_then(|it| u64::try_from(it.timestamp().as_millisecond()).ok())
    else {
        return Err(format!("its `Date` is not understood: {}", one_line(date.as_bytes(), 60)));
    };
    let apart = std::time::Duration::from_millis(theirs.abs_diff(now.0));
    if apart > SKEW_MAX {
        return Err(format!(
            "its clock and ours are {} apart: is one of them wrong, or does a cache answer?",
            format_duration(apart)
        ));
    }
    Ok(())
}

/// RFC 4648, with padding. Not worth a dependency.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
