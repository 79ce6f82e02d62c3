//! What the tests of the core have in common: a journal in memory, a clock, a shop that is promoted from staging to a
//! canary, and a merge request for it.

use std::collections::BTreeMap;

use super::journal::Journal;
use crate::config::{Change, Content};
use crate::model::{
    Branch, EnvironmentName, PersonName, Ref, RepoPath, Revision, RolloutId, ServiceName, Target,
    Timestamp,
};
use crate::observe::{Authorship, Direction, MergeRequest, Merging, State};
use crate::rollout::Entry;

/// All of the config but the service; staging has the node `web-1`, the canary `web-2`.
const CONFIG: &[(&str, &str)] = &[
    ("towpath.yaml", "version: 1\nenvironments: [staging, canary]\n"),
    (
        "environments/staging.yaml",
        "environment: staging\nconnect: local\nroles: { web: { nodes: [web-1] } }\nversion: { run: [cat, version] }\n",
    ),
    (
        "environments/canary.yaml",
        "environment: canary\nconnect: local\nroles: { web: { nodes: [web-2] } }\nversion: { run: [cat, version] }\napprovers: [ann, bob]\n",
    ),
    (
        "recipes/plain.yaml",
        "recipe: plain\nstages:\n  - { name: install, on: [web], run: [install, '{ref}'] }\n",
    ),
];
/// The base branch as it is read.
pub(super) const NOW: Revision = Revision::new([7; 20]);
/// The head of a merge request.
pub(super) const HEAD: Revision = Revision::new([2; 20]);

/// A journal in memory.
#[derive(Default)]
pub(super) struct Memory(pub(super) Vec<Entry>);

impl Journal for Memory {
    fn append(&mut self, entries: &[Entry]) -> Result<(), String> {
        self.0.extend_from_slice(entries);
        Ok(())
    }

    fn forget(&mut self, _: &RolloutId, _: &Target) -> Result<(), String> {
        Ok(())
    }

    fn forget_inventories(&mut self, _: &EnvironmentName) -> Result<(), String> {
        Ok(())
    }
}

pub(super) fn at(seconds: u64) -> Timestamp {
    Timestamp(1_795_255_200_000 + seconds * 1000)
}

pub(super) fn target(environment: &str) -> Target {
    let service = ServiceName::parse("shop").unwrap();
    Target::new(&service, &EnvironmentName::parse(environment).unwrap())
}

pub(super) fn reference(text: &str) -> Ref {
    Ref::parse(text).unwrap()
}

pub(super) fn person(name: &str) -> PersonName {
    PersonName::parse(name).unwrap()
}

/// The whole config, the service last: its refs, what `promote:` of the canary says beside where it comes from, and what
/// is `blocked:`.
pub(super) fn config(staging: &str, canary: &str, rule: &str, blocked: &str) -> Vec<Change> {
    let service = format!(
        "service: shop\nrecipe: plain\nblocked: [{blocked}]\ntargets:\n  staging: {{ ref: {staging} }}\n  canary: {{ ref: {canary}, promote: {{ after: [staging], {rule} }} }}\n"
    );
    let files = CONFIG.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
    let files = files.chain([("services/shop.yaml".to_owned(), service)]);
    files.map(|(path, text)| Change { path, content: Content::Bytes(text.into_bytes()) }).collect()
}

/// One that was just opened by us on the base branch as it is.
pub(super) fn request(number: u64, target: Target, [from, to]: [&str; 2]) -> MergeRequest {
    let branch = format!("towpath/{target}");
    MergeRequest {
        number,
        target,
        branch: Branch::parse(&branch).unwrap(),
        path: RepoPath::parse("services/shop.yaml").unwrap(),
        head: HEAD,
        base: NOW,
        from: reference(from),
        to: reference(to),
        direction: Direction::Forward,
        title: String::new(),
        body: String::new(),
        state: State::Open,
        authorship: Authorship::Ours,
        checks: None,
        approvals: BTreeMap::new(),
        merging: Merging::Auto,
        armed: false,
        rides: false,
        blocked: None,
        opened_at: at(1),
        updated_at: at(1),
    }
}
