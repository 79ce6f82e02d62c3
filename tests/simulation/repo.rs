//! The config repo: commits of file sets, a branch, and the texts that a world begins with.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

use towpath::config::{Change, Content, Loaded, Snapshot};
use towpath::model::{EnvironmentName, Ref, Revision, ServiceName, Target};
use towpath::text::{Pointer, edit, insert_into_list};

use super::inventories::{with_inventory, with_other_question};
use super::pipelines::with_pipeline;
use super::seeds::{Seed, commit_id};

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) parent: Option<Revision>,
    pub(crate) files: Rc<Files>,
    meaning: OnceCell<Snapshot>,
}

#[derive(Debug)]
pub(crate) struct Repo {
    commits: BTreeMap<Revision, Commit>,
    pub(crate) head: Revision,
    /// Files as they were before somebody broke or removed them.
    pub(crate) whole: Files,
    written: u64,
}

impl Repo {
    pub(crate) fn new(files: Files) -> Self {
        let mut repo = Self {
            commits: BTreeMap::new(),
            head: Revision::new([0; 20]),
            whole: files.clone(),
            written: 0,
        };
        repo.head = repo.write(None, files);
        repo
    }

    /// Adds a commit that no branch points at. The same content gives the same commit.
    pub(crate) fn write(&mut self, parent: Option<Revision>, files: Files) -> Revision {
        let above = parent.map(|it| *it.as_bytes()).unwrap_or_default();
        let mut parts: Vec<&[u8]> = vec![&above];
        parts.extend(files.iter().flat_map(|(path, bytes)| [path.as_bytes(), &bytes[..]]));
        let id = commit_id(&parts);
        let commit = Commit { parent, files: Rc::new(files), meaning: OnceCell::new() };
        self.commits.entry(id).or_insert(commit);
        id
    }

    /// A person's commit on the branch; never equal to another.
    pub(crate) fn push(&mut self, parent: Option<Revision>, mut files: Files) -> Revision {
        self.written += 1;
        files.insert("NOTES".to_owned(), self.written.to_string().into_bytes());
        self.head = self.write(parent, files);
        self.head
    }

    pub(crate) fn files(&self, at: Revision) -> Rc<Files> {
        self.commits.get(&at).map(|it| Rc::clone(&it.files)).unwrap_or_default()
    }

    pub(crate) fn parent(&self, at: Revision) -> Option<Revision> {
        self.commits.get(&at)?.parent
    }

    /// What a commit says, read from nothing.
    pub(crate) fn meaning(&self, at: Revision) -> Option<&Snapshot> {
        let commit = self.commits.get(&at)?;
        Some(commit.meaning.get_or_init(|| {
            let files = commit.files.iter().map(|(path, bytes)| Change {
                path: path.clone(),
                content: Content::Bytes(bytes.clone()),
            });
            Loaded::load(at, files).snapshot().clone()
        }))
    }

    pub(crate) fn descends(&self, from: Revision, ancestor: Revision) -> bool {
        let mut at = Some(from);
        while let Some(commit) = at {
            if commit == ancestor {
                return true;
            }
            at = self.parent(commit);
        }
        false
    }

    pub(crate) fn changes(&self, from: Option<Revision>, to: Revision) -> Vec<Change> {
        let old = from.map(|it| self.files(it)).unwrap_or_default();
        let new = self.files(to);
        let mut changes = Vec::new();
        for (path, bytes) in new.iter() {
            if old.get(path) != Some(bytes) {
                let content = Content::Bytes(bytes.clone());
                changes.push(Change { path: path.clone(), content });
            }
        }
        let gone = old.keys().filter(|path| !new.contains_key(*path));
        changes.extend(gone.map(|path| Change { path: path.clone(), content: Content::Gone }));
        changes
    }
}

/// The file of a service.
pub(crate) fn file_of(service: &ServiceName) -> String {
    format!("services/{service}.yaml")
}

/// The file with another ref for a target; none if it cannot be edited.
pub(crate) fn with_ref(bytes: &[u8], environment: &EnvironmentName, to: &Ref) -> Option<Vec<u8>> {
    let pointer = Pointer::new(["targets", environment.as_str(), "ref"]);
    edit("it.yaml", bytes, 0, &pointer, to.as_str()).ok()
}

/// The file with one more entry in a list at its top.
pub(crate) fn with_listed(bytes: &[u8], list: &str, reference: &Ref) -> Option<Vec<u8>> {
    insert_into_list(bytes, 0, &Pointer::new([list]), "targets", reference.as_str()).ok()
}

/// The ref that a file gives a target, by the text alone.
pub(crate) fn ref_in(repo: &Repo, at: Revision, target: &Target) -> Option<Ref> {
    Some(repo.meaning(at)?.spec(target)?.target.reference.clone())
}

/// How one environment of a world is built.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) nodes: Vec<String>,
}

/// Most nodes that a role has in these worlds.
const WEBS_MAX: u64 = 5;

/// Hours that open or close while people act, and that are open again before all must be at rest.
const WINDOWS: [&str; 4] = [
    "daily 10:04-23:00 UTC",
    "daily 12:00-10:07 UTC",
    "Sat,Sun 10:09-22:00 UTC",
    "Fri-Sat 11:30-10:12 UTC",
];

const SERVICES: [&str; 3] = ["shop", "mail", "wiki"];
const ENVIRONMENTS: [&str; 3] = ["staging", "canary", "production"];

/// The config that a world begins with, and the nodes that it speaks of.
pub(crate) fn first_config(seed: &mut Seed) -> (Files, Vec<Site>) {
    let mut files = Files::new();
    let count = if seed.chance(40) { 2 } else { 3 };
    let places = &ENVIRONMENTS[..count];
    let root = format!("version: 1\nenvironments: [{}]\n", places.join(", "));
    files.insert("towpath.yaml".to_owned(), root.into_bytes());
    let mut sites = Vec::new();
    // From a stream of their own: worlds without zones are what they were before there were any.
    let mut aside = Seed::new(seed.clone().next());
    let zones = aside.chance(35).then(|| Zones {
        prepare: aside.chance(50),
        warm: aside.chance(50),
        gates: aside.pick(&ZONE_GATES),
    });
    let mut more = Seed::new(seed.clone().next() ^ 0x3_0000_0000);
    let (inventories, pipelines) = (more.chance(12) && zones.is_none(), more.chance(12));
    let build = Build { balanced: seed.chance(60), overlaps: seed.chance(40), zones };
    for name in places {
        let (mut text, site) = environment(name, build, seed);
        if inventories && more.chance(70) {
            text = with_inventory(&text).unwrap_or(text);
        }
        if zones.is_some() {
            text += &zoned(&text, aside.pick(&LAYOUTS).unwrap_or(LAYOUTS[0]));
        }
        files.insert(format!("environments/{name}.yaml"), text.into_bytes());
        sites.push(site);
    }
    let mut stages = recipe(seed, build);
    if pipelines {
        stages = with_pipeline(&stages, &mut more);
    }
    files.insert("recipes/fleet.yaml".to_owned(), stages.into_bytes());
    let services = seed.span(1, 3);
    for name in SERVICES.iter().take(usize::try_from(services).unwrap_or(1)) {
        files.insert(format!("services/{name}.yaml"), service(name, places, seed).into_bytes());
    }
    (files, sites)
}

/// What all environments of a world have in common.
#[derive(Clone, Copy, Debug)]
struct Build {
    /// Roles are behind load balancers.
    balanced: bool,
    /// A second role has some nodes of the first.
    overlaps: bool,
    /// Nodes are in zones, and stages go from one to the next.
    zones: Option<Zones>,
}

/// Which stages go by zone, beside the one that brings the ref to the fleet.
#[derive(Clone, Copy, Debug)]
struct Zones {
    prepare: bool,
    warm: bool,
    /// What must hold behind each zone, if not what would behind the stage.
    gates: Option<&'static str>,
}

/// What must hold behind each zone of the fleet.
const ZONE_GATES: [&str; 4] = ["[]", "[quiet]", "[calm, smoke]", "[{ bake: 1m }, quiet]"];

/// Zones of web-1 to web-5, api-1, data-1 and deploy-1, a letter for each.
const LAYOUTS: [&str; 5] = ["ababaaba", "aabbcbaa", "abcabcab", "bbaaaaaa", "aaaabaab"];

/// What comes before the zones of a file's nodes, which are its end.
const ZONED: &str = "# zones ";

/// The zones of the nodes that a file names.
fn zoned(text: &str, layout: &str) -> String {
    let mut lines = format!("{ZONED}{layout}\nnodes:\n");
    let webs = (1..=WEBS_MAX).map(|at| format!("web-{at}"));
    let others = ["api-1", "data-1", "deploy-1"].map(ToOwned::to_owned);
    for (node, zone) in webs.chain(others).zip(layout.chars()) {
        let mut words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '-');
        if words.any(|it| it == node) {
            writeln!(lines, "  {node}: {{ zone: {zone} }}").unwrap();
        }
    }
    lines
}

fn environment(name: &'static str, build: Build, seed: &mut Seed) -> (String, Site) {
    let count = seed.span(2, 4);
    let webs: Vec<String> = (1..=count).map(|at| format!("web-{at}")).collect();
    let deploy = if seed.chance(60) { "deploy-1" } else { "data-1" };
    let mut text = format!("environment: {name}\nconnect: local\ndeploy_node: {deploy}\nroles:\n");
    text += "  data: { nodes: [data-1], stateful: true }\n";
    // Canary and production are behind the same balancers, in the same backend.
    let behind = if name == "staging" { "test" } else { "front" };
    let seat = if build.balanced {
        let server = "server: \"{environment}-{node}\"";
        let backends =
            if seed.chance(40) { format!("[{behind}, {behind}-2]") } else { behind.to_owned() };
        format!(", backend: {backends}, {server}, drain: {{ timeout: 2m }}")
    } else {
        String::new()
    };
    writeln!(text, "{}", webs_line(&webs, &seat, seed)).unwrap();
    let least = seed.below(2);
    if build.overlaps {
        let seat = seat.replace(behind, "api");
        let failures = seed.below(2);
        writeln!(
            text,
            "  api: {{ nodes: [web-1, api-1], batch: 2, min_healthy: {least}, max_failures: {failures}{seat} }}"
        )
        .unwrap();
    }
    if build.balanced {
        text += "balancers: [{ haproxy: \"unix:/run/haproxy.sock\" }]\n";
    }
    text += "version: { run: [version, '{service}'] }\n";
    text += "gates:\n  quiet: { run: [quiet], patience: 4m, max_age: 30s }\n";
    text += "  calm: { run: [calm], patience: 4m, max_age: 20s }\n";
    if seed.chance(40) {
        text += "alerts:\n  sources: [{ prometheus: 'http://alerts', query: 'sum(up)', pass: '> 0' }]\n";
        text += "  patience: 4m\n  max_age: 20s\n";
    }
    // Those that are not listed yet may be some day.
    let mut nodes: Vec<String> = (1..=WEBS_MAX).map(|at| format!("web-{at}")).collect();
    nodes.push("data-1".to_owned());
    if build.overlaps {
        nodes.push("api-1".to_owned());
    }
    if deploy == "deploy-1" {
        nodes.push(deploy.to_owned());
    }
    (text, Site { name: name.to_owned(), nodes })
}

/// The role that people change, on one line.
fn webs_line(webs: &[String], seat: &str, seed: &mut Seed) -> String {
    let keep = seed.below(webs.len() as u64);
    let batch = seed.pick(&["1", "2", "50%", "100%"]).unwrap_or("1");
    let failures = seed.pick(&[0, 0, 1, 2]).unwrap_or(0);
    let list = webs.join(", ");
    format!(
        "  web: {{ nodes: [{list}], batch: {batch}, min_healthy: {keep}, max_failures: {failures}{seat} }}"
    )
}

/// An environment with a node more or less, or other rules for its nodes.
pub(crate) fn with_other_webs(bytes: &[u8], seed: &mut Seed) -> Option<Vec<u8>> {
    let text = String::from_utf8(bytes.to_vec()).ok()?;
    if let Some(other) = with_other_question(&text, seed) {
        return Some(other.into_bytes());
    }
    let old = text.lines().find(|it| it.starts_with("  web:"))?;
    let (_, list) = old.split_once("nodes: [")?;
    let (list, _) = list.split_once(']')?;
    let mut webs: Vec<String> = list.split(", ").map(ToOwned::to_owned).collect();
    if seed.chance(70) {
        let web = format!("web-{}", seed.span(1, WEBS_MAX));
        match webs.iter().position(|it| *it == web) {
            Some(at) if webs.len() > 1 => drop(webs.remove(at)),
            Some(_) => {}
            None => webs.push(web),
        }
    }
    let seat = old.find(", backend:").map_or("", |at| old[at..].trim_end_matches([' ', '}']));
    let seat = if seat.is_empty() { String::new() } else { format!("{seat} }}") };
    let text = text.replace(old, &webs_line(&webs, &seat, seed));
    let Some((above, below)) = text.split_once(ZONED) else { return Some(text.into_bytes()) };
    let layout = below.lines().next().unwrap_or_default();
    Some(format!("{above}{}", zoned(above, layout)).into_bytes())
}

/// The root with other freezes, each of which is soon over. Worlds begin at 10:00 UTC.
pub(crate) fn with_other_freezes(bytes: &[u8], minute: u64, seed: &mut Seed) -> Option<Vec<u8>> {
    let text = String::from_utf8(bytes.to_vec()).ok()?;
    if !text.starts_with("version: 1\n") {
        return None; // It is broken: whoever mends it puts the whole one back.
    }
    let mut text = text.split_once("freezes:").map_or(text.as_str(), |it| it.0).to_owned();
    let count = seed.below(3);
    if count > 0 {
        text += "freezes:\n";
    }
    for _ in 0..count {
        let from = (minute + seed.below(6)).saturating_sub(2).min(50);
        let until = from + seed.span(1, 8);
        let place = seed.pick(&["environments: [staging], ", ""]).unwrap_or("");
        writeln!(
            text,
            "  - {{ name: stock, {place}from: '2026-11-21 10:{from:02}', until: '2026-11-21 10:{until:02}', timezone: UTC, reason: taking }}"
        )
        .unwrap();
    }
    Some(text.into_bytes())
}

/// The service with other hours, if it has any.
pub(crate) fn with_other_window(bytes: &[u8], seed: &mut Seed) -> Option<Vec<u8>> {
    let text = String::from_utf8(bytes.to_vec()).ok()?;
    let (_, old) = text.split_once("window: '")?;
    let (old, _) = old.split_once('\'')?;
    let new = seed.pick(&WINDOWS)?;
    Some(text.replace(old, new).into_bytes())
}

fn recipe(seed: &mut Seed, build: Build) -> String {
    let mut text = "recipe: fleet\n".to_owned();
    let by_zone = |is: bool| if is { ", by: zone" } else { "" };
    let (prepares, warms) = build.zones.map_or((false, false), |it| (it.prepare, it.warm));
    if seed.chance(50) {
        text += "rollback_on: [smoke, max_failures]\n";
    }
    text += "stages:\n";
    if seed.chance(60) {
        writeln!(
            text,
            "  - {{ name: prepare, on: all{}, run: [prepare], timeout: 10m, finally: [restore] }}",
            by_zone(prepares)
        )
        .unwrap();
    }
    if seed.chance(25) {
        writeln!(
            text,
            "  - {{ name: warm, on: all{}, run: [warm, '{{ref}}'], timeout: 2m, skip: [rollback, fast] }}",
            by_zone(warms)
        )
        .unwrap();
    }
    if seed.chance(75) {
        let again = match seed.below(10) {
            0 | 1 => ", idempotent: true",
            2..=4 => ", status: { run: [status, '{ref}'], patience: 3m }",
            5..=7 => ", transactional: true, status: { run: [status, '{ref}'], patience: 3m }",
            _ => "",
        };
        let gates = seed.pick(&["[]", "[quiet]", "[quiet, { bake: 2m }]", "[{ bake: 1m }, calm]"]);
        writeln!(
            text,
            "  - {{ name: migrate, kind: migrate, on: deploy_node, run: [migrate, '{{ref}}'], timeout: 2m, gates: {}{again} }}",
            gates.unwrap_or("[]")
        )
        .unwrap();
    }
    text +=
        "  - { name: data, on: [data], run: [install, '{ref}'], timeout: 10m, gates: [smoke] }\n";
    let gates = seed
        .pick(&["[]", "[smoke]", "[quiet]", "[quiet, smoke]", "[calm, { bake: 2m }]"])
        .unwrap_or("[]");
    let gates = build.zones.and_then(|it| it.gates).unwrap_or(gates);
    let on = if build.overlaps { "[web, api]" } else { "[web]" };
    let drain = if build.balanced && seed.chance(85) { ", drain: true" } else { "" };
    let check = if seed.chance(50) { ", check: { run: [healthy], timeout: 1m }" } else { "" };
    writeln!(
        text,
        "  - {{ name: fleet, on: {on}{}, run: [install, '{{ref}}'], timeout: 10m{check}{drain}, gates: {gates} }}",
        by_zone(build.zones.is_some())
    )
    .unwrap();
    if build.balanced && seed.chance(40) {
        let gates = seed.pick(&["[]", "[calm]", "[quiet, { bake: 1m }]"]).unwrap_or("[]");
        let all = ["[0%, 50%, 100%]", "[25%, 100%]", "[10%, 60%]"];
        let steps = seed.pick(&all).unwrap_or("[100%]");
        writeln!(
            text,
            "  - {{ name: open, kind: weight, on: [web], steps: {steps}, gates: {gates} }}"
        )
        .unwrap();
    }
    if seed.chance(60) {
        let how = seed.pick(&["manual", "automatic", "deferred", "deferred"]).unwrap_or("manual");
        let asked = match seed.below(4) {
            0 => ", status: { run: [status, '{ref}'], patience: 3m }",
            1 => ", transactional: true, status: { run: [status, '{ref}'], patience: 3m }",
            _ => "",
        };
        writeln!(
            text,
            "  - {{ name: post, kind: post_migrate, on: deploy_node, run: [post, '{{ref}}'], timeout: 2m, approval: {how}{asked} }}"
        )
        .unwrap();
    }
    text
}

fn service(name: &str, places: &[&str], seed: &mut Seed) -> String {
    let mut text = format!("service: {name}\nrecipe: fleet\n");
    if seed.chance(50) {
        text += "artifacts: [{ run: [built, '{ref}'] }]\n";
    }
    if seed.chance(40) {
        let patch = seed.span(1, 6);
        writeln!(
            text,
            "patches: [{{ ref: '1.0.{patch}', contained_in: ['1.0.{}'] }}]",
            patch + seed.span(1, 4)
        )
        .unwrap();
        if seed.chance(60) {
            text += "contains: { run: [contains, '{patch}', '{ref}'] }\n";
        }
    }
    text += "blocked: []\nhotfixes: []\ntargets:\n";
    let roles = seed.pick(&["", "", "    roles: [web]\n", "    roles: [data]\n"]).unwrap_or("");
    for (at, place) in places.iter().enumerate() {
        writeln!(text, "  {place}:\n    ref: '1.0.0' # moved by promotions").unwrap();
        if seed.chance(75) {
            text += "    smoke: { run: [smoke, '{ref}'], timeout: 2m }\n";
        }
        text += roles;
        if let Some(before) = at.checked_sub(1) {
            let after = places[before];
            let auto = if seed.chance(85) { "true" } else { "false" };
            let bake = seed.pick(&["", ", bake: 1m", ", bake: 4m"]).unwrap_or("");
            let gates = if seed.chance(50) { ", gates: [calm]" } else { "" };
            let people = if seed.chance(20) { ", approvals: 1" } else { "" };
            let hours = seed.pick(&WINDOWS).filter(|_| seed.chance(25));
            let hours = hours.map_or_else(String::new, |it| format!(", window: '{it}'"));
            writeln!(
                text,
                "    promote: {{ after: [{after}], auto: {auto}{bake}{gates}{people}{hours} }}"
            )
            .unwrap();
        }
    }
    text
}
