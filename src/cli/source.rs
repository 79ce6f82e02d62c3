//! Where a verb reads: the config repo that the settings name, or one given by hand. No controller
//! needs to run.

use std::path::{Path, PathBuf};

use crate::controller::Setup;
use crate::drivers::local_forge::LocalForge;
use crate::git::{self, Branch, Fault, Identity, Location, Program, Repository};

use super::run::setup;
use super::{Common, Failure, Kind};

/// Which config repo.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct At {
    /// Read this repository instead of the one that the settings name
    #[arg(long, value_name = "PATH", global = true)]
    pub repository: Option<PathBuf>,

    /// The branch that says what is wanted, where it is not the settings' one
    #[arg(long, value_name = "NAME", global = true, value_parser = Branch::parse)]
    pub branch: Option<Branch>,
}

/// A config repo, opened.
pub(super) struct Source {
    /// Objects and refs.
    pub repository: Repository,
    /// The branch that says what is wanted.
    pub branch: Branch,
    location: Location,
    mirrors: PathBuf,
    /// Where people find merge requests, if not here.
    hosted: Option<(&'static str, String)>,
}

impl At {
    /// Opens what is meant.
    pub(super) fn open(&self, common: &Common) -> Result<Source, Failure> {
        let Self { repository, branch } = self;
        let mut source = match repository {
            Some(path) => Source::local(path)?,
            None => Source::of(&setup(common)?)?,
        };
        if let Some(branch) = branch {
            source.branch = branch.clone();
        }
        Ok(source)
    }
}

impl Source {
    /// The config repo of a controller. A remote one is looked at first; if that fails, its mirror
    /// still answers as of the last look.
    pub(super) fn of(setup: &Setup) -> Result<Self, Failure> {
        let source = Self {
            repository: setup.open_repository().map_err(|error| super::run::failure(&error))?,
            branch: setup.branch.clone(),
            location: setup.repository.clone(),
            mirrors: setup.state.join("mirrors"),
            hosted: setup.forge.as_ref().map(|it| (it.name(), it.web_url())),
        };
        if source.repository.is_mirror()
            && let Err(error) = source.repository.poll(&source.branch)
        {
            if !matches!(source.repository.find(&source.branch.name()), Ok(Some(_))) {
                return Err(of_git(&error));
            }
            let error = crate::telemetry::chain(&error);
            tracing::warn!(error, "cannot look at the repository now; this is what it said last");
        }
        Ok(source)
    }

    /// A repository of this machine: bare, or a working tree's root.
    pub(super) fn local(path: &Path) -> Result<Self, Failure> {
        let branch = Branch::parse("main").map_err(|error| Failure::of(Kind::Error, &error))?;
        Self::at(Location::local(path), branch, PathBuf::new())
    }

    /// The merge requests against the branch, which must be there.
    pub(super) fn forge(&self) -> Result<LocalForge, Failure> {
        if let Some((name, url)) = &self.hosted {
            let error = format!("the merge requests are on {name}");
            return Err(Failure::new(Kind::Error, error).hint(format!("see {url}")));
        }
        self.repository.head(&self.branch).map_err(|error| of_git(&error))?;
        let Self { location, branch, mirrors, .. } = self;
        let repository = Repository::open_or_copy(location, branch, mirrors, Program::default());
        let repository = repository.map_err(|error| of_git(&error))?;
        Ok(LocalForge::new(repository, self.branch.clone(), Identity::towpath()))
    }

    /// For people, without credentials.
    pub(super) fn name(&self) -> String {
        self.location.to_string()
    }

    fn at(location: Location, branch: Branch, mirrors: PathBuf) -> Result<Self, Failure> {
        let repository = Repository::open(&location, &mirrors, Program::default());
        let repository = repository.map_err(|error| of_git(&error))?;
        Ok(Self { repository, branch, location, mirrors, hosted: None })
    }
}

/// An error of git for people.
pub(super) fn of_git(error: &git::Error) -> Failure {
    let kind = match error.fault() {
        Fault::Later => Kind::TryAgain,
        Fault::Refused | Fault::Ours => Kind::Error,
    };
    let failure = Failure::of(kind, error);
    match (error, error.hint()) {
        (git::Error::NoRepository { .. }, _) => {
            failure.hint("give the path of a bare repository, or of a clone's top directory")
        }
        (_, Some(hint)) => failure.hint(hint),
        (_, None) => failure,
    }
}
