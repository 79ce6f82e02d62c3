//! Repositories elsewhere: one `ls-remote` per look, a fetch only if something moved, and pushes that
//! name what they expect to find.

use std::collections::BTreeMap;

use super::names::{OUR_BRANCHES, OUR_REFS};
use super::refs::settle;
use super::repository::revision;
use super::{Branch, Error, RefName, Repository, Update, Url};
use crate::model::Revision;

/// Where the heads of people's merge requests are kept in a mirror; nobody else looks there.
const GUESTS: &str = "refs/guests/";

/// What a remote holds of what we care about.
type Refs = BTreeMap<RefName, Revision>;

impl Repository {
    /// Looks where the branch is now. Of a mirror, one question to the remote, and a fetch of the
    /// branch and of all refs of ours if any of them moved.
    pub fn poll(&self, branch: &Branch) -> Result<Revision, Error> {
        let Some(url) = &self.remote else { return self.head(branch) };
        let theirs = self.ask(url, branch)?;
        let head = *theirs
            .get(&branch.name())
            .ok_or_else(|| Error::NoBranch { branch: branch.clone() })?;
        if self.mirrored(branch)? != theirs {
            self.fetch(url, branch)?;
            return self.head(branch);
        }
        Ok(head)
    }

    fn mirrored(&self, branch: &Branch) -> Result<Refs, Error> {
        let mut refs: Refs = BTreeMap::new();
        refs.extend(self.find(&branch.name())?.map(|head| (branch.name(), head)));
        refs.extend(self.refs_under(OUR_BRANCHES)?);
        refs.extend(self.refs_under(OUR_REFS)?);
        Ok(refs)
    }

    fn ask(&self, url: &Url, branch: &Branch) -> Result<Refs, Error> {
        self.list(
            url,
            &[branch.name().to_string(), format!("{OUR_BRANCHES}*"), format!("{OUR_REFS}*")],
        )
    }

    fn list(&self, url: &Url, patterns: &[String]) -> Result<Refs, Error> {
        let mut args = vec!["--refs".to_owned(), "--".to_owned(), url.secret().to_owned()];
        args.extend(patterns.iter().cloned());
        let ended = self.program.run(self.directory(), "ls-remote", &args, b"")?;
        if !ended.success {
            return Err(said(url, "ls-remote", &ended.complaint));
        }
        let text = String::from_utf8(ended.stdout)
            .map_err(|_| said(url, "ls-remote", "the answer is not text"))?;
        let mut refs = BTreeMap::new();
        for line in text.lines() {
            let (id, name) = line
                .split_once('\t')
                .ok_or_else(|| said(url, "ls-remote", "the answer is not a list of refs"))?;
            let id = Revision::parse(id).map_err(|_| {
                said(url, "ls-remote", "the answer holds something else than SHA-1 ids")
            })?;
            // Patterns match the ends of names as well: `refs/heads/refs/heads/main` is not ours.
            let asked = |pattern: &String| match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == pattern,
            };
            if let Some(name) = RefName::existing(name).filter(|_| patterns.iter().any(asked)) {
                refs.insert(name, id);
            }
        }
        Ok(refs)
    }

    fn fetch(&self, url: &Url, branch: &Branch) -> Result<(), Error> {
        let mut args = [
            "--quiet",
            "--atomic",
            "--prune",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--force",
            "--",
        ]
        .map(str::to_owned)
        .to_vec();
        args.push(url.secret().to_owned());
        let name = branch.name();
        args.push(format!("+{name}:{name}"));
        args.push(format!("+{OUR_BRANCHES}*:{OUR_BRANCHES}*"));
        args.push(format!("+{OUR_REFS}*:{OUR_REFS}*"));
        let ended = self.program.run(self.directory(), "fetch", &args, b"")?;
        if ended.success { Ok(()) } else { Err(said(url, "fetch", &ended.complaint)) }
    }

    /// Brings the commits of one ref of the server here, whatever its name: of a merge request from a fork, say. Of a
    /// repository that is no mirror they are there already.
    pub fn bring(&self, name: &str, number: u64) -> Result<Option<Revision>, Error> {
        let Some(url) = &self.remote else {
            return match self.git.refname_to_id(name) {
                Ok(id) => revision(id).map(Some),
                Err(_) => Ok(None),
            };
        };
        let here = format!("{GUESTS}{number}");
        let mut args = ["--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"]
            .map(str::to_owned)
            .to_vec();
        args.extend(["--no-auto-maintenance", "--force", "--"].map(str::to_owned));
        args.extend([url.secret().to_owned(), format!("+{name}:{here}")]);
        let ended = self.program.run(self.directory(), "fetch", &args, b"")?;
        if !ended.success {
            return Err(said(url, "fetch", &ended.complaint));
        }
        match self.git.refname_to_id(&here) {
            Ok(id) => revision(id).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Pushes all updates or none; then moves the mirror's refs along.
    pub(super) fn push(&self, url: &Url, updates: &[Update]) -> Result<(), Error> {
        let mut args = ["--quiet", "--porcelain", "--atomic", "--no-verify", "--no-follow-tags"]
            .map(str::to_owned)
            .to_vec();
        args.push("--recurse-submodules=no".to_owned());
        for Update { name, old, .. } in updates {
            let old = old.map_or_else(String::new, |it| it.to_string());
            args.push(format!("--force-with-lease={name}:{old}"));
        }
        args.extend(["--".to_owned(), url.secret().to_owned()]);
        for Update { name, new, .. } in updates {
            let new = new.map_or_else(String::new, |it| it.to_string());
            args.push(format!("{new}:{name}"));
        }
        let ended = self.program.run(self.directory(), "push", &args, b"");
        if !matches!(&ended, Ok(ended) if ended.success) {
            // A lost answer is not a "no": look where the refs are.
            let names: Vec<String> = updates.iter().map(|it| it.name.to_string()).collect();
            let theirs = self.list(url, &names)?;
            let complaint = match &ended {
                Ok(ended) => ended.complaint.clone(),
                Err(error) => error.to_string(),
            };
            settle(
                updates,
                |name| Ok(theirs.get(name).copied()),
                || said(url, "push", &complaint),
            )?;
        }
        self.follow(updates);
        Ok(())
    }

    /// Moves the mirror's refs where the push has put the remote's. If that fails, the next poll does it.
    fn follow(&self, updates: &[Update]) {
        let here = |update: &Update| {
            let old = self.find(&update.name).ok()?;
            Some(Update { name: update.name.clone(), old, new: update.new })
        };
        let moves: Option<Vec<Update>> = updates.iter().map(here).collect();
        if let Some(moves) = moves {
            let moves: Vec<Update> = moves.into_iter().filter(|it| it.old != it.new).collect();
            let _ = self.swap(&moves);
        }
    }
}

fn said(url: &Url, verb: &'static str, text: &str) -> Error {
    Error::Child { verb, said: url.scrub(text) }
}
