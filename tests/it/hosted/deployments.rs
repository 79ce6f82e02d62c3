//! Deployments on the page of environments of the doubles, and what our client does with them: one for each
//! rollout, told when it begins and when it ends, whatever happens between.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use towpath::drivers::deployments::{Deployment, Deployments, Stand};
use towpath::git::Branch;
use towpath::model::{Ref, Revision, RolloutId};

use super::contract::Place;
use super::double_calls::{Answer, answer, paged, refuse};
use super::end_to_end::shop_with;
use super::github_double::{date, person};
use super::gitlab_double::{BOT, BOT_TOKEN, Double, Face, READ_TOKEN};
use super::server::Trouble;
use super::target;
use crate::world::{NEW, patiently, stays};

/// One, and all that was said of it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    id: u64,
    environment: String,
    sha: String,
    rollout: Option<String>,
    pub(crate) said: Vec<String>,
    /// When it was made: ours are known by that, too.
    at: String,
}

impl Double {
    pub(super) fn gitlab_deployments(
        &mut self,
        verb: &str,
        rest: &[&str],
        query: &BTreeMap<String, String>,
        body: &Map<String, Value>,
    ) -> Answer {
        let show = |it: &Told| {
            json!({
                "id": it.id, "iid": it.id, "ref": "main", "sha": it.sha, "status": it.said.last(),
                "created_at": it.at, "deployable": null,
                "environment": { "id": 1, "name": it.environment },
            })
        };
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        match (verb, rest) {
            ("GET", []) => {
                let of = query.get("environment");
                let all = self.deployments.iter().rev();
                let all = all.filter(|it| of.is_none_or(|of| *of == it.environment));
                paged(all.map(show).collect(), query)
            }
            ("GET", [id]) => match self.deployments.iter().find(|it| it.id.to_string() == *id) {
                Some(it) => answer(200, show(it)),
                None => refuse(404, "404 Deployment Not Found"),
            },
            ("POST", []) => {
                let said = text("status");
                if !body.contains_key("tag") || text("ref") != "main" {
                    self.broken("a deployment without its ref");
                }
                let it = self.deployed(text("environment"), text("sha"), None, vec![said]);
                answer(201, show(&it))
            }
            ("PUT", [id]) => {
                let said = text("status");
                let found = self.deployments.iter_mut().find(|it| it.id.to_string() == *id);
                let Some(it) = found else { return refuse(404, "404 Deployment Not Found") };
                if it.said.last() == Some(&said) || it.said.last().is_none_or(|it| it != "running")
                {
                    return refuse(400, "Status cannot transition");
                }
                it.said.push(said);
                answer(200, show(it))
            }
            _ => refuse(404, "404 Not Found"),
        }
    }

    pub(super) fn github_deployments(
        &mut self,
        verb: &str,
        rest: &[&str],
        query: &BTreeMap<String, String>,
        body: &Map<String, Value>,
    ) -> Answer {
        let show = |it: &Told| {
            json!({
                "id": it.id, "sha": it.sha, "ref": it.sha, "task": "deploy",
                "payload": { "rollout": it.rollout }, "environment": it.environment,
                "created_at": it.at, "updated_at": it.at, "creator": null,
            })
        };
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        match (verb, rest) {
            ("GET", []) => {
                let fits = |key: &str, value: &str| query.get(key).is_none_or(|it| it == value);
                let all = self.deployments.iter().rev();
                let all =
                    all.filter(|it| fits("environment", &it.environment) && fits("sha", &it.sha));
                paged(all.map(show).collect(), query)
            }
            ("POST", []) => {
                if body.get("auto_merge") != Some(&json!(false))
                    || body.get("required_contexts") != Some(&json!([]))
                {
                    self.broken("a deployment that may merge or be refused");
                }
                let rollout = body["payload"]["rollout"].as_str().map(str::to_owned);
                let it = self.deployed(text("environment"), text("ref"), rollout, Vec::new());
                answer(201, show(&it))
            }
            (_, [id, "statuses"]) => {
                let found = self.deployments.iter_mut().find(|it| it.id.to_string() == *id);
                let Some(it) = found else { return refuse(404, "Not Found") };
                let show = |(number, said): (u64, &String)| {
                    json!({
                        "id": number, "state": said, "description": "", "creator": person(BOT),
                        "created_at": date(0), "updated_at": date(0),
                    })
                };
                if verb == "GET" {
                    let mut all: Vec<Value> = (1..).zip(&it.said).map(show).collect();
                    all.reverse();
                    return paged(all, query);
                }
                it.said.push(text("state"));
                answer(201, show((it.said.len() as u64, &it.said[it.said.len() - 1])))
            }
            _ => refuse(404, "Not Found"),
        }
    }

    fn deployed(
        &mut self,
        environment: String,
        sha: String,
        rollout: Option<String>,
        said: Vec<String>,
    ) -> Told {
        let open =
            |it: &Told| it.said.last().is_none_or(|it| it == "running" || it == "in_progress");
        let same = |it: &Told| it.environment == environment && it.sha == sha;
        if self.deployments.iter().any(|it| same(it) && open(it)) {
            self.broken(format!("deployed twice to {environment}"));
        }
        let (id, at) = (self.id(), jiff::Timestamp::now().to_string());
        let it = Told { id, environment, sha, rollout, said, at };
        self.deployments.push(it.clone());
        it
    }
}

const FACES: [Face; 2] = [Face::GitLab, Face::GitHub];

fn words(face: Face) -> [&'static str; 4] {
    match face {
        Face::GitLab | Face::Gitea => ["running", "success", "failed", "canceled"],
        Face::GitHub => ["in_progress", "success", "failure", "inactive"],
    }
}

pub(super) fn deployment(place: &Place, rollout: &str) -> Deployment {
    Deployment {
        rollout: RolloutId::parse(rollout).unwrap(),
        target: target("staging"),
        to: Ref::parse("2").unwrap(),
        sha: place.main(),
        begun: towpath::drivers::clock::now(),
        stand: Stand::Running,
    }
}

pub(super) fn open(place: &Place, token: &str) -> Deployments {
    let base = Branch::parse("main").unwrap();
    let file = place.dir.path().join("deployments");
    Deployments::open(&place.settings(token), &base, file).unwrap()
}

fn said(place: &mut Place) -> Vec<Vec<String>> {
    place.hand(|it| it.deployments.iter().map(|it| it.said.clone()).collect())
}

fn until(place: &mut Place, wanted: &[&[&str]]) {
    assert!(patiently(|| said(place) == wanted), "{wanted:?}, not {:?}", said(place));
}

#[test]
fn each_rollout_is_told_once_when_it_begins_and_when_it_ends() {
    for face in FACES {
        let [running, success, failed, canceled] = words(face);
        let mut place = Place::with(face);
        let page = open(&place, BOT_TOKEN);
        let id = |rollout: &str| RolloutId::parse(rollout).unwrap();
        let first = deployment(&place, "0123456789a1");
        page.begun(first.clone());
        until(&mut place, &[&[running]]);
        let environment = place.hand(|it| it.deployments[0].environment.clone());
        assert_eq!(environment, "staging/shop");
        page.ended(&first.rollout, true);
        until(&mut place, &[&[running, success]]);
        // The same commit again, as after a halt.
        for (rollout, fails) in [("0123456789a2", true), ("0123456789a3", false)] {
            page.begun(deployment(&place, rollout));
            if fails {
                page.failed(&id(rollout));
            }
            page.ended(&id(rollout), false);
        }
        drop(page);
        let ends = |it: &[String], last: &str| it.last().is_some_and(|it| it == last);
        assert!(patiently(|| said(&mut place).len() == 3), "{:?}", said(&mut place));
        let all = said(&mut place);
        assert!(ends(&all[1], failed) && ends(&all[2], canceled), "{all:?}");
    }
}

#[test]
fn after_a_crash_and_lost_answers_there_is_still_one() {
    for face in FACES {
        let [running, success, ..] = words(face);
        let mut place = Place::with(face);
        let first = deployment(&place, "0123456789b1");
        // It is made, and nobody hears of it.
        place.hand(|it| it.deployment_is_lost = true);
        let page = open(&place, BOT_TOKEN);
        page.begun(first.clone());
        assert!(patiently(|| said(&mut place).len() == 1));
        drop(page);
        // Killed: the next one knows from its journal what runs, and what it had kept.
        let page = open(&place, BOT_TOKEN);
        page.begun(first.clone());
        until(&mut place, &[&[running]]);
        drop(page);
        // Killed again, and the file with it.
        std::fs::remove_file(place.dir.path().join("deployments")).unwrap();
        let page = open(&place, BOT_TOKEN);
        page.begun(first.clone());
        page.ended(&first.rollout, true);
        until(&mut place, &[&[running, success]]);
        // What is in the records only after the next start is told again, and changes nothing.
        drop(page);
        let page = open(&place, BOT_TOKEN);
        let calls = place.hand(|it| it.calls);
        page.begun(Deployment { stand: Stand::Success, ..first.clone() });
        assert!(patiently(|| place.hand(|it| it.calls) > calls));
        drop(page);
        assert_eq!(said(&mut place), [[running, success]]);
        // Killed between the journal and us: only the journal knows that it has ended.
        let second = deployment(&place, "0123456789b2");
        let page = open(&place, BOT_TOKEN);
        page.begun(second.clone());
        until(&mut place, &[&[running, success], &[running]]);
        drop(page);
        open(&place, BOT_TOKEN).begun(Deployment { stand: Stand::Success, ..second });
        until(&mut place, &[&[running, success], &[running, success]]);
    }
}

#[test]
fn a_forge_that_is_down_or_says_no_is_in_nobodys_way() {
    let mut place = Place::with(Face::GitLab);
    let first = deployment(&place, "0123456789c1");
    place.server.as_ref().unwrap().trouble(Trouble::Down);
    let page = open(&place, BOT_TOKEN);
    page.begun(first.clone());
    page.ended(&first.rollout, true);
    drop(page);
    place.server.as_ref().unwrap().trouble(Trouble::None);
    // What was not told is kept, and told by the next one.
    let page = open(&place, READ_TOKEN);
    let calls = place.hand(|it| it.calls);
    assert!(patiently(|| place.hand(|it| it.calls) > calls + 1), "it tries");
    assert!(said(&mut place).is_empty(), "that one may only read");
    drop(page);
    let _page = open(&place, BOT_TOKEN);
    until(&mut place, &[&["success"]]);
}

#[test]
fn the_controller_tells_what_it_does_also_after_it_was_killed() {
    let (world, server) = shop_with("deployments = true\n");
    let mut controller = world.start();
    world.until_in_sync();
    let before = server.double().deployments.len();
    let sha = world.want("staging", NEW);
    world.until("it is told", || server.double().deployments.len() > before);
    controller.kill();
    let _controller = world.start();
    world.until_runs("staging", NEW);
    let last = || {
        let all = server.double().deployments.clone();
        all.into_iter().rfind(|it| it.environment == "staging/shop").unwrap()
    };
    world.until("its end is told", || last().said == ["running", "success"]);
    assert!(stays(Duration::from_secs(1), || server.double().violations.is_empty()));
    let told = last();
    assert!(
        Revision::parse(&told.sha).is_ok() && told.sha.starts_with(sha.trim()),
        "{sha} {told:?}"
    );
    let again = server.double().deployments.iter().filter(|it| it.sha == told.sha).count();
    assert_eq!(again, 1, "once");
}
