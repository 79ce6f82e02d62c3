//! What goes over the socket: one line of JSON each way. The only serde of this room.

use serde::{Deserialize, Serialize};

use crate::controller::Troubles;
use crate::model::{
    Ask, Asking, Command, EnvironmentName, Exclusion, MigrationVerdict, PersonName, Ref, Revision,
    RoleName, Route, Scope, ServiceName, Target, Timestamp,
};

/// Troubles that are told at once, and how long each may be: together they fit into a line.
const TROUBLES_MAX: usize = 60;
const WHY_MAX: usize = 400;

/// A question as it travels.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Format version; 1.
    version: u32,
    /// The name to act under; who runs the controller may say another's.
    by: Option<String>,
    /// Why.
    reason: String,
    /// What.
    command: Dto,
}

/// A look at something, as it travels: it changes nothing, and whoever may open the socket may take it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Look {
    /// Format version; 1.
    version: u32,
    /// At what.
    look: LookDto,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum LookDto {
    /// What does not work at the moment; of one service, or of all.
    Troubles { service: Option<String> },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TroublesDto {
    requests: Vec<TroubleDto>,
    records: Option<String>,
    /// Neither said nor understood by those of before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    silent: Vec<SilentDto>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SilentDto {
    target: TargetDto,
    role: String,
    since: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TroubleDto {
    target: TargetDto,
    why: String,
}

impl Look {
    /// A look at what does not work at the moment.
    pub(super) fn at_troubles(service: Option<&ServiceName>) -> Self {
        let service = service.map(ToString::to_string);
        Self { version: 1, look: LookDto::Troubles { service } }
    }

    /// What there is to see, as it travels.
    pub(super) fn taken(self, troubles: Troubles) -> Result<String, String> {
        let Self { version: 1, look: LookDto::Troubles { service } } = self else {
            return Err("that version is not known: update towpath".to_owned());
        };
        let short = |it: &str| it.chars().take(WHY_MAX).collect::<String>();
        let Troubles { requests, records, silent } = troubles;
        let asked = |it: &Target| service.as_ref().is_none_or(|name| name == it.service.as_str());
        let requests = requests.iter().filter(|(it, _)| asked(it)).take(TROUBLES_MAX);
        let requests = requests
            .map(|(target, why)| TroubleDto { target: target_dto(target), why: short(why) });
        let records = records.as_deref().map(short);
        let silent = silent.into_iter().filter(|((it, _), _)| asked(it)).take(TROUBLES_MAX);
        let silent = silent.map(|((target, role), since)| SilentDto {
            target: target_dto(&target),
            role: role.to_string(),
            since: since.0,
        });
        let (requests, silent) = (requests.collect(), silent.collect());
        let dto = TroublesDto { requests, records, silent };
        serde_json::to_string(&dto).map_err(|error| error.to_string())
    }
}

/// What was seen in a look at troubles.
pub(super) fn troubles(text: &str) -> Result<Troubles, String> {
    let TroublesDto { requests, records, silent } =
        serde_json::from_str(text).map_err(|error| error.to_string())?;
    let read = |TroubleDto { target, why }| Ok((target_of(&target)?, why));
    let requests = requests.into_iter().map(read).collect::<Result<_, String>>()?;
    let read = |SilentDto { target, role, since }| {
        let role = RoleName::parse(&role).map_err(|error| error.to_string())?;
        Ok(((target_of(&target)?, role), Timestamp(since)))
    };
    let silent = silent.into_iter().map(read).collect::<Result<_, String>>()?;
    Ok(Troubles { requests, records, silent })
}

/// The answer as it travels.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// What was done.
    Done(String),
    /// Why not.
    Refused(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum ScopeDto {
    All,
    Environment(String),
    Service(String),
    Target { service: String, environment: String },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetDto {
    service: String,
    environment: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Dto {
    Pause {
        scope: ScopeDto,
        until: Option<u64>,
    },
    Unpause {
        scope: ScopeDto,
    },
    Pin {
        target: TargetDto,
        reference: String,
    },
    Unpin {
        target: TargetDto,
    },
    Lock {
        target: TargetDto,
    },
    Unlock {
        target: TargetDto,
    },
    Freeze {
        environment: String,
        until: u64,
    },
    Thaw {
        environment: String,
    },
    Weigh {
        environment: String,
        role: String,
        percent: Option<u32>,
    },
    Approve {
        target: TargetDto,
        reference: Option<String>,
    },
    Promote {
        target: TargetDto,
        reference: Option<String>,
    },
    Rollback {
        target: TargetDto,
        to: Option<String>,
        fast: bool,
        #[serde(default)]
        break_glass: bool,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        merge_request: bool,
    },
    PostMigrate {
        target: TargetDto,
        settled: bool,
    },
    DropPatch {
        target: TargetDto,
        patch: String,
    },
    Abort {
        target: TargetDto,
        now: bool,
    },
    Retry {
        target: TargetDto,
    },
    RetryOnly {
        target: TargetDto,
        only: String,
    },
    Resume {
        target: TargetDto,
    },
    Exclude {
        target: TargetDto,
        node: String,
    },
    LeaveOut {
        target: TargetDto,
        node: String,
        lift: bool,
    },
    LeaveOutMany {
        target: TargetDto,
        only: String,
        lift: bool,
        sure: bool,
    },
    Migration {
        target: TargetDto,
        done: bool,
    },
    Confirm {
        revision: String,
    },
    Accept {
        revision: String,
    },
    Nudge,
}

impl Request {
    /// A question of ours.
    pub fn new(command: &Command, by: Option<&PersonName>, reason: &str) -> Self {
        Self {
            version: 1,
            by: by.map(ToString::to_string),
            reason: reason.to_owned(),
            command: to_dto(command),
        }
    }

    /// A question of ours about many nodes.
    pub fn about_many(exclusion: &Exclusion, by: Option<&PersonName>, reason: &str) -> Self {
        let Exclusion { target, only, lift, sure } = exclusion;
        let (target, only) = (target_dto(target), only.to_string());
        let command = Dto::LeaveOutMany { target, only, lift: *lift, sure: *sure };
        Self { version: 1, by: by.map(ToString::to_string), reason: reason.to_owned(), command }
    }

    /// Checks a question of somebody else's; `caller` is who the system says it is.
    pub(super) fn check(self, caller: &PersonName, may_name: bool) -> Result<Asking, String> {
        let Self { version, by, reason, command } = self;
        if version != 1 {
            return Err(format!("request version {version} is not known: update towpath"));
        }
        let by = match by {
            None => caller.clone(),
            Some(name) => PersonName::parse(&name).map_err(|error| error.to_string())?,
        };
        if by != *caller && !may_name {
            return Err(format!("{caller} cannot act as {by}"));
        }
        let bad = |why| format!("bad request: {why}");
        if let Dto::LeaveOutMany { target, only, lift, sure } = command {
            let target = target_of(&target).map_err(bad)?;
            let only = parsed(&only).map_err(bad)?;
            let exclusion = Exclusion { target, only, lift, sure };
            return Ok(Asking::Many { by, reason, exclusion });
        }
        let command = from_dto(command).map_err(bad)?;
        Ok(Asking::One(Ask { by, reason, command }))
    }
}

fn target_dto(target: &Target) -> TargetDto {
    let Target { service, environment } = target;
    TargetDto { service: service.to_string(), environment: environment.to_string() }
}

fn scope_dto(scope: &Scope) -> ScopeDto {
    match scope {
        Scope::All => ScopeDto::All,
        Scope::Environment(name) => ScopeDto::Environment(name.to_string()),
        Scope::Service(name) => ScopeDto::Service(name.to_string()),
        Scope::Target(Target { service, environment }) => {
            ScopeDto::Target { service: service.to_string(), environment: environment.to_string() }
        }
    }
}

fn to_dto(command: &Command) -> Dto {
    let text = |it: &Ref| it.to_string();
    match command {
        Command::Pause { scope, until } => {
            Dto::Pause { scope: scope_dto(scope), until: until.map(|it| it.0) }
        }
        Command::Unpause { scope } => Dto::Unpause { scope: scope_dto(scope) },
        Command::Pin { target, reference } => {
            Dto::Pin { target: target_dto(target), reference: text(reference) }
        }
        Command::Unpin { target } => Dto::Unpin { target: target_dto(target) },
        Command::Lock { target } => Dto::Lock { target: target_dto(target) },
        Command::Unlock { target } => Dto::Unlock { target: target_dto(target) },
        Command::Freeze { environment, until } => {
            Dto::Freeze { environment: environment.to_string(), until: until.0 }
        }
        Command::Thaw { environment } => Dto::Thaw { environment: environment.to_string() },
        Command::Weigh { environment, role, percent } => Dto::Weigh {
            environment: environment.to_string(),
            role: role.to_string(),
            percent: *percent,
        },
        Command::Approve { target, reference } => {
            Dto::Approve { target: target_dto(target), reference: reference.as_ref().map(text) }
        }
        Command::Promote { target, reference } => {
            Dto::Promote { target: target_dto(target), reference: reference.as_ref().map(text) }
        }
        // Nobody can ask for what the recipe asks for.
        Command::Rollback { target, to, fast, automatic: _, route } => Dto::Rollback {
            target: target_dto(target),
            to: to.as_ref().map(text),
            fast: *fast,
            break_glass: *route == Route::BreakGlass,
            merge_request: *route == Route::MergeRequest,
        },
        Command::PostMigrate { target, settled } => {
            Dto::PostMigrate { target: target_dto(target), settled: *settled }
        }
        Command::DropPatch { target, patch } => {
            Dto::DropPatch { target: target_dto(target), patch: text(patch) }
        }
        Command::Abort { target, now } => Dto::Abort { target: target_dto(target), now: *now },
        // What is said in comments does not come this way.
        Command::Retry { target, comment: _ } => Dto::Retry { target: target_dto(target) },
        Command::RetryOnly { target, only } => {
            Dto::RetryOnly { target: target_dto(target), only: only.to_string() }
        }
        Command::Resume { target } => Dto::Resume { target: target_dto(target) },
        Command::Exclude { target, node } => {
            Dto::Exclude { target: target_dto(target), node: node.to_string() }
        }
        Command::LeaveOut { target, node, lift } => {
            Dto::LeaveOut { target: target_dto(target), node: node.to_string(), lift: *lift }
        }
        Command::Migration { target, verdict } => Dto::Migration {
            target: target_dto(target),
            done: matches!(verdict, MigrationVerdict::Done),
        },
        Command::Confirm { revision } => Dto::Confirm { revision: revision.to_string() },
        Command::AcceptHead { revision } => Dto::Accept { revision: revision.to_string() },
        Command::Nudge => Dto::Nudge,
    }
}

fn from_dto(dto: Dto) -> Result<Command, String> {
    Ok(match dto {
        Dto::Pause { scope, until } => {
            Command::Pause { scope: scope_of(scope)?, until: until.map(Timestamp) }
        }
        Dto::Unpause { scope } => Command::Unpause { scope: scope_of(scope)? },
        Dto::Pin { target, reference } => {
            Command::Pin { target: target_of(&target)?, reference: parsed(&reference)? }
        }
        Dto::Unpin { target } => Command::Unpin { target: target_of(&target)? },
        Dto::Lock { target } => Command::Lock { target: target_of(&target)? },
        Dto::Unlock { target } => Command::Unlock { target: target_of(&target)? },
        Dto::Freeze { environment, until } => {
            Command::Freeze { environment: parsed(&environment)?, until: Timestamp(until) }
        }
        Dto::Thaw { environment } => Command::Thaw { environment: parsed(&environment)? },
        Dto::Weigh { environment, role, percent } => {
            Command::Weigh { environment: parsed(&environment)?, role: parsed(&role)?, percent }
        }
        Dto::Approve { target, reference } => Command::Approve {
            target: target_of(&target)?,
            reference: optional(reference.as_deref())?,
        },
        Dto::Promote { target, reference } => Command::Promote {
            target: target_of(&target)?,
            reference: optional(reference.as_deref())?,
        },
        Dto::Rollback { target, to, fast, break_glass, merge_request } => Command::Rollback {
            target: target_of(&target)?,
            to: optional(to.as_deref())?,
            fast,
            automatic: false,
            route: route_of(break_glass, merge_request)?,
        },
        Dto::PostMigrate { target, settled } => {
            Command::PostMigrate { target: target_of(&target)?, settled }
        }
        Dto::DropPatch { target, patch } => {
            Command::DropPatch { target: target_of(&target)?, patch: parsed(&patch)? }
        }
        Dto::Abort { target, now } => Command::Abort { target: target_of(&target)?, now },
        Dto::Retry { target } => Command::Retry { target: target_of(&target)?, comment: None },
        Dto::RetryOnly { target, only } => {
            Command::RetryOnly { target: target_of(&target)?, only: parsed(&only)? }
        }
        Dto::Resume { target } => Command::Resume { target: target_of(&target)? },
        Dto::Exclude { target, node } => {
            Command::Exclude { target: target_of(&target)?, node: parsed(&node)? }
        }
        Dto::LeaveOut { target, node, lift } => {
            Command::LeaveOut { target: target_of(&target)?, node: parsed(&node)?, lift }
        }
        Dto::LeaveOutMany { .. } => return Err("it is about many nodes".to_owned()),
        Dto::Migration { target, done } => {
            let verdict = if done { MigrationVerdict::Done } else { MigrationVerdict::Retry };
            Command::Migration { target: target_of(&target)?, verdict }
        }
        Dto::Confirm { revision } => Command::Confirm { revision: revision_of(&revision)? },
        Dto::Accept { revision } => Command::AcceptHead { revision: revision_of(&revision)? },
        Dto::Nudge => Command::Nudge,
    })
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn optional(text: Option<&str>) -> Result<Option<Ref>, String> {
    text.map(parsed).transpose()
}

fn route_of(break_glass: bool, merge_request: bool) -> Result<Route, String> {
    match (break_glass, merge_request) {
        (false, false) => Ok(Route::Commit),
        (false, true) => Ok(Route::MergeRequest),
        (true, false) => Ok(Route::BreakGlass),
        (true, true) => Err("a rollback breaks the glass or waits in a merge request".to_owned()),
    }
}

fn revision_of(text: &str) -> Result<Revision, String> {
    Revision::parse(text).map_err(|error| error.to_string())
}

fn target_of(dto: &TargetDto) -> Result<Target, String> {
    let TargetDto { service, environment } = dto;
    let service: ServiceName = parsed(service)?;
    let environment: EnvironmentName = parsed(environment)?;
    Ok(Target { service, environment })
}

fn scope_of(dto: ScopeDto) -> Result<Scope, String> {
    Ok(match dto {
        ScopeDto::All => Scope::All,
        ScopeDto::Environment(name) => Scope::Environment(parsed(&name)?),
        ScopeDto::Service(name) => Scope::Service(parsed(&name)?),
        ScopeDto::Target { service, environment } => {
            Scope::Target(target_of(&TargetDto { service, environment })?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NodeName;

    fn target() -> Target {
        Target {
            service: ServiceName::parse("shop").unwrap(),
            environment: EnvironmentName::parse("production").unwrap(),
        }
    }

    #[test]
    fn troubles_arrive_as_they_were_sent_and_those_of_before_too() {
        let role = crate::model::RoleName::parse("web").unwrap();
        let troubles = |silent: &[u64]| Troubles {
            requests: [(target(), "403".to_owned())].into(),
            records: None,
            silent: silent.iter().map(|at| ((target(), role.clone()), Timestamp(*at))).collect(),
        };
        let sent = |it: &Troubles, service: &str| {
            let service = ServiceName::parse(service).unwrap();
            Look::at_troubles(Some(&service)).taken(it.clone()).unwrap()
        };
        let silent = troubles(&[7]);
        assert_eq!(super::troubles(&sent(&silent, "shop")), Ok(silent.clone()));
        assert_eq!(super::troubles(&sent(&silent, "depot")), Ok(Troubles::default()));
        let quiet = troubles(&[]);
        assert!(!sent(&quiet, "shop").contains("silent"), "who does not know the word reads it");
        assert_eq!(super::troubles(&sent(&quiet, "shop")), Ok(quiet));
    }

    #[test]
    fn what_travels_arrives_as_it_was_sent() {
        let reference = Ref::parse("1.4.2").unwrap();
        let revision = Revision::new([7; 20]);
        let node = NodeName::parse("web-01").unwrap();
        let environment = target().environment;
        let verdict = MigrationVerdict::Retry;
        let all = [
            Command::Pause { scope: Scope::Target(target()), until: Some(Timestamp(5)) },
            Command::Unpause { scope: Scope::Service(target().service) },
            Command::Pin { target: target(), reference: reference.clone() },
            Command::Unpin { target: target() },
            Command::Lock { target: target() },
            Command::Unlock { target: target() },
            Command::Freeze { environment: environment.clone(), until: Timestamp(9) },
            Command::Thaw { environment: environment.clone() },
            Command::Weigh {
                environment,
                role: crate::model::RoleName::parse("web").unwrap(),
                percent: Some(10),
            },
            Command::Approve { target: target(), reference: None },
            Command::Promote { target: target(), reference: Some(reference.clone()) },
            Command::Rollback {
                target: target(),
                to: Some(reference.clone()),
                fast: true,
                automatic: false,
                route: Route::BreakGlass,
            },
            Command::PostMigrate { target: target(), settled: true },
            Command::DropPatch { target: target(), patch: reference },
            Command::Abort { target: target(), now: true },
            Command::Retry { target: target(), comment: None },
            Command::RetryOnly { target: target(), only: parsed("web-*,!zone:a").unwrap() },
            Command::Resume { target: target() },
            Command::Exclude { target: target(), node: node.clone() },
            Command::LeaveOut { target: target(), node, lift: true },
            Command::Migration { target: target(), verdict },
            Command::Confirm { revision },
            Command::AcceptHead { revision },
            Command::Nudge,
        ];
        let caller = PersonName::parse("alice").unwrap();
        for command in all {
            let line = serde_json::to_string(&Request::new(&command, None, "why")).unwrap();
            let back: Request = serde_json::from_str(&line).unwrap();
            let ask = back.check(&caller, false).unwrap();
            let sent = Ask { by: caller.clone(), reason: "why".into(), command };
            assert_eq!(ask, Asking::One(sent));
        }
        let only = parsed("web-*,!zone:a").unwrap();
        let exclusion = Exclusion { target: target(), only, lift: false, sure: true };
        let line = Request::about_many(&exclusion, None, "why");
        let back: Request = serde_json::from_str(&serde_json::to_string(&line).unwrap()).unwrap();
        let asking = back.check(&caller, false).unwrap();
        assert_eq!(asking, Asking::Many { by: caller, reason: "why".into(), exclusion });
    }

    #[test]
    fn nobody_acts_as_another_but_who_runs_the_controller() {
        let (alice, bob) = (PersonName::parse("alice").unwrap(), PersonName::parse("bob").unwrap());
        let request = || Request::new(&Command::Nudge, Some(&bob), "");
        assert!(request().check(&alice, false).is_err());
        let Ok(Asking::One(ask)) = request().check(&alice, true) else { panic!("it is refused") };
        assert_eq!(ask.by, bob);
    }

    #[test]
    fn rubbish_is_refused_with_a_reason() {
        let caller = PersonName::parse("alice").unwrap();
        for bad in [
            r#"{"version":2,"by":null,"reason":"","command":"nudge"}"#,
            r#"{"version":1,"by":"--x","reason":"","command":"nudge"}"#,
            r#"{"version":1,"by":null,"reason":"","command":{"confirm":{"revision":"HEAD"}}}"#,
            r#"{"version":1,"by":null,"reason":"","command":{"retry":{"target":{"service":"../x","environment":"y"}}}}"#,
        ] {
            let request: Request = serde_json::from_str(bad).unwrap();
            assert!(request.check(&caller, false).is_err(), "{bad}");
        }
    }
}
