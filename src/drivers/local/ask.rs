//! Asks a local node what it really runs, or whether all is well, by a command or over HTTP.
//! Everything but a clear answer is no answer.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::Local;
use super::process::signal_group;
use crate::drivers::answers::{self, Answer, OUTPUT_MAX};
use crate::drivers::fleet::Place;
use crate::model::{Question, Ref, format_duration};
use crate::observe::{Fact, Verdict};

/// How long output may still come after the command ended.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);
impl Local {
    pub(super) async fn ask_version(
        &self,
        place: &Place,
        question: &Question,
    ) -> Fact<Option<Ref>> {
        answers::fact(match question {
            Question::Run { argv, variables, timeout, absent } => {
                let answer = self.run(place, argv, variables, *timeout).await;
                answer.and_then(|it| it.version(*absent))
            }
            Question::Http { url, timeout } => answers::fetch_version(url, *timeout).await,
            Question::Alerts(_) => Err(answers::NOT_HERE.to_owned()),
        })
    }

    /// Whether a command ends well, or a URL answers 2xx.
    pub(super) async fn ask_verdict(&self, place: &Place, question: &Question) -> Verdict {
        match question {
            Question::Run { argv, variables, timeout, absent: _ } => {
                match self.run(place, argv, variables, *timeout).await {
                    Err(why) => Verdict::Error { why },
                    Ok(answer) => answer.verdict(),
                }
            }
            Question::Http { url, timeout } => answers::fetch_verdict(url, *timeout).await,
            Question::Alerts(_) => Verdict::Error { why: answers::NOT_HERE.to_owned() },
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
    let status = status.code().ok_or_else(|| status.to_string());
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
