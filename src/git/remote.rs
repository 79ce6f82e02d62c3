//! Repositories elsewhere: one `ls-remote` per look, a fetch only if something moved, and pushes that
//! name what they expect to find.

use std::collections::BTreeMap;

use super::names::{OUR_BRANCHES, OUR_REFS};
use super::refs::settle;
use super::{Branch, Error, RefName, Repository, Update, Url};
use crate::model::Revision;

/// What a remote holds of what we care about.
type Refs = BTreeMap<RefName, Revision>;

/// How often one looks again who fetched at the same time as another of us into the same mirror: each of our workers looks
/// for itself, and so does `towpath plan`.
const MET_MAX: u32 = 4;

/// Whether a fetch found a ref moved, or locked, by another one.
fn met_another(error: &Error) -> bool {
    matches!(error, Error::Child { said, .. } if said.contains("cannot lock ref"))
}

impl Repository {
    /// Looks where the branch is now. Of a mirror, one question to the remote, and a fetch of the
    /// branch and of all refs of ours if any of them moved.
    pub fn poll(&self, branch: &Branch) -> Result<Revision, Error> {
        let Some(url) = &self.remote else { return self.head(branch) };
        let mut left = MET_MAX;
        loop {
            let theirs = self.ask(url, branch)?;
            let head = *theirs
                .get(&branch.name())
                .ok_or_else(|| Error::NoBranch { branch: branch.clone() })?;
            if self.mirrored(branch)? == theirs {
                return Ok(head);
            }
            match self.fetch(url, branch) {
                Ok(()) => return self.head(branch),
                // What that one brings need not be brought again.
                Err(error) if left > 0 && met_another(&error) => left -= 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// What is here of what we care about.
    pub(super) fn mirrored(&self, branch: &Branch) -> Result<Refs, Error> {
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

pub(super) fn said(url: &Url, verb: &'static str, text: &str) -> Error {
    let mut said = url.scrub(text);
    if let Some(advice) = advice(verb, text) {
        said.push_str("; ");
        said.push_str(advice);
    }
    Error::Child { verb, said }
}

/// What to do where a forge knows the token and does not let it, or does not know it: git says only a number.
fn advice(verb: &str, text: &str) -> Option<&'static str> {
    if text.contains("returned error: 403") {
        return Some(if verb == "push" {
            "the token, or its user, may not write there: it needs the role Developer and the scope `api` or \
             `write_repository` on GitLab, the role Write and write for contents on GitHub, the right to write code and \
             `write:repository` on Gitea and Forgejo"
        } else {
            "the token, or its user, may not read there: it needs the scope `api` or `read_repository` on GitLab, \
             read for contents on GitHub, `read:repository` on Gitea and Forgejo"
        });
    }
    let unknown = text.contains("Authentication failed") || text.contains("returned error: 401");
    unknown.then_some("the token is not accepted: it is missing, wrong, expired or revoked")
}

#[cfg(test)]
mod tests {
    use super::advice;

    #[test]
    fn what_a_forge_refuses_says_what_is_missing() {
        // As a Gitea answers, and a GitLab.
        let gitea = "remote: Forbidden; fatal: unable to access 'https://x/c.git/': The requested URL returned error: 403";
        assert!(advice("push", gitea).is_some_and(|it| it.contains("write:repository")));
        assert!(advice("fetch", gitea).is_some_and(|it| it.contains("read:repository")));
        let wrong = "remote: Verify; fatal: Authentication failed for 'https://x/c.git/'";
        assert!(advice("ls-remote", wrong).is_some_and(|it| it.contains("not accepted")));
        for other in
            ["fatal: unable to access: Could not resolve host", "! [remote rejected] stale info"]
        {
            assert_eq!(advice("push", other), None, "{other}");
        }
    }
}
