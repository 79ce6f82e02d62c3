//! The controller's core in this process, in a world that always says yes at once: what is left is
//! the cost of thinking.

use std::collections::{BTreeMap, HashMap, VecDeque};

use towpath::controller::{
    Core, Effect, Head, Journal, Limits, Perform, Report, Wake, changes_between,
};
use towpath::drivers::clock;
use towpath::git::Repository;
use towpath::model::{EnvironmentName, Ref, Revision, RolloutId, Target};
use towpath::observe::{Fact as Seen, Survey, Verdict};
use towpath::rollout::{Entry, Fact, Ledger, Op, Past};

use super::fleet::{self, Fleet};

/// A journal that only counts.
#[derive(Default)]
pub(crate) struct Counter {
    pub(crate) entries: usize,
}

impl Journal for Counter {
    fn append(&mut self, entries: &[Entry]) -> Result<(), String> {
        self.entries += entries.len();
        Ok(())
    }

    fn forget(&mut self, _: &RolloutId, _: &Target) -> Result<(), String> {
        Ok(())
    }

    fn forget_inventories(&mut self, _: &EnvironmentName) -> Result<(), String> {
        Ok(())
    }
}

/// A core, and the world that answers it.
pub(crate) struct Brain {
    pub(crate) core: Core,
    pub(crate) journal: Counter,
    pub(crate) repository: Repository,
    /// What runs where, if it is not 1.0.0.
    runs: HashMap<Target, Ref>,
    head: Revision,
    /// Calls of the core.
    pub(crate) turns: usize,
}

impl Brain {
    /// A core that has read a fleet's config, has seen every target, and finds all of them in
    /// sync and proven.
    pub(crate) fn settled(fleet: &Fleet) -> Self {
        let mut ledger = Ledger::default();
        let reference = Ref::parse("1.0.0").expect("a ref");
        let at = clock::now();
        let revision = fleet::open(fleet).head(&fleet::main_branch()).expect("a head");
        let proof = Past { reference, rollout: RolloutId::unset(), at, revision };
        for target in fleet::targets(fleet) {
            let past = vec![proof.clone()];
            let fact = Fact::Restored { target, past, floor: None, owed: None };
            ledger.apply(&Entry { at, fact }).expect("it is legal");
        }
        let mut brain = Self::new(fleet, ledger);
        brain.answer_all(Wake::Started);
        assert!(brain.core.waiting().is_empty(), "somebody waits in a fleet in sync");
        brain
    }

    /// A core that knows nothing but what its ledger says.
    pub(crate) fn new(fleet: &Fleet, ledger: Ledger) -> Self {
        let repository = fleet::open(fleet);
        let head = repository.head(&fleet::main_branch()).expect("a head");
        let core = Core::new(ledger, Limits::default());
        let (journal, runs) = (Counter::default(), HashMap::new());
        Self { core, journal, repository, runs, head, turns: 0 }
    }

    /// Hands in one wake, and gives what is asked for.
    pub(crate) fn handle(&mut self, wake: Wake) -> Vec<Effect> {
        self.turns += 1;
        self.core.handle(wake, clock::now(), &mut self.journal).expect("the core goes on")
    }

    /// The way from a new head to what is to be done about it.
    pub(crate) fn follow(&mut self, to: Revision) -> Vec<Effect> {
        let applied = self.head;
        self.head = to;
        let descends = self.repository.descends(to, applied).expect("a history");
        let asked = self.handle(Wake::Head(Ok(Head::plain(to, descends))));
        let mut todo = Vec::new();
        for effect in asked {
            if let Effect::ReadConfig { from, to } = effect {
                let changes = changes_between(&self.repository, from, to);
                todo.extend(self.handle(Wake::ConfigRead { to, changes }));
            } else {
                todo.push(effect);
            }
        }
        todo
    }

    /// Hands in one wake, and answers all that follows from it until nothing more does.
    pub(crate) fn answer_all(&mut self, wake: Wake) {
        let effects = self.handle(wake);
        self.answer(effects);
    }

    /// Answers what was asked for, and all that follows.
    pub(crate) fn answer(&mut self, effects: Vec<Effect>) {
        let mut todo: VecDeque<Effect> = effects.into();
        while let Some(effect) = todo.pop_front() {
            if let Some(wake) = self.says_yes(effect) {
                todo.extend(self.handle(wake));
            }
        }
    }

    fn says_yes(&mut self, effect: Effect) -> Option<Wake> {
        match effect {
            Effect::MendRecords { .. } => Some(Wake::RecordsMended(Ok(None))),
            Effect::LookAtHead { .. } => Some(Wake::Head(Ok(Head::plain(self.head, true)))),
            Effect::ReadConfig { from, to } => {
                let changes = changes_between(&self.repository, from, to);
                Some(Wake::ConfigRead { to, changes })
            }
            Effect::ListMergeRequests => Some(Wake::MergeRequests(Ok(BTreeMap::new()))),
            Effect::Survey { target, questions, .. } => {
                let first = Ref::parse("1.0.0").expect("a ref");
                let runs = self.runs.get(&target).unwrap_or(&first);
                let at = clock::now();
                let says = |node| (node, Seen::Known { value: Some(runs.clone()), at });
                let nodes = questions.into_iter().map(|(node, _)| says(node)).collect();
                Some(Wake::Surveyed { target, survey: Survey { nodes, ..Survey::default() } })
            }
            Effect::Perform(perform) => {
                let Perform { target, rollout, id, attempt, question, op, to, .. } = *perform;
                if let Op::Step { .. } = op {
                    self.runs.insert(target.clone(), to);
                }
                let report = Report::Done { evidence: "yes".to_owned(), at: clock::now() };
                Some(Wake::Performed { target, rollout, op: id, attempt, question, report })
            }
            Effect::Record(settled) => {
                Some(Wake::Recorded { record: settled.record, result: Ok(None) })
            }
            Effect::AskArtifacts { service, reference, .. } => {
                Some(Wake::Artifacts { service, reference, verdict: Verdict::Pass })
            }
            Effect::AskContains { service, patch, reference, .. } => {
                let verdict = Verdict::Pass;
                Some(Wake::Contains { service, patch, reference, verdict })
            }
            Effect::AskGate { target, gate, reference, .. } => {
                let (verdict, evidence) = (Verdict::Pass, String::new());
                Some(Wake::Gate { target, gate, reference, verdict, evidence })
            }
            // Nobody proposes or asks in these worlds; the rest has no answer.
            Effect::Propose { .. }
            | Effect::LookAround { .. }
            | Effect::Review { .. }
            | Effect::Answer { .. }
            | Effect::Weigh { .. }
            | Effect::Watch { .. }
            | Effect::KeepOut { .. }
            | Effect::AskInventory { .. }
            | Effect::ReadProposal { .. }
            | Effect::Report { .. }
            | Effect::Merge { .. }
            | Effect::Disarm { .. }
            | Effect::Again { .. }
            | Effect::Withdraw { .. }
            | Effect::Revert { .. }
            | Effect::Kill { .. }
            | Effect::Cancel { .. }
            | Effect::BreakGlass { .. }
            | Effect::Sweep { .. }
            | Effect::Reply { .. }
            | Effect::Tell(_)
            | Effect::TellHolds { .. } => None,
        }
    }
}
