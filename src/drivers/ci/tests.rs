//! What is made of what a CI says, with a CI that says what it is told to.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use super::course::{Begun, Known, cancel, ensure, look};
use super::{Ci, Progress, Run, Stand, address, harmless};
use crate::drivers::hosted::api::ApiError;
use crate::model::{CiName, Errand, RolloutId, StepKey, Timestamp, Trigger};

struct Told {
    stand: RefCell<Option<Stand>>,
    starts: Cell<u32>,
    /// The answer to the next start is lost; whether it arrived.
    lost: Cell<Option<bool>>,
    /// A run that was started is not to be seen yet.
    hidden: Cell<bool>,
    trouble: Cell<Option<fn() -> ApiError>>,
    /// When its run was started.
    made: Cell<Timestamp>,
    /// Of which attempt its run is, if not of the one that is asked about.
    of: RefCell<Option<StepKey>>,
    cancels: Cell<u32>,
}

impl Told {
    fn new() -> Self {
        Self {
            stand: RefCell::default(),
            starts: Cell::default(),
            lost: Cell::default(),
            hidden: Cell::default(),
            trouble: Cell::default(),
            made: Cell::new(at(0)),
            of: RefCell::default(),
            cancels: Cell::default(),
        }
    }

    fn says(&self, stand: Stand) {
        *self.stand.borrow_mut() = Some(stand);
    }

    fn run(&self) -> Option<Run> {
        let stand = self.stand.borrow().clone()?;
        Some(Run { id: 7, url: "https://ci/7".to_owned(), stand })
    }
}

impl Ci for Told {
    fn find(&self, errand: &Errand, after: Timestamp) -> Result<BTreeMap<StepKey, Run>, ApiError> {
        if let Some(error) = self.trouble.get() {
            return Err(error());
        }
        let run = self.run().filter(|_| !self.hidden.get() && self.made.get() >= after);
        let key = self.of.borrow().clone().unwrap_or_else(|| errand.key.clone());
        Ok(run.map(|run| (key, run)).into_iter().collect())
    }

    fn start(&self, _: &Errand) -> Result<Option<Run>, ApiError> {
        self.starts.set(self.starts.get() + 1);
        let lost = self.lost.take();
        if lost != Some(false) {
            self.says(Stand::Under("pending".to_owned()));
        }
        match lost {
            Some(_) => Err(ApiError::Lost { doing: "starting".to_owned(), why: "cut".to_owned() }),
            None => Ok(self.run().filter(|_| !self.hidden.get())),
        }
    }

    fn look(&self, _: u64) -> Result<Run, ApiError> {
        match self.trouble.get() {
            Some(error) => Err(error()),
            None => Ok(self.run().unwrap()),
        }
    }

    fn cancel(&self, _: u64) -> Result<(), ApiError> {
        self.cancels.set(self.cancels.get() + 1);
        if self.cancels.get() > 1 {
            self.says(Stand::Canceled);
        }
        Ok(())
    }

    fn pipelines(&self, _: &str, _: &str) -> Result<Vec<Run>, ApiError> {
        Ok(Vec::new())
    }

    fn package(&self, _: &str, _: &str, _: &str) -> Result<bool, ApiError> {
        Ok(false)
    }

    fn shows_within(&self) -> Duration {
        Duration::from_secs(10)
    }
}

fn errand() -> Errand {
    let call = Trigger {
        ci: CiName::parse("ops").unwrap(),
        workflow: None,
        branch: "main".to_owned(),
        variables: BTreeMap::new(),
    };
    let key = StepKey::new(&RolloutId::parse("0123456789ab").unwrap(), "s1", 1);
    let timeout = Duration::from_mins(10);
    Errand { call, key, earlier: Vec::new(), first: at(0), since: at(0), timeout }
}

fn at(secs: u64) -> Timestamp {
    Timestamp(1_000_000_000).after(Duration::from_secs(secs))
}

fn ensured(
    ci: &Told,
    opened: Timestamp,
    known: &mut Known,
    errand: &Errand,
    now: Timestamp,
) -> Progress {
    ensure(ci, opened, known, errand, &|| now)
}

fn waits(progress: &Progress, part: &str) {
    assert!(matches!(progress, Progress::Waits(why) if why.contains(part)), "{part}: {progress:?}");
}

#[test]
fn it_is_started_once_and_waited_for() {
    let (ci, mut known, errand) = (Told::new(), Known::default(), errand());
    waits(&ensured(&ci, at(0), &mut known, &errand, at(0)), "started");
    ci.says(Stand::Under("running".to_owned()));
    waits(&ensured(&ci, at(0), &mut known, &errand, at(10)), "is running: https://ci/7");
    // Another process, which remembers nothing.
    waits(&ensured(&ci, at(0), &mut Known::default(), &errand, at(20)), "is running");
    ci.says(Stand::Unknown("levitating".to_owned()));
    waits(&ensured(&ci, at(0), &mut known, &errand, at(30)), "`levitating`, which means nothing");
    ci.says(Stand::Succeeded);
    assert!(matches!(ensured(&ci, at(0), &mut known, &errand, at(40)), Progress::Done(_)));
    assert_eq!(ci.starts.get(), 1);
}

#[test]
fn a_failed_one_that_somebody_retries_has_not_failed() {
    let (ci, mut known, errand) = (Told::new(), Known::default(), errand());
    ensured(&ci, at(0), &mut known, &errand, at(0));
    ci.says(Stand::Failed(" in deploy".to_owned()));
    waits(&ensured(&ci, at(0), &mut known, &errand, at(10)), "looking once more");
    ci.says(Stand::Under("running".to_owned()));
    waits(&ensured(&ci, at(0), &mut known, &errand, at(20)), "running");
    // The time begins anew.
    ci.says(Stand::Failed(" in deploy".to_owned()));
    waits(&ensured(&ci, at(0), &mut known, &errand, at(31)), "looking once more");
    let said = ensured(&ci, at(0), &mut known, &errand, at(52));
    assert!(matches!(&said, Progress::Failed(why) if why.contains("in deploy")), "{said:?}");
    ci.says(Stand::Canceled);
    let said = ensured(&ci, at(0), &mut known, &errand, at(60));
    assert!(matches!(&said, Progress::Failed(why) if why.contains("was canceled")), "{said:?}");
}

#[test]
fn what_takes_too_long_has_not_failed_and_can_be_waited_for_again() {
    let (ci, mut known, errand) = (Told::new(), Known::default(), errand());
    ensured(&ci, at(0), &mut known, &errand, at(0));
    ci.says(Stand::Manual);
    waits(&ensured(&ci, at(0), &mut known, &errand, at(600)), "waits for somebody");
    let said = ensured(&ci, at(0), &mut known, &errand, at(601));
    assert!(matches!(&said, Progress::TimedOut(why) if why.contains("goes on there")), "{said:?}");
    // Asked again, later, it is the same one.
    // By another process too, long after it was started.
    let again = Errand { since: at(90_000), ..errand };
    waits(&ensured(&ci, at(0), &mut known, &again, at(90_000)), "waits for somebody");
    let mut nothing = Known::default();
    waits(&ensured(&ci, at(80_000), &mut nothing, &again, at(90_000)), "waits for somebody");
    assert_eq!(ci.starts.get(), 1);
}

#[test]
fn a_start_whose_answer_was_lost_is_looked_for_before_another() {
    for arrived in [true, false] {
        let (ci, mut known, errand) = (Told::new(), Known::default(), errand());
        ci.lost.set(Some(arrived));
        ci.hidden.set(true);
        waits(&ensured(&ci, at(0), &mut known, &errand, at(0)), "the answer was lost");
        waits(&ensured(&ci, at(0), &mut known, &errand, at(119)), "looking whether");
        ci.hidden.set(false);
        let said = ensured(&ci, at(0), &mut known, &errand, at(121));
        waits(&said, if arrived { "is pending" } else { "started" });
        assert_eq!(ci.starts.get(), if arrived { 1 } else { 2 });
    }
}

#[test]
fn a_new_process_gives_an_earlier_start_time_to_show() {
    let (ci, errand) = (Told::new(), errand());
    let mut known = Known::default();
    let opened = Timestamp(at(0).0 + 1);
    // Also one whose answer that one did not hear.
    for now in [opened, at(120)] {
        waits(&ensured(&ci, opened, &mut known, &errand, now), "whether it was started before");
    }
    assert_eq!(ci.starts.get(), 0);
    waits(&ensured(&ci, opened, &mut known, &errand, at(121)), "started");
    assert_eq!(ci.starts.get(), 1);
    // One that was started, and that nobody can see, is not started again by itself.
    ci.hidden.set(true);
    let mut known = Known { begun: Begun::Yes(at(11)), ..Known::default() };
    waits(&ensured(&ci, at(0), &mut known, &errand, at(20)), "not to be seen yet");
    let said = ensured(&ci, at(0), &mut known, &errand, at(30));
    assert!(matches!(&said, Progress::Stuck(why) if why.contains("towpath retry")), "{said:?}");
    assert_eq!(ci.starts.get(), 1);
    // A person who asks for it again gets another; but for one who asks before it had time to show.
    let soon = Errand { since: at(15), ..errand.clone() };
    let mut hidden = Known { begun: Begun::Perhaps(at(11)), ..Known::default() };
    waits(&ensured(&ci, at(0), &mut hidden, &soon, at(16)), "the answer to its start was lost");
    assert_eq!(ci.starts.get(), 1);
    let again = Errand { since: at(40), ..errand };
    waits(&ensured(&ci, at(0), &mut known, &again, at(40)), "started");
    assert_eq!(ci.starts.get(), 2);
}

#[test]
fn who_cannot_be_asked_is_waited_for_but_not_for_ever() {
    let (ci, mut known, errand) = (Told::new(), Known::default(), errand());
    ci.trouble.set(Some(|| ApiError::Later {
        doing: "looking".to_owned(),
        why: "status 502".to_owned(),
        after: None,
    }));
    waits(&ensured(&ci, at(0), &mut known, &errand, at(1)), "502");
    assert!(matches!(ensured(&ci, at(0), &mut known, &errand, at(601)), Progress::Stuck(_)));
    ci.trouble.set(Some(|| ApiError::Forbidden {
        doing: "looking".to_owned(),
        why: "the token lacks the scope `api`".to_owned(),
    }));
    assert!(matches!(ensured(&ci, at(0), &mut known, &errand, at(2)), Progress::Stuck(_)));
    assert_eq!(ci.starts.get(), 0);
}

#[test]
fn an_earlier_attempt_that_was_brought_back_to_life_does_the_work() {
    let (ci, errand) = (Told::new(), errand());
    let rollout = RolloutId::parse("0123456789ab").unwrap();
    *ci.of.borrow_mut() = Some(errand.key.clone());
    let again =
        Errand { key: StepKey::new(&rollout, "s1", 2), earlier: vec![errand.key], ..errand };
    ci.says(Stand::Under("running".to_owned()));
    waits(&ensured(&ci, at(0), &mut Known::default(), &again, at(60)), "is running");
    assert_eq!(ci.starts.get(), 0);
    // One that is as dead as before does not.
    ci.says(Stand::Failed(String::new()));
    waits(&ensured(&ci, at(0), &mut Known::default(), &again, at(60)), "started");
    assert_eq!(ci.starts.get(), 1);
}

#[test]
fn the_end_of_one_is_asked_for_until_it_is_there() {
    let (ci, mut known, errand) = (Told::new(), Known::default(), errand());
    let over =
        |known: &mut Known, opened, now| cancel(&ci, opened, known, &errand, &|| now).unwrap();
    // Never started, or perhaps by an earlier process.
    assert!(over(&mut known, at(0), at(5)));
    assert!(!over(&mut known, at(1), at(5)));
    assert!(over(&mut known, at(1), at(200)));
    // Started, and not listed yet.
    ensured(&ci, at(0), &mut known, &errand, at(0));
    ci.hidden.set(true);
    known.id = None;
    assert!(!over(&mut known, at(0), at(5)));
    ci.hidden.set(false);
    assert!(!over(&mut known, at(0), at(6)));
    assert!(over(&mut known, at(0), at(7)));
    assert_eq!(ci.cancels.get(), 2);
}

#[test]
fn one_that_is_only_looked_for_is_never_started() {
    let (ci, mut known, errand) = (Told::new(), Known::default(), errand());
    let looked = |known: &mut Known, opened, now| look(&ci, opened, known, &errand, &|| now);
    let over = |it: Progress| assert!(matches!(it, Progress::Failed(_)), "{it:?}");
    over(looked(&mut known, at(0), at(5)));
    // An earlier process may have started it just before it ended.
    waits(&looked(&mut known, at(1), at(5)), "looking whether it was started");
    over(looked(&mut known, at(1), at(200)));
    assert_eq!(ci.starts.get(), 0);
    ci.says(Stand::Under("running".to_owned()));
    waits(&looked(&mut known, at(0), at(6)), "is running: https://ci/7");
    ci.says(Stand::Succeeded);
    assert!(matches!(looked(&mut known, at(0), at(9)), Progress::Done(_)));
}

#[test]
fn what_a_ci_says_is_shown_harmless() {
    assert_eq!(harmless("\u{1b}[31mred\n"), "??31mred?");
    assert_eq!(address("https://ci/7", String::new), "https://ci/7");
    for odd in ["javascript:alert(1)", "https://ci/\u{202e}7", "", "https://ci/ 7"] {
        assert_eq!(address(odd, || "run 7".to_owned()), "run 7", "{odd:?}");
    }
}
