//! A node that its balancer let back into service behind a drain: what is to be done there waits for it.

use std::sync::Arc;
use std::time::Duration;

use towpath::controller::{Effect, Hands, Perform, Report, Wake};
use towpath::drivers::clock;
use towpath::drivers::haproxy::Haproxy;
use towpath::drivers::local::Local;
use towpath::model::{
    Connect, Epoch, Question, Ref, RoleName, RolloutId, ServiceName, StepKey, Target,
};
use towpath::rollout::{Op, OpId};

use super::apps::App;
use super::load::once;
use super::proxy::{PLAIN, Proxy, until};
use super::seat;

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn who_came_back_is_waited_for_until_its_sessions_have_ended_again() {
    let apps = App::several(2).await;
    let proxy = Proxy::start(&PLAIN, &apps);
    for app in &apps {
        proxy.until_up(&app.name);
    }
    // Each server has a request that ends when it is let.
    let ask = |_| tokio::spawn(once(proxy.port, "held", None));
    let slow: Vec<_> = (0..2).map(ask).collect();
    until("each has one", || apps.iter().all(|it| it.served() == 1));
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("production/s1")).unwrap();
    let local = Local::new(dir.path(), "ours", std::path::Path::new("/none")).unwrap();
    let hands = Hands::new(Arc::new(local), Arc::new(Haproxy::new()));
    let seat = seat("s1", &[proxy.address()]);
    let rollout = RolloutId::parse("0123456789ab").unwrap();
    let drained = Op::Drained {
        role: RoleName::parse("web").unwrap(),
        seat: seat.clone(),
        keep: 1,
        theirs: false,
    };
    let question = Question::Run {
        argv: vec!["echo".to_owned(), "1.1.0".to_owned()],
        variables: Vec::new(),
        timeout: Duration::from_secs(20),
        absent: None,
    };
    let perform = || Perform {
        target: Target::new(&ServiceName::parse("shop").unwrap(), &seat.environment),
        rollout: rollout.clone(),
        unmoved: false,
        id: OpId { stage: 0, lane: 0, batch: 0, task: 0, op: 1 },
        attempt: 1,
        question: 1,
        key: StepKey::new(&rollout, "s1", 1),
        epoch: Epoch(8),
        ours: (Epoch(8), Epoch(8)),
        out: None,
        op: Op::Runs { question: question.clone() },
        to: Ref::parse("1.1.0").unwrap(),
        connect: Connect::Local { directory: None },
        node: Some(seat.node.clone()),
        since: clock::now(),
        not_after: clock::now().after(Duration::from_mins(5)),
        rerun_lost: false,
        look_only: false,
        errand: None,
        drained: vec![drained.clone()],
    };
    let asks = async || {
        let wake = hands.perform(Effect::Perform(Box::new(perform()))).await;
        let Some(Wake::Performed { report, .. }) = wake else { panic!("{wake:?}") };
        report
    };
    // The second look finds it drained already, and its session still there.
    for look in ["it serves", "it is drained again"] {
        let report = asks().await;
        assert!(matches!(report, Report::Pending { .. }), "{look}: {report:?}");
        assert_eq!(proxy.admin("s1"), 8, "{look}");
    }
    apps[0].release();
    let mut last = asks().await;
    until("it is asked what it runs", || {
        last = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(asks()));
        matches!(last, Report::Done { .. })
    });
    apps[1].release();
    for it in slow {
        assert_eq!(it.await.unwrap().unwrap().status, 200, "it was cut");
    }
}
