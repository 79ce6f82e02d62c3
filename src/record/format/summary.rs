//! What `towpath log`, `status --at` and `audit` need to know of a record, read back from git.

use serde::Deserialize;

use crate::model::{Command, PersonName, Ref, Revision, Scope, Target, Timestamp};
use crate::rollout::{Ending, Floor, Haste, Owed, Purpose, RecallEnd, Word};

use super::document::{
    DatedFloor, PromotionDocument, RecallResult, RollbackDocument, RolloutDocument, Said,
    VetoDocument, WordDocument,
};
use super::text::{Text, V1, unopt};
use super::{FormatError, read};

/// A record in short. All of its document was read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSummary {
    /// Of what it is the record.
    pub what: Recorded,
    /// A rollout's id, or the journal number of the entry.
    pub id: String,
    /// Where, if it was at one target.
    pub target: Option<Target>,
    /// What ran there before.
    pub from: Option<Ref>,
    /// What came, or should have come.
    pub to: Option<Ref>,
    /// Who spoke; within a rollout, who spoke last.
    pub who: Option<PersonName>,
    /// Why, in their words.
    pub why: Option<String>,
    /// When it settled.
    pub at: Timestamp,
    /// The commit of the config repo.
    pub revision: Option<Revision>,
    /// What shows it.
    pub evidence: Vec<String>,
}

/// Kinds of records, with what only they have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// A rollout settled.
    Rollout {
        /// What it was for.
        purpose: Purpose,
        /// Why it did without warm-up and bakes, if it did.
        haste: Option<Haste>,
        /// How it ended; `None` if the record was written before it did.
        ending: Option<Ending>,
        /// Set if it started post-deploy migrations.
        floor: Option<Floor>,
        /// Post-deploy migrations that it left for later.
        owed: Option<Owed>,
        /// Whether it ran those that were left before.
        post_migrated: bool,
    },
    /// A promotion reached the base branch.
    Promotion {
        /// Number of the merge request.
        number: u64,
    },
    /// A person did not want a promotion.
    Veto {
        /// Number of the merge request.
        number: u64,
    },
    /// A rollback by merge request is over; who asked for it is in the summary.
    Rollback {
        /// Its merge request, if there was one.
        number: Option<u64>,
        /// What became of it.
        end: RecallEnd,
        /// How, in words.
        how: String,
    },
    /// A person asked for something.
    Word {
        /// What.
        command: Command,
    },
}

impl RecordSummary {
    /// Reads a record's document.
    pub fn parse(json: &str) -> Result<Self, FormatError> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(rename = "version")]
            _version: V1,
            kind: String,
        }
        const WHAT: &str = "a record";
        let Head { _version: V1, kind } = read(WHAT, json)?;
        let what = format!("the record of a {kind}");
        match kind.as_str() {
            "rollout" => read(&what, json).map(of_rollout),
            "promotion" => read(&what, json).map(of_promotion),
            "veto" => read(&what, json).map(of_veto),
            "rollback" => read(&what, json).map(of_rollback),
            "word" => read(&what, json).map(of_word),
            other => Err(FormatError::kind(WHAT, other)),
        }
    }

    /// One word: `rollout`, `promotion`, `veto`, `rollback` or `word`.
    pub fn kind(&self) -> &'static str {
        match self.what {
            Recorded::Rollout { .. } => "rollout",
            Recorded::Promotion { .. } => "promotion",
            Recorded::Veto { .. } => "veto",
            Recorded::Rollback { .. } => "rollback",
            Recorded::Word { .. } => "word",
        }
    }

    /// How it came out, in one word; for a person's word, the verb.
    pub fn result(&self) -> &'static str {
        match &self.what {
            Recorded::Rollout { ending, .. } => match ending {
                Some(Ending::Succeeded) => "succeeded",
                Some(Ending::Partial) => "partial",
                Some(Ending::Aborted) => "aborted",
                Some(Ending::Superseded) => "superseded",
                None => "unfinished",
            },
            Recorded::Promotion { .. } => "merged",
            Recorded::Veto { .. } => "vetoed",
            Recorded::Rollback { end, .. } => match end {
                RecallEnd::Back { .. } => "back",
                RecallEnd::Refused => "refused",
                RecallEnd::Withdrawn => "withdrawn",
            },
            Recorded::Word { command } => verb(command),
        }
    }
}

fn of_rollout(document: RolloutDocument) -> RecordSummary {
    let RolloutDocument {
        version: _,
        kind: _,
        id: Text(id),
        service: Text(service),
        environment: Text(environment),
        purpose,
        from,
        to: Text(to),
        revision: Text(revision),
        result,
        planned_at: _,
        settled_at: Text(at),
        account: _,
        floor,
        haste,
        owed,
        post_migrated,
        words,
        evidence,
        left_out: _,
        left_alone: _,
        nodes: _,
        stages: _,
        events: _,
        shortened: _,
    } = document;
    let (who, why) = words
        .into_iter()
        .next_back()
        .map(|Said { at: _, what: _, by: Text(by), why }| (by, why))
        .unzip();
    let floor =
        floor.map(
            |DatedFloor { reference: Text(reference), revision: Text(revision), at: Text(at) }| {
                Floor { reference, revision, at }
            },
        );
    let ending = result.map(Into::into);
    RecordSummary {
        what: Recorded::Rollout {
            purpose: purpose.into(),
            haste: haste.map(Into::into),
            ending,
            floor,
            owed: owed.map(Into::into),
            post_migrated,
        },
        id: id.to_string(),
        target: Some(Target { service, environment }),
        from: unopt(from),
        to: Some(to),
        who,
        why,
        at,
        revision: Some(revision),
        evidence,
    }
}

fn of_promotion(document: PromotionDocument) -> RecordSummary {
    let PromotionDocument {
        version: _,
        kind: _,
        id,
        at: Text(at),
        service: Text(service),
        environment: Text(environment),
        to: Text(to),
        merge_request: number,
        revision: Text(revision),
        evidence,
    } = document;
    RecordSummary {
        what: Recorded::Promotion { number },
        id,
        target: Some(Target { service, environment }),
        from: None,
        to: Some(to),
        who: None,
        why: None,
        at,
        revision: Some(revision),
        evidence,
    }
}

fn of_veto(document: VetoDocument) -> RecordSummary {
    let VetoDocument {
        version: _,
        kind: _,
        id,
        at: Text(at),
        service: Text(service),
        environment: Text(environment),
        to: Text(to),
        merge_request: number,
        how,
    } = document;
    RecordSummary {
        what: Recorded::Veto { number },
        id,
        target: Some(Target { service, environment }),
        from: None,
        to: Some(to),
        who: None,
        why: Some(how),
        at,
        revision: None,
        evidence: Vec::new(),
    }
}

fn of_rollback(document: RollbackDocument) -> RecordSummary {
    let RollbackDocument {
        version: _,
        kind: _,
        id,
        at: Text(at),
        service: Text(service),
        environment: Text(environment),
        from: Text(from),
        to: Text(to),
        fast: _,
        asked_at: _,
        word,
        result,
        merge_request: number,
        revision,
        approvals: _,
        how,
    } = document;
    let revision = unopt(revision);
    let end = match result {
        RecallResult::Back => RecallEnd::Back { revision },
        RecallResult::Refused => RecallEnd::Refused,
        RecallResult::Withdrawn => RecallEnd::Withdrawn,
    };
    let Word { by, reason } = word.into();
    RecordSummary {
        what: Recorded::Rollback { number, end, how },
        id,
        target: Some(Target { service, environment }),
        from: Some(from),
        to: Some(to),
        who: Some(by),
        why: Some(reason),
        at,
        revision,
        evidence: Vec::new(),
    }
}

fn of_word(document: WordDocument) -> RecordSummary {
    let WordDocument { version: _, kind: _, id, at: Text(at), word, command } = document;
    let Word { by, reason } = word.into();
    let command = Command::from(command);
    let (target, to, revision) = aim(&command);
    RecordSummary {
        what: Recorded::Word { command },
        id,
        target,
        from: None,
        to,
        who: Some(by),
        why: Some(reason),
        at,
        revision,
        evidence: Vec::new(),
    }
}

/// The target, ref and commit that a command speaks of.
fn aim(command: &Command) -> (Option<Target>, Option<Ref>, Option<Revision>) {
    match command {
        Command::Pause { scope, .. } | Command::Unpause { scope } => match scope {
            Scope::Target(target) => (Some(target.clone()), None, None),
            Scope::All | Scope::Environment(_) | Scope::Service(_) => (None, None, None),
        },
        Command::Pin { target, reference } => (Some(target.clone()), Some(reference.clone()), None),
        Command::Approve { target, reference: to }
        | Command::Promote { target, reference: to }
        | Command::Rollback { target, to, .. } => (Some(target.clone()), to.clone(), None),
        Command::DropPatch { target, patch } => (Some(target.clone()), Some(patch.clone()), None),
        Command::Unpin { target }
        | Command::Lock { target }
        | Command::Unlock { target }
        | Command::PostMigrate { target, .. }
        | Command::Abort { target, .. }
        | Command::Retry { target, .. }
        | Command::RetryOnly { target, .. }
        | Command::Resume { target }
        | Command::Exclude { target, .. }
        | Command::LeaveOut { target, .. }
        | Command::Migration { target, .. } => (Some(target.clone()), None, None),
        Command::Confirm { revision } | Command::AcceptHead { revision } => {
            (None, None, Some(*revision))
        }
        Command::Freeze { .. } | Command::Thaw { .. } | Command::Weigh { .. } | Command::Nudge => {
            (None, None, None)
        }
    }
}

fn verb(command: &Command) -> &'static str {
    match command {
        Command::Pause { .. } => "pause",
        Command::Unpause { .. } => "unpause",
        Command::Pin { .. } => "pin",
        Command::Unpin { .. } => "unpin",
        Command::Lock { .. } => "lock",
        Command::Unlock { .. } => "unlock",
        Command::Freeze { .. } => "freeze",
        Command::Thaw { .. } => "thaw",
        Command::Weigh { .. } => "weight",
        Command::Approve { .. } => "approve",
        Command::Promote { .. } => "promote",
        Command::Rollback { .. } => "rollback",
        Command::PostMigrate { .. } => "post-migrate",
        Command::DropPatch { .. } => "drop-patch",
        Command::Abort { .. } => "abort",
        Command::Retry { .. } | Command::RetryOnly { .. } => "retry",
        Command::Resume { .. } => "resume",
        Command::Exclude { .. } | Command::LeaveOut { lift: false, .. } => "exclude",
        Command::LeaveOut { lift: true, .. } => "include",
        Command::Migration { .. } => "migration",
        Command::Confirm { .. } => "confirm",
        Command::AcceptHead { .. } => "accept-head",
        Command::Nudge => "nudge",
    }
}
