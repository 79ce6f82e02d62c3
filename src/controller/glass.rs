//! Rollbacks without the config branch (`rollback --break-glass`): their commits are made here, on what is known of the
//! branch, are in force at once, and reach the branch when it can be written again.
//!
//! The journal is what counts: the commits are made from it anew at every look, on whatever the branch has come
//! to, and are the same ones each time. So nothing is lost when we die, and no fetch undoes what a person did.

use std::collections::BTreeMap;

use crate::config::Loaded;
use crate::git::{self, Branch, Commit, Identity, RefName, Repository, Update};
use crate::model::{Ref, RepoPath, Revision, Target, Timestamp};
use crate::observe::Mending;
use crate::rollout::{Glass, Ledger};
use crate::telemetry::chain;
use crate::text::{self, Pointer, Value};

use super::files::{changes_between, pointer, refused};
use super::wake::Head;

/// The branch as it is, if it can be reached, and the rollbacks that it lacks on top of it.
pub(super) fn head(
    repository: &Repository,
    base: &Branch,
    applied: Option<Revision>,
    glasses: &[Glass],
    push: bool,
) -> Result<Head, git::Error> {
    let polled = repository.poll(base);
    let (beneath, trouble) = match polled {
        Ok(revision) => (revision, None),
        Err(error) if glasses.is_empty() => return Err(error),
        Err(error) => (repository.head(base)?, Some(format!("cannot reach it: {}", chain(&error)))),
    };
    let descends = match applied {
        Some(applied) => repository.descends(beneath, applied)?,
        None => true,
    };
    if glasses.is_empty() {
        return Ok(Head::plain(beneath, descends));
    }
    let trouble = trouble.or_else(|| {
        (!descends).then(|| {
            let short = beneath.short();
            format!("the branch was rewritten: `towpath accept {short}`, or put it back")
        })
    });
    let stack = Stack::on(repository, base, beneath, glasses, Keep::Refs)?;
    let trouble = trouble.or_else(|| (!push).then(|| "nothing is pushed by a check".to_owned()));
    Ok(stack.bring(repository, base, descends, trouble))
}

/// The rollbacks on top of what is known of the branch here; nobody else is asked.
pub(super) fn here(
    repository: &Repository,
    base: &Branch,
    applied: Option<Revision>,
    glasses: &[Glass],
) -> Result<Head, git::Error> {
    let beneath = match applied {
        // What is in force, and not what came since: only the rollback is new.
        Some(applied) => applied,
        None => repository.head(base)?,
    };
    let stack = Stack::on(repository, base, beneath, glasses, Keep::Refs)?;
    Ok(stack.bring(repository, base, true, Some("it was not tried yet".to_owned())))
}

/// How rollbacks stand that the branch lacks, for who only looks.
pub(super) fn states(
    repository: &Repository,
    base: &Branch,
    ledger: &Ledger,
) -> BTreeMap<Target, Mending> {
    let glasses: Vec<Glass> = ledger.glasses.values().cloned().collect();
    if glasses.is_empty() {
        return BTreeMap::new();
    }
    // A question that was just asked in vain is not asked again: what is known here says enough.
    let why = "its branch could not be written yet; the controller tries again".to_owned();
    let head = repository
        .head(base)
        .and_then(|head| Stack::on(repository, base, head, &glasses, Keep::Nothing))
        .map(|stack| stack.bring(repository, base, true, Some(why)));
    let states = head.map(|it| it.glasses).unwrap_or_default();
    states.into_iter().map(|((target, _), state)| (target, state)).collect()
}

/// What becomes of commits that are made.
#[derive(Clone, Copy, Debug)]
enum Keep {
    /// They have refs, and stay.
    Refs,
    /// They were made to see whether they can be.
    Nothing,
}

/// The commits of rollbacks on a commit of the branch, those first about which nobody disagrees.
struct Stack {
    beneath: Revision,
    /// Up to here all may go to the branch.
    agreed: Revision,
    /// What is to be in force.
    tip: Revision,
    keep: Keep,
    states: BTreeMap<(Target, Timestamp), Option<Mending>>,
}

impl Stack {
    fn on(
        repository: &Repository,
        base: &Branch,
        beneath: Revision,
        glasses: &[Glass],
        keep: Keep,
    ) -> Result<Self, git::Error> {
        let mut stack =
            Self { beneath, agreed: beneath, tip: beneath, keep, states: BTreeMap::new() };
        let mut ordered: Vec<&Glass> = glasses.iter().collect();
        ordered.sort_by_key(|it| (it.at, &it.target));
        let mut disputed = Vec::new();
        for glass in ordered {
            if let Some(commit) = repository.find(&kept(glass))?
                && repository.descends(beneath, commit)?
            {
                // Whatever the branch says now, it was said by somebody who knew of this.
                let how = format!("commit {} is in the branch", commit.short());
                stack.states.insert(glass.name(), Some(Mending::Done { how }));
                continue;
            }
            let file = place(repository, glass, beneath);
            match wanted(repository, glass, &file, beneath) {
                Some(now) if now == glass.from || now == glass.to => {
                    stack.add(repository, glass, &file)?;
                }
                now => disputed.push((glass, file, now)),
            }
        }
        stack.agreed = stack.tip;
        for (glass, file, now) in disputed {
            stack.add(repository, glass, &file)?;
            let short = beneath.short();
            let says = now.as_ref().map_or_else(
                || format!("{file} does not say what is wanted any more"),
                |now| format!("{base} asks for {now} since (commit {short})"),
            );
            let Target { service, environment } = &glass.target;
            let why = format!(
                "{says}: `towpath accept {short}` takes that, `towpath rollback {service} {environment} --to {} --break-glass` keeps this",
                glass.to
            );
            stack.states.insert(glass.name(), Some(Mending::Disputed { now, why }));
        }
        Ok(stack)
    }

    /// One more commit, kept by a ref of its own so that git does not throw it away.
    fn add(
        &mut self,
        repository: &Repository,
        glass: &Glass,
        file: &RepoPath,
    ) -> Result<(), git::Error> {
        let state = match edited(repository, glass, file, self.tip) {
            Err(why) => Some(Mending::Disputed { now: None, why }),
            Ok(None) => {
                let how = "the branch asks for the same".to_owned();
                Some(Mending::Done { how })
            }
            Ok(Some(bytes)) => {
                let Glass { target, file: _, from, to, blocked, word, at } = glass;
                let blocked = blocked.iter().map(Ref::as_str).collect::<Vec<_>>().join(", ");
                let message = format!(
                    "Roll {} back to {to} in {}\n\n{}\n\n{blocked} is blocked. Asked for by {} with --break-glass, where {from} was wanted.\n",
                    target.service, target.environment, word.reason, word.by
                );
                let edits = [(file.clone(), Some(bytes))];
                let (author, committer) = (Identity::person(&word.by), Identity::towpath());
                let commit = Commit {
                    parent: Some(self.tip),
                    edits: &edits,
                    message: &message,
                    author: &author,
                    committer: &committer,
                    at: *at,
                };
                self.tip = repository.commit(&commit)?;
                match self.keep {
                    Keep::Refs => repository.keep(&kept(glass), self.tip)?,
                    Keep::Nothing => {}
                }
                None
            }
        };
        self.states.insert(glass.name(), state);
        Ok(())
    }

    /// Brings to the branch what may go there, unless there is trouble.
    fn bring(
        self,
        repository: &Repository,
        base: &Branch,
        descends: bool,
        trouble: Option<String>,
    ) -> Head {
        let Self { mut beneath, agreed, tip, keep: _, states } = self;
        let outcome = match trouble {
            Some(why) => Mending::Waits { why },
            None if agreed == beneath => Mending::Waits { why: "others come first".to_owned() },
            None => {
                let (old, new) = (Some(beneath), Some(agreed));
                match repository.update(&[Update { name: base.name(), old, new }]) {
                    Ok(()) => {
                        beneath = agreed;
                        let how = format!("pushed as commit {}", agreed.short());
                        Mending::Done { how }
                    }
                    Err(error) => {
                        Mending::Waits { why: format!("cannot push it: {}", chain(&error)) }
                    }
                }
            }
        };
        let settle = |(name, state): (_, Option<Mending>)| (name, state.unwrap_or(outcome.clone()));
        Head { revision: tip, beneath, descends, glasses: states.into_iter().map(settle).collect() }
    }
}

/// Where the commit of a rollback is kept.
fn kept(glass: &Glass) -> RefName {
    RefName::glass(&glass.target, glass.at)
}

/// The file in which a commit speaks of the target: somebody may have moved it since. Where no file does,
/// the one that did.
fn place(repository: &Repository, glass: &Glass, at: Revision) -> RepoPath {
    let moved = || {
        let loaded = Loaded::load(at, changes_between(repository, None, at).ok()?);
        Some(loaded.snapshot().services.get(&glass.target.service)?.file.clone())
    };
    match wanted(repository, glass, &glass.file, at) {
        Some(_) => glass.file.clone(),
        None => moved().unwrap_or_else(|| glass.file.clone()),
    }
}

/// What a commit asks for at a target, if it can be told.
fn wanted(repository: &Repository, glass: &Glass, file: &RepoPath, at: Revision) -> Option<Ref> {
    let bytes = repository.read_at(at, file).ok()??;
    let document = text::parse(file.as_str(), &bytes).ok()?;
    let mut node = &document.root;
    for key in pointer(&glass.target).segments() {
        node = node.get(key)?;
    }
    match &node.value {
        Value::Scalar(scalar) => Ref::parse(&scalar.text).ok(),
        Value::Map(_) | Value::Seq(_) => None,
    }
}

/// The file with the ref put back and the bad ones blocked; nothing if it says so already.
fn edited(
    repository: &Repository,
    glass: &Glass,
    file: &RepoPath,
    at: Revision,
) -> Result<Option<Vec<u8>>, String> {
    let Glass { target, to, blocked, .. } = glass;
    let cannot = |why: String| format!("it cannot be made again on commit {}: {why}", at.short());
    let before = repository.read_at(at, file).map_err(|error| cannot(chain(&error)))?;
    let before = before.ok_or_else(|| cannot(format!("{file} is gone")))?;
    let mut bytes = before.clone();
    if wanted(repository, glass, file, at).as_ref() != Some(to) {
        bytes = text::edit(file.as_str(), &bytes, 0, &pointer(target), to.as_str())
            .map_err(|refusal| cannot(refused(file, &refusal)))?;
    }
    for bad in blocked {
        bytes =
            text::insert_into_list(&bytes, 0, &Pointer::new(["blocked"]), "targets", bad.as_str())
                .map_err(|refusal| cannot(refused(file, &refusal)))?;
    }
    Ok((bytes != before).then_some(bytes))
}
