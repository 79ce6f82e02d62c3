//! What is made of an errand: started or not, waited for, given up. A pure decision but for the
//! calls to the CI.

use std::time::Duration;

use super::{Ci, Progress, Run, Stand};
use crate::drivers::hosted::api::ApiError;
use crate::model::{Errand, Timestamp, format_duration};

/// A failed pipeline counts as failed when it still is after this: a job that is retried takes it
/// back.
const FAILED_FOR: Duration = Duration::from_secs(20);
/// A start whose answer was lost may still be under way for so long.
pub const LOST_FOR: Duration = Duration::from_mins(2);
/// How far the clock of a CI may be off.
const SKEW: Duration = Duration::from_hours(1);

/// What is remembered of an errand.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) id: Option<u64>,
    pub(super) begun: Begun,
    pub(super) failed_since: Option<Timestamp>,
    /// Why it was waited for at the last look, and when that was.
    pub(super) waited: Option<(Timestamp, String)>,
}

/// Whether it was started by this process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Begun {
    #[default]
    No,
    Yes(Timestamp),
    /// The answer was lost.
    Perhaps(Timestamp),
}

impl Known {
    /// Whether a look at the CI brings all of it back.
    pub(super) fn is_found_again(&self) -> bool {
        self.id.is_some() && self.failed_since.is_none()
    }
}

/// Looks at the errand's pipeline, after starting it if it was never started. An earlier attempt
/// that somebody brought back to life counts as the pipeline of a later one.
pub(super) fn ensure(
    ci: &dyn Ci,
    opened: Timestamp,
    known: &mut Known,
    errand: &Errand,
    clock: &dyn Fn() -> Timestamp,
) -> Progress {
    let shown_by = match known.begun {
        Begun::No => None,
        Begun::Yes(at) => Some(at.after(ci.shows_within())),
        Begun::Perhaps(at) => Some(at.after(LOST_FOR.max(ci.shows_within()))),
    };
    if known.id.is_none() && shown_by.is_some_and(|at| at <= errand.since) {
        // A person asked for it again, when what was begun should have been to be seen, and was not.
        known.begun = Begun::No;
    }
    match seen(ci, known, errand) {
        Ok(Some(run)) => stands(&run, known, errand, clock()),
        Ok(None) => unseen(ci, opened, known, errand, clock),
        Err(error) => asked_in_vain(&error, clock() > errand.since.after(errand.timeout)),
    }
}

/// The same of an errand that is not to be started any more.
pub(super) fn look(
    ci: &dyn Ci,
    opened: Timestamp,
    known: &mut Known,
    errand: &Errand,
    clock: &dyn Fn() -> Timestamp,
) -> Progress {
    match seen(ci, known, errand) {
        Ok(Some(run)) => stands(&run, known, errand, clock()),
        Ok(None) => match shows_until(ci, opened, known, errand) {
            Some(until) if clock() < until => {
                Progress::Waits("looking whether it was started".to_owned())
            }
            Some(_) | None => {
                Progress::Failed("it was not started, and is not any more".to_owned())
            }
        },
        Err(error) => asked_in_vain(&error, clock() > errand.since.after(errand.timeout)),
    }
}

/// Until when one may come to be seen that is not to be seen yet; `None` if it was never started.
fn shows_until(
    ci: &dyn Ci,
    opened: Timestamp,
    known: &Known,
    errand: &Errand,
) -> Option<Timestamp> {
    let begun = match known.begun {
        Begun::Yes(at) | Begun::Perhaps(at) => at,
        Begun::No if errand.first < opened => opened,
        Begun::No => return None,
    };
    Some(begun.after(LOST_FOR.max(ci.shows_within())))
}

/// How one that was found stands.
fn stands(run: &Run, known: &mut Known, errand: &Errand, now: Timestamp) -> Progress {
    let late = now > errand.since.after(errand.timeout);
    known.id = Some(run.id);
    let failed = matches!(run.stand, Stand::Failed(_));
    let failed_since = failed.then(|| known.failed_since.unwrap_or(now));
    known.failed_since = failed_since;
    let said = told(run);
    match &run.stand {
        Stand::Succeeded => Progress::Done(said),
        Stand::Canceled => Progress::Failed(said),
        Stand::Failed(_) if failed_since.is_some_and(|at| now >= at.after(FAILED_FOR)) => {
            Progress::Failed(said)
        }
        Stand::Failed(_) => {
            Progress::Waits(format!("{said}; looking once more, for a retried job takes it back"))
        }
        Stand::Under(_) | Stand::Manual | Stand::Unknown(_) if late => Progress::TimedOut(format!(
            "not done within {}: {said}; it goes on there, and `towpath retry` waits for it again",
            format_duration(errand.timeout)
        )),
        Stand::Under(_) | Stand::Manual | Stand::Unknown(_) => Progress::Waits(said),
    }
}

/// The errand's pipeline, if it is to be seen.
fn seen(ci: &dyn Ci, known: &mut Known, errand: &Errand) -> Result<Option<Run>, ApiError> {
    if let Some(id) = known.id {
        match ci.look(id) {
            // Somebody removed it there: to be looked for, and not to be started again by itself.
            Err(ApiError::NotFound { .. }) => {
                known.id = None;
                known.begun = Begun::Yes(errand.first);
            }
            said => return said.map(Some),
        }
    }
    let mut found = ci.find(errand, errand.first.before(SKEW))?;
    let own = found.remove(&errand.key);
    let earlier = || found.into_values().filter(|it| it.stand.may_do()).max_by_key(|it| it.id);
    Ok(own.or_else(earlier))
}

/// No pipeline with this key is to be seen.
fn unseen(
    ci: &dyn Ci,
    opened: Timestamp,
    known: &mut Known,
    errand: &Errand,
    clock: &dyn Fn() -> Timestamp,
) -> Progress {
    let now = clock();
    match known.begun {
        Begun::Yes(at) if now < at.after(ci.shows_within()) => {
            return Progress::Waits("started; it is not to be seen yet".to_owned());
        }
        Begun::Yes(_) => {
            return Progress::Stuck(format!(
                "it was started, and no run with the key {} is to be seen: somebody removed it, or \
                 changed the name of its runs; `towpath retry` starts it anew",
                errand.key
            ));
        }
        Begun::Perhaps(at) if now < at.after(LOST_FOR.max(ci.shows_within())) => {
            return Progress::Waits(
                "the answer to its start was lost; looking whether it was started".to_owned(),
            );
        }
        // An earlier process may have started it just before it ended, and that may be under way still.
        Begun::No
            if errand.first < opened && now < opened.after(LOST_FOR.max(ci.shows_within())) =>
        {
            return Progress::Waits("looking whether it was started before".to_owned());
        }
        Begun::Perhaps(_) | Begun::No => {}
    }
    if now > errand.since.after(errand.timeout) {
        return Progress::TimedOut(
            "it was not started in time; `towpath retry` starts it".to_owned(),
        );
    }
    let answer = ci.start(errand);
    let now = clock();
    match answer {
        Ok(run) => {
            known.begun = Begun::Yes(now);
            let Some(run) = run else { return Progress::Waits("started".to_owned()) };
            known.id = Some(run.id);
            Progress::Waits(format!("started: {}", run.url))
        }
        Err(error @ (ApiError::Lost { .. } | ApiError::NotUnderstood { .. })) => {
            known.begun = Begun::Perhaps(now);
            Progress::Waits(error.to_string())
        }
        Err(error @ ApiError::Later { .. }) => Progress::Waits(error.to_string()),
        Err(
            error @ (ApiError::NotFound { .. }
            | ApiError::Exists { .. }
            | ApiError::Forbidden { .. }
            | ApiError::Refused { .. }),
        ) => Progress::Failed(error.to_string()),
    }
}

fn asked_in_vain(error: &ApiError, late: bool) -> Progress {
    match error {
        ApiError::Later { .. } | ApiError::Lost { .. } | ApiError::NotUnderstood { .. }
            if !late =>
        {
            Progress::Waits(error.to_string())
        }
        ApiError::Later { .. }
        | ApiError::Lost { .. }
        | ApiError::NotUnderstood { .. }
        | ApiError::NotFound { .. }
        | ApiError::Exists { .. }
        | ApiError::Forbidden { .. }
        | ApiError::Refused { .. } => Progress::Stuck(error.to_string()),
    }
}

/// Asks for its end; true when it is over, or was never started.
pub(super) fn cancel(
    ci: &dyn Ci,
    opened: Timestamp,
    known: &mut Known,
    errand: &Errand,
    clock: &dyn Fn() -> Timestamp,
) -> Result<bool, ApiError> {
    let Some(run) = seen(ci, known, errand)? else {
        return Ok(shows_until(ci, opened, known, errand).is_none_or(|until| clock() >= until));
    };
    known.id = Some(run.id);
    if run.stand.is_over() {
        return Ok(true);
    }
    ci.cancel(run.id)?;
    Ok(ci.look(run.id)?.stand.is_over())
}

/// A pipeline and how it stands, in a sentence with its address.
fn told(run: &Run) -> String {
    let Run { id, url, stand } = run;
    match stand {
        Stand::Under(word) => format!("pipeline {id} is {word}: {url}"),
        Stand::Manual => format!("pipeline {id} waits for somebody to start a job: {url}"),
        Stand::Succeeded => format!("pipeline {id} succeeded: {url}"),
        Stand::Failed(why) => format!("pipeline {id} failed{why}: {url}"),
        Stand::Canceled => format!("pipeline {id} was canceled: {url}"),
        Stand::Unknown(word) => {
            format!("pipeline {id} says `{word}`, which means nothing to this Towpath: {url}")
        }
    }
}
