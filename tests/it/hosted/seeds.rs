//! Schedules of faults and races by seed: the real algorithm and the real clients against the double's
//! state machine, in one thread and without waiting. `TOWPATH_HOSTED_SEEDS=10000` runs more of them,
//! `TOWPATH_HOSTED_SEED=17` one of them with its story.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use towpath::drivers::forge::{Act, Actor, Error, Forge as _, Merge, MergeRequest, State};
use towpath::drivers::hosted::api::Api;
use towpath::drivers::hosted::client::Client;
use towpath::drivers::hosted::gitea::Gitea;
use towpath::drivers::hosted::github::GitHub;
use towpath::drivers::hosted::gitlab::GitLab;
use towpath::drivers::hosted::transport::{Call, Cut, Pacing, Reply, Transport, Verb};
use towpath::drivers::hosted::{Git, Hosted};
use towpath::git::{self, Branch, Commit, Identity, Made, RefName, Update};
use towpath::model::{RepoPath, Revision, Timestamp};

use super::contract::FACES;
use super::gitlab_double::{ADA, BOT_TOKEN, Double, Face};
use super::{FILE, PROJECT, TEXT, at, green, options, proposal, target};

const SEEDS: u64 = 1_000;
const BRANCH: &str = "towpath/shop/staging";
/// Steps with faults and people, and steps to come to rest.
const WILD: u64 = 10;
const CALM: u64 = 12;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

struct World {
    double: Double,
    rng: Rng,
    wild: bool,
    clock: Duration,
    story: Vec<String>,
    /// Whether a person or a pipeline has made a merge impossible, rightly.
    stopped: bool,
}

type Shared = Arc<Mutex<World>>;

impl World {
    fn people(&mut self) {
        let open = self.double.requests.iter().rev().find(|it| it.state == "opened");
        let (iid, head) =
            open.map_or((0, String::new()), |it| (it.iid, it.head.clone().unwrap_or_default()));
        let says = match self.rng.below(32) {
            0..=2 => {
                let text = self.rng.next().to_string();
                self.double.push("main", "README.md", &text);
                "pushes to main"
            }
            3 => {
                let text = self.double.file("main", FILE).unwrap();
                let text = text.replace("production: 1", "production: 7");
                self.double.push("main", FILE, &text);
                "edits the same file"
            }
            4 if iid > 0 => {
                self.double.push(BRANCH, "notes.md", "wait");
                self.stopped = true;
                "pushes to the branch"
            }
            5 if iid > 0 => {
                self.double.close(iid, ADA);
                self.stopped = true;
                "closes it"
            }
            6 if iid > 0 => {
                self.double.unlabel(iid, ADA);
                self.stopped = true;
                "takes the label off"
            }
            7 if iid > 0 => {
                self.double.request_changes(iid, ADA);
                self.stopped = true;
                "requests changes"
            }
            8 if iid > 0 => {
                self.double.merge_by(iid, ADA);
                "merges it"
            }
            9..=13 if iid > 0 => {
                self.double.pipeline(&head, "running");
                "starts a pipeline"
            }
            14..=16 if iid > 0 => {
                self.double.pipeline(&head, "success");
                "ends the pipeline well"
            }
            17 if iid > 0 => {
                self.double.pipeline(&head, "failed");
                "fails the pipeline"
            }
            18 if iid > 0 => {
                self.double.delete(BRANCH);
                self.stopped = true;
                "deletes the branch"
            }
            19 => {
                self.double.lag = !self.double.lag;
                "is slow, or no longer"
            }
            20 => {
                self.double.notice();
                "notices"
            }
            21..=22 if iid > 0 && self.double.merge_queue => {
                self.double.queue_goes_on(true);
                "lets the queue go on"
            }
            23 if iid > 0 && self.double.merge_queue => {
                self.double.queue_goes_on(false);
                "fails the first in the queue"
            }
            _ => return,
        };
        self.story.push(format!("  somebody {says} (!{iid})"));
    }
}

struct InProcess(Shared);

impl Transport for InProcess {
    fn send(&self, call: &Call) -> Result<Reply, Cut> {
        let mut world = self.0.lock().unwrap();
        let world = &mut *world;
        let wild = world.wild;
        if wild && world.rng.one_in(8) {
            world.people();
        }
        let fault = if wild { world.rng.below(60) } else { 99 };
        let limited = |status: u16, headers: &[(&str, &str)]| {
            let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Ok(Reply { status, headers, body: b"{}".to_vec() })
        };
        match fault {
            0 => return Err(Cut::Unsent("refused".to_owned())),
            1 => return Err(Cut::Lost("cut".to_owned())),
            2 => return limited(503, &[]),
            3 => return limited(429, &[("retry-after", "2")]),
            4 => return limited(429, &[]),
            5 => return limited(403, &[("ratelimit-remaining", "0")]),
            6 => return Ok(Reply { status: 200, body: b"<html>".to_vec(), ..Reply::default() }),
            _ => {}
        }
        let verb = match call.verb {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
        };
        let body = call.body.clone().unwrap_or_default();
        let answer = world.double.call(BOT_TOKEN, verb, &call.path, &body);
        if verb != "GET" {
            let short: String = call.path.chars().skip(40).collect();
            world.story.push(format!("  {verb} {short}: {} (fault {fault})", answer.status));
        }
        if wild && world.rng.one_in(12) {
            world.people();
        }
        match fault {
            7..=9 => Err(Cut::Lost("half a body".to_owned())),
            10 => Ok(Reply { status: 502, ..Reply::default() }),
            _ => Ok(Reply {
                status: answer.status,
                headers: answer
                    .total
                    .map(|it| ("x-total-count".to_owned(), it.to_string()))
                    .into_iter()
                    .collect(),
                body: answer.body.to_string().into_bytes(),
            }),
        }
    }
}

struct Watch(Shared);

impl Pacing for Watch {
    fn elapsed(&self) -> Duration {
        self.0.lock().unwrap().clock
    }

    fn sleep(&self, span: Duration) {
        self.0.lock().unwrap().clock += span;
    }

    fn dice(&self) -> f64 {
        0.5
    }
}

/// The same repository in process: what a child `git` would do takes longer than a whole schedule.
struct InMemory {
    repo: git2::Repository,
    world: Shared,
}

fn oid(at: Revision) -> git2::Oid {
    git2::Oid::from_str(&at.to_string()).unwrap()
}

fn revision(id: git2::Oid) -> Revision {
    Revision::parse(&id.to_string()).unwrap()
}

impl Git for InMemory {
    fn refresh(&self, base: &Branch) -> Result<Revision, git::Error> {
        Ok(self.find(&base.name())?.unwrap())
    }

    fn find(&self, name: &RefName) -> Result<Option<Revision>, git::Error> {
        Ok(self.repo.refname_to_id(name.as_str()).ok().map(revision))
    }

    fn bring(&self, _name: &str, _number: u64) -> Result<Option<Revision>, git::Error> {
        Ok(None)
    }

    fn read_at(&self, at: Revision, path: &RepoPath) -> Result<Option<Vec<u8>>, git::Error> {
        let tree = self.repo.find_commit(oid(at)).unwrap().tree().unwrap();
        let entry = tree.get_path(Path::new(path.as_str())).ok();
        Ok(entry.map(|it| self.repo.find_blob(it.id()).unwrap().content().to_vec()))
    }

    fn made(&self, at: Revision) -> Result<Option<Made>, git::Error> {
        let commit = self.repo.find_commit(oid(at)).unwrap();
        let committer = commit.committer();
        Ok(Some(Made {
            parents: commit.parent_ids().map(revision).collect(),
            committer: (
                String::from_utf8_lossy(committer.name_bytes()).into_owned(),
                String::from_utf8_lossy(committer.email_bytes()).into_owned(),
            ),
            at: Timestamp(0),
            message: String::from_utf8_lossy(commit.message_bytes()).into_owned(),
        }))
    }

    fn only_change(
        &self,
        from: Revision,
        to: Revision,
    ) -> Result<Option<(RepoPath, Vec<u8>)>, git::Error> {
        let tree = |at| self.repo.find_commit(oid(at)).unwrap().tree().unwrap();
        let diff = self.repo.diff_tree_to_tree(Some(&tree(from)), Some(&tree(to)), None).unwrap();
        let mut all = diff.deltas();
        let (Some(one), None) = (all.next(), all.next()) else { return Ok(None) };
        let path = RepoPath::parse(one.new_file().path().unwrap().to_str().unwrap()).unwrap();
        let bytes = self.read_at(to, &path)?;
        Ok(bytes.map(|bytes| (path, bytes)))
    }

    fn descends(&self, head: Revision, from: Revision) -> Result<bool, git::Error> {
        Ok(head == from || self.repo.graph_descendant_of(oid(head), oid(from)).unwrap())
    }

    fn commit(&self, commit: &Commit<'_>) -> Result<Revision, git::Error> {
        let parent = self.repo.find_commit(oid(commit.parent.unwrap())).unwrap();
        let mut builder = git2::build::TreeUpdateBuilder::new();
        for (path, bytes) in commit.edits {
            let blob = self.repo.blob(bytes.as_ref().unwrap()).unwrap();
            builder.upsert(path.as_str(), blob, git2::FileMode::Blob);
        }
        let tree = builder.create_updated(&self.repo, &parent.tree().unwrap()).unwrap();
        let tree = self.repo.find_tree(tree).unwrap();
        let secs = i64::try_from(commit.at.0 / 1000).unwrap();
        let time = git2::Time::new(secs, 0);
        let bot = git2::Signature::new(commit.committer.name(), commit.committer.email(), &time);
        let bot = bot.unwrap();
        let made = self.repo.commit(None, &bot, &bot, commit.message, &tree, &[&parent]).unwrap();
        Ok(revision(made))
    }

    fn update(&self, updates: &[Update]) -> Result<(), git::Error> {
        let mut world = self.world.lock().unwrap();
        let lost = || git::Error::Child { verb: "push", said: "the connection was cut".to_owned() };
        if world.wild && world.rng.one_in(20) {
            world.people();
        }
        if world.wild && world.rng.one_in(20) {
            return Err(lost());
        }
        for Update { name, old, new } in updates {
            let now = self.find(name)?;
            if now != *old {
                return Err(git::Error::Moved { name: name.clone(), now });
            }
            match new {
                Some(new) => {
                    self.repo.reference(name.as_str(), oid(*new), true, "push").unwrap();
                }
                None => self.repo.find_reference(name.as_str()).unwrap().delete().unwrap(),
            }
        }
        if world.wild && world.rng.one_in(20) { Err(lost()) } else { Ok(()) }
    }
}

struct Outcome {
    merged: bool,
    calls: u64,
}

#[expect(clippy::too_many_lines, reason = "one step after the other")]
fn run(dir: &Path, seed: u64) -> Result<Outcome, String> {
    let face = FACES[usize::try_from(seed).unwrap() % FACES.len()];
    let mut double = Double::new(dir, PROJECT);
    double.face = face;
    // The same calls as in the contract, ten thousand times as often.
    double.held = false;
    for name in [BRANCH, "main"] {
        double.delete(name);
    }
    double.push("main", FILE, TEXT);
    let mut rng = Rng(seed);
    double.needs_pipeline = rng.one_in(3);
    // GitHub has no such thing: a rebase there makes new commits.
    double.fast_forward = rng.one_in(3) && face != Face::GitHub;
    double.merge_queue = face == Face::GitHub && rng.one_in(2);
    double.classic_queue = double.merge_queue && rng.one_in(2);
    let world =
        World { double, rng, wild: true, clock: Duration::ZERO, story: Vec::new(), stopped: false };
    let world: Shared = Arc::new(Mutex::new(world));
    let forge = || {
        let (way, watch) = (InProcess(Arc::clone(&world)), Watch(Arc::clone(&world)));
        let client = Client::new(Box::new(way), Box::new(watch));
        let repo = git2::Repository::open_bare(dir).unwrap();
        let git = InMemory { repo, world: Arc::clone(&world) };
        let api: Box<dyn Api> = match face {
            Face::GitLab => Box::new(GitLab::new(client, None, PROJECT)),
            Face::GitHub => Box::new(GitHub::new(client, None, PROJECT)),
            Face::Gitea => Box::new(Gitea::new(client, None, "Gitea", PROJECT)),
        };
        let base = Branch::parse("main").unwrap();
        Hosted::new(api, Box::new(git), base, Identity::towpath(), options())
    };
    let mut hosted = forge();
    let mut vetoed: BTreeSet<String> = BTreeSet::new();
    let mut wanted = "2";
    for step in 0..WILD + CALM {
        let frozen = {
            let mut world = world.lock().unwrap();
            world.clock += Duration::from_secs(40);
            if step == WILD {
                world.wild = false;
                world.double.lag = false;
                world.double.notice();
            }
            if step == WILD / 2 && world.rng.one_in(2) {
                wanted = "3";
            }
            if !world.wild {
                world.double.queue_goes_on(true);
                // Every pipeline comes to its end, and one that is needed comes at last.
                let heads: Vec<String> = world
                    .double
                    .requests
                    .iter()
                    .filter(|it| it.state == "opened")
                    .filter_map(|it| it.head.clone())
                    .collect();
                for head in heads {
                    let status = world.double.pipelines.get(&head).map(|it| it.status);
                    match status {
                        Some("running") | None => world.double.pipeline(&head, "success"),
                        Some("failed") => world.stopped = true,
                        Some(_) => {}
                    }
                }
            }
            let frozen = world.wild && world.rng.one_in(5);
            let dies = world.wild && world.rng.one_in(10);
            world.story.push(format!(
                "step {step}: wants {wanted}{}",
                if frozen { ", frozen" } else { "" }
            ));
            world.double.begin_operation();
            drop(world);
            if dies {
                // The controller is killed; the next one has no memory.
                hosted = forge();
            }
            frozen
        };
        let said = one_step(&hosted, &world, wanted, &mut vetoed, at(100 + step), frozen);
        let rests = said == "nothing to do" && step > WILD / 2;
        let mut world = world.lock().unwrap();
        world.story.push(format!("  => {said}"));
        let story = |world: &World| world.story.join("\n");
        if let Some(broken) = world.double.violations.first() {
            return Err(format!("seed {seed} ({face:?}): {broken}\n{}", story(&world)));
        }
        if rests {
            break;
        }
    }
    let world = world.lock().unwrap();
    let text = world.double.file("main", FILE).unwrap();
    let merged = text.contains(&format!("staging: {wanted}"));
    let lines = text.lines().count() == 2
        && ["staging: 1", "staging: 2", "staging: 3"].iter().any(|it| text.contains(it))
        && (text.contains("production: 1") || text.contains("production: 7"));
    if !lines {
        return Err(format!("seed {seed}: the file says {text:?}\n{}", world.story.join("\n")));
    }
    if !merged && !world.stopped {
        return Err(format!("seed {seed} ({face:?}): never merged\n{}", world.story.join("\n")));
    }
    if std::env::var_os("TOWPATH_HOSTED_SEED").is_some() {
        tell(&world.story.join("\n"));
    }
    Ok(Outcome { merged, calls: world.double.calls })
}

/// What the controller would do next about the one target there is.
fn one_step(
    forge: &Hosted<Box<dyn Api>>,
    world: &Shared,
    wanted: &str,
    vetoed: &mut BTreeSet<String>,
    now: Timestamp,
    frozen: bool,
) -> String {
    let list = match forge.list(now) {
        Ok(list) => list,
        Err(error) => return format!("list: {error:?}"),
    };
    world.lock().unwrap().double.end_look();
    let mr = list.into_iter().find(|it| it.target == target("staging"));
    let (text, base) = {
        let world = world.lock().unwrap();
        let tip = Revision::parse(&world.double.tip("main").unwrap()).unwrap();
        (world.double.file("main", FILE).unwrap(), tip)
    };
    if let Some(mr) = &mr {
        let person = match &mr.state {
            State::Open => !mr.head_is_ours(),
            State::Merged { .. } => false,
            State::Closed { by, .. } => *by != Actor::Towpath,
        };
        if person {
            vetoed.insert(mr.to.to_string());
        }
    }
    if text.contains(&format!("staging: {wanted}")) || vetoed.contains(wanted) {
        return "nothing to do".to_owned();
    }
    let open = mr.filter(|it| it.state == State::Open);
    if frozen {
        return match open.filter(|it| it.armed) {
            Some(mr) => format!("disarm: {:?}", forge.disarm(mr.number)),
            None => "frozen".to_owned(),
        };
    }
    let stands = |it: &MergeRequest| it.base == base || it.rides && it.is_green();
    let Some(mr) = open.filter(|it| it.to.as_str() == wanted && stands(it)) else {
        // A person may be faster than our look at the file.
        if !text.contains("staging: ") {
            return "gone".to_owned();
        }
        let wanted = proposal(&text, base, "staging", wanted, now);
        return match forge.open_or_update(&wanted) {
            Ok(mr) => format!("proposed !{} at {}", mr.number, mr.head.short()),
            Err(Error::PersonPushed { .. }) => "a person pushed".to_owned(),
            Err(error) => format!("propose: {error:?}"),
        };
    };
    if !mr.is_green() {
        return format!("report: {:?}", forge.report(mr.number, &green(mr.head, base)).map(|_| ()));
    }
    let act = Act { by: Actor::Towpath, at: now };
    match forge.merge(mr.number, mr.head, &act) {
        Ok(Merge::Merged { .. } | Merge::AlreadyMerged { .. }) => "merged".to_owned(),
        Ok(Merge::NotGreen { why }) if why.contains("/retry") => {
            let mut wild = world.lock().unwrap();
            // A person says so now and then, and at the end for sure.
            if wild.wild && !wild.rng.one_in(4) {
                return why;
            }
            wild.double.ejected.clear();
            let asked = wild.double.moment();
            drop(wild);
            format!("retried: {:?}", forge.again(mr.number, asked))
        }
        other => format!("merge: {other:?}"),
    }
}

#[expect(clippy::print_stdout, reason = "the rate, and the story of one seed, are for people")]
fn tell(text: &str) {
    println!("{text}");
}

#[test]
fn no_schedule_merges_what_it_must_not_and_all_come_to_rest() {
    let number = |name: &str| std::env::var(name).ok().and_then(|it| it.parse::<u64>().ok());
    let seeds = match number("TOWPATH_HOSTED_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TOWPATH_HOSTED_SEEDS").unwrap_or(SEEDS),
    };
    let shm = Path::new("/dev/shm");
    let place = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
    let (begun, count) = (Instant::now(), seeds.end - seeds.start);
    let (mut merged, mut calls, mut failures) = (0_u64, 0, Vec::new());
    for chunk in seeds.collect::<Vec<_>>().chunks(200) {
        let dir = tempfile::Builder::new().prefix("towpath-seeds-").tempdir_in(&place).unwrap();
        git2::Repository::init_bare(dir.path()).unwrap().set_head("refs/heads/main").unwrap();
        for seed in chunk {
            match run(dir.path(), *seed) {
                Ok(outcome) => {
                    merged += u64::from(outcome.merged);
                    calls += outcome.calls;
                }
                Err(why) => failures.push(why),
            }
        }
    }
    let spent = begun.elapsed().as_secs_f64();
    tell(&format!(
        "{count} schedules, {merged} merged, {} failed, {} calls each, {:.0} a second",
        failures.len(),
        calls / count.max(1),
        f64::from(u32::try_from(count).unwrap()) / spent
    ));
    assert!(failures.is_empty(), "{} failed; the first:\n{}", failures.len(), failures[0]);
    assert!(count == 1 || merged > count / 10, "hardly anything merged: {merged} of {count}");
}
