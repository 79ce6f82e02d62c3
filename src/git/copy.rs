//! A copy of a config repo that is used in place, for the time when that is gone or cannot be read: a mirror says what
//! a repository elsewhere said last, and of one on this machine nothing else would.
//!
//! Invariant: a copy is looked into only while the repository itself cannot be. What is written goes to its place, and
//! fails as long as nothing is there.

use std::path::Path;

use super::names::GLASSES;
use super::repository::place_of;
use super::{Branch, Error, Location, Program, Repository, Update, Url};

/// Of which repository a copy is read meanwhile, and by which branch it is told that it is back.
pub(super) struct Original {
    at: Location,
    branch: Branch,
}

impl Original {
    /// Whether it can be read again.
    pub(super) fn is_back(&self, program: &Program) -> bool {
        // Of a repository in place no mirror is made.
        let opened = Repository::open(&self.at, Path::new(""), program.clone());
        opened.is_ok_and(|it| it.is_readable(&self.branch))
    }
}

impl Repository {
    /// Opens a repository as [`Repository::open`] does. Where it is on this machine and cannot be read now, this is the
    /// copy that was kept of it, as a mirror of what is not there: it answers as of the last look, and every poll says
    /// what is wrong. Without a copy the error is the repository's own.
    pub fn open_or_copy(
        location: &Location,
        branch: &Branch,
        mirrors: &Path,
        program: Program,
    ) -> Result<Self, Error> {
        let opened = Self::open(location, mirrors, program.clone());
        let copy = kept_as(location, mirrors)
            .and_then(|url| Self::open_there(url, mirrors, program).ok().flatten());
        let Some(mut copy) = copy.filter(|it| it.is_readable(branch)) else { return opened };
        if let Ok(repository) = &opened
            && repository.is_readable(branch)
        {
            // What fails is done when it is opened the next time; until then what is missing is named where it is read.
            let _ = repository.take_back(&copy);
            return opened;
        }
        copy.original = Some(Original { at: location.clone(), branch: branch.clone() });
        Ok(copy)
    }

    /// Whether this is a copy of what cannot be read.
    pub fn is_stand_in(&self) -> bool {
        self.original.is_some()
    }

    /// Brings the copy of a repository in place to what that holds of ours and of the branch. Cheap where nothing moved.
    pub fn keep_copy(
        &self,
        location: &Location,
        branch: &Branch,
        mirrors: &Path,
    ) -> Result<(), Error> {
        let Some(url) = kept_as(location, mirrors).filter(|_| !self.is_mirror()) else {
            return Ok(());
        };
        let there = Self::open_there(url.clone(), mirrors, self.program.clone())?;
        let is_it = |copy: &Self| Ok::<_, Error>(copy.mirrored(branch)? == self.mirrored(branch)?);
        if there.as_ref().map(is_it).transpose()? == Some(true) {
            return Ok(());
        }
        Self::open(&Location::Remote(url), mirrors, self.program.clone())?.poll(branch).map(drop)
    }

    /// Takes what was kept in the copy while that stood in, and is nowhere else: commits of rollbacks that the branch
    /// did not have.
    fn take_back(&self, copy: &Self) -> Result<(), Error> {
        let kept = copy.refs_under(GLASSES)?;
        if kept.is_empty() {
            return Ok(());
        }
        let options = ["--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"];
        let mut args = options.map(str::to_owned).to_vec();
        args.extend(["--".to_owned(), copy.directory().display().to_string()]);
        args.push(format!("+{GLASSES}*:{GLASSES}*"));
        let ended = self.program.run(self.directory(), "fetch", &args, b"")?;
        if !ended.success {
            return Err(Error::Child { verb: "fetch", said: ended.complaint });
        }
        let gone = |(name, old)| Update { name, old: Some(old), new: None };
        copy.swap(&kept.into_iter().map(gone).collect::<Vec<_>>())
    }

    fn is_readable(&self, branch: &Branch) -> bool {
        self.head(branch).and_then(|head| self.tree_at(head).map(drop)).is_ok()
    }

    /// The copy, if it was ever made.
    fn open_there(url: Url, mirrors: &Path, program: Program) -> Result<Option<Self>, Error> {
        let path = place_of(&url, mirrors);
        if !path.join("HEAD").exists() {
            return Ok(None);
        }
        let location = Location::Remote(url.clone());
        Self::at(&location, &path, Some(url), program).map(Some)
    }
}

/// As what git is asked for a repository in place; nothing where no copy can be kept.
fn kept_as(location: &Location, mirrors: &Path) -> Option<Url> {
    match location {
        Location::Local(path) if !mirrors.as_os_str().is_empty() => Url::of_path(path),
        Location::Local(_) | Location::Remote(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bare, branch, program};
    use super::super::tests::{AT, commit};
    use super::*;

    #[test]
    fn a_copy_answers_while_the_repository_cannot_be_read_and_no_longer() {
        let (bare, mirrors) = (Bare::with(&[("a.yaml", "a")]), tempfile::tempdir().unwrap());
        let (main, here) = (branch("main"), Location::local(bare.path()));
        let open = |main: &Branch| Repository::open_or_copy(&here, main, mirrors.path(), program());
        let away = bare.path().join("HEAD.away");
        let take = || std::fs::rename(bare.path().join("HEAD"), &away).unwrap();
        let put_back = || std::fs::rename(&away, bare.path().join("HEAD")).unwrap();
        // Nobody has seen it before: that is an error of its own.
        take();
        assert!(matches!(open(&main), Err(Error::NoRepository { .. })));
        put_back();
        let keep = |it: &Repository| it.keep_copy(&here, &main, mirrors.path()).unwrap();
        keep(&open(&main).unwrap());
        let head = bare.push("main", &[("b.yaml", "b")]);
        let ours = bare.push("towpath/records", &[("r", "r")]);
        let repository = open(&main).unwrap();
        assert!(!repository.is_stand_in() && !repository.is_mirror());
        keep(&repository);
        take();
        let copy = open(&main).unwrap();
        assert!(copy.is_stand_in() && copy.is_mirror() && copy.is_in_place());
        assert_eq!(copy.head(&main).unwrap(), head);
        assert_eq!(copy.head(&branch("towpath/records")).unwrap(), ours);
        // Every look says what is wrong, and nothing is written but to where it belongs.
        let error = copy.poll(&main).unwrap_err();
        assert_eq!(error.fault(), super::super::Fault::Later, "{error}");
        let tag =
            Update { name: super::super::RefName::merge_request(1), old: None, new: Some(head) };
        assert!(copy.update(std::slice::from_ref(&tag)).is_err());
        assert_eq!(copy.find(&tag.name).unwrap(), None);
        // What it keeps itself goes along when the repository is back.
        let target = crate::model::Target::new(
            &crate::model::ServiceName::parse("shop").unwrap(),
            &crate::model::EnvironmentName::parse("staging").unwrap(),
        );
        let glass = super::super::RefName::glass(&target, AT);
        let made = commit(&copy, head, &[("a.yaml", Some("as before"))]);
        copy.keep(&glass, made).unwrap();
        put_back();
        assert!(!copy.is_in_place(), "it is back");
        let repository = open(&main).unwrap();
        assert!(!repository.is_stand_in());
        assert_eq!(repository.find(&glass).unwrap(), Some(made));
        assert!(repository.descends(made, head).unwrap(), "it can be read");
        assert_eq!(copy.find(&glass).unwrap(), None, "it does not come back when it is over");
        // A branch that is gone is no empty one.
        bare.git(&["update-ref", "-d", "refs/heads/main"]);
        let copy = open(&main).unwrap();
        assert!(copy.is_stand_in());
        assert!(matches!(copy.poll(&main), Err(Error::NoBranch { .. })));
        assert_eq!(copy.head(&main).unwrap(), head);
        assert!(!open(&branch("other")).unwrap().is_stand_in(), "of that nothing was ever seen");
    }
}
