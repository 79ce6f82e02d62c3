//! What the algorithm in [`super`] asks of a forge's own interface: about a dozen calls, in words that fit
//! every forge. One file per forge answers them; nothing in here decides.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{Branch, Revision, Timestamp};

/// A merge request, a pull request: as the forge shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The number that people know it by.
    pub number: u64,
    /// The branch that it proposes, by name.
    pub source: String,
    /// Where the forge believes that branch to be; nothing if it says none.
    pub head: Option<Revision>,
    /// One line.
    pub title: String,
    /// The rest, with our marker in it.
    pub body: String,
    /// Its labels.
    pub labels: BTreeSet<String>,
    /// Who opened it.
    pub author: Account,
    /// How far it is.
    pub state: Standing,
    /// Whether the forge itself will merge it when its pipeline is done.
    pub armed: bool,
    /// Whether that is by a train or a queue, which tests it on top of whatever goes in before it; and nothing is known to
    /// be in its way there.
    pub rides: bool,
    /// What the forge says of merging it now.
    pub readiness: Readiness,
    /// Where people find it.
    pub url: String,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Somebody with an account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account {
    /// The forge's own number for it: names change.
    pub id: u64,
    /// The name that people write.
    pub name: String,
}

/// How far a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It waits.
    Open,
    /// The forge is merging it at this moment.
    Locked,
    /// It is in the base branch.
    Merged {
        /// The commit of the base branch that carries it, where the forge says so.
        sha: Option<Revision>,
        /// By whom.
        by: Option<Account>,
        /// When.
        at: Timestamp,
    },
    /// It was closed without a merge.
    Closed {
        /// By whom.
        by: Option<Account>,
        /// When.
        at: Timestamp,
    },
}

/// What a forge says of merging a request now. Each holds the forge's own word for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Nothing is in the way.
    Ready,
    /// It has not worked that out yet: ask again in a moment.
    Transient(String),
    /// Something has to happen first that happens by itself, such as a pipeline.
    Waiting(String),
    /// The branch has to be rebuilt on the base branch.
    Stale(String),
    /// An approval is missing.
    Unapproved(String),
    /// Somebody asked for changes: a veto.
    Vetoed(String),
    /// A person has to do something.
    Blocked(String),
    /// A word that we do not know. Never taken for good.
    Unknown(String),
}

/// A request to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRequest<'a> {
    /// What it proposes.
    pub source: &'a Branch,
    /// Where to.
    pub base: &'a Branch,
    /// One line.
    pub title: &'a str,
    /// The rest.
    pub body: &'a str,
    /// The label that says it is ours.
    pub label: &'a str,
}

/// What to change of a request; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit<'a> {
    /// One line.
    pub title: Option<&'a str>,
    /// The rest.
    pub body: Option<&'a str>,
    /// A label to add. No label is ever taken away.
    pub label: Option<&'a str>,
    /// Whether to close it, in the same breath.
    pub close: bool,
}

/// What a person said of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// Who.
    pub by: Account,
    /// Of which head; nothing if the forge cannot tell, and then it counts for none.
    pub sha: Option<Revision>,
    /// What.
    pub opinion: Opinion,
    /// When.
    pub at: Timestamp,
}

/// What a review says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// Good.
    Approved,
    /// Not like this.
    ChangesRequested,
}

/// A status or a check on a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it is called. A pipeline as a whole is called [`PIPELINE`].
    pub name: String,
    /// How it stands.
    pub state: CheckState,
    /// Who put it there, where the forge says so.
    pub by: Option<Account>,
    /// One line of explanation.
    pub why: String,
}

/// The name of the forge's own pipeline among the checks. A pipeline that consists of nothing but
/// statuses from outside is none.
pub const PIPELINE: &str = "pipeline";

/// How a check stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckState {
    /// Good.
    Green,
    /// Bad, cancelled, or timed out.
    Red,
    /// Not finished: queued or running.
    Running,
    /// Waits for a person, who may never come.
    Manual,
    /// Finished without an opinion, such as skipped. Not green, and not in the way.
    Neutral,
}

/// Our own status to put on a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewStatus<'a> {
    /// On which commit.
    pub sha: Revision,
    /// The branch it is at, if it is one of the project.
    pub branch: Option<&'a Branch>,
    /// What it is called.
    pub name: &'a str,
    /// How it stands.
    pub state: CheckState,
    /// One line of explanation.
    pub why: &'a str,
    /// Where to read more.
    pub url: Option<&'a str>,
}

/// A comment on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// The forge's number for it.
    pub id: u64,
    /// Who wrote it.
    pub by: Account,
    /// What it says.
    pub text: String,
    /// Whether somebody changed it after it was written.
    pub edited: bool,
    /// When it was written, by the forge's clock, if it says so.
    pub at: Option<Timestamp>,
}

/// A request that need not be ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Any {
    /// As the forge shows it.
    pub request: Request,
    /// Whether its branch is one of the project itself; else it is one of a fork.
    pub here: bool,
}

/// What came of asking the forge to merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MergeAnswer {
    /// It is in the base branch, by this commit where the forge says so.
    Merged {
        /// The commit of the base branch.
        sha: Option<Revision>,
    },
    /// The forge has taken it on, and merges later: auto-merge, a train, a queue.
    Armed {
        /// What it waits for.
        why: String,
    },
    /// The branch is not at the sha that was spoken of.
    HeadMoved,
    /// Not now; the same call may work in a moment. Some forges say so of a wrong sha too.
    NotYet {
        /// In the forge's words.
        why: String,
    },
    /// The branch has to be rebuilt.
    Stale {
        /// In the forge's words.
        why: String,
    },
    /// A person has to do something.
    Blocked {
        /// In the forge's words.
        why: String,
    },
}

/// Who merges: we, now, or the forge, when its pipeline is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Every check is green.
    Now,
    /// A pipeline is under way. Only forges whose automatic merge is guarded by sha take this.
    PipelineDone,
}

/// What the project says about merging.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether nothing merges without a green pipeline.
    pub needs_pipeline: bool,
    /// Whether the forge merges by itself, guarded by sha: GitLab's auto-merge, a train, a queue.
    pub arms: bool,
    /// Names of checks that the base branch requires.
    pub checks: BTreeSet<String>,
}

/// Why a call did not do what was asked. No variant holds a token.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It may work later: no connection, a server error, too many requests.
    #[error("{doing}: {why}")]
    Later {
        /// What we were doing.
        doing: String,
        /// Why not.
        why: String,
        /// When the forge wants to be asked again, if it said so.
        after: Option<Duration>,
    },
    /// The request may have arrived, and its answer was lost. Look before doing it again.
    #[error("{doing}: the answer was lost: {why}")]
    Lost {
        /// What we were doing.
        doing: String,
        /// How.
        why: String,
    },
    /// There is no such thing, or we may not see it.
    #[error("{doing}: not found")]
    NotFound {
        /// What we were doing.
        doing: String,
    },
    /// There is one already.
    #[error("{doing}: {why}")]
    Exists {
        /// What we were doing.
        doing: String,
        /// In the forge's words.
        why: String,
    },
    /// We may not: the message names what the token lacks.
    #[error("{doing}: {why}")]
    Forbidden {
        /// What we were doing.
        doing: String,
        /// What is missing, and what to do.
        why: String,
    },
    /// The forge said no.
    #[error("{doing}: {why}")]
    Refused {
        /// What we were doing.
        doing: String,
        /// In the forge's words, shortened.
        why: String,
    },
    /// An answer that we do not understand. Never taken for a yes.
    #[error("{doing}: the answer is not understood: {why}")]
    NotUnderstood {
        /// What we were doing.
        doing: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The calls. Each blocks and has a deadline; those that may be repeated are repeated inside, within a
/// budget. A call that creates something answers [`ApiError::Lost`] when it cannot tell.
pub trait Api: Send {
    /// What people call this forge.
    fn forge(&self) -> &'static str;

    /// Whose token this is.
    fn whoami(&self) -> Result<Account, ApiError>;

    /// What the project says about merging into `base`. Also finds out early whether we may do our work.
    fn rules(&self, base: &Branch) -> Result<Rules, ApiError>;

    /// Requests with our label or by us, newest first: all open ones, and enough of the settled ones
    /// that the latest of every target is among them, within a bound.
    fn list(&self, base: &Branch, label: &str) -> Result<Vec<Request>, ApiError>;

    /// The open request from `source` to `base`; at most one can be open.
    fn find(&self, source: &Branch, base: &Branch) -> Result<Option<Request>, ApiError>;

    /// One request, looked at anew; nothing if there is none.
    fn get(&self, number: u64) -> Result<Option<Request>, ApiError>;

    /// Opens one. [`ApiError::Exists`] if there is one from this branch.
    fn open(&self, new: &NewRequest<'_>) -> Result<Request, ApiError>;

    /// Changes one.
    fn edit(&self, number: u64, edit: &Edit<'_>) -> Result<Request, ApiError>;

    /// What people said of it: the last word of each.
    fn reviews(&self, request: &Request) -> Result<Vec<Review>, ApiError>;

    /// Agrees in the name of a second account, where one is configured; whether there is one. The
    /// author of a request cannot approve it.
    fn second(&self, number: u64, sha: Revision) -> Result<bool, ApiError>;

    /// Everybody's statuses and checks on a commit, the latest of each name, and its pipeline.
    fn checks(&self, request: &Request, sha: Revision) -> Result<Vec<Check>, ApiError>;

    /// Puts our own status there.
    fn set_status(&self, status: &NewStatus<'_>) -> Result<(), ApiError>;

    /// The comment of ours that holds `marker`.
    fn comment(&self, number: u64, marker: &str) -> Result<Option<Comment>, ApiError>;

    /// All open requests to `base`, whoever opened them: the last changed ones, one page of them.
    fn open_ones(&self, base: &Branch) -> Result<Vec<Any>, ApiError>;

    /// The ref under which the forge shows the head of a request, also of one from a fork.
    fn head_ref(&self, number: u64) -> String;

    /// The comments on a request, as people wrote them.
    fn comments(&self, number: u64) -> Result<Vec<Comment>, ApiError>;

    /// Writes a comment: a new one, or in the place of `old`.
    fn say(&self, number: u64, old: Option<u64>, text: &str) -> Result<(), ApiError>;

    /// Merges exactly `sha`.
    fn merge(&self, request: &Request, sha: Revision, when: When) -> Result<MergeAnswer, ApiError>;

    /// Ensures that the forge does not merge it by itself.
    fn disarm(&self, number: u64) -> Result<(), ApiError>;

    /// Puts right what a call of ours left half done whose answer was lost; what there is to wait for then.
    fn mend(&self, _request: &Request) -> Result<Option<String>, ApiError> {
        Ok(None)
    }

    /// A person wanted at that time that the forge tries again what it had given up. False if there is nothing left
    /// to do.
    fn again(&self, _number: u64, _asked: Timestamp) -> Result<bool, ApiError> {
        Ok(false)
    }

    /// Who took the label away last, if that is how it went.
    fn unlabelled_by(&self, number: u64, label: &str) -> Result<Option<Account>, ApiError>;
}

impl<T: Api + ?Sized> Api for Box<T> {
    fn forge(&self) -> &'static str {
        (**self).forge()
    }

    fn whoami(&self) -> Result<Account, ApiError> {
        (**self).whoami()
    }

    fn rules(&self, base: &Branch) -> Result<Rules, ApiError> {
        (**self).rules(base)
    }

    fn list(&self, base: &Branch, label: &str) -> Result<Vec<Request>, ApiError> {
        (**self).list(base, label)
    }

    fn find(&self, source: &Branch, base: &Branch) -> Result<Option<Request>, ApiError> {
        (**self).find(source, base)
    }

    fn get(&self, number: u64) -> Result<Option<Request>, ApiError> {
        (**self).get(number)
    }

    fn open(&self, new: &NewRequest<'_>) -> Result<Request, ApiError> {
        (**self).open(new)
    }

    fn edit(&self, number: u64, edit: &Edit<'_>) -> Result<Request, ApiError> {
        (**self).edit(number, edit)
    }

    fn reviews(&self, request: &Request) -> Result<Vec<Review>, ApiError> {
        (**self).reviews(request)
    }

    fn second(&self, number: u64, sha: Revision) -> Result<bool, ApiError> {
        (**self).second(number, sha)
    }

    fn checks(&self, request: &Request, sha: Revision) -> Result<Vec<Check>, ApiError> {
        (**self).checks(request, sha)
    }

    fn set_status(&self, status: &NewStatus<'_>) -> Result<(), ApiError> {
        (**self).set_status(status)
    }

    fn comment(&self, number: u64, marker: &str) -> Result<Option<Comment>, ApiError> {
        (**self).comment(number, marker)
    }

    fn open_ones(&self, base: &Branch) -> Result<Vec<Any>, ApiError> {
        (**self).open_ones(base)
    }

    fn head_ref(&self, number: u64) -> String {
        (**self).head_ref(number)
    }

    fn comments(&self, number: u64) -> Result<Vec<Comment>, ApiError> {
        (**self).comments(number)
    }

    fn say(&self, number: u64, old: Option<u64>, text: &str) -> Result<(), ApiError> {
        (**self).say(number, old, text)
    }

    fn merge(&self, request: &Request, sha: Revision, when: When) -> Result<MergeAnswer, ApiError> {
        (**self).merge(request, sha, when)
    }

    fn disarm(&self, number: u64) -> Result<(), ApiError> {
        (**self).disarm(number)
    }

    fn mend(&self, request: &Request) -> Result<Option<String>, ApiError> {
        (**self).mend(request)
    }

    fn again(&self, number: u64, asked: Timestamp) -> Result<bool, ApiError> {
        (**self).again(number, asked)
    }

    fn unlabelled_by(&self, number: u64, label: &str) -> Result<Option<Account>, ApiError> {
        (**self).unlabelled_by(number, label)
    }
}
