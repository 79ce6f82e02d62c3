//! Which file means what, and reading one of them: bytes → raw record and all that is wrong with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{EnvironmentName, PipelineName, RecipeName, RepoPath, ServiceName};
use crate::text::{self, Diagnostic, closest};

use super::place::{At, Finding, Places};
use super::raw;
use super::reader::{Read, Reader};

/// What stands at a path of the config repo at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A regular file.
    Bytes(Vec<u8>),
    /// A symbolic link. It is never followed.
    Symlink,
    /// A commit of another repository. It is never entered.
    Submodule,
    /// A file that was not read because of its size.
    TooLarge {
        /// Its bytes.
        size: u64,
    },
    /// A path that is no UTF-8, or leaves the repository; `path` shows it as well as can be.
    BadPath,
    /// Nothing any more.
    Gone,
}

/// A file of the config repo that is there, or has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its path in the repository.
    pub path: String,
    /// What is there now.
    pub content: Content,
}

/// Where a path belongs.
pub(super) enum Seat {
    /// `towpath.yaml`.
    Root,
    /// A file in `environments/`.
    Environment(EnvironmentName),
    /// A file in `recipes/`.
    Recipe(RecipeName),
    /// A file in `pipelines/`.
    Pipeline(PipelineName),
    /// A file under `services/`.
    Service(ServiceName),
    /// What should be a directory of our files.
    Directory,
    /// Among our files, but none of them.
    Stray {
        /// What is wrong.
        message: String,
        /// How to mend it.
        hint: String,
    },
    /// None of our business.
    Elsewhere,
}

/// The root's path.
pub(super) const ROOT: &str = "towpath.yaml";

/// The directories of all other files.
pub(super) const DIRECTORIES: [&str; 4] = ["environments", "recipes", "pipelines", "services"];

/// Says where a path belongs.
pub(super) fn seat(path: &str) -> Seat {
    let stray = |message: &str, hint: String| Seat::Stray { message: message.to_owned(), hint };
    if path == ROOT {
        return Seat::Root;
    }
    if path == "towpath.yml" {
        return stray("the root file has another name", format!("rename it to {ROOT}"));
    }
    let Some((directory, rest)) = path.split_once('/') else {
        return if DIRECTORIES.contains(&path) { Seat::Directory } else { Seat::Elsewhere };
    };
    if !DIRECTORIES.contains(&directory) {
        return Seat::Elsewhere;
    }
    let file = rest.rsplit('/').next().unwrap_or(rest);
    let Some(stem) = file.strip_suffix(".yaml") else {
        return match file.strip_suffix(".yml") {
            Some(stem) => {
                stray("the file's name does not end in .yaml", format!("rename it to {stem}.yaml"))
            }
            None => Seat::Elsewhere,
        };
    };
    if directory != "services" && rest.contains('/') {
        return stray("the file lies too deep", format!("move it to {directory}/{file}"));
    }
    let seat = match directory {
        "environments" => EnvironmentName::parse(stem).map(Seat::Environment),
        "recipes" => RecipeName::parse(stem).map(Seat::Recipe),
        "pipelines" => PipelineName::parse(stem).map(Seat::Pipeline),
        _ => ServiceName::parse(stem).map(Seat::Service),
    };
    seat.unwrap_or_else(|bad| {
        let message: String = bad.to_string().chars().take(300).collect();
        stray(&message, "the name of the file is the name of what it describes".to_owned())
    })
}

/// One file, read.
#[derive(Clone, Debug)]
pub(super) struct File<T> {
    /// Its path.
    pub(super) path: RepoPath,
    /// What it says, if nothing at all was wrong with it.
    pub(super) raw: Option<Arc<T>>,
    /// What it refers to, if something was wrong with it, but not with its syntax.
    pub(super) mentions: Option<Arc<raw::Mentions>>,
    /// What is wrong with it.
    pub(super) found: Vec<Finding>,
}

/// All files but the services.
#[derive(Clone, Debug, Default)]
pub(super) struct Commons {
    /// `towpath.yaml`.
    pub(super) root: Option<File<raw::Root>>,
    /// Links and submodules that stand where our directories should be. What they hide is not
    /// gone, so they break the root.
    pub(super) obstacles: BTreeMap<String, Finding>,
    /// By name.
    pub(super) environments: BTreeMap<EnvironmentName, File<raw::Environment>>,
    /// By name.
    pub(super) recipes: BTreeMap<RecipeName, File<raw::Recipe>>,
    /// By name.
    pub(super) pipelines: BTreeMap<PipelineName, File<raw::Pipeline>>,
}

/// A record that says its own name, which must be that of its file.
pub(super) trait Titled: Read {
    /// The key, and what it says; nothing for the root.
    fn title(&self) -> Option<(&'static str, At<&str>)>;
}

impl Titled for raw::Root {
    fn title(&self) -> Option<(&'static str, At<&str>)> {
        None
    }
}

macro_rules! titled {
    ($($ty:ty, $key:literal;)+) => { $(
        impl Titled for $ty {
            fn title(&self) -> Option<(&'static str, At<&str>)> {
                Some(($key, At { value: self.name.value.as_str(), place: self.name.place }))
            }
        }
    )+ };
}

titled! {
    raw::Environment, "environment";
    raw::Recipe, "recipe";
    raw::Pipeline, "pipeline";
    raw::Service, "service";
}

/// Reads a file; `None` if it is gone.
pub(super) fn read<T: Titled>(path: &RepoPath, content: &Content) -> Option<File<T>> {
    let bytes = match content {
        Content::Gone => return None,
        Content::Bytes(bytes) => bytes,
        Content::Symlink | Content::Submodule | Content::TooLarge { .. } | Content::BadPath => {
            let found = refuse(path.as_str(), content).into_iter().collect();
            return Some(File { path: path.clone(), raw: None, mentions: None, found });
        }
    };
    let document = match text::parse(path.as_str(), bytes) {
        Ok(document) => document,
        Err(problems) => {
            let found = located(problems, beginning(bytes));
            return Some(File { path: path.clone(), raw: None, mentions: None, found });
        }
    };
    let mut reader = Reader::new(path.as_str(), document.text);
    let raw = T::read(&document.root, &mut reader);
    let mut found = reader.finish();
    let stem = path.as_str().rsplit('/').next().and_then(|it| it.strip_suffix(".yaml"));
    if let Some((key, title)) = raw.as_ref().and_then(Titled::title)
        && stem != Some(title.value)
    {
        let message = format!(
            "the file is named {}.yaml, but says `{key}: {}`",
            stem.unwrap_or_default(),
            title.value
        );
        let hint = format!("write `{key}: {}`, or rename the file", stem.unwrap_or_default());
        let diagnostic = Diagnostic::error(path.as_str(), "name-mismatch", message).hint(hint);
        found.push(Finding::at(diagnostic, title.place));
    }
    let raw = if found.is_empty() { raw.map(Arc::new) } else { None };
    let mentions = raw.is_none().then(|| Arc::new(raw::Mentions::read(path.as_str(), &document)));
    Some(File { path: path.clone(), raw, mentions, found })
}

/// Why what stands at a path is no file that we read; nothing if it may be one.
pub(super) fn refuse(path: &str, content: &Content) -> Option<Finding> {
    let (code, message, hint) = match content {
        Content::Bytes(_) | Content::Gone => return None,
        Content::Symlink => (
            "symlink",
            "this is a symbolic link".to_owned(),
            "put the file itself here; links are not followed",
        ),
        Content::Submodule => (
            "submodule",
            "this is a submodule".to_owned(),
            "put the files themselves here; submodules are not entered",
        ),
        Content::TooLarge { size } => (
            "too-large",
            format!("the file has {size} bytes, at most {} are read", text::FILE_BYTES_MAX),
            "split it: one file per service or environment",
        ),
        Content::BadPath => (
            "bad-path",
            "this is no path inside the repository".to_owned(),
            "use UTF-8, and no `..`",
        ),
    };
    Some(Finding::whole(Diagnostic::error(path, code, message).hint(hint)))
}

/// The text up to the first byte that is none.
fn beginning(bytes: &[u8]) -> &str {
    bytes.utf8_chunks().next().map_or("", |it| it.valid())
}

/// Gives line and column to the problems of a text.
fn located(problems: Vec<Diagnostic>, text: &str) -> Vec<Finding> {
    let mut places = Places::new(text);
    let found = problems.into_iter().map(|problem| match problem.span.clone() {
        Some(span) => {
            let place = places.of(&span);
            Finding::at(problem, place)
        }
        None => Finding::whole(problem),
    });
    found.collect()
}

/// Collects what is wrong with a file beyond its own text.
pub(super) struct Notes<'a> {
    file: &'a str,
    found: Vec<Finding>,
}

/// Most findings of one file's meaning; nobody reads more, and each costs memory.
const NOTES_MAX: usize = 64;

impl<'a> Notes<'a> {
    /// Begins with a file.
    pub(super) fn new(file: &'a str) -> Self {
        Self { file, found: Vec::new() }
    }

    /// Notes what makes the file unusable.
    pub(super) fn error(
        &mut self,
        at: super::place::Place,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(Diagnostic::error(self.file, code, message), at, hint.into());
    }

    /// Notes what is probably not meant.
    pub(super) fn warning(
        &mut self,
        at: super::place::Place,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(Diagnostic::warning(self.file, code, message), at, hint.into());
    }

    /// Notes a name that is not known.
    pub(super) fn unknown<'n>(
        &mut self,
        at: super::place::Place,
        what: &str,
        name: &str,
        known: impl Iterator<Item = &'n str>,
    ) {
        /// Names that are compared for a suggestion; each costs a little.
        const COMPARED_MAX: usize = 1000;
        let known: Vec<&str> = known.take(COMPARED_MAX).collect();
        let hint = match closest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() || known.len() > 12 => String::new(),
            None => format!("known: {}", known.join(", ")),
        };
        self.error(at, "unknown-name", format!("{what} `{name}` is not known"), hint);
    }

    fn push(&mut self, diagnostic: Diagnostic, at: super::place::Place, hint: String) {
        if self.found.len() < NOTES_MAX {
            let diagnostic = if hint.is_empty() { diagnostic } else { diagnostic.hint(hint) };
            self.found.push(Finding::at(diagnostic, at));
        }
    }

    /// All that was noted.
    pub(super) fn finish(self) -> Vec<Finding> {
        self.found
    }
}
