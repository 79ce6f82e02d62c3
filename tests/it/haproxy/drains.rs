//! Draining: nobody's request fails, and what does not end by itself is halted at, or cut.

use std::time::Duration;

use tokio::net::TcpStream;
use towpath::drivers::balancer::{Balancer as _, BalancerError, Settling};
use towpath::drivers::haproxy::Haproxy;
use towpath::model::{BalancerAddress, DrainEnd, Traffic};

use super::apps::App;
use super::load::{Crowd, Load, once, request};
use super::proxy::{PLAIN, Proxy, Shape, until};
use super::{PATIENT, drained, is_done, reloaded, seat, serving, traffic, waits_for};

const CROWD: Crowd =
    Crowd { kept: 6, fresh: 4, sticky: 0, pause: Duration::from_millis(5), slow: 400 };

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn no_request_fails_while_servers_take_turns() {
    let apps = App::several(3).await;
    let proxy = Proxy::start(&PLAIN, &apps);
    let load = Load::start(proxy.port, CROWD);
    let haproxy = Haproxy::new();
    for app in &apps {
        let seat = seat(&app.name, &[proxy.address()]);
        let evidence = drained(&haproxy, &seat, 2).await;
        assert!(evidence.contains("drain, weight 100 of 100, 0 sessions"), "{evidence}");
        let before = app.served();
        app.die().await;
        // Out of service for a while under load.
        let so_far = load.good();
        until("others serve", || load.good() > so_far + 100);
        assert_eq!(app.served(), before, "a drained server got requests");
        app.rise("new").await;
        assert!(is_done(&serving(&haproxy, &seat, 100).await));
        assert_eq!(traffic(&haproxy, &seat).await, Traffic::Serving { weight: 100 });
    }
    let so_far = load.good();
    until("all serve", || load.good() > so_far + 300);
    let (good, bad) = load.end().await;
    assert!(bad.is_empty(), "{} of {good} failed: {:?}", bad.len(), &bad[..bad.len().min(5)]);
    let answer = once(proxy.port, "0", None).await.unwrap();
    assert!(answer.body.ends_with(" new"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn twice_is_once() {
    let apps = App::several(2).await;
    let proxy = Proxy::start(&PLAIN, &apps);
    let (haproxy, seat) = (Haproxy::new(), seat("s1", &[proxy.address()]));
    proxy.until_up("s2");
    for _ in 0..2 {
        drained(&haproxy, &seat, 1).await;
        assert_eq!(proxy.admin("s1"), 8);
        assert_eq!(traffic(&haproxy, &seat).await, Traffic::Draining { sessions: 0 });
    }
    for _ in 0..2 {
        assert!(is_done(&serving(&haproxy, &seat, 100).await));
        assert_eq!(proxy.admin("s1"), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn every_balancer_and_backend_is_drained_and_one_that_is_silent_is_named() {
    let apps = App::several(2).await;
    let shape = Shape { backends: &["web", "api"], ..PLAIN };
    let (first, mut second) = (Proxy::start(&shape, &apps), Proxy::start(&shape, &apps));
    let mut seat = seat("s1", &[first.tcp_address(), second.address()]);
    seat.backends.push("api".to_owned());
    let haproxy = Haproxy::new();
    drained(&haproxy, &seat, 1).await;
    for proxy in [&first, &second] {
        for backend in ["web", "api"] {
            let stat = proxy.say(&format!("show stat {backend} 4 1"));
            assert!(stat.contains(",DRAIN"), "{stat}");
        }
    }
    second.say("set server api/s1 state ready");
    let Traffic::Mixed { out } = traffic(&haproxy, &seat).await else { panic!("one serves") };
    let out: Vec<(&BalancerAddress, &str)> =
        out.iter().map(|it| (&it.balancer, it.backend.as_str())).collect();
    let others =
        [(&seat.balancers[1], "web"), (&seat.balancers[0], "api"), (&seat.balancers[0], "web")];
    assert_eq!(out, others);
    second.kill();
    let name = second.path("admin.sock");
    for asked in [
        haproxy.drained(&seat, 1, Duration::ZERO).await,
        haproxy.serving(&seat, 100, towpath::model::Voucher::Node).await,
    ] {
        let error = asked.unwrap_err();
        assert!(error.may_work_later(), "{error}");
        assert!(error.to_string().contains(&name), "{error}");
    }
    assert_eq!(first.admin("s1"), 8, "the other one was touched");
    second.restart();
    assert!(is_done(&serving(&haproxy, &seat, 100).await));
    assert_eq!((first.admin("s1"), second.admin("s1")), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_a_person_drained_is_emptied_like_the_rest_and_left_as_the_person_had_it() {
    let apps = App::several(2).await;
    let shape = Shape { backends: &["web", "api"], ..PLAIN };
    let proxy = Proxy::start(&shape, &apps);
    let haproxy = Haproxy::new();
    let mut seat = seat("s1", &[proxy.address()]);
    seat.backends.push("api".to_owned());
    seat.drain.maintenance = true;
    let stands = || {
        ["srv_admin_state", "srv_uweight"]
            .map(|column| ["web", "api"].map(|it| proxy.column_in(it, "s1", column)))
    };
    proxy.say("set server api/s1 state drain");
    let Traffic::Mixed { out: kept } = traffic(&haproxy, &seat).await else { panic!("one serves") };
    seat.kept = kept;
    drained(&haproxy, &seat, 1).await;
    assert_eq!(stands()[0], ["1", "1"], "its clients would come back to it");
    for _ in 0..2 {
        assert!(is_done(&serving(&haproxy, &seat, 100).await));
        assert_eq!(stands(), [["0", "8"], ["100", "100"]]);
    }
    // Who was let serve meanwhile gets its share as the rest does.
    proxy.say("set server api/s1 state ready");
    assert!(is_done(&serving(&haproxy, &seat, 50).await));
    assert_eq!(stands(), [["0", "0"], ["50", "50"]]);
    // Also when it had to be taken out again, with sticky sessions or without.
    for maintenance in [true, false] {
        seat.drain.maintenance = maintenance;
        proxy.say("set server api/s1 state drain");
        drained(&haproxy, &seat, 1).await;
        proxy.say("set server api/s1 state ready");
        drained(&haproxy, &seat, 1).await;
        let out = if maintenance { "1" } else { "8" };
        assert_eq!(stands()[0], [out; 2]);
        assert!(is_done(&serving(&haproxy, &seat, 100).await));
        assert_eq!(stands(), [["0", "0"], ["100", "100"]]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_connection_that_stays_is_halted_at_or_cut() {
    let apps = App::several(2).await;
    let shape = Shape { mode: "tcp", backend: "", ..PLAIN };
    let proxy = Proxy::start(&shape, &apps);
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
    let answer = request(&mut stream, "0", None).await.unwrap();
    let name = answer.body.split(' ').next().unwrap();
    let mut seat = seat(name, &[proxy.address()]);
    let haproxy = Haproxy::new();
    let why = waits_for(haproxy.drained(&seat, 1, Duration::ZERO).await);
    assert!(why.starts_with("1 sessions left on HAProxy at unix:"), "{why}");
    assert_eq!(traffic(&haproxy, &seat).await, Traffic::Draining { sessions: 1 });
    let error = haproxy.drained(&seat, 1, PATIENT.timeout).await.unwrap_err();
    let BalancerError::NotDrained { sessions: 1, .. } = error else { panic!("{error}") };
    assert!(request(&mut stream, "0", None).await.is_ok(), "it was cut");

    seat.drain.then = DrainEnd::Cut;
    waits_for(haproxy.drained(&seat, 1, Duration::ZERO).await);
    assert!(request(&mut stream, "0", None).await.is_ok(), "it was cut too early");
    assert!(is_done(&haproxy.drained(&seat, 1, PATIENT.timeout).await.unwrap()));
    assert!(request(&mut stream, "0", None).await.is_err(), "it was not cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn who_served_until_now_has_all_its_time_whatever_was_known_of_it() {
    for then in [DrainEnd::Halt, DrainEnd::Cut] {
        let apps = App::several(2).await;
        let proxy = Proxy::start(&Shape { mode: "tcp", backend: "", ..PLAIN }, &apps);
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        let answer = request(&mut stream, "0", None).await.unwrap();
        let mut seat = seat(answer.body.split(' ').next().unwrap(), &[proxy.address()]);
        seat.drain.then = then;
        let haproxy = Haproxy::new();
        let ask = async |out| haproxy.drained(&seat, 1, out).await;
        // As after a reload that nobody saw.
        for (out, expected) in [(PATIENT.timeout, true), (Duration::ZERO, false)] {
            let Ok(Settling::Draining { anew, .. }) = ask(out).await else { panic!("{then:?}") };
            assert_eq!(anew, expected);
            assert!(request(&mut stream, "0", None).await.is_ok(), "it was cut");
        }
        match (then, ask(PATIENT.timeout).await) {
            (DrainEnd::Halt, Err(BalancerError::NotDrained { sessions: 1, .. }))
            | (DrainEnd::Cut, Ok(Settling::Done { .. })) => {}
            (_, other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn sticky_clients_need_maintenance() {
    let apps = App::several(2).await;
    let shape = Shape {
        backend: "option httpchk\n    cookie SRV insert indirect nocache",
        server: "check inter 100 weight 100 cookie {name}",
        ..PLAIN
    };
    let proxy = Proxy::start(&shape, &apps);
    let first = once(proxy.port, "0", None).await.unwrap();
    let cookie = first.cookie.unwrap();
    let name = first.body.split(' ').next().unwrap().to_owned();
    let mut seat = seat(&name, &[proxy.address()]);
    let haproxy = Haproxy::new();
    // Drained, it still gets those who were there before.
    drained(&haproxy, &seat, 1).await;
    let again = once(proxy.port, "0", Some(&cookie)).await.unwrap();
    assert!(again.body.starts_with(&name), "{again:?}");
    // So it needs maintenance, which begins when nobody is there.
    seat.drain.maintenance = true;
    let busy = Load::start(proxy.port, Crowd { kept: 2, fresh: 0, sticky: 3, ..CROWD });
    drained(&haproxy, &seat, 1).await;
    assert_eq!(proxy.admin(&name), 1, "not maintenance");
    assert_eq!(traffic(&haproxy, &seat).await, Traffic::Maintenance);
    let again = once(proxy.port, "0", Some(&cookie)).await.unwrap();
    assert!(!again.body.starts_with(&name), "{again:?}");
    drained(&haproxy, &seat, 1).await;
    for _ in 0..2 {
        assert!(is_done(&serving(&haproxy, &seat, 100).await));
        assert_eq!(proxy.admin(&name), 0);
    }
    let (_, bad) = busy.end().await;
    assert!(bad.is_empty(), "{bad:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_frontend_may_be_called_like_its_backend() {
    let apps = App::several(2).await;
    let shape = Shape { mode: "tcp", backend: "", frontend: "web", ..PLAIN };
    let proxy = Proxy::start(&shape, &apps);
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
    let answer = request(&mut stream, "0", None).await.unwrap();
    let name = answer.body.split(' ').next().unwrap();
    let seat = seat(name, &[proxy.address()]);
    let haproxy = Haproxy::new();
    let why = waits_for(haproxy.drained(&seat, 1, Duration::ZERO).await);
    assert!(why.starts_with("1 sessions left on HAProxy at unix:"), "{why}");
    // What the old worker still has to do is seen too.
    proxy.reload();
    let why = waits_for(reloaded(&haproxy, &seat).await);
    assert!(why.contains("1 sessions left in old workers of"), "{why}");
    drop(stream);
    drained(&haproxy, &seat, 1).await;
    assert!(is_done(&serving(&haproxy, &seat, 100).await));
}
