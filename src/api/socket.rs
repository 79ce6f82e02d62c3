//! The socket beside the journal: whoever may open it may ask. The system says who that is.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::WriteHalf;
use tokio::net::{UnixListener, UnixStream as Stream};
use tokio::sync::Semaphore;

use crate::controller::{Doorbell, Troubles, View};
use crate::model::{PersonName, ServiceName, format_duration};
use crate::telemetry::chain;

use super::dto::{self, Answer, Look, Request};

/// Longest line either way.
const LINE_MAX: u64 = 64 * 1024;
/// How long a caller may take to say what it wants, and the controller to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a look at a controller's troubles may take: it answers from memory, in milliseconds, and in a second on a machine
/// that is very busy. Who is on call waits for the rest of a status meanwhile.
const LOOK_PATIENCE: Duration = Duration::from_secs(4);
/// Callers at once; the next one waits.
const CALLERS_MAX: usize = 16;

/// Where the socket of a controller's directory is.
pub fn socket_path(state: &Path) -> PathBuf {
    state.join("towpath.sock")
}

/// Opens the socket and answers until the runtime ends. Call it after the store is held: what an
/// earlier controller left there is taken away.
pub fn serve(
    runtime: &tokio::runtime::Handle,
    state: &Path,
    doorbell: Doorbell,
    view: Arc<View>,
) -> std::io::Result<()> {
    let path = socket_path(state);
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let _entered = runtime.enter();
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
    runtime.spawn(accept(listener, doorbell, view));
    Ok(())
}

async fn accept(listener: UnixListener, doorbell: Doorbell, view: Arc<View>) {
    let room = Arc::new(Semaphore::new(CALLERS_MAX));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (doorbell, view) = (doorbell.clone(), Arc::clone(&view));
                tokio::spawn(async move {
                    // A caller that does not speak, or went away, is no news.
                    let _ = tokio::time::timeout(PATIENCE, answer(stream, doorbell, &view)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a caller could not be let in");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut stream: Stream, doorbell: Doorbell, view: &View) -> std::io::Result<()> {
    let caller = stream.peer_cred()?;
    let ours = rustix::process::geteuid().as_raw();
    let may_name = caller.uid() == ours || caller.uid() == 0;
    let person = person(caller.uid());
    let (read, mut write) = stream.split();
    let mut line = String::new();
    tokio::io::BufReader::new(read.take(LINE_MAX)).read_line(&mut line).await?;
    if let Ok(look) = serde_json::from_str::<Look>(&line) {
        let seen = look.taken(view.troubles());
        return say(&mut write, &seen.map_or_else(Answer::Refused, Answer::Done)).await;
    }
    let asked = serde_json::from_str::<Request>(&line)
        .map_err(|error| format!("bad request: {error}"))
        .and_then(|request| request.check(&person, may_name));
    let answer = match asked {
        Err(why) => Answer::Refused(why),
        Ok(ask) => {
            let waiting = tokio::task::spawn_blocking(move || doorbell.ask(ask, PATIENCE)).await;
            match waiting.ok().flatten() {
                Some(Ok(said)) => Answer::Done(said),
                Some(Err(refusal)) => Answer::Refused(refusal.to_string()),
                None => Answer::Refused("the controller did not answer: it may be ending".into()),
            }
        }
    };
    say(&mut write, &answer).await
}

async fn say(write: &mut WriteHalf<'_>, answer: &Answer) -> std::io::Result<()> {
    let mut text = serde_json::to_string(answer).map_err(std::io::Error::other)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await
}

/// The login of a user of this machine, or `uid-1000` where it has none that fits.
pub fn person(uid: u32) -> PersonName {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let login = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| PersonName::parse(name).ok())?
    });
    login.unwrap_or_else(|| {
        PersonName::parse(&format!("uid-{uid}"))
            .unwrap_or_else(|_| unreachable!("`uid-` and digits are a name"))
    })
}

/// Whether a controller works on this directory, as far as can be told: a socket that we may not use is somebody's.
pub fn is_attended(state: &Path) -> bool {
    match UnixStream::connect(socket_path(state)) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused),
    }
}

/// Why a controller could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no controller is running on {state}")]
    Nobody {
        /// Whose directory.
        state: PathBuf,
    },
    /// It went away, or said something odd.
    #[error("asking the controller: {why}")]
    Broken {
        /// What happened.
        why: String,
    },
    /// It has the question, and did not answer in time.
    #[error(
        "the controller runs, and has not answered for {}; what it was asked for it may still do when it goes on: look at `towpath status` then, before you say it again",
        format_duration(*.patience)
    )]
    Silent {
        /// How long it had.
        patience: Duration,
    },
    /// It said no.
    #[error("{0}")]
    Refused(String),
}

/// Asks the controller of a directory, and waits for its answer.
pub fn ask(state: &Path, request: &Request) -> Result<String, AskError> {
    send(state, request, PATIENCE + PATIENCE)
}

/// What does not work at the moment, by the controller of a directory; of one service, or of all.
pub fn troubles(state: &Path, service: Option<&ServiceName>) -> Result<Troubles, AskError> {
    let said = send(state, &Look::at_troubles(service), LOOK_PATIENCE)?;
    dto::troubles(&said).map_err(|why| AskError::Broken { why })
}

fn send(state: &Path, request: &impl Serialize, patience: Duration) -> Result<String, AskError> {
    let broken = |error: &dyn std::error::Error| AskError::Broken { why: chain(error) };
    let mut stream = UnixStream::connect(socket_path(state))
        .map_err(|_| AskError::Nobody { state: state.to_owned() })?;
    stream.set_read_timeout(Some(patience)).map_err(|error| broken(&error))?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(|error| broken(&error))?;
    let mut line = serde_json::to_string(request).map_err(|error| broken(&error))?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(|error| broken(&error))?;
    let mut said = String::new();
    BufReader::new(stream.take(LINE_MAX)).read_line(&mut said).map_err(|error| {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => AskError::Silent { patience },
            _ => broken(&error),
        }
    })?;
    match serde_json::from_str(&said) {
        Ok(Answer::Done(said)) => Ok(said),
        Ok(Answer::Refused(why)) => Err(AskError::Refused(why)),
        Err(error) => Err(broken(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_at_a_controller_that_hangs_is_over_in_a_few_seconds() {
        let state = tempfile::tempdir().unwrap();
        let _listens = std::os::unix::net::UnixListener::bind(socket_path(state.path())).unwrap();
        let asked = troubles(state.path(), None);
        let Err(AskError::Silent { patience }) = asked else { panic!("{asked:?}") };
        assert!(patience < Duration::from_secs(10), "{patience:?}");
    }

    #[test]
    fn a_controller_that_takes_a_word_and_hangs_may_still_obey_it() {
        let state = tempfile::tempdir().unwrap();
        let _listens = std::os::unix::net::UnixListener::bind(socket_path(state.path())).unwrap();
        let asked = send(state.path(), &Look::at_troubles(None), Duration::from_millis(50));
        let said = asked.unwrap_err().to_string();
        assert!(said.contains("it may still do when it goes on"), "{said}");
        assert!(said.contains("`towpath status`"), "{said}");
    }
}
