//! Merge requests on forges that people have: doubles on real repositories, one contract for all of them, and
//! schedules of faults and races by seed.

mod approving;
mod by_hand;
mod contract;
mod contract_hosted;
mod deployments;
pub(crate) mod double_calls;
mod end_to_end;
mod gitea_double;
mod github_async;
mod github_double;
mod github_queue;
mod gitlab_api;
pub(crate) mod gitlab_double;
mod gitlab_train;
mod graphql;
mod limits;
pub(crate) mod published;
mod python_gitlab;
mod queue;
mod real;
mod real_people;
mod rights;
mod rules;
mod seeds;
mod server;
mod steps;
mod train;

use std::collections::BTreeSet;

use towpath::drivers::forge::{Checks, Direction, Merging, Proposal};
use towpath::drivers::hosted::{Options, Pages};
use towpath::model::{Ref, RepoPath, Revision, Target, Timestamp};
use towpath::observe::Verdict;

/// The file that promotions change.
pub(crate) const FILE: &str = "services/shop.yaml";
/// What it says at first.
pub(crate) const TEXT: &str = "staging: 1\nproduction: 1\n";
/// A path full of specials.
pub(crate) const PROJECT: &str = "group/sub group/conf.ig";

pub(crate) fn at(secs: u64) -> Timestamp {
    Timestamp(1_795_255_300_000 + secs * 1000)
}

pub(crate) fn target(environment: &str) -> Target {
    Target { service: "shop".parse().unwrap(), environment: environment.parse().unwrap() }
}

pub(crate) fn options() -> Options {
    Options {
        label: "towpath".to_owned(),
        checks: BTreeSet::new(),
        store: "store-1".to_owned(),
        moved,
        watching: false,
        pages: Pages {
            commit: "https://forge.example.com/commit/".to_owned(),
            folder: "https://forge.example.com/tree/".to_owned(),
        },
    }
}

/// What a promotion changes in [`FILE`].
fn moved(
    file: &RepoPath,
    bytes: &[u8],
    target: &Target,
    to: &Ref,
    blocks: Option<&Ref>,
) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok().filter(|_| file.as_str() == FILE)?;
    let key = format!("{}: ", target.environment);
    let line = text.lines().find(|it| it.starts_with(&key))?;
    let blocked = blocks.map(|it| format!("blocked: {it}\n")).unwrap_or_default();
    Some((blocked + &text.replace(line, &format!("{key}{to}"))).into_bytes())
}

/// Moves one environment of `text` to a ref.
pub(crate) fn proposal(
    text: &str,
    base: Revision,
    environment: &str,
    to: &str,
    at: Timestamp,
) -> Proposal {
    let line = text.lines().find(|it| it.starts_with(environment)).unwrap();
    let from = line.split_once(": ").unwrap().1;
    Proposal {
        target: target(environment),
        path: RepoPath::parse(FILE).unwrap(),
        from: Ref::parse(from).unwrap(),
        to: Ref::parse(to).unwrap(),
        direction: Direction::Forward,
        title: format!("Promote shop to {to} in {environment}"),
        body: "Proven.\n\n- staging runs it\n".to_owned(),
        base,
        edit: text.replace(line, &format!("{environment}: {to}")).into_bytes(),
        merging: Merging::Auto,
        at,
    }
}

pub(crate) fn green(sha: Revision, base: Revision) -> Checks {
    let lines = vec!["plan: shop 1 → 2".to_owned(), "  <b>--></b> ``` /merge".to_owned()];
    Checks { sha, base, verdict: Verdict::Pass, lines, at: at(10) }
}
