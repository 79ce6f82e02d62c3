//! The verbs by which people act on a running controller: each is one command over its socket.

use std::collections::BTreeSet;

use crate::api::{self, AskError, Request};
use crate::model::{
    Candidate, Command, EnvironmentName, Exclusion, MigrationVerdict, NodeName, Only, PersonName,
    Ref, Revision, RoleName, Route, Scope, ServiceName, Target, Timestamp, parse_duration,
};

use super::{Common, Failure, Kind, Ui, run};

/// Which target.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct On {
    /// Which service
    service: ServiceName,
    /// In which environment
    environment: EnvironmentName,
}

impl On {
    fn target(&self) -> Target {
        Target::new(&self.service, &self.environment)
    }
}

/// Who asks, and why.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Word {
    /// Why; goes into the record
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Act under another name; only for who runs the controller
    #[arg(long, value_name = "PERSON")]
    by: Option<PersonName>,
}

/// Ask for a promotion now: lifts a veto, and merges where `auto` is off.
#[derive(Debug, clap::Args)]
pub struct Promote {
    #[command(flatten)]
    on: On,
    /// What to promote; whatever is ready if absent
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<Ref>,
    #[command(flatten)]
    word: Word,
}

/// Put an earlier ref back by a commit to the config repo, or a merge request; block the bad one, and lock.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Rollback {
    #[command(flatten)]
    on: On,
    /// To what; the last ref proven there before if absent
    #[arg(long, value_name = "REF")]
    to: Option<Ref>,
    /// Without warm-up; the first node of every role alone, then the rest
    #[arg(long)]
    fast: bool,
    /// By a merge request instead of a commit: it merges when its checks pass and the approvals that
    /// promotions need here are there, or when somebody merges it. The target is locked at once
    #[arg(long, conflicts_with = "break_glass")]
    merge_request: bool,
    /// Do it at once, also when the config branch or its forge cannot be reached: by a commit on the
    /// controller's own copy, which is brought to the branch when that is possible again
    #[arg(long)]
    break_glass: bool,
    /// Only say whether it can be done, what it would do, and what blocks it: status 0 if it
    /// can, 2 if not
    #[arg(long, conflicts_with_all = ["fast", "merge_request", "break_glass", "reason", "by"])]
    check: bool,
    #[command(flatten)]
    word: Word,
}

/// Run the post-deploy migrations that a rollout left for later.
#[derive(Debug, clap::Args)]
pub struct PostMigrate {
    #[command(flatten)]
    on: On,
    /// Forget them: they were run by hand, or are not needed
    #[arg(long)]
    done: bool,
    #[command(flatten)]
    word: Word,
}

/// Let newer refs come that lack a hot patch.
#[derive(Debug, clap::Args)]
pub struct DropPatch {
    #[command(flatten)]
    on: On,
    /// Which hot patch
    patch: Ref,
    #[command(flatten)]
    word: Word,
}

/// Agree to a ref: promotions and manual stages count approvals.
#[derive(Debug, clap::Args)]
pub struct Approve {
    #[command(flatten)]
    on: On,
    /// Which ref, also before it waits; what waits for an approval there now if absent
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<Ref>,
    #[command(flatten)]
    word: Word,
}

/// End a rollout when the tasks in hand are done.
#[derive(Debug, clap::Args)]
pub struct Abort {
    #[command(flatten)]
    on: On,
    /// Kill what runs too; never a migration
    #[arg(long)]
    now: bool,
    /// Then roll back to the last ref that was proven there
    #[arg(long)]
    rollback: bool,
    #[command(flatten)]
    word: Word,
}

/// Try what failed again, and only that; or begin a rollout anew that had ended.
#[derive(Debug, clap::Args)]
pub struct Retry {
    #[command(flatten)]
    on: On,
    /// Only those of the nodes that failed: e.g. `web-*,!web-03`, `zone:a`, `role:web`
    #[arg(long, value_name = "PATTERNS")]
    only: Option<Only>,
    #[command(flatten)]
    word: Word,
}

/// Go on with a halted rollout.
#[derive(Debug, clap::Args)]
pub struct Resume {
    #[command(flatten)]
    on: On,
    /// Settle an interrupted migration: `done`, or `retry` to run it again
    #[arg(long, value_name = "VERDICT", value_parser = ["done", "retry"])]
    migration: Option<String>,
    /// Leave this node out, failed or not; or these: e.g. `web-*,!web-03`, `zone:a`, `role:web`
    #[arg(long, value_name = "PATTERNS", conflicts_with = "migration")]
    without: Option<Only>,
    #[command(flatten)]
    word: Word,
}

/// Wait no longer for nodes that do not answer: rollouts and rollbacks go without them until they do,
/// and bring them the ref then. They count as out of service meanwhile.
#[derive(Debug, clap::Args)]
pub struct Exclude {
    #[command(flatten)]
    on: On,
    /// Which node; or which: e.g. `web-17,web-18`, `zone:a`
    #[arg(value_name = "PATTERNS")]
    nodes: Only,
    /// Wait for them again
    #[arg(long)]
    lift: bool,
    /// Also those that are well; patterns that mean such nodes are answered with what that would do
    #[arg(long, conflicts_with = "lift")]
    yes: bool,
    #[command(flatten)]
    word: Word,
}

/// No new rollouts or promotions: everywhere, or where it is said.
#[derive(Debug, clap::Args)]
pub struct Pause {
    /// Only this service
    #[arg(long)]
    service: Option<ServiceName>,
    /// Only this environment
    #[arg(long)]
    environment: Option<EnvironmentName>,
    /// Lifts by itself after this long, e.g. 2h
    #[arg(long = "for", value_name = "TIME", conflicts_with = "lift")]
    span: Option<String>,
    /// Lift the pause
    #[arg(long)]
    lift: bool,
    #[command(flatten)]
    word: Word,
}

/// Keep a target on a ref, whatever the config says.
#[derive(Debug, clap::Args)]
pub struct Pin {
    #[command(flatten)]
    on: On,
    /// On which ref
    #[arg(required_unless_present = "lift")]
    reference: Option<Ref>,
    /// Lift the pin
    #[arg(long, conflicts_with = "reference")]
    lift: bool,
    #[command(flatten)]
    word: Word,
}

/// Let nobody else bring anything new to a target; rollbacks still go through.
#[derive(Debug, clap::Args)]
pub struct Lock {
    #[command(flatten)]
    on: On,
    /// Lift the lock
    #[arg(long)]
    lift: bool,
    #[command(flatten)]
    word: Word,
}

/// No changes in an environment for a time.
#[derive(Debug, clap::Args)]
pub struct Freeze {
    /// Which environment
    environment: EnvironmentName,
    /// For how long, e.g. 12h
    #[arg(long = "for", value_name = "TIME", required_unless_present = "lift")]
    span: Option<String>,
    /// Lift the freeze
    #[arg(long, conflicts_with = "span")]
    lift: bool,
    #[command(flatten)]
    word: Word,
}

/// Give the nodes of a role a share of their usual traffic, whatever rollouts ask for.
#[derive(Debug, clap::Args)]
pub struct Weight {
    /// In which environment
    environment: EnvironmentName,
    /// Which role
    role: RoleName,
    /// From 0 to 100; `auto` for what rollouts ask for
    #[arg(value_name = "PERCENT|auto", value_parser = percent)]
    percent: Percent,
    #[command(flatten)]
    word: Word,
}

/// A share in percent, or none of a person's own.
#[derive(Clone, Copy, Debug)]
struct Percent(Option<u32>);

fn percent(text: &str) -> Result<Percent, String> {
    if text == "auto" {
        return Ok(Percent(None));
    }
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    let fits = number.filter(|number| *number <= 100);
    fits.map(|it| Percent(Some(it))).ok_or_else(|| "write 0 to 100, or auto".to_owned())
}

/// Let a commit go on that changes more targets at once than may change unasked.
#[derive(Debug, clap::Args)]
pub struct Confirm {
    /// Which commit; its first digits are enough
    commit: String,
    #[command(flatten)]
    word: Word,
}

/// Accept a config head that does not descend from the one in force.
#[derive(Debug, clap::Args)]
pub struct Accept {
    /// Which commit; its first digits are enough
    commit: String,
    #[command(flatten)]
    word: Word,
}

/// Look at the config repo and at every target now.
#[derive(Debug, clap::Args)]
pub struct Nudge {}

/// `towpath promote`.
pub(super) fn promote(args: Promote, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let Promote { on, reference, word } = args;
    send(&Command::Promote { target: on.target(), reference }, &word, common, ui)
}

/// `towpath rollback`.
pub(super) fn rollback(args: Rollback, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let Rollback { on, to, fast, merge_request, break_glass, check, word } = args;
    if check {
        return super::rollback::check(&on.target(), to.as_ref(), common, ui);
    }
    let route = match (merge_request, break_glass) {
        (true, _) => Route::MergeRequest,
        (false, true) => Route::BreakGlass,
        (false, false) => Route::Commit,
    };
    let command = Command::Rollback { target: on.target(), to, fast, automatic: false, route };
    send(&command, &word, common, ui)
}

/// `towpath post-migrate`.
pub(super) fn post_migrate(args: PostMigrate, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let PostMigrate { on, done, word } = args;
    send(&Command::PostMigrate { target: on.target(), settled: done }, &word, common, ui)
}

/// `towpath drop-patch`.
pub(super) fn drop_patch(args: DropPatch, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let DropPatch { on, patch, word } = args;
    send(&Command::DropPatch { target: on.target(), patch }, &word, common, ui)
}

/// `towpath approve`.
pub(super) fn approve(args: Approve, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let Approve { on, reference, word } = args;
    send(&Command::Approve { target: on.target(), reference }, &word, common, ui)
}

/// `towpath abort`.
pub(super) fn abort(args: Abort, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let Abort { on, now, rollback, word } = args;
    let target = on.target();
    let done = send(&Command::Abort { target: target.clone(), now }, &word, common, ui)?;
    if rollback {
        let command = Command::Rollback {
            target,
            to: None,
            fast: false,
            automatic: false,
            route: Route::Commit,
        };
        return send(&command, &word, common, ui);
    }
    Ok(done)
}

/// `towpath retry`.
pub(super) fn retry(args: Retry, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let Retry { on, only, word } = args;
    let target = on.target();
    let command = match only {
        Some(only) => Command::RetryOnly { target, only },
        None => Command::Retry { target, comment: None },
    };
    send(&command, &word, common, ui)
}

/// `towpath resume`.
pub(super) fn resume(args: Resume, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let Resume { on, migration, without, word } = args;
    let target = on.target();
    let command = match (migration.as_deref(), without) {
        (Some("done"), _) => Command::Migration { target, verdict: MigrationVerdict::Done },
        (Some(_), _) => Command::Migration { target, verdict: MigrationVerdict::Retry },
        (None, Some(only)) => {
            for node in left_out(&target, &only, common)? {
                send(&Command::Exclude { target: target.clone(), node }, &word, common, ui)?;
            }
            return Ok(0);
        }
        (None, None) => Command::Resume { target },
    };
    send(&command, &word, common, ui)
}

/// `towpath exclude`.
pub(super) fn exclude(args: Exclude, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let Exclude { on, nodes, lift, yes, word } = args;
    let target = on.target();
    if let Ok(node) = NodeName::parse(&nodes.to_string()) {
        return send(&Command::LeaveOut { target, node, lift }, &word, common, ui);
    }
    let exclusion = Exclusion { target, only: nodes, lift, sure: yes };
    post(&Request::about_many(&exclusion, word.by.as_ref(), &word.reason), common, ui)
}

/// The nodes of a rollout under way that are meant.
fn left_out(target: &Target, only: &Only, common: &Common) -> Result<BTreeSet<NodeName>, Failure> {
    if let Ok(one) = NodeName::parse(&only.to_string()) {
        return Ok([one].into());
    }
    let setup = run::setup(common)?;
    // Zones and roles may be an inventory's to say; the nodes themselves are left alone.
    let seen = super::plan::look(&setup, |_| false)?;
    let Some(rollout) = seen.ledger.rollouts.get(target) else {
        return Err(Failure::new(Kind::Error, format!("no rollout is under way at {target}")));
    };
    let spec = seen.snapshot().spec(target);
    let candidate = |node| match &spec {
        Some(spec) => spec.candidate(node),
        None => Candidate { node, zone: None, roles: Vec::new() },
    };
    let candidates: Vec<Candidate<'_>> = rollout.plan().nodes.iter().map(candidate).collect();
    let wrong = |why: String| format!("of the nodes of rollout {} {why}", rollout.plan().id);
    only.of(&candidates).map_err(|why| Failure::new(Kind::Usage, wrong(why)))
}

/// `towpath pause`.
pub(super) fn pause(args: Pause, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let Pause { service, environment, span, lift, word } = args;
    let scope = match (service, environment) {
        (None, None) => Scope::All,
        (Some(service), None) => Scope::Service(service),
        (None, Some(environment)) => Scope::Environment(environment),
        (Some(service), Some(environment)) => Scope::Target(Target { service, environment }),
    };
    let command = if lift {
        Command::Unpause { scope }
    } else {
        Command::Pause { scope, until: span.as_deref().map(from_now).transpose()? }
    };
    send(&command, &word, common, ui)
}

/// `towpath pin`.
pub(super) fn pin(args: Pin, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let Pin { on, reference, lift: _, word } = args;
    let target = on.target();
    let command = match reference {
        Some(reference) => Command::Pin { target, reference },
        None => Command::Unpin { target },
    };
    send(&command, &word, common, ui)
}

/// `towpath lock`.
pub(super) fn lock(args: Lock, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let Lock { on, lift, word } = args;
    let target = on.target();
    let command = if lift { Command::Unlock { target } } else { Command::Lock { target } };
    send(&command, &word, common, ui)
}

/// `towpath freeze`.
pub(super) fn freeze(args: Freeze, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let Freeze { environment, span, lift: _, word } = args;
    let command = match span.as_deref() {
        Some(span) => Command::Freeze { environment, until: from_now(span)? },
        None => Command::Thaw { environment },
    };
    send(&command, &word, common, ui)
}

/// `towpath weight`.
pub(super) fn weight(args: Weight, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let Weight { environment, role, percent: Percent(percent), word } = args;
    send(&Command::Weigh { environment, role, percent }, &word, common, ui)
}

/// `towpath confirm`.
pub(super) fn confirm(args: Confirm, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let Confirm { commit, word } = args;
    let revision = resolve(&commit, common)?;
    send(&Command::Confirm { revision }, &word, common, ui)
}

/// `towpath accept`.
pub(super) fn accept(args: Accept, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let Accept { commit, word } = args;
    let revision = resolve(&commit, common)?;
    send(&Command::AcceptHead { revision }, &word, common, ui)
}

/// `towpath nudge`.
pub(super) fn nudge(common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let word = Word { reason: String::new(), by: None };
    send(&Command::Nudge, &word, common, ui)
}

fn send(command: &Command, word: &Word, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    post(&Request::new(command, word.by.as_ref(), &word.reason), common, ui)
}

fn post(request: &Request, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let setup = run::setup(common)?;
    match api::ask(&setup.state, request) {
        Ok(said) => {
            if ui.json {
                ui.result_json(&serde_json::json!({ "done": said }));
            } else {
                ui.result(said);
            }
            Ok(0)
        }
        Err(error @ AskError::Nobody { .. }) => {
            Err(Failure::of(Kind::TryAgain, &error).hint("start one with `towpath run`"))
        }
        Err(error @ AskError::Broken { .. }) => Err(Failure::of(Kind::TryAgain, &error)),
        // Not to be said again by a script that tries again.
        Err(error @ (AskError::Refused(_) | AskError::Silent { .. })) => {
            Err(Failure::of(Kind::Error, &error))
        }
    }
}

fn from_now(span: &str) -> Result<Timestamp, Failure> {
    let span = parse_duration(span).map_err(|error| Failure::of(Kind::Usage, &error))?;
    Ok(crate::drivers::clock::now().after(span))
}

/// A commit that waits for a word, by its first digits.
fn resolve(text: &str, common: &Common) -> Result<Revision, Failure> {
    if let Ok(revision) = Revision::parse(text) {
        return Ok(revision);
    }
    let setup = run::setup(common)?;
    let journal = crate::controller::journal_path(&setup.state);
    let ledger = crate::controller::Store::peek(&journal)
        .map_err(|error| Failure::of(Kind::Error, &error))?;
    // The head of the branch may speak against a broken glass.
    let base = ledger.base().filter(|_| !ledger.glasses.is_empty());
    among(text, ledger.mass.keys().chain(&ledger.refused).chain(&base))
}

/// The one commit of these that begins so. One that waits for more than one word is one.
fn among<'a>(text: &str, waiting: impl Iterator<Item = &'a Revision>) -> Result<Revision, Failure> {
    let waiting: BTreeSet<&Revision> = waiting.collect();
    let begins = |it: &&Revision| text.len() >= 4 && it.to_string().starts_with(text);
    let mut found = waiting.into_iter().filter(begins);
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(*only),
        (Some(_), Some(_)) => {
            Err(Failure::new(Kind::Usage, format!("`{text}` could be more than one commit")))
        }
        (None, _) => Err(Failure::new(
            Kind::Usage,
            format!("no commit that waits for a word begins with `{text}`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_digits_name_one_commit_or_none() {
        let commit = |digits: &str| Revision::parse(&format!("{digits:0<40}")).unwrap();
        let (one, other) = (commit("abcd1"), commit("abcd2"));
        let said = |text: &str, waiting: &[Revision]| {
            among(text, waiting.iter()).map_err(|failure| format!("{failure:?}"))
        };
        // It changes too much, and its branch was rewritten: two questions about one commit.
        assert_eq!(said("abcd", &[one, one]).unwrap(), one);
        assert_eq!(said("abcd1", &[one, other]).unwrap(), one);
        let unclear = said("abcd", &[one, other]).unwrap_err();
        assert!(unclear.contains("could be more than one commit"), "{unclear}");
        for none in ["abc", "", "abce", "ABCD1"] {
            let nothing = said(none, &[one, other]).unwrap_err();
            assert!(nothing.contains("no commit that waits for a word begins with"), "{nothing}");
        }
    }
}
