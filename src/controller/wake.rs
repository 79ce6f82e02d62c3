//! The closed sets of what can wake the controller and of what it can ask of the world.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Change;
use crate::model::{
    Ask, Asking, BalancerAddress, Connect, EnvironmentName, Epoch, Errand, GateName, NodeName,
    Question, Ref, Revision, RoleName, RolloutId, Seat, ServiceName, Standing, StepKey, Target,
    Timestamp,
};
use crate::observe::{Checks, Fact, MergeRequest, Survey, Verdict};
use crate::planner::{Hold, Promotion};
use crate::record::mending::Mended;
use crate::rollout::{Cancel, Entry, Glass, Op, OpId, Unrecorded};

pub use super::answer::{
    Around, Head, NotRecorded, NotReverted, ShareOrder, Ticket, Unmoved, Visit,
};
pub use super::report::Report;

/// Something that a controller reacts to. Everything it knows of the world arrives as one of these.
#[derive(Clone, Debug)]
pub enum Wake {
    /// The first one: the journal has been read.
    Started,
    /// Time has passed: look what is due. Carries no data.
    Tick,
    /// Refs of the config repo may have moved. Carries no data: it only means "look".
    RefsMoved,
    /// The answer to [`Effect::LookAtHead`].
    Head(Result<Head, String>),
    /// The answer to [`Effect::BreakGlass`].
    Broken(Result<Head, String>),
    /// The answer to [`Effect::ReadConfig`].
    ConfigRead {
        /// At which commit.
        to: Revision,
        /// What differs, or why it could not be read.
        changes: Result<Vec<Change>, String>,
    },
    /// The answer to [`Effect::Survey`].
    Surveyed {
        /// Of what.
        target: Target,
        /// What its nodes said.
        survey: Survey,
    },
    /// The answer to [`Effect::Weigh`].
    Weighed {
        /// Where.
        environment: EnvironmentName,
        /// Which role.
        role: RoleName,
        /// Which of its nodes.
        nodes: BTreeSet<NodeName>,
        /// What they were to get.
        order: ShareOrder,
        /// What was read back, or why it was not done.
        result: Result<String, Unmoved>,
    },
    /// The answer to [`Effect::Watch`].
    Watched {
        /// Where.
        environment: EnvironmentName,
        /// When it was asked.
        asked: Timestamp,
        /// What each node gets.
        seen: BTreeMap<(RoleName, NodeName), Fact<Standing>>,
        /// Of those that are not seen, who is in no load balancer at all; and of which of theirs nothing is left.
        gone: BTreeMap<(RoleName, NodeName), Vec<BalancerAddress>>,
    },
    /// The answer to [`Effect::KeepOut`].
    KeptOut {
        /// Where.
        environment: EnvironmentName,
        /// Of which role.
        role: RoleName,
        /// Which node.
        node: NodeName,
        /// What was read back, or why it is not out.
        result: Result<String, String>,
    },
    /// The answer to [`Effect::Perform`].
    Performed {
        /// For whose rollout.
        target: Target,
        /// Which rollout.
        rollout: RolloutId,
        /// Which operation.
        op: OpId,
        /// Which attempt of it.
        attempt: u32,
        /// Which question about it.
        question: u64,
        /// How it stands.
        report: Report,
    },
    /// The answer to [`Effect::AskArtifacts`].
    Artifacts {
        /// Of what.
        service: ServiceName,
        /// Which ref.
        reference: Ref,
        /// All there?
        verdict: Verdict,
    },
    /// The answer to [`Effect::AskContains`].
    Contains {
        /// Of what.
        service: ServiceName,
        /// Which hot patch.
        patch: Ref,
        /// Which ref.
        reference: Ref,
        /// Whether it is in there.
        verdict: Verdict,
    },
    /// The answer to [`Effect::AskGate`].
    Gate {
        /// In front of which promotion.
        target: Target,
        /// Which.
        gate: GateName,
        /// For which ref.
        reference: Ref,
        /// Open?
        verdict: Verdict,
        /// What shows that it is, in its own words: escaped, and at most some lines.
        evidence: String,
    },
    /// The answer to [`Effect::AskInventory`].
    Inventory {
        /// Of where.
        environment: crate::model::EnvironmentName,
        /// What it said, or why that is no answer.
        answer: Result<crate::model::Inventory, String>,
    },
    /// The answer to [`Effect::ListMergeRequests`]: the newest for each target.
    MergeRequests(Result<BTreeMap<Target, MergeRequest>, String>),
    /// The answer to [`Effect::LookAround`].
    LookedAround(Result<Around, String>),
    /// The answer to [`Effect::Review`].
    Reviewed {
        /// Which merge request.
        number: u64,
        /// The head that it was about.
        head: Revision,
        /// Whether it is there, or why not.
        result: Result<(), String>,
    },
    /// The answer to [`Effect::Answer`].
    Answered {
        /// To which comment.
        comment: u64,
        /// Whether it is there, or why not.
        result: Result<(), String>,
    },
    /// The answer to [`Effect::Propose`], [`Effect::Report`], [`Effect::Disarm`] or [`Effect::Withdraw`].
    ForgeDone {
        /// For what.
        target: Target,
        /// Whether it worked, or why not.
        result: Result<(), String>,
    },
    /// The answer to [`Effect::ReadProposal`].
    ProposalRead {
        /// For what.
        target: Target,
        /// Which merge request.
        number: u64,
        /// The head that was read.
        head: Revision,
        /// Compared with this commit of the base branch.
        base: Revision,
        /// What differs, or why it could not be read.
        changes: Result<Vec<Change>, String>,
    },
    /// The answer to [`Effect::Merge`].
    Merged {
        /// To where.
        target: Target,
        /// Which merge request.
        number: u64,
        /// The head that was to be merged.
        head: Revision,
        /// On what grounds.
        evidence: Vec<String>,
        /// Whether it is in the base branch now; or why not.
        result: Result<(), String>,
    },
    /// The answer to [`Effect::Revert`].
    Reverted {
        /// Where.
        target: Target,
        /// Who waits for the answer.
        ticket: Ticket,
        /// What was asked.
        ask: Ask,
        /// What was put back.
        to: Ref,
        /// The commit that did, or why there is none.
        result: Result<Revision, NotReverted>,
    },
    /// The answer to [`Effect::Record`].
    Recorded {
        /// Which record.
        record: String,
        /// The head of the records that has it, if it leaves one; or why it is not there.
        result: Result<Option<Revision>, NotRecorded>,
    },
    /// The answer to [`Effect::MendRecords`]: what was done, if anything had to be.
    RecordsMended(Result<Option<Mended>, String>),
    /// The answer to [`Effect::Cancel`].
    Canceled {
        /// Which.
        cancel: Box<Cancel>,
        /// How that ended, in words.
        how: String,
    },
    /// Nodes obey somebody who came after us.
    Overtaken {
        /// By this authority.
        fence: Epoch,
    },
    /// A person asks for something.
    Asked {
        /// What, by whom, why.
        asking: Asking,
        /// Who waits for the answer.
        ticket: Ticket,
    },
}

/// Something asked of the world. Every one has a deadline at the edge, and ends in a [`Wake`]
/// unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Where does the config branch point, and does that descend from `applied`?
    LookAtHead {
        /// The head of the branch that is in force.
        applied: Option<Revision>,
        /// Rollbacks that it does not have: made on top of it, and brought there.
        glasses: Vec<Glass>,
        /// Whether they may be brought there.
        push: bool,
    },
    /// Make the commits of rollbacks that the config branch does not have, on what is known of it here; nobody
    /// else is asked.
    BreakGlass {
        /// The head of the branch that is in force.
        applied: Option<Revision>,
        /// All of them.
        glasses: Vec<Glass>,
    },
    /// What differs between two commits; everything if there is no first one.
    ReadConfig {
        /// What is known already.
        from: Option<Revision>,
        /// What to read.
        to: Revision,
    },
    /// Ask every node what it runs.
    Survey {
        /// Of what.
        target: Target,
        /// How nodes are reached.
        connect: Connect,
        /// What to ask each; or why it cannot be asked.
        questions: Vec<(NodeName, Result<Question, String>)>,
        /// Where they are in the load balancers, by role: what traffic do they get there?
        seats: Vec<(RoleName, Seat)>,
    },
    /// Give nodes of a role a share of their usual traffic, beside any rollout.
    Weigh {
        /// Where.
        environment: EnvironmentName,
        /// Which role.
        role: RoleName,
        /// Where its nodes are.
        seats: Vec<Seat>,
        /// What they get.
        order: ShareOrder,
        /// Not later than this: a word that comes after the next one is void.
        not_after: Timestamp,
        /// How nodes are reached.
        connect: Connect,
        /// What this controller began with. Nodes say so that obey a newer one, and nothing is moved.
        epoch: Epoch,
        /// The highest that it ever gave: who obeys that obeys it.
        given: Epoch,
    },
    /// What traffic do nodes get that are to get none?
    Watch {
        /// Where.
        environment: EnvironmentName,
        /// Their places in the load balancers, by role.
        seats: Vec<(RoleName, Seat)>,
    },
    /// Take a node out of load balancers again that began anew, and so let it serve.
    KeepOut {
        /// Of which role.
        role: RoleName,
        /// Its place.
        seat: Seat,
        /// How many others must serve.
        keep: usize,
        /// Those of the others who are asked whom they obey, should the node itself be silent.
        others: Vec<Seat>,
        /// Not later than this.
        not_after: Timestamp,
        /// How nodes are reached.
        connect: Connect,
        /// As in [`Effect::Weigh`].
        epoch: Epoch,
        /// As in [`Effect::Weigh`].
        given: Epoch,
    },
    /// Ensure an operation's state.
    Perform(Box<Perform>),
    /// End a step that runs. No answer: the step's own end is one.
    Kill {
        /// Where.
        target: Target,
        /// How nodes are reached.
        connect: Connect,
        /// On which node; beside the controller if `None`.
        node: Option<NodeName>,
        /// Which.
        key: StepKey,
    },
    /// Ask for the end of a pipeline until it is over there, or until its time is over.
    Cancel {
        /// Which.
        cancel: Box<Cancel>,
        /// Until when.
        until: Timestamp,
    },
    /// Let the nodes of a rollout that was taken over know of it: who had it before is refused there. No answer.
    Sweep {
        /// Where.
        target: Target,
        /// How nodes are reached.
        connect: Connect,
        /// Which.
        nodes: Vec<NodeName>,
        /// Above every authority that the other one had.
        epoch: Epoch,
    },
    /// Does everything that was built for a ref exist?
    AskArtifacts {
        /// Of what.
        service: ServiceName,
        /// Which ref.
        reference: Ref,
        /// All of these must say yes.
        questions: Vec<crate::model::ArtifactQuestion>,
    },
    /// Does a ref contain a hot patch?
    AskContains {
        /// Of what.
        service: ServiceName,
        /// Which hot patch.
        patch: Ref,
        /// Which ref.
        reference: Ref,
        /// What to ask.
        question: Question,
    },
    /// Is a promotion's gate open?
    AskGate {
        /// In front of which promotion.
        target: Target,
        /// Which.
        gate: GateName,
        /// For which ref.
        reference: Ref,
        /// What to ask.
        question: Question,
    },
    /// Which nodes are there?
    AskInventory {
        /// Where.
        environment: crate::model::EnvironmentName,
        /// What to run.
        argv: Vec<String>,
        /// Until when the answer counts.
        timeout: std::time::Duration,
        /// What it is asked of nodes in particular.
        sought: std::sync::Arc<crate::model::Sought>,
    },
    /// The newest merge request for each target.
    ListMergeRequests,
    /// Looks at what people propose, and at what they ask for on merge requests of ours.
    LookAround {
        /// The base branch, as it is known.
        base: Revision,
        /// Heads of people's merge requests that were looked at before.
        known: BTreeMap<u64, Revision>,
        /// Open merge requests of ours.
        ours: Vec<u64>,
    },
    /// Says of a person's merge request what it would do.
    Review {
        /// Which.
        number: u64,
        /// What.
        checks: Checks,
    },
    /// Answers a comment.
    Answer {
        /// On which merge request.
        number: u64,
        /// Which comment.
        comment: u64,
        /// What.
        text: String,
    },
    /// Open a merge request, or bring it up to date.
    Propose {
        /// What to propose.
        promotion: Promotion,
        /// The file to change.
        file: crate::model::RepoPath,
        /// When it was decided: part of the commit, so that doing it again makes the same one.
        at: Timestamp,
    },
    /// What does a merge request change?
    ReadProposal {
        /// For what.
        target: Target,
        /// Which.
        number: u64,
        /// Its head.
        head: Revision,
        /// The commit it is built on.
        base: Revision,
    },
    /// Write our checks' result onto a merge request.
    Report {
        /// For what.
        target: Target,
        /// Which.
        number: u64,
        /// What they said.
        checks: Checks,
    },
    /// Merge, if the head is still this one and its checks are green.
    Merge {
        /// To where.
        target: Target,
        /// Which.
        number: u64,
        /// The only head that may be merged.
        head: Revision,
        /// On what grounds.
        evidence: Vec<String>,
    },
    /// Ensure that the forge does not merge it by itself.
    Disarm {
        /// For what.
        target: Target,
        /// Which.
        number: u64,
    },
    /// A person wants the forge to try again what it gave up. What comes of it shows at the next look.
    Again {
        /// Which.
        number: u64,
        /// When the person asked: what was given up since then is another matter.
        asked: Timestamp,
    },
    /// Close a merge request of ours.
    Withdraw {
        /// For what.
        target: Target,
        /// Which.
        number: u64,
        /// Why.
        why: String,
    },
    /// Put an earlier ref back by a commit of our own.
    Revert {
        /// Where.
        target: Target,
        /// The file to change.
        file: crate::model::RepoPath,
        /// What is wanted now; goes onto the list of blocked refs.
        from: Ref,
        /// What shall be wanted.
        to: Ref,
        /// The head of the base branch to build on.
        base: Revision,
        /// Who waits for the answer.
        ticket: Ticket,
        /// Who asked, and why.
        ask: Ask,
    },
    /// Write a record into git.
    Record(Box<Unrecorded>),
    /// Ensure that the records still hold all that we wrote.
    MendRecords {
        /// The last head that we wrote.
        last: Revision,
    },
    /// Answer somebody who asked. No wake follows.
    Reply {
        /// Whom.
        ticket: Ticket,
        /// What was done, or why not.
        answer: Result<String, Refusal>,
    },
    /// Tell people what happened; it is in the journal already. No wake follows.
    Tell(Vec<Entry>),
    /// Tell people that the reasons for waiting have changed. No wake follows.
    TellHolds {
        /// Where.
        target: Target,
        /// Every reason; empty when it goes on.
        holds: Vec<Hold>,
    },
}

/// An operation to perform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Perform {
    /// For whose rollout.
    pub target: Target,
    /// Which rollout.
    pub rollout: RolloutId,
    /// Which operation.
    pub id: OpId,
    /// Which attempt of it.
    pub attempt: u32,
    /// Numbers what one controller asks for: an answer names the question that it is for.
    pub question: u64,
    /// The name of that attempt.
    pub key: StepKey,
    /// Under which authority.
    pub epoch: Epoch,
    /// The lowest authority that this controller gave, and the highest: who obeys that obeys it.
    pub ours: (Epoch, Epoch),
    /// What to ensure.
    pub op: Op,
    /// The ref that the rollout brings.
    pub to: Ref,
    /// How nodes are reached.
    pub connect: Connect,
    /// Where; beside the controller if `None`.
    pub node: Option<NodeName>,
    /// When it was first started: what is older is no proof.
    pub since: Timestamp,
    /// If it is a drain: since when its node is out, as far as that was seen. The time of its sessions
    /// counts from there.
    pub out: Option<Timestamp>,
    /// If it is a drain: whether nothing of ours has its node out, nor told it to be. If it is out, it is somebody else's.
    pub unmoved: bool,
    /// A node refuses to begin it later than this.
    pub not_after: Timestamp,
    /// Run it anew if the node has lost it.
    pub rerun_lost: bool,
    /// It is not to be begun any more: only how it stands is asked.
    pub look_only: bool,
    /// If it is a pipeline elsewhere.
    pub errand: Option<Box<Errand>>,
    /// The drains that it relies on: its node is out of the load balancers for as long as it takes.
    pub drained: Vec<Op>,
}

/// Why something that was asked for is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It makes no sense now; in words that say what would.
    #[error("{0}")]
    NotNow(String),
    /// It overrides something, and an override needs a reason.
    #[error("this needs a reason: add `--reason`, the record keeps it")]
    NoReason,
    /// Nothing is known of the target.
    #[error("there is no target {0}")]
    NoTarget(Target),
    /// The person may not.
    #[error("{0}")]
    NotAllowed(String),
}
