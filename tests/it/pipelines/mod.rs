//! Stages that a pipeline elsewhere does, as release-tools deploys GitLab.com: one pipeline for each
//! environment, with the version as a variable.

mod double;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use towpath::drivers::ci::{CiAt, Cis, Progress};
use towpath::drivers::hosted::open::{Kind, TokenAt};
use towpath::model::{
    Built, CiName, Errand, Product, RolloutId, StepKey, TRIGGER_KEY, Timestamp, Trigger,
};
use towpath::observe::Verdict;

use self::double::{Build, By, Double, PROJECT, Run, TOKEN};
use crate::world::{NEW, NODES, OLD, World, stays};

/// A shop that the pipelines of this CI deploy.
fn shop(kind: &str, workflow: &str) -> (World, Double) {
    let world = World::new();
    let double = Double::start();
    let path = world.root.join("towpath.toml");
    let mut settings = std::fs::read_to_string(&path).unwrap();
    let ci = format!(
        "\n[ci.ops]\nkind = \"{kind}\"\nurl = \"{}\"\nproject = \"{PROJECT}\"\ntoken_file = \"token\"\n",
        double.url
    );
    settings.push_str(&ci);
    std::fs::write(path, settings).unwrap();
    std::fs::write(world.root.join("token"), format!("{TOKEN}\n")).unwrap();
    let recipe = format!(
        "recipe: standard\nstages:\n  - name: deploy\n    on: deploy_node\n    trigger:\n      ci: ops\n      branch: master\n{workflow}      variables: {{ DEPLOY_ENVIRONMENT: \"{{environment}}\", DEPLOY_VERSION: \"{{ref}}\" }}\n    timeout: 4h\n    gates: [smoke]\n"
    );
    world.replace("recipes/standard.yaml", &recipe);
    (world, double)
}

/// Waits until so many pipelines were started; the last one, and that it asks for this.
fn started(world: &World, double: &Double, count: usize, environment: &str) -> Run {
    world.until(&format!("{count} pipelines"), || double.runs().len() >= count);
    let runs = double.runs();
    assert_eq!(runs.len(), count, "{runs:?}");
    let run = runs[count - 1].clone();
    assert_eq!(run.branch, "master");
    assert_eq!(run.variables["DEPLOY_ENVIRONMENT"], environment);
    run
}

/// What the pipeline does, and how it ends.
fn deploys(world: &World, double: &Double, run: &Run) {
    let environment = &run.variables["DEPLOY_ENVIRONMENT"];
    for node in NODES {
        world.install(environment, node, &run.variables["DEPLOY_VERSION"]);
    }
    double.ends(run.id, "success");
}

#[test]
fn a_release_travels_by_pipelines_and_survives_its_controller() {
    let (world, double) = shop("gitlab", "");
    let mut controller = world.start();
    world.until_in_sync();
    // The answer to the first start is lost: it is found again, not started again.
    double.state().cut_next_start = true;
    world.want("staging", NEW);
    let run = started(&world, &double, 1, "staging");
    assert_eq!(run.variables["DEPLOY_VERSION"], NEW);
    let url = format!("https://ops.example.com/ops/deployer/-/pipelines/{}", run.id);
    world.until_explained("staging", &url);
    controller.kill();
    let controller = world.start();
    world.until("it is found again", || {
        controller.told("", &url) > 0 || world.explain("staging").contains(&url)
    });
    deploys(&world, &double, &run);
    world.until_runs("staging", NEW);
    let run = started(&world, &double, 2, "canary");
    deploys(&world, &double, &run);
    let run = started(&world, &double, 3, "production");
    assert_eq!(world.wanted("shop", "production"), NEW);
    deploys(&world, &double, &run);
    world.until_in_sync();
    assert_eq!(double.runs().len(), 3);
    let said = world.order(&["log", "--json"]);
    assert!(said.contains(&url), "the record says where: {said}");
    assert!(!said.contains(TOKEN));
}

#[test]
fn a_canceled_pipeline_halts_and_an_aborted_one_is_canceled() {
    let (world, double) = shop("gitlab", "");
    let _controller = world.start();
    world.until_in_sync();
    world.want("staging", NEW);
    let run = started(&world, &double, 1, "staging");
    double.ends(run.id, "canceled");
    let said = world.until_explained("staging", "was canceled");
    assert!(said.contains("retry") && said.contains("halted"), "{said}");
    // A person's retry is another pipeline.
    world.order(&["retry", "shop", "staging"]);
    let again = started(&world, &double, 2, "staging");
    assert_ne!(again.variables["TOWPATH_STEP"], run.variables["TOWPATH_STEP"]);
    world.until_explained("staging", &format!("pipelines/{}", again.id));
    world.order(&["abort", "shop", "staging", "--now", "--reason", "wrong day"]);
    world.until("it is canceled there", || double.runs()[1].status == "canceled");
    assert!(stays(std::time::Duration::from_secs(1), || double.runs().len() == 2));
    assert!(world.runs("staging", OLD));
}

#[test]
fn what_was_canceled_rolls_nothing_back_and_what_failed_does() {
    let (world, double) = shop("gitlab", "");
    let path = world.root.join("config/recipes/standard.yaml");
    let recipe = std::fs::read_to_string(path).unwrap();
    world.replace("recipes/standard.yaml", &format!("{recipe}rollback_on: [max_failures]\n"));
    let _controller = world.start();
    world.until_in_sync();
    world.want("staging", NEW);
    let run = started(&world, &double, 1, "staging");
    double.ends(run.id, "levitating");
    world.until_explained("staging", "levitating");
    let log = || std::fs::read_to_string(world.root.join("log")).unwrap_or_default();
    let warned =
        || log().lines().filter(|it| it.contains("WARN") && it.contains("levitating")).count();
    world.until("it is warned of", || warned() > 0);
    double.ends(run.id, "canceled");
    world.until_explained("staging", "was canceled");
    assert!(stays(Duration::from_secs(2), || world.wanted("shop", "staging") == NEW));
    assert_eq!(warned(), 1);
    world.order(&["retry", "shop", "staging"]);
    let again = started(&world, &double, 2, "staging");
    double.ends(again.id, "failed");
    world.until("it goes back", || world.wanted("shop", "staging") == OLD);
}

#[test]
fn the_next_controller_goes_on_with_a_cancel_that_the_ci_did_not_hear() {
    let (world, double) = shop("gitlab", "");
    let mut controller = world.start();
    world.until_in_sync();
    world.want("staging", NEW);
    let run = started(&world, &double, 1, "staging");
    world.until_explained("staging", &format!("pipelines/{}", run.id));
    double.state().down = true;
    world.order(&["abort", "shop", "staging", "--now", "--reason", "wrong day"]);
    controller.kill();
    double.state().down = false;
    assert!(stays(std::time::Duration::from_secs(1), || double.runs()[0].status == "running"));
    let controller = world.start();
    world.until("it is canceled there", || double.runs()[0].status == "canceled");
    world.until("it is told", || controller.told("controller", "is over in ops") == 1);
    // Once it is over nobody asks any more.
    drop(controller);
    let controller = world.start();
    assert!(stays(std::time::Duration::from_secs(2), || {
        controller.told("controller", "is over in ops") == 0
    }));
    assert_eq!(double.runs().len(), 1);
}

#[test]
fn a_token_is_read_again_when_it_is_refused() {
    let (world, double) = shop("gitlab", "");
    let token = world.root.join("token");
    std::fs::remove_file(&token).unwrap();
    let refused = world.towpath(&["run", "--once"]);
    assert!(refused.status != 0 && refused.stderr.contains("token"), "{refused:?}");
    std::fs::write(&token, "an-old-one\n").unwrap();
    let _controller = world.start();
    world.until_in_sync();
    world.want("staging", NEW);
    let said = world.until_explained("staging", "wrong, expired or revoked");
    assert!(!said.contains("an-old-one"), "{said}");
    std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
    world.order(&["retry", "shop", "staging"]);
    let run = started(&world, &double, 1, "staging");
    deploys(&world, &double, &run);
    world.until_runs("staging", NEW);
    // Nobody there for a while: it is waited for, and nothing is started twice.
    let run = started(&world, &double, 2, "canary");
    double.state().down = true;
    world.until_explained("canary", "looking at the pipeline");
    deploys(&world, &double, &run);
    double.state().down = false;
    started(&world, &double, 3, "production");
}

#[test]
fn what_cannot_be_started_says_what_to_do() {
    let (world, double) = shop("gitlab", "");
    double.state().read_only = true;
    let _controller = world.start();
    world.until_in_sync();
    world.want("staging", NEW);
    let said = world.until_explained("staging", "lacks the scope `api`");
    assert!(!said.contains(TOKEN), "{said}");
    assert!(double.runs().is_empty());
    // Another CI, which the settings do not know.
    let recipe = world.show("main", "recipes/standard.yaml");
    double.state().read_only = false;
    world.replace("recipes/standard.yaml", &recipe.replace("ci: ops", "ci: pos"));
    world.want("staging", "1.2.0");
    let said = world.until_explained("staging", "no CI `pos`");
    assert!(said.contains("[ci.pos]"), "{said}");
    // A branch that is not there.
    world.replace("recipes/standard.yaml", &recipe.replace("branch: master", "branch: main"));
    world.order(&["abort", "shop", "staging", "--reason", "not that one"]);
    world.want("staging", "1.3.0");
    world.until_explained("staging", "Reference not found");
    assert!(double.runs().is_empty());
}

#[test]
fn a_workflow_of_github_is_found_by_the_name_of_its_runs() {
    let (world, double) = shop("github", "      workflow: deploy.yml\n");
    double.state().workflow = "on: { workflow_dispatch: {} }\nname: deploy\n".to_owned();
    double.state().hides = true;
    let mut controller = world.start();
    world.until_in_sync();
    world.want("staging", NEW);
    let said = world.until_explained("staging", "run-name");
    assert!(said.contains("TOWPATH_STEP") && said.contains("halted"), "{said}");
    assert!(double.runs().is_empty());
    double.state().workflow =
        "run-name: deploy ${{ inputs.TOWPATH_STEP }}\non: { workflow_dispatch: {} }\n".to_owned();
    world.order(&["retry", "shop", "staging"]);
    // A run is not listed at once, and the controller dies meanwhile: still only one.
    let run = started(&world, &double, 1, "staging");
    controller.kill();
    let _controller = world.start();
    world.until_explained("staging", "looking whether it was started before");
    double.state().runs[0].hidden = false;
    world.until_explained("staging", "actions/runs/100");
    deploys(&world, &double, &run);
    world.until_runs("staging", NEW);
    world.until("it is known there", || !world.explain("staging").contains("actions/runs/100 is"));
    assert_eq!(
        double.runs().iter().filter(|it| it.variables["DEPLOY_ENVIRONMENT"] == "staging").count(),
        1
    );
}

#[test]
fn a_ref_waits_until_all_its_builds_exist() {
    for kind in ["gitlab", "github"] {
        let (world, double) = shop(kind, "      workflow: deploy.yml\n");
        world.replace("recipes/standard.yaml", &world.recipe());
        let build = |reference: &str, status: &str| {
            let (of, status) = (reference.to_owned(), status.to_owned());
            double.state().builds.push(Build { of, status, by: By::Push });
        };
        let package = |name: &str, status: &str| {
            double.state().packages.push([name, NEW, status].map(str::to_owned));
        };
        build(OLD, "success");
        let service = world.service("shop");
        let wants =
            "recipe: standard\nartifacts:\n  - pipeline: { ci: ops, project: ops/builds }\n";
        let more = "  - package: { ci: ops, project: ops/builds, name: shop-ee }\n";
        let more = if kind == "gitlab" { more } else { "" };
        let changed = service.replace("recipe: standard\n", &format!("{wants}{more}"));
        world.replace("services/shop.yaml", &changed);
        double.state().packages.push(["shop-ee", OLD, "default"].map(str::to_owned));
        let _controller = world.start();
        world.until_in_sync();
        world.want("staging", NEW);
        world.until_explained("staging", &format!("ops/builds has no pipeline of {NEW}"));
        build(NEW, if kind == "gitlab" { "failed" } else { "failure" });
        world.until_explained("staging", "has failed");
        build(NEW, "running");
        world.until_explained("staging", "is not over");
        assert!(world.runs("staging", OLD));
        double.state().builds.pop();
        build(NEW, "a_new_word");
        world.until_explained("staging", "does not know");
        double.state().builds.pop();
        build(NEW, "success");
        if kind == "gitlab" {
            let none = format!("ops/builds has no package shop-ee {NEW}");
            world.until_explained("staging", &none);
            // Another one, and one that is not whole.
            package("shop-ee-docs", "default");
            package("shop-ee", "processing");
            assert!(stays(std::time::Duration::from_secs(3), || world.runs("staging", OLD)));
            double.state().down = true;
            world.until_explained("staging", "looking for the p");
            package("shop-ee", "default");
            assert!(stays(std::time::Duration::from_secs(2), || world.runs("staging", OLD)));
            double.state().down = false;
        }
        world.until_runs("staging", NEW);
    }
}

/// A CI as the settings name it, and a clock that a test moves.
struct Desk {
    cis: Cis,
    now: Cell<Timestamp>,
    _dir: tempfile::TempDir,
}

impl Desk {
    fn new(double: &Double, kind: Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("token");
        std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
        let at = CiAt {
            name: CiName::parse("ops").unwrap(),
            kind,
            url: double.url.clone(),
            project: PROJECT.to_owned(),
            token: TokenAt::File(token),
        };
        let now = Timestamp(1_795_255_300_000);
        Self { cis: Cis::new(&[at], now), now: Cell::new(now), _dir: dir }
    }

    fn errand(&self, step: &str) -> Errand {
        let rollout = RolloutId::parse("0123456789ab").unwrap();
        let call = Trigger {
            ci: CiName::parse("ops").unwrap(),
            workflow: Some("deploy.yml".to_owned()),
            branch: "master".to_owned(),
            variables: BTreeMap::from([("DEPLOY_VERSION".to_owned(), NEW.to_owned())]),
        };
        let (first, timeout) = (self.now.get(), Duration::from_mins(10));
        let key = StepKey::new(&rollout, step, 1);
        Errand { call, key, earlier: Vec::new(), first, since: first, timeout }
    }

    /// Looks, some seconds after the last look.
    fn looks(&self, errand: &Errand) -> Progress {
        self.now.set(self.now.get().after(Duration::from_secs(5)));
        self.cis.ensure(errand, &|| self.now.get())
    }

    fn built(&self, reference: &str) -> Verdict {
        self.built_in("ops/builds", reference)
    }

    fn built_in(&self, project: &str, reference: &str) -> Verdict {
        self.cis.built(&Built {
            ci: CiName::parse("ops").unwrap(),
            project: Some(project.to_owned()),
            what: Product::Pipeline { reference: reference.to_owned() },
            timeout: Duration::from_mins(1),
        })
    }
}

#[test]
fn what_a_place_is_filled_with_leads_to_no_other_project() {
    for kind in [Kind::GitLab, Kind::GitHub] {
        let double = Double::start();
        let desk = Desk::new(&double, kind);
        double.state().builds.push(Build {
            of: NEW.to_owned(),
            status: "success".to_owned(),
            by: By::Push,
        });
        assert_eq!(desk.built_in("/ops/builds", NEW), Verdict::Pass);
        for project in ["ops/../builds", "..", "ops/builds/../../ops/builds", "ops//builds", ""] {
            let said = desk.built_in(project, NEW);
            let part = "is not the path of a project";
            assert!(
                matches!(&said, Verdict::Error { why } if why.contains(part)),
                "{project}: {said:?}"
            );
        }
    }
}

#[test]
fn all_that_is_ever_asked_of_a_ci() {
    for kind in [Kind::GitLab, Kind::GitHub] {
        let double = Double::start();
        double.state().workflow = format!("run-name: deploy ${{{{ inputs.{TRIGGER_KEY} }}}}\n");
        let desk = Desk::new(&double, kind);
        let errand = desk.errand("1-0-0-0-0");
        let waits = |said: &Progress, part: &str| {
            assert!(matches!(said, Progress::Waits(why) if why.contains(part)), "{said:?}");
        };
        waits(&desk.looks(&errand), "started");
        let id = double.runs()[0].id;
        assert_eq!(double.runs()[0].variables["DEPLOY_VERSION"], NEW);
        waits(&desk.looks(&errand), &format!("pipeline {id} is"));
        double.ends(id, "success");
        let said = desk.looks(&errand);
        assert!(matches!(&said, Progress::Done(how) if how.contains("succeeded")), "{said:?}");
        // One that is canceled is over there, and never started again.
        let errand = desk.errand("2-0-0-0-0");
        waits(&desk.looks(&errand), "started");
        waits(&desk.looks(&errand), "is");
        assert_eq!(desk.cis.cancel(&errand, &|| desk.now.get()), Ok(true));
        let canceled = double.runs()[1].status.clone();
        assert!(canceled.starts_with("cancel"), "{canceled}");
        assert!(matches!(desk.looks(&errand), Progress::Ended(_)));
        assert_eq!(double.runs().len(), 2);
        // What was built.
        let fails = |reference: &str, part: &str| {
            let said = desk.built(reference);
            assert!(matches!(&said, Verdict::Fail { why } if why.contains(part)), "{said:?}");
        };
        fails(NEW, "no pipeline");
        let build = |status: &str, by: By| {
            let (of, status) = (NEW.to_owned(), status.to_owned());
            double.state().builds.push(Build { of, status, by });
        };
        build("running", By::Push);
        fails(NEW, "is not over");
        build("success", By::Push);
        assert_eq!(desk.built(NEW), Verdict::Pass);
    }
}

#[test]
fn a_pipeline_that_a_stage_started_is_no_build() {
    for kind in [Kind::GitLab, Kind::GitHub] {
        let double = Double::start();
        let desk = Desk::new(&double, kind);
        let (good, bad) =
            if kind == Kind::GitLab { ("success", "failed") } else { ("success", "failure") };
        let build = |status: &str, by: By| {
            let (of, status) = (NEW.to_owned(), status.to_owned());
            double.state().builds.push(Build { of, status, by });
        };
        let fails = |part: &str| {
            let said = desk.built(NEW);
            assert!(matches!(&said, Verdict::Fail { why } if why.contains(part)), "{said:?}");
        };
        build(good, By::Towpath);
        fails("no pipeline");
        build(good, By::Push);
        for status in ["running", bad] {
            build(status, By::Towpath);
            assert_eq!(desk.built(NEW), Verdict::Pass, "{kind:?}: {status}");
        }
        // What others start by the API is a build like any.
        for by in [By::Program, By::Stranger] {
            build("running", by);
            fails("is not over");
            build(good, by);
            assert_eq!(desk.built(NEW), Verdict::Pass, "{kind:?}: {by:?}");
        }
    }
    // As many as are looked through: what is behind them nobody knows.
    let double = Double::start();
    let desk = Desk::new(&double, Kind::GitLab);
    let ours = Build { of: NEW.to_owned(), status: "success".to_owned(), by: By::Towpath };
    double.state().builds = vec![ours; 50];
    let said = desk.built(NEW);
    assert!(matches!(&said, Verdict::Error { why } if why.contains("Towpath's own")), "{said:?}");
}
