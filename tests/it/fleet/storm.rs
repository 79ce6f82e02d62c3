//! The crash matrix of what stands beside the controller: a rollout over sshd behind HAProxy in which one
//! part dies at every entry of the journal, right before it is written and right after, that is before an
//! effect, after it, and after its end was noted. (`matrix` kills the controller itself there.)
//!
//! Everything is done once, out of the balancer, behind an open gate, and in the end all serve the new ref.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::matrix::{Fleet, NODES, kill_all_on};
use crate::ssh::sshd::Sshd;
use crate::world::{Controller, NEW};

/// Longest wait for the next entry: some parts take a while to be believed again.
const PATIENCE: Duration = Duration::from_mins(2);

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// On every node: the runner's sessions, and what watches over steps.
    Runner,
    /// On every node: the daemon and all logins.
    Sshd,
    Haproxy,
    Alertmanager,
}

/// The controller of a fleet, which stays at each entry of its journal until it is let go.
struct Stays {
    directory: PathBuf,
    /// How many moments were passed.
    passed: usize,
    _controller: Controller,
}

/// A moment at which it stays.
struct Moment {
    /// Written, or about to be.
    word: String,
    entries: Vec<Value>,
}

impl Moment {
    fn of(line: &str) -> Self {
        let mut words = line.splitn(3, ' ');
        let word = words.next().unwrap().to_owned();
        let entries = serde_json::from_str(words.nth(1).unwrap()).unwrap();
        Self { word, entries }
    }

    /// What is noted, each with its operation and how it ended: what comes twice is the same.
    fn names(&self) -> Vec<String> {
        let name = |entry: &Value| {
            let what = &entry["event"]["what"];
            let (kind, rest) = match what {
                Value::Object(map) => map.iter().next().map_or(("", what), |(k, v)| (&**k, v)),
                other => (other.as_str().unwrap_or_default(), other),
            };
            let outcome = match &rest["outcome"] {
                Value::Object(map) => map.keys().next().cloned().unwrap_or_default(),
                _ => String::new(),
            };
            let top =
                || entry.as_object().map(|it| it.keys().cloned().collect::<Vec<_>>().join(","));
            let kind = if kind.is_empty() { top().unwrap_or_default() } else { kind.to_owned() };
            format!("{} {kind} {} {outcome}", self.word, rest["op"].as_str().unwrap_or_default())
        };
        self.entries.iter().map(name).collect()
    }
}

impl Stays {
    fn start(fleet: &Fleet) -> Self {
        let directory = fleet.world.root.join("stays");
        std::fs::create_dir(&directory).unwrap();
        let made = std::process::Command::new("mkfifo").arg(directory.join("go")).status();
        assert!(made.unwrap().success());
        let variables = [("TOWPATH_STAYS", directory.to_str().unwrap())];
        let controller = Controller::spawn_with(&fleet.world, &variables);
        Self { directory, passed: 0, _controller: controller }
    }

    /// Where it stays now, if it does.
    fn moment(&self) -> Option<Moment> {
        let all = std::fs::read_to_string(self.directory.join("moments")).ok()?;
        let whole = &all[..=all.rfind('\n')?];
        whole.lines().nth(self.passed).map(Moment::of)
    }

    /// Lets it go.
    fn go(&mut self) {
        self.passed += 1;
        // Blocks until it waits there, which it is about to.
        drop(std::fs::File::options().write(true).open(self.directory.join("go")).unwrap());
    }
}

/// What each stage of the recipe counts on its nodes.
const COUNTED: [(&str, &str); 3] =
    [("prepare", "prepared"), ("fleet", "installed"), ("finally", "finished")];

/// A fleet in which one part dies.
struct Storm {
    fleet: Fleet,
    part: Part,
    deaths: usize,
    /// Steps that the runner was killed in the middle of: node and key.
    hit: BTreeSet<(usize, String)>,
}

impl Storm {
    /// Kills the part. Before anybody misses it, it is there again; or while somebody asks for it.
    fn strike(&mut self, stays: &mut Stays) {
        match self.part {
            Part::Runner => {
                for (at, node) in self.fleet.nodes.iter().enumerate() {
                    self.hit.extend(kill_all_on(node).into_iter().map(|key| (at, key)));
                }
            }
            Part::Sshd => self.fleet.nodes.iter_mut().for_each(Sshd::stop),
            Part::Haproxy => self.fleet.proxy.kill(),
            Part::Alertmanager => self.fleet.alerts.kill(),
        }
        self.deaths += 1;
        // As often so as so, both before an entry is written and after.
        if (self.deaths / 2).is_multiple_of(2) {
            self.restart();
            stays.go();
        } else {
            stays.go();
            self.restart();
        }
    }

    fn restart(&mut self) {
        match self.part {
            // Whoever logs in next begins it.
            Part::Runner => {}
            Part::Sshd => self.fleet.restart_nodes(),
            Part::Haproxy => self.fleet.proxy.restart(),
            Part::Alertmanager => self.fleet.alerts.restart(),
        }
    }

    /// How often a node did more of a stage than once, because nobody could tell how its step had ended.
    fn excused(&self, at: usize, stage: &str, story: &Story) -> usize {
        let of = |key: &str| {
            let op = key.split('.').nth(1).unwrap_or_default();
            story.stage(op) == stage
        };
        self.hit.iter().filter(|(node, key)| *node == at && of(key)).count()
    }

    fn check(&self, story: &Story) {
        let part = self.part;
        for (stage, file) in COUNTED {
            for (at, count) in self.fleet.count(file, NEW).into_iter().enumerate() {
                let most = 1 + self.excused(at, stage, story);
                assert!((1..=most).contains(&count), "{part:?}: {count} {file} on {}", NODES[at]);
            }
        }
        assert_eq!(self.fleet.count("migrated", NEW), [1, 0, 0], "{part:?}");
        self.fleet.check_traffic(&format!("{part:?}"));
        assert!(self.fleet.runs(NEW), "{part:?}");
    }
}

/// What was noted, in its order.
#[derive(Default)]
struct Story {
    /// Stages of the plan, and their operations: what kind, and how it is called.
    stages: Vec<(String, BTreeMap<String, String>)>,
    /// `started OP`, or `finished OP OUTCOME` and what shows it.
    lines: Vec<String>,
}

impl Story {
    fn take(&mut self, moment: &Moment) {
        if moment.word != "after" {
            return;
        }
        for entry in &moment.entries {
            if entry["plan"].is_object() {
                self.plan(&entry["plan"]);
            }
            let what = &entry["event"]["what"];
            if let Some(op) = what["started"]["op"].as_str() {
                self.lines.push(format!("started {op}"));
            }
            if let Some(op) = what["finished"]["op"].as_str() {
                self.lines.push(format!("finished {op} {}", what["finished"]["outcome"]));
            }
        }
    }

    fn plan(&mut self, plan: &Value) {
        let list = |it: &Value| it.as_array().cloned().unwrap_or_default();
        for (s, stage) in list(&plan["stages"]).iter().enumerate() {
            let mut ops = BTreeMap::new();
            for (l, lane) in list(&stage["lanes"]).iter().enumerate() {
                for (b, batch) in list(&lane["batches"]).iter().enumerate() {
                    for (t, task) in list(batch).iter().enumerate() {
                        for (o, op) in list(&task["ops"]).iter().enumerate() {
                            let kind = op.as_object().and_then(|it| it.keys().next().cloned());
                            ops.insert(format!("{s}-{l}-{b}-{t}-{o}"), kind.unwrap_or_default());
                        }
                    }
                }
            }
            self.stages.push((stage["name"].as_str().unwrap_or_default().to_owned(), ops));
        }
    }

    fn stage(&self, op: &str) -> &str {
        self.stages.iter().find(|(_, ops)| ops.contains_key(op)).map_or("", |(name, _)| name)
    }

    /// No node was taken out before the gate in front of it was asked, and answered.
    fn gates_were_asked(&self) {
        let (_, fleet) = self.stages.iter().find(|(name, _)| name == "fleet").unwrap();
        let drains: Vec<&String> =
            fleet.iter().filter(|(_, it)| *it == "drained").map(|(op, _)| op).collect();
        assert_eq!(drains.len(), NODES.len(), "{fleet:?}");
        for drain in drains {
            let begun = self.lines.iter().position(|it| *it == format!("started {drain}"));
            let before = &self.lines[..begun.unwrap()];
            let batch: usize = drain.split('-').nth(2).unwrap().parse().unwrap();
            let gate = fleet.iter().find(|(op, it)| {
                *it == "gate" && op.split('-').nth(2) == Some(&(batch - 1).to_string())
            });
            let asked = format!("finished {} {{\"done\"", gate.unwrap().0);
            let answer = before.iter().find(|it| it.starts_with(&asked));
            let answer = answer.unwrap_or_else(|| panic!("{drain} was begun unasked"));
            assert!(answer.contains("none of severity=critical fires"), "{answer}");
        }
    }
}

async fn storm(part: Part) {
    let fleet = Fleet::new().await;
    fleet.world.want("production", NEW);
    let mut last = Instant::now();
    let mut stays = Stays::start(&fleet);
    let mut storm = Storm { fleet, part, deaths: 0, hit: BTreeSet::new() };
    let (mut seen, mut story) = (BTreeSet::new(), Story::default());
    loop {
        let Some(moment) = stays.moment() else {
            let world = &storm.fleet.world;
            if storm.fleet.runs(NEW) && !world.records().is_empty() && world.in_sync() {
                break;
            }
            assert!(last.elapsed() < PATIENCE, "{part:?}: stuck after {:#?}", story.lines);
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        last = Instant::now();
        story.take(&moment);
        // What is tried again after a death is left alone: it would never come to an end.
        if moment.names().into_iter().filter(|it| seen.insert(it.clone())).count() > 0 {
            storm.strike(&mut stays);
        } else {
            stays.go();
        }
    }
    storm.check(&story);
    story.gates_were_asked();
    assert!(storm.deaths > 60, "{} deaths", storm.deaths);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runner_dies_at_any_entry_of_the_journal() {
    storm(Part::Runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sshd_dies_at_any_entry_of_the_journal() {
    storm(Part::Sshd).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_dies_at_any_entry_of_the_journal() {
    storm(Part::Haproxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alertmanager_dies_at_any_entry_of_the_journal() {
    storm(Part::Alertmanager).await;
}

/// A runner's death in the middle of a step is at no entry of the journal: it is the step's own doing, once on
/// each node. Alone it leaves a command that runs on; with the command, one whose end nobody saw.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runner_dies_in_the_middle_of_every_kind_of_step() {
    let fleet = Fleet::new().await;
    let world = &fleet.world;
    // Our parent is `timeout`, and its parent is the runner.
    let dies = "[ -e died-NAME ] || { : > died-NAME; read -r p < /proc/$PPID/stat; p=${p##*) }; p=${p#* }; kill -9 ${p%% *}; [ $TOWPATH_NODE != web-2 ] || kill -9 0; }";
    for (name, text) in [
        ("prepare", "echo \"$1\" >> prepared"),
        ("migrate", "echo \"$1\" >> migrated"),
        ("install", "echo \"$1\" >> installed; echo \"$1\" > version"),
        ("finally", "echo \"$1\" >> finished"),
    ] {
        world.script(name, &format!("{text}; {}", dies.replace("NAME", name)));
    }
    let _controller = Controller::spawn(world);
    world.want("production", NEW);
    let said = world.until_explained("production", "is halted");
    assert!(said.contains("migrat") && said.contains("its end was not seen"), "{said}");
    assert_eq!(fleet.count("migrated", NEW), [1, 0, 0], "it is not begun again");
    assert_eq!(fleet.count("installed", NEW), [0; 3], "nor is what comes after it");
    let looked = ["--migration", "done", "--reason", "looked at the schema"];
    world.order(&[&["resume", "shop", "production"][..], &looked].concat());
    world.until("it is rolled out", || fleet.rolled_out(NEW));
    assert_eq!(fleet.count("migrated", NEW), [1, 0, 0]);
    for file in ["prepared", "installed", "finished"] {
        assert_eq!(fleet.count(file, NEW), [2; 3], "{file}: again, and once");
    }
    fleet.check_traffic("the runner died in each step");
}
