//! Asks a local node what it really runs, or whether all is well, by a command or over HTTP.
//! Everything but a clear answer is no answer.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::process::signal_group;
use super::{Local, one_line};
use crate::drivers::fleet::Place;
use crate::drivers::{clock, http};
use crate::model::{Question, Ref, format_duration};
use crate::observe::{Fact, Verdict};

/// Most a version probe may print; a ref has 255 bytes.
const OUTPUT_MAX: usize = 4096;
/// How long output may still come after the command ended.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);
/// What a node says that is asked about alerts.
const NOT_HERE: &str = "alert sources are asked beside the controller, not on a node";
/// How much of rubbish an explanation quotes.
const QUOTED_MAX: usize = 120;

impl Local {
    pub(super) async fn ask_version(
        &self,
        place: &Place,
        question: &Question,
    ) -> Fact<Option<Ref>> {
        let answer = match question {
            Question::Run { argv, variables, timeout, absent } => {
                self.run_version(place, argv, variables, *timeout, *absent).await
            }
            Question::Http { url, timeout } => fetch_version(url, *timeout).await,
            Question::Alerts(_) => Err(NOT_HERE.to_owned()),
        };
        let at = clock::now();
        match answer {
            Ok(value) => Fact::Known { value, at },
            Err(why) => Fact::Unknown { why, at },
        }
    }

    /// Whether a command ends well, or a URL answers 2xx.
    pub(super) async fn ask_verdict(&self, place: &Place, question: &Question) -> Verdict {
        match question {
            Question::Run { argv, variables, timeout, absent: _ } => {
                match self.run(place, argv, variables, *timeout).await {
                    Err(why) => Verdict::Error { why },
                    Ok(answer) if answer.status.success() => Verdict::Pass,
                    Ok(answer) => Verdict::Fail { why: answer.complaint() },
                }
            }
            Question::Http { url, timeout } => match http::get(url, *timeout).await {
                Err(why) => Verdict::Error { why },
                Ok(answer) if (200..300).contains(&answer.status) => Verdict::Pass,
                Ok(answer) => Verdict::Fail { why: format!("HTTP status {}", answer.status) },
            },
            Question::Alerts(_) => Verdict::Error { why: NOT_HERE.to_owned() },
        }
    }

    async fn run(
        &self,
        place: &Place,
        argv: &[String],
        variables: &[(String, String)],
        timeout: Duration,
    ) -> Result<Answer, String> {
        let directory = self.prepare(place).await.map_err(|error| error.to_string())?;
        let Some((program, rest)) = argv.split_first() else {
            return Err("there is no program to run".to_owned());
        };
        let environment = self.environment(place, variables);
        let mut command = Command::new(find(program, &environment, &directory));
        command.arg0(program).args(rest).env_clear().envs(environment);
        match tokio::time::timeout(timeout, answer(command, &directory)).await {
            Err(_) => Err(format!("no answer within {}", format_duration(timeout))),
            Ok(Err(error)) => Err(format!("cannot run `{}`: {error}", program.escape_debug())),
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    async fn run_version(
        &self,
        place: &Place,
        argv: &[String],
        variables: &[(String, String)],
        timeout: Duration,
        absent: Option<u8>,
    ) -> Result<Option<Ref>, String> {
        let answer = self.run(place, argv, variables, timeout).await?;
        if absent.is_some() && answer.status.code() == absent.map(i32::from) {
            return Ok(None);
        }
        if !answer.status.success() {
            return Err(answer.complaint());
        }
        if answer.stdout.len() > OUTPUT_MAX {
            return Err(format!("the probe printed more than {OUTPUT_MAX} bytes"));
        }
        let said = answer.stdout.trim_ascii();
        if said.is_empty() { Ok(None) } else { parse(said).map(Some) }
    }
}

/// The file that a name means under the variables that a command gets; the name itself if it is
/// a path, or found nowhere.
///
/// Left to the system, the search under another `PATH` than our own costs a copy of this whole
/// process, and probes are what a controller starts most.
fn find(program: &str, environment: &[(OsString, OsString)], directory: &Path) -> PathBuf {
    if program.contains('/') {
        return PathBuf::from(program);
    }
    let paths = environment.iter().rev().find(|(name, _)| name == "PATH");
    let paths = paths.map(|(_, value)| std::env::split_paths(value)).into_iter().flatten();
    let mut files = paths.map(|it| directory.join(it).join(program));
    let runs = |path: &PathBuf| {
        path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
    };
    files.find(runs).unwrap_or_else(|| PathBuf::from(program))
}

/// How a command ended, and the beginning of what it printed.
struct Answer {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Answer {
    fn complaint(&self) -> String {
        let said = [&self.stderr, &self.stdout].map(|it| one_line(it, QUOTED_MAX));
        let end = match self.status.code() {
            Some(code) => format!("exit status {code}"),
            None => self.status.to_string(),
        };
        match said.into_iter().find(|it| !it.is_empty()) {
            None => end,
            Some(said) => format!("{end}: {said}"),
        }
    }
}

async fn fetch_version(url: &str, timeout: Duration) -> Result<Option<Ref>, String> {
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

fn parse(bytes: &[u8]) -> Result<Ref, String> {
    let text = std::str::from_utf8(bytes.trim_ascii()).ok();
    text.and_then(|text| Ref::parse(text).ok())
        .ok_or_else(|| format!("`{}` is not a ref", one_line(bytes, QUOTED_MAX)))
}

/// Kills a command's group when the question is dropped, answered or not: a probe leaves nothing
/// behind.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            signal_group(leader, Signal::KILL);
        }
    }
}

async fn answer(mut command: Command, directory: &Path) -> io::Result<Answer> {
    command.current_dir(directory).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let group = Group(leader);
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = {
        let reading = async {
            tokio::join!(read(stdout.as_mut(), &mut out), read(stderr.as_mut(), &mut err));
        };
        tokio::pin!(reading);
        tokio::select! {
            () = &mut reading => child.wait().await?,
            status = child.wait() => {
                // Someone in the background may hold the pipes for ever.
                let _ = tokio::time::timeout(OUTPUT_GRACE, reading).await;
                status?
            }
        }
    };
    drop(group);
    Ok(Answer { status, stdout: out, stderr: err })
}

/// Reads on past the bound, so that the command does not hang, but keeps no more than shows that
/// it was passed.
async fn read(from: Option<&mut (impl AsyncRead + Unpin)>, kept: &mut Vec<u8>) {
    let Some(from) = from else { return };
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let room = (OUTPUT_MAX + 1).saturating_sub(kept.len());
        kept.extend(&buffer[..count.min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_what_the_commands_own_path_says() {
        let environment =
            |path: &str| vec![("PATH".into(), "/nowhere".into()), ("PATH".into(), path.into())];
        let found =
            |program: &str, path: &str| find(program, &environment(path), Path::new("/usr"));
        assert_eq!(found("sh", "/nowhere:/bin"), Path::new("/bin/sh"));
        assert_eq!(found("sh", "bin"), Path::new("/usr/bin/sh"));
        assert_eq!(found("sh", "/nowhere"), Path::new("sh"));
        assert_eq!(found("bin", "/usr"), Path::new("bin"));
        assert_eq!(found("./sh", "/bin"), Path::new("./sh"));
    }
}
