//! Inventories, in virtual time: they grow and shrink, fail, say half, lack a variable, and are asked something else by a
//! commit while an answer is on its way. What is in force is reckoned here, from what the controller was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use towpath::config::{InventorySpec, Snapshot, Spec};
use towpath::controller::{Core, Wake};
use towpath::drivers::inventory::parse;
use towpath::model::{EnvironmentName, Inventory, NodeName, RoleName, RolloutId, Sought};
use towpath::rollout::Plan;

use super::nodes::Place;
use super::repo::{Repo, Site};
use super::seeds::Seed;
use super::store::Store;
use super::world::World;

/// The command and what it is asked of nodes.
type Question = (Vec<String>, Sought);

/// The group of all inventories, and the role that has its nodes.
const GROUP: &str = "web";
/// Fewest nodes of it.
const WEBS_MIN: usize = 2;
/// What a role may lose at once, in percent.
const SHRINK: usize = 40;
/// The fleets that a command can be asked for.
const SIDES: [&str; 2] = ["east", "west"];

/// Where an inventory fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Refuses,
    NoJson,
    Half,
    NoGroup,
    Empty,
    Odd,
}

const TROUBLES: [Trouble; 6] = [
    Trouble::Refuses,
    Trouble::NoJson,
    Trouble::Half,
    Trouble::NoGroup,
    Trouble::Empty,
    Trouble::Odd,
];

/// What is really so in an environment.
#[derive(Clone, Debug)]
struct Fleet {
    /// Every node that there may be.
    all: Vec<String>,
    /// Those of the group, by the fleet that is asked for.
    webs: BTreeMap<&'static str, BTreeSet<String>>,
    /// Nodes of which it does not say the rack.
    bare: BTreeSet<String>,
    trouble: Option<Trouble>,
}

/// What the controller that lives was told last.
#[derive(Debug)]
struct Told {
    question: Question,
    /// Nothing, if it is not to be believed.
    webs: Option<BTreeSet<NodeName>>,
    bare: BTreeSet<NodeName>,
}

/// What an answer has to do to the roles.
pub(crate) struct Heard {
    environment: EnvironmentName,
    before: BTreeSet<NodeName>,
    /// The same as before, if nothing.
    after: Option<BTreeSet<NodeName>>,
}

/// The inventories of a world.
#[derive(Debug)]
pub(crate) struct Inventories {
    seed: Seed,
    fleets: BTreeMap<EnvironmentName, Fleet>,
    /// What is on its way.
    asked: BTreeMap<EnvironmentName, Question>,
    told: BTreeMap<EnvironmentName, Told>,
    in_force: BTreeMap<EnvironmentName, BTreeSet<NodeName>>,
    /// What the config said with these nodes when rollouts were planned.
    planned: BTreeMap<RolloutId, Snapshot>,
}

/// The environment with its webs from an inventory, and with a command that asks for their racks.
pub(crate) fn with_inventory(text: &str) -> Option<String> {
    let old = text.lines().find(|it| it.starts_with("  web:"))?;
    let (front, rest) = old.split_once("nodes: [")?;
    let (_, rest) = rest.split_once(']')?;
    let (rules, keep) = rest.split_once("min_healthy: ")?;
    let keep = if keep.starts_with('0') { keep.to_owned() } else { format!("1{}", &keep[1..]) };
    let new = format!("{front}group: {GROUP}{rules}min_healthy: {keep}");
    let text = text.replace(old, &new);
    let text = text.replace("[version, '{service}']", "[version, '{service}', '{rack}']");
    Some(format!(
        "{text}inventory: {{ run: [list, '{{environment}}', east], every: 1m, shrink: {SHRINK}%, variables: {{ rack: rack_id }} }}\n"
    ))
}

/// The environment with another question, or with other rules for its webs; none if it has no inventory.
pub(crate) fn with_other_question(text: &str, seed: &mut Seed) -> Option<String> {
    let at = text.find("inventory: { run: [list")?;
    if seed.chance(60) {
        let (above, below) = text.split_at(at);
        let [east, west] = SIDES.map(|it| format!(", {it}]"));
        let other = if below.contains(&east) {
            below.replace(&east, &west)
        } else {
            below.replace(&west, &east)
        };
        return Some(format!("{above}{other}"));
    }
    let old = text.lines().find(|it| it.starts_with("  web:"))?;
    let (front, rest) = old.split_once("batch: ")?;
    let (_, rest) = rest.split_once(',')?;
    let batch = seed.pick(&["1", "2", "50%", "100%"]).unwrap_or("1");
    Some(text.replace(old, &format!("{front}batch: {batch},{rest}")))
}

fn question_of(spec: &InventorySpec) -> Question {
    (spec.argv.clone(), (*spec.sought).clone())
}

fn web() -> RoleName {
    RoleName::parse(GROUP).unwrap()
}

fn webs_of(snapshot: &Snapshot, environment: &EnvironmentName) -> Option<BTreeSet<NodeName>> {
    let role = snapshot.environments.get(environment)?.roles.get(&web())?;
    Some(role.nodes.iter().cloned().collect())
}

fn names(nodes: &BTreeSet<String>) -> BTreeSet<NodeName> {
    nodes.iter().map(|it| NodeName::parse(it).unwrap()).collect()
}

impl Fleet {
    fn new(site: &Site, seed: &mut Seed) -> Self {
        let all: Vec<&String> = site.nodes.iter().filter(|it| it.starts_with("web-")).collect();
        let some = |seed: &mut Seed| -> BTreeSet<String> {
            let out = seed.below(all.len() as u64);
            let count = usize::try_from(seed.span(WEBS_MIN as u64, all.len() as u64)).unwrap();
            let from = usize::try_from(out).unwrap();
            all.iter().cycle().skip(from).take(count).map(|it| (*it).clone()).collect()
        };
        let webs = SIDES.map(|side| (side, some(seed)));
        let all = site.nodes.clone();
        Self { all, webs: webs.into(), bare: BTreeSet::new(), trouble: None }
    }

    /// What its command prints.
    fn print(&self, side: &str) -> Result<String, String> {
        let list = |nodes: &mut dyn Iterator<Item = &String>| {
            nodes.map(|it| format!("\"{it}\"")).collect::<Vec<_>>().join(", ")
        };
        let webs = self.webs.get(side).map(|it| list(&mut it.iter())).unwrap_or_default();
        let web = match self.trouble {
            Some(Trouble::NoGroup) => "\"bew\": [\"web-1\"]".to_owned(),
            Some(Trouble::Empty) => format!("\"{GROUP}\": []"),
            Some(Trouble::Odd) => format!("\"{GROUP}\": [{webs}, 7]"),
            _ => format!("\"{GROUP}\": {{ \"hosts\": [{webs}] }}"),
        };
        let racked = self.all.iter().filter(|it| !self.bare.contains(*it));
        let vars: Vec<String> =
            racked.map(|it| format!("\"{it}\": {{ \"rack_id\": \"r-{it}\" }}")).collect();
        let all = list(&mut self.all.iter());
        let text = format!(
            "{{ {web}, \"rest\": {{ \"hosts\": [{all}] }}, \"_meta\": {{ \"hostvars\": {{ {} }} }} }}",
            vars.join(", ")
        );
        match self.trouble {
            Some(Trouble::Refuses) => Err("exit status 1: no route".to_owned()),
            Some(Trouble::NoJson) => Ok("<html>please log in</html>".to_owned()),
            Some(Trouble::Half) => Ok(text[..text.len() / 2].to_owned()),
            _ => Ok(text),
        }
    }
}

impl Inventories {
    pub(crate) fn new(mut seed: Seed, repo: &Repo, sites: &[Site]) -> Self {
        let meaning = repo.meaning(repo.head);
        let asks = |name: &EnvironmentName| {
            meaning
                .and_then(|it| it.environments.get(name))
                .is_some_and(|it| it.inventory.is_some())
        };
        let mut fleets = BTreeMap::new();
        for site in sites {
            let name = EnvironmentName::parse(&site.name).unwrap();
            // In a world that only examples have, nobody says what they would print.
            if asks(&name) && site.nodes.iter().any(|it| it == "web-1") {
                fleets.insert(name, Fleet::new(site, &mut seed));
            }
        }
        Self {
            seed,
            fleets,
            asked: BTreeMap::new(),
            told: BTreeMap::new(),
            in_force: BTreeMap::new(),
            planned: BTreeMap::new(),
        }
    }

    /// A controller ended, and with it all that it was told but what was written down.
    pub(crate) fn forget(&mut self) {
        self.asked.clear();
        self.told.clear();
    }

    /// A controller starts, with what was written down.
    pub(crate) fn remember(&mut self, store: &Store) {
        self.in_force = store.believed(GROUP);
    }

    /// All is well with them, and nobody loses a node any more.
    pub(crate) fn calm(&mut self) {
        for fleet in self.fleets.values_mut() {
            fleet.trouble = None;
            fleet.bare.clear();
            let webs = fleet.all.iter().filter(|it| it.starts_with("web-"));
            let webs: BTreeSet<String> = webs.cloned().collect();
            fleet.webs.values_mut().for_each(|it| it.clone_from(&webs));
        }
    }

    /// A question is on its way.
    pub(crate) fn ask(&mut self, environment: &EnvironmentName, argv: &[String], sought: &Sought) {
        self.asked.insert(environment.clone(), (argv.to_vec(), sought.clone()));
    }

    /// What a command answers now.
    pub(crate) fn answer(
        &self,
        environment: &EnvironmentName,
        argv: &[String],
        sought: &Sought,
    ) -> Result<Inventory, String> {
        let fleet = self.fleets.get(environment).ok_or("there is no inventory")?;
        let side = argv.get(2).ok_or("it is asked for nothing")?;
        parse(fleet.print(side)?.as_bytes(), sought)
    }
}

impl World {
    /// The config of a plan, with the nodes that were in force when it was made.
    pub(crate) fn spec_planned(&self, plan: &Plan) -> Option<Spec<'_>> {
        let filled = self.inventories.planned.get(&plan.id);
        filled.or_else(|| self.repo.meaning(plan.revision))?.spec(&plan.target)
    }

    /// Somebody wants to know something else of a fleet.
    fn ask_otherwise(&mut self, place: &EnvironmentName) {
        let head = self.repo.head;
        let mut files = (*self.repo.files(head)).clone();
        let path = format!("environments/{place}.yaml");
        let text = files.get(&path).and_then(|it| String::from_utf8(it.clone()).ok());
        let seed = &mut self.inventories.seed;
        let Some(other) = text.and_then(|it| with_other_question(&it, seed)) else { return };
        self.repo.whole.insert(path.clone(), other.clone().into_bytes());
        files.insert(path, other.into_bytes());
        self.repo.push(Some(head), files);
        self.tell(|| format!("commit: {place} asks its inventory something else"));
        self.hint();
    }

    /// What becomes of fleets by itself.
    pub(crate) fn fleets_change(&mut self) {
        let inventories = &mut self.inventories;
        let seed = &mut inventories.seed;
        let places: Vec<EnvironmentName> = inventories.fleets.keys().cloned().collect();
        let Some(place) = seed.pick(&places).filter(|_| seed.chance(80)) else { return };
        if seed.chance(20) {
            return self.ask_otherwise(&place);
        }
        let Some(fleet) = inventories.fleets.get_mut(&place) else { return };
        let side = seed.pick(&SIDES).unwrap_or(SIDES[0]);
        let nodes = fleet.webs.entry(side).or_default();
        let all: Vec<String> =
            fleet.all.iter().filter(|it| it.starts_with("web-")).cloned().collect();
        let one = seed.pick(&all).unwrap_or_default();
        let act = seed.below(12);
        let what = match act {
            0..=2 => nodes.insert(one).then_some("inventories grown"),
            3..=6 => {
                // Mostly one of them; sometimes so many that nobody believes it.
                let mut many = if act < 6 { 1 } else { 3 };
                let had = nodes.len();
                for node in &all {
                    if many > 0 && nodes.len() > WEBS_MIN && (act == 6 || seed.chance(50)) {
                        many -= usize::from(nodes.remove(node));
                    }
                }
                (nodes.len() < had).then_some("inventories shrunk")
            }
            7 | 8 => {
                fleet.trouble = seed.pick(&TROUBLES);
                Some("inventories failing")
            }
            9 => {
                fleet.bare.insert(one);
                Some("racks lost")
            }
            _ => {
                fleet.trouble = None;
                fleet.bare.clear();
                None
            }
        };
        if let Some(what) = what {
            self.totals.count(what);
            self.tell(|| format!("{what}: {place}"));
        }
    }

    /// The controller hears of an inventory: what has to follow from that?
    pub(crate) fn hear(&mut self, wake: &Wake, core: &Core) -> Option<Heard> {
        let Wake::Inventory { environment, answer } = wake else { return None };
        let question = self.inventories.asked.remove(environment)?;
        let snapshot = core.snapshot()?;
        let spec = snapshot.environments.get(environment)?.inventory.as_ref()?;
        let before = webs_of(snapshot, environment)?;
        let group = answer.as_ref().ok().and_then(|it| it.groups.get(GROUP));
        let group = group.filter(|it| !it.is_empty()).cloned();
        let old = self.inventories.in_force.get(environment);
        let shrinks = group.as_ref().zip(old).is_some_and(|(new, old)| {
            let lost = old.difference(new).count();
            lost > (old.len() * SHRINK / 100).max(1)
        });
        let asked_otherwise = question_of(spec) != question;
        self.totals.count(match &group {
            _ if asked_otherwise => "answers to another question",
            None => "inventories unreadable",
            Some(_) if shrinks => "inventories not believed",
            Some(_) => "inventories heeded",
        });
        let webs = group.filter(|_| !asked_otherwise && !shrinks);
        let bare = self.inventories.fleets.get(environment).map(|it| &it.all);
        let racks = answer.as_ref().ok().map(|it| &it.particulars);
        let lacks = |node: &&String| {
            let node = NodeName::parse(node).unwrap();
            racks.and_then(|it| it.get(&node)).is_none_or(|it| it.variables.is_empty())
        };
        let bare: BTreeSet<String> = bare.into_iter().flatten().filter(lacks).cloned().collect();
        if webs.is_some() && !bare.is_empty() {
            self.totals.count("inventories without racks");
        }
        if let Some(webs) = &webs {
            self.inventories.in_force.insert(environment.clone(), webs.clone());
        }
        let told = Told { question, webs: webs.clone(), bare: names(&bare) };
        self.inventories.told.insert(environment.clone(), told);
        Some(Heard { environment: environment.clone(), before, after: webs })
    }

    /// The controller has heard of an inventory.
    pub(crate) fn check_heard(&mut self, heard: &Heard, core: &Core) {
        let Heard { environment, before, after } = heard;
        let now = core.snapshot().and_then(|it| webs_of(it, environment));
        let what = format!("{environment} has {now:?}");
        match after {
            None if now.as_ref() != Some(before) => {
                self.broken("9 an unreadable inventory changes nothing", &what);
            }
            Some(after) if now.as_ref() != Some(after) => {
                self.broken("9 an inventory is heeded", &what);
            }
            None | Some(_) => {}
        }
        let written = self.store.believed(GROUP);
        if written.get(environment) != self.inventories.in_force.get(environment) {
            self.broken("9 who is in force is written down", &what);
        }
    }

    /// Nothing begins but on a good answer to the question of this very commit, with the nodes that it names, and where
    /// it says of each what its commands use.
    pub(crate) fn inventory_is_known(&mut self, plan: &Plan) {
        let here = &plan.target.environment;
        let Some(snapshot) = self.repo.meaning(plan.revision) else { return };
        let Some(environment) = snapshot.environments.get(here) else { return };
        let Some(spec) = &environment.inventory else { return };
        self.totals.count("rollouts by inventory");
        let told = self.inventories.told.get(here);
        let told = told.filter(|it| it.question == question_of(spec));
        let Some((webs, bare)) = told.and_then(|it| Some((it.webs.as_ref()?, &it.bare))) else {
            let what = format!("{} begins on no good answer", plan.target);
            return self.broken("9 nothing begins on an answer to another question", &what);
        };
        let mut filled = snapshot.clone();
        if let Some(environment) = filled.environments.get_mut(here) {
            for role in Arc::make_mut(environment).roles.values_mut() {
                if role.group.is_some() {
                    role.nodes = webs.iter().cloned().collect();
                }
            }
        }
        let nodes = filled.spec(&plan.target).map(|it| it.nodes()).unwrap_or_default();
        let lacking: Vec<&NodeName> = nodes.iter().filter(|it| bare.contains(*it)).collect();
        let what = format!("{} begins although {lacking:?} have no rack", plan.target);
        let is_whole = lacking.is_empty();
        let place = |node: &NodeName| (here.clone(), node.clone());
        let strangers: Vec<Place> = plan.nodes.iter().map(place).collect();
        self.inventories.planned.insert(plan.id.clone(), filled);
        if !is_whole {
            self.broken("9 no place in a command stays unfilled", &what);
        }
        for node in strangers {
            self.is_of_the_fleet(&node, &plan.id);
        }
    }

    /// Nothing is done on a node that was not in the inventory in force when it was planned.
    pub(crate) fn is_of_the_fleet(&mut self, (here, node): &Place, id: &RolloutId) {
        let Some(snapshot) = self.inventories.planned.get(id) else { return };
        let known = snapshot.environments.get(here).is_some_and(|it| {
            it.deploy_node.as_ref() == Some(node)
                || it.roles.values().any(|role| role.nodes.contains(node))
        });
        if !known {
            let what = format!("{node} of {here}, by {id}");
            self.broken("9 no step runs on a node that the inventory did not name", &what);
        }
    }

    /// An environment whose roles are not what its inventory says.
    pub(crate) fn unheeded(&self, snapshot: &Snapshot) -> Option<EnvironmentName> {
        let mut fleets = self.inventories.fleets.iter();
        let differs = |(name, fleet): &(&EnvironmentName, &Fleet)| {
            let spec = snapshot.environments.get(*name).and_then(|it| it.inventory.as_ref());
            let side = spec.and_then(|it| it.argv.get(2));
            let webs = side.and_then(|it| fleet.webs.get(it.as_str())).map(names);
            webs.is_some() && webs_of(snapshot, name) != webs
        };
        fleets.find(differs).map(|(name, _)| name.clone())
    }
}
