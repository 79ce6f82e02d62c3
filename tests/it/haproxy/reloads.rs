//! HAProxy reloaded or killed in the middle of it.

use std::time::Duration;

use towpath::drivers::balancer::Balancer as _;
use towpath::drivers::haproxy::Haproxy;
use towpath::model::{DrainEnd, Traffic};

use super::apps::App;
use super::load::once;
use super::proxy::{PLAIN, Proxy};
use super::{PATIENT, drained, is_done, reloaded, seat, serving, traffic, waits_for};

/// A request that a server is busy with until it is released, and which server that is.
async fn held(proxy: &Proxy, apps: &[App]) -> (usize, tokio::task::JoinHandle<bool>) {
    let before: Vec<u64> = apps.iter().map(App::served).collect();
    let port = proxy.port;
    let request =
        tokio::spawn(
            async move { once(port, "held", None).await.is_ok_and(|it| it.status == 200) },
        );
    loop {
        let at = apps.iter().zip(&before).position(|(app, before)| app.served() > *before);
        if let Some(at) = at {
            return (at, request);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a request ended well, which was to be waited for.
async fn ends_now(request: tokio::task::JoinHandle<bool>) -> bool {
    let ended = tokio::time::timeout(Duration::from_secs(10), request).await;
    ended.is_ok_and(|it| it.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_reload_is_noticed_and_the_old_workers_connection_waited_for() {
    let apps = App::several(2).await;
    let proxy = Proxy::start(&PLAIN, &apps);
    let (at, request) = held(&proxy, &apps).await;
    let haproxy = Haproxy::new();
    let seat = seat(&apps[at].name, &[proxy.address()]);
    waits_for(haproxy.drained(&seat, 1, Duration::ZERO).await);
    // It forgets the drain, and hides the connection.
    proxy.reload();
    assert_eq!(proxy.admin(&seat.server), 0);
    let why = waits_for(reloaded(&haproxy, &seat).await);
    assert!(why.starts_with("1 sessions left in old workers of"), "{why}");
    assert_eq!(proxy.admin(&seat.server), 8, "not drained again");
    assert_eq!(traffic(&haproxy, &seat).await, Traffic::Draining { sessions: 1 });
    assert!(!request.is_finished(), "it was cut");
    apps[at].release();
    drained(&haproxy, &seat, 1).await;
    assert!(ends_now(request).await, "it was cut, or not waited for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_reload_within_a_call_does_not_end_the_drain() {
    let apps = App::several(2).await;
    let proxy = Proxy::start(&PLAIN, &apps);
    let (at, request) = held(&proxy, &apps).await;
    let (haproxy, seat) = (Haproxy::new(), seat(&apps[at].name, &[proxy.address()]));
    let asking = tokio::spawn(async move { drained(&haproxy, &seat, 1).await });
    let name = apps[at].name.clone();
    super::proxy::until("it is drained", || proxy.admin(&name) == 8);
    proxy.reload();
    super::proxy::until("it is drained again", || proxy.admin(&name) == 8);
    assert!(!asking.is_finished(), "it was not waited for");
    apps[at].release();
    asking.await.unwrap();
    assert!(ends_now(request).await, "it was cut, or not waited for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn sessions_of_an_old_worker_can_be_cut() {
    let apps = App::several(2).await;
    let proxy = Proxy::start(&PLAIN, &apps);
    let (at, request) = held(&proxy, &apps).await;
    proxy.reload();
    let haproxy = Haproxy::new();
    let mut seat = seat(&apps[at].name, &[proxy.address()]);
    seat.drain.then = DrainEnd::Cut;
    waits_for(reloaded(&haproxy, &seat).await);
    assert!(!request.is_finished());
    let begun = std::time::Instant::now();
    while !is_done(&haproxy.drained(&seat, 1, PATIENT.timeout).await.unwrap()) {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is never cut");
    }
    assert!(!request.await.unwrap(), "it was waited for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn killed_and_restarted_in_the_middle() {
    let apps = App::several(2).await;
    let mut proxy = Proxy::start(&PLAIN, &apps);
    let (haproxy, seat) = (Haproxy::new(), seat("s1", &[proxy.address()]));
    drained(&haproxy, &seat, 1).await;
    proxy.kill();
    let error = haproxy.serving(&seat, 100, towpath::model::Voucher::Node).await.unwrap_err();
    assert!(error.may_work_later(), "{error}");
    proxy.restart();
    assert_eq!(proxy.admin("s1"), 0, "it remembers");
    drained(&haproxy, &seat, 1).await;
    assert_eq!(proxy.admin("s1"), 8);
    assert!(is_done(&serving(&haproxy, &seat, 100).await));
}
