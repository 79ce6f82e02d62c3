//! Who may be taken out, and whom nobody but a person brings back.

use std::sync::Arc;
use std::time::Duration;

use towpath::drivers::balancer::{Balancer as _, Settling};
use towpath::drivers::haproxy::Haproxy;
use towpath::model::{Traffic, Voucher};

use super::apps::App;
use super::proxy::{PLAIN, Proxy, Shape, until};
use super::{drained, is_done, seat, serving, traffic, waits_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn of_many_drains_at_once_only_so_many_go_as_may() {
    let apps = App::several(6).await;
    let proxy = Proxy::start(&PLAIN, &apps);
    for app in &apps {
        proxy.until_up(&app.name);
    }
    let haproxy = Arc::new(Haproxy::new());
    let asked = apps.iter().enumerate().map(|(at, app)| {
        // One HAProxy by two ways that differ in what they know of the master.
        let seat = seat(&app.name, &[proxy.address()]);
        let haproxy = Arc::clone(&haproxy);
        tokio::spawn(async move {
            let mut seat = seat;
            if at % 2 == 0 {
                for towpath::model::BalancerAddress::Haproxy { master, .. } in &mut seat.balancers {
                    *master = None;
                }
            }
            haproxy.drained(&seat, 4, Duration::ZERO).await.unwrap()
        })
    });
    let (mut done, mut waiting) = (0, 0);
    for asked in asked.collect::<Vec<_>>() {
        match asked.await.unwrap() {
            Settling::Done { .. } => done += 1,
            Settling::Waiting { why, .. } => {
                assert!(why.starts_with("only 3 other servers of backend `web` serve on"), "{why}");
                let out = why.split_once(", and 4 must; out are ").unwrap().1;
                assert_eq!(out.matches(" (drained)").count(), 2, "{why}");
                waiting += 1;
            }
            Settling::Draining { why, .. } | Settling::LeftToPerson { why } => panic!("{why}"),
        }
    }
    // Each of those who went had four others: six servers, so the first two and no third one.
    let out = apps.iter().filter(|app| proxy.admin(&app.name) == 8).count();
    assert_eq!((done, waiting, out), (2, 4, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn dead_weightless_and_backup_servers_stand_in_for_nobody() {
    let apps = App::several(4).await;
    let shape = Shape { backend: "option httpchk\n    server spare 127.0.0.1:1 backup", ..PLAIN };
    let proxy = Proxy::start(&shape, &apps);
    for app in &apps {
        proxy.until_up(&app.name);
    }
    let (haproxy, first) = (Haproxy::new(), seat("s1", &[proxy.address()]));
    let others = |why: String| why.split(' ').nth(1).unwrap().to_owned();
    assert_eq!(others(waits_for(haproxy.drained(&first, 4, Duration::ZERO).await)), "3");
    apps[3].die().await;
    until("it is seen", || proxy.column("s4", "srv_op_state") == "0");
    assert_eq!(others(waits_for(haproxy.drained(&first, 4, Duration::ZERO).await)), "2");
    proxy.say("set server web/s3 weight 0");
    let why = waits_for(haproxy.drained(&first, 4, Duration::ZERO).await);
    assert!(why.ends_with("and 4 must; out are s3 (weight 0), s4 (down)"), "{why}");
    assert_eq!(others(why), "1");
    assert_eq!(proxy.admin("s1"), 0, "it was touched");
    // Who is out already is missed by nobody.
    let dead = seat("s4", &[proxy.address()]);
    assert_eq!(traffic(&haproxy, &dead).await, Traffic::Down);
    let why = waits_for(haproxy.serving(&dead, 100, Voucher::Node).await);
    assert!(why.contains("is down by its health check"), "{why}");
    assert_eq!(proxy.column("s4", "srv_op_state"), "0", "it was called well");
    assert!(is_done(&haproxy.drained(&dead, 4, Duration::ZERO).await.unwrap()));
    drained(&haproxy, &first, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_a_person_took_out_stays_out() {
    let apps = App::several(2).await;
    let (first, second) = (Proxy::start(&PLAIN, &apps), Proxy::start(&PLAIN, &apps));
    let seat = seat("s1", &[first.address(), second.address()]);
    let haproxy = Haproxy::new();
    first.say("set server web/s1 state maint");
    // As a drain it is enough, and it is not made a mere drain.
    drained(&haproxy, &seat, 1).await;
    assert_eq!((first.admin("s1"), second.admin("s1")), (1, 8));
    let Settling::LeftToPerson { why } = serving(&haproxy, &seat, 100).await else {
        panic!("not left to the person")
    };
    assert!(why.contains(&first.path("admin.sock")), "{why}");
    assert!(!why.contains(&second.path("admin.sock")), "{why}");
    assert_eq!((first.admin("s1"), second.admin("s1")), (1, 0));
    first.say("set server web/s1 state ready");
    assert!(is_done(&serving(&haproxy, &seat, 100).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn who_was_not_asked_serves_when_the_balancer_itself_sees_it_well() {
    let apps = App::several(2).await;
    let proxy = Proxy::start(&PLAIN, &apps);
    for app in &apps {
        proxy.until_up(&app.name);
    }
    let (haproxy, seat) = (Haproxy::new(), seat("s1", &[proxy.address()]));
    let again = || haproxy.serving(&seat, 100, Voucher::Balancer);
    let log = || std::fs::read_to_string(proxy.path("log")).unwrap();
    let risen = || log().matches("Server web/s1 is UP").count();

    // Dead: its checks know, and no word of ours says otherwise.
    drained(&haproxy, &seat, 1).await;
    apps[0].die().await;
    until("it is seen", || proxy.column("s1", "srv_op_state") == "0");
    let why = waits_for(again().await);
    assert!(why.contains("is down by its health check"), "{why}");
    assert_eq!((proxy.admin("s1"), proxy.column("s1", "srv_op_state").as_str()), (0, "0"));
    apps[0].rise("new").await;
    let settled = async || {
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_secs(40) {
            if is_done(&again().await.unwrap()) {
                return true;
            }
        }
        false
    };
    assert!(settled().await);

    // Up by what was seen before the new version: that counts for nothing.
    drained(&haproxy, &seat, 1).await;
    proxy.until_up("s1");
    let before = risen();
    assert!(settled().await);
    assert_eq!(proxy.column("s1", "srv_op_state"), "2");
    until("its checks have said so", || risen() > before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_a_person_took_out_stays_out_also_where_maintenance_is_used() {
    let apps = App::several(2).await;
    let (first, second) = (Proxy::start(&PLAIN, &apps), Proxy::start(&PLAIN, &apps));
    let mut seat = seat("s1", &[first.address(), second.address()]);
    seat.drain.maintenance = true;
    let haproxy = Haproxy::new();
    first.say("set server web/s1 state maint");
    drained(&haproxy, &seat, 1).await;
    assert_eq!((first.admin("s1"), second.admin("s1")), (1, 1));
    // Another controller, which remembers nothing, knows it from ours.
    let haproxy = Haproxy::new();
    // A share that is set meanwhile makes ours not a person's.
    assert!(is_done(&haproxy.weighted(&seat, 50).await.unwrap()));
    let Settling::LeftToPerson { why } = serving(&haproxy, &seat, 100).await else {
        panic!("not left to the person")
    };
    assert!(why.contains(&first.path("admin.sock")), "{why}");
    assert!(!why.contains(&second.path("admin.sock")), "{why}");
    assert_eq!((first.admin("s1"), second.admin("s1")), (1, 0));
    assert_eq!(second.column("s1", "srv_uweight"), "100", "it has its weight back");
    first.say("set server web/s1 state ready");
    assert!(is_done(&serving(&haproxy, &seat, 100).await));
    // Ours alone goes and comes.
    drained(&haproxy, &seat, 1).await;
    assert_eq!((first.admin("s1"), second.admin("s1")), (1, 1));
    assert!(is_done(&serving(&haproxy, &seat, 100).await));
    assert_eq!((first.admin("s1"), second.admin("s1")), (0, 0));
    assert_eq!(first.column("s1", "srv_uweight"), "100");
}
