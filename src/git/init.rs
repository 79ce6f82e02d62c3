//! Makes a config repo to start from: a bare repository, and a clone of it for a person to work in.

use std::path::Path;

use super::{Branch, Error, Identity, Program, Repository};

impl Repository {
    /// Makes an empty bare repository whose only branch will be `branch`. Nothing of the user's git
    /// settings goes into it: no hooks, no templates.
    pub fn init_bare(path: &Path, branch: &Branch) -> Result<(), Error> {
        let mut options = git2::RepositoryInitOptions::new();
        options.bare(true).no_reinit(true).external_template(false).initial_head(branch.as_str());
        let failed = |source| Error::Open { location: path.display().to_string(), source };
        git2::Repository::init_opts(path, &options).map(drop).map_err(failed)
    }
}

impl Program {
    /// Clones `from` to `to`, two names in `directory`. The clone finds its origin by a relative
    /// path, so that both may be moved together.
    pub fn clone_beside(&self, directory: &Path, from: &str, to: &str) -> Result<(), Error> {
        self.run_in(directory, "clone", &["--quiet", "--origin", "origin", "--", from, to])?;
        let origin = format!("../{from}");
        self.run_in(&directory.join(to), "config", &["remote.origin.url", &origin]).map(drop)
    }

    /// Who commits in a clone according to git's settings; `None` if they do not say.
    pub fn identity(&self, clone: &Path) -> Option<Identity> {
        let ask = |key| self.run_in(clone, "config", &["--get", key]).ok();
        Identity::new(&ask("user.name")?, &ask("user.email")?).ok()
    }

    /// Says in a clone's own settings who commits there.
    pub fn set_identity(&self, clone: &Path, identity: &Identity) -> Result<(), Error> {
        self.run_in(clone, "config", &["user.name", identity.name()])?;
        self.run_in(clone, "config", &["user.email", identity.email()]).map(drop)
    }
}
