//! Nodes as a runner on each keeps them: a fence, steps by key, what is installed.

use std::collections::BTreeMap;

use towpath::controller::{Perform, Report};
use towpath::model::{
    Deed, EnvironmentName, Epoch, NodeName, Ref, ServiceName, StepKey, Timestamp,
};
use towpath::rollout::Op;

/// Where a node is.
pub(crate) type Place = (EnvironmentName, NodeName);

/// How a step stands on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Done { well: bool, at: Timestamp },
    Lost,
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) state: State,
    pub(crate) perform: Box<Perform>,
    pub(crate) began: Timestamp,
    /// How often it really ran.
    pub(crate) runs: u32,
    /// Controllers that wait for its end, and by which question.
    pub(crate) waiters: Vec<(u32, u64)>,
}

/// What is installed, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installed {
    pub(crate) reference: Option<Ref>,
    pub(crate) since: Timestamp,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) fence: Epoch,
    pub(crate) steps: BTreeMap<StepKey, Step>,
    pub(crate) running: Option<StepKey>,
    pub(crate) installed: BTreeMap<ServiceName, Installed>,
    pub(crate) away_until: Timestamp,
}

/// What a node says to a request.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// The step begins: its run has this number.
    Begins(u32),
    /// It runs; who asked will be told.
    Runs,
    /// At once.
    At(Report),
}

impl Node {
    pub(crate) fn new() -> Self {
        Self {
            fence: Epoch(0),
            steps: BTreeMap::new(),
            running: None,
            installed: BTreeMap::new(),
            away_until: Timestamp(0),
        }
    }

    pub(crate) fn runs(&self, service: &ServiceName) -> Option<Ref> {
        self.installed.get(service)?.reference.clone()
    }

    pub(crate) fn install(&mut self, service: &ServiceName, to: Option<Ref>, now: Timestamp) {
        let same = self.installed.get(service).is_some_and(|it| it.reference == to);
        if !same {
            let installed = Installed { reference: to, since: now };
            self.installed.insert(service.clone(), installed);
        }
    }

    pub(crate) fn fence(&mut self, epoch: Epoch) -> Report {
        if epoch < self.fence {
            return stale();
        }
        self.fence = epoch;
        Report::Done { evidence: format!("fence {epoch}"), at: Timestamp(0) }
    }

    /// A request to have run a step.
    pub(crate) fn ensure(&mut self, perform: &Perform, from: u32, now: Timestamp) -> Says {
        if perform.epoch < self.fence {
            return Says::At(stale());
        }
        self.fence = perform.epoch;
        let busy = self.running.as_ref().is_some_and(|key| *key != perform.key);
        if let Some(step) = self.steps.get_mut(&perform.key) {
            match &step.state {
                State::Running => {
                    step.waiters.push((from, perform.question));
                    return Says::Runs;
                }
                State::Done { .. } => return Says::At(ended(step)),
                State::Lost if !perform.rerun_lost => {
                    return Says::At(Report::Lost { why: "the node booted meanwhile".to_owned() });
                }
                State::Lost => {}
            }
        }
        let errored = |why: &str| Says::At(Report::Errored { why: why.to_owned(), retry: true });
        if now > perform.not_after {
            return errored("it was not begun in time");
        }
        if busy {
            return errored("busy with another step");
        }
        let runs = self.steps.get(&perform.key).map_or(0, |step| step.runs) + 1;
        let step = Step {
            state: State::Running,
            perform: Box::new(perform.clone()),
            began: now,
            runs,
            waiters: vec![(from, perform.question)],
        };
        self.steps.insert(perform.key.clone(), step);
        self.running = Some(perform.key.clone());
        Says::Begins(runs)
    }

    /// Ends a step, unless this run of it has ended. Who waited is told.
    pub(crate) fn end(
        &mut self,
        key: &StepKey,
        run: u32,
        well: bool,
        now: Timestamp,
    ) -> Option<Step> {
        let step = self.steps.get_mut(key)?;
        if step.state != State::Running || step.runs != run {
            return None;
        }
        step.state = State::Done { well, at: now };
        let told = step.clone();
        step.waiters.clear();
        self.running = None;
        Some(told)
    }

    /// The node boots: nobody knows how far the step that ran has come.
    pub(crate) fn reboot(&mut self) -> Option<Step> {
        let key = self.running.take()?;
        let step = self.steps.get_mut(&key)?;
        step.state = State::Lost;
        let told = step.clone();
        step.waiters.clear();
        Some(told)
    }
}

/// What somebody who waits for a step is told.
pub(crate) fn ended(step: &Step) -> Report {
    match &step.state {
        State::Running => Report::Errored { why: "it runs".to_owned(), retry: true },
        State::Lost => Report::Lost { why: "the node booted meanwhile".to_owned() },
        State::Done { well: true, .. } => {
            Report::Done { evidence: "exit 0".to_owned(), at: step.began }
        }
        State::Done { well: false, .. } => Report::Failed { why: "exit 1".to_owned() },
    }
}

/// The first word of a step's command: what it does in this world.
pub(crate) fn deed(perform: &Perform) -> &str {
    match &perform.op {
        Op::Step { deed: Deed::Run { argv, .. }, .. } => {
            match argv.first().map_or("", String::as_str) {
                // The examples use a shell, and write down what they would have done.
                "sh" => argv.get(2).map_or("", |it| meant(it)),
                first => first,
            }
        }
        // Pipelines are no node's.
        Op::Step { deed: Deed::Trigger { .. }, .. }
        | Op::Fenced
        | Op::Drained { .. }
        | Op::Serving { .. }
        | Op::Weighted { .. }
        | Op::Healthy { .. }
        | Op::Runs { .. }
        | Op::Verified { .. }
        | Op::Gate { .. }
        | Op::Baked { .. }
        | Op::Approved => "",
    }
}

/// What a script of the examples stands for.
fn meant(script: &str) -> &'static str {
    let deeds = [
        (".version\"", "install"),
        ("migrations.log", "migrate"),
        ("touch chef.stopped", "prepare"),
        ("rm -f chef.stopped", "restore"),
    ];
    deeds.iter().find(|(mark, _)| script.contains(mark)).map_or("", |(_, deed)| deed)
}

/// Whether a node has said that it obeys somebody newer.
pub(crate) fn is_stale(report: &Report) -> bool {
    *report == stale()
}

fn stale() -> Report {
    Report::Errored { why: "the node obeys a newer controller".to_owned(), retry: false }
}
