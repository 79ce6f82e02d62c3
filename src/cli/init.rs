//! `towpath init`: a directory in which everything can be tried at once.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::minimal;
use crate::drivers::clock;
use crate::git::{self, Branch, Commit, Identity, Location, Program, Repository, Update};
use crate::model::RepoPath;

use super::person::login;
use super::source::of_git;
use super::{Common, Failure, Kind, Tone, Ui};

/// Make a working config to start from
///
/// In DIR: config.git, the repository that Towpath watches; config, a clone of it for you to work in;
/// towpath.toml, the settings. Nothing else is touched.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  towpath init try && cd try && towpath run")]
pub struct Args {
    /// A directory that is empty or not there yet
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

const BARE: &str = "config.git";
const CLONE: &str = "config";
const SETTINGS: &str = "towpath.toml";

const SETTINGS_TEXT: &str = r#"# Settings of the Towpath controller. Paths are relative to this file.
# Start it in this directory with: towpath run

[repository]
# The config repo: a path, or a URL that git can fetch and push.
url = "config.git"
# The branch that says what should run where.
branch = "main"
# How often a remote repository is asked for news. A local one tells by itself.
poll = "30s"

# [store]
# directory = "state"    # the journal and what else the controller must remember
# nodes = "nodes"  # where `connect: local` keeps its nodes, one directory each

# [observe]
# every = "5m"           # how often nodes are asked what they run
# per_second = 2         # at most so many questions a second
"#;

/// Runs it.
pub(super) fn run(args: &Args, _common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let dir = &args.dir;
    let made = make_directory(dir)?;
    if let Err(failure) = fill(dir) {
        undo(dir, made);
        return Err(failure);
    }
    if ui.json {
        ui.result_json(&serde_json::json!({
            "repository": dir.join(BARE), "clone": dir.join(CLONE), "settings": dir.join(SETTINGS),
        }));
    } else {
        tell(dir, ui);
    }
    Ok(0)
}

/// Whether the directory was there before.
#[derive(Clone, Copy)]
enum Made {
    Now,
    Before,
}

fn make_directory(dir: &Path) -> Result<Made, Failure> {
    let failed = |error: &std::io::Error| {
        Failure::new(Kind::Error, format!("making {}: {error}", dir.display()))
    };
    match fs::read_dir(dir) {
        Ok(mut entries) => {
            if entries.next().is_none() {
                return Ok(Made::Before);
            }
            let error = format!("{} is not empty; nothing was changed", dir.display());
            Err(Failure::new(Kind::Error, error).hint("name a new directory"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(dir).map_err(|error| failed(&error))?;
            Ok(Made::Now)
        }
        Err(error) => Err(failed(&error)),
    }
}

/// Takes back what a failed attempt made, so that another one can follow. The directory was empty.
fn undo(dir: &Path, made: Made) {
    for name in [BARE, CLONE] {
        let _ = fs::remove_dir_all(dir.join(name));
    }
    let _ = fs::remove_file(dir.join(SETTINGS));
    if let Made::Now = made {
        let _ = fs::remove_dir(dir);
    }
}

fn fill(dir: &Path) -> Result<(), Failure> {
    let ours = |error: &dyn std::error::Error| Failure::of(Kind::Error, error);
    let branch = Branch::parse("main").map_err(|error| ours(&error))?;
    let program = Program::default();
    let (bare, clone) = (dir.join(BARE), dir.join(CLONE));
    let author = match program.identity(dir) {
        Some(author) => author,
        None => login().map_or_else(|_| Identity::towpath(), |name| Identity::person(&name)),
    };
    Repository::init_bare(&bare, &branch).map_err(|error| of_git(&error))?;
    first_commit(&bare, &branch, &author)?;
    program.clone_beside(dir, BARE, CLONE).map_err(|error| of_git(&error))?;
    if program.identity(&clone).is_none() {
        // Or git would refuse the first commit.
        program.set_identity(&clone, &author).map_err(|error| of_git(&error))?;
    }
    let settings = dir.join(SETTINGS);
    fs::write(&settings, SETTINGS_TEXT).map_err(|error| {
        Failure::new(Kind::Error, format!("writing {}: {error}", settings.display()))
    })
}

fn first_commit(bare: &Path, branch: &Branch, author: &Identity) -> Result<(), Failure> {
    let mut edits = Vec::new();
    for (path, text) in minimal() {
        let path = RepoPath::parse(path).map_err(|error| Failure::of(Kind::Error, &error))?;
        edits.push((path, Some(text.as_bytes().to_vec())));
    }
    let write = || -> Result<(), git::Error> {
        let repository =
            Repository::open(&Location::local(bare), Path::new(""), Program::default())?;
        let first = repository.commit(&Commit {
            parent: None,
            edits: &edits,
            message: "A config to start from",
            author,
            committer: author,
            at: clock::now(),
        })?;
        repository.update(&[Update { name: branch.name(), old: None, new: Some(first) }])
    };
    write().map_err(|error| of_git(&error))
}

fn tell(dir: &Path, ui: &Ui) {
    let here = dir == Path::new(".");
    let clone = if here { CLONE.to_owned() } else { quoted(&dir.join(CLONE)) };
    let go = if here { String::new() } else { format!("cd {} && ", quoted(dir)) };
    let dir = if here { "This directory".to_owned() } else { quoted(dir) };
    let strong = |text: String| ui.paint(Tone::Strong, text);
    ui.result(format_args!("{dir} is ready:"));
    ui.table(
        &[
            [BARE, "the config repo that Towpath watches"],
            [CLONE, "your clone of it: edit, commit, push"],
            [SETTINGS, "settings of the controller"],
        ]
        .map(|[name, what]| {
            vec![(Tone::Strong, format!("  {name}")), (Tone::Plain, what.to_owned())]
        }),
    );
    ui.result("");
    ui.result("Start the controller:");
    ui.result(strong(format!("  {go}towpath run")));
    ui.result("");
    ui.result("Then, in another terminal, release 1.1.0 to staging and watch it travel:");
    ui.result(strong(format!("  cd {clone}")));
    ui.result(strong("  towpath edit services/hello.yaml /targets/staging/ref 1.1.0".to_owned()));
    ui.result(strong("  git commit -am 'hello 1.1.0 to staging' && git push".to_owned()));
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
    if text.starts_with(|c| c != '-') && text.chars().all(plain) {
        return text.into_owned();
    }
    let text = text.replace('\'', r"'\''");
    format!("'{text}'")
}
