//! Shares of a server's weight, as a canary gets them.

use towpath::drivers::balancer::Balancer as _;
use towpath::drivers::haproxy::Haproxy;
use towpath::model::Traffic;

use super::apps::App;
use super::load::once;
use super::proxy::{PLAIN, Proxy, Shape};
use super::{drained, is_done, seat, serving, traffic};

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_canary_gets_its_share_in_steps() {
    let apps = App::several(2).await;
    let proxy = Proxy::start(&PLAIN, &apps);
    let (haproxy, seat) = (Haproxy::new(), seat("s1", &[proxy.address()]));
    proxy.until_up("s2");
    for (percent, weight, of_110) in [(0, "0", 0), (10, "10", 10), (100, "100", 55)] {
        for _ in 0..2 {
            assert!(is_done(&haproxy.weighted(&seat, percent).await.unwrap()));
            assert_eq!(proxy.column("s1", "srv_uweight"), weight);
        }
        assert_eq!(traffic(&haproxy, &seat).await, Traffic::Serving { weight: percent });
        let before = apps[0].served();
        for _ in 0..110 {
            once(proxy.port, "0", None).await.unwrap();
        }
        let got = apps[0].served() - before;
        assert!(got.abs_diff(of_110) <= 2, "{got} of 110 requests at {percent}%");
    }
    // Also while it is out, and from there back with less than all.
    drained(&haproxy, &seat, 1).await;
    assert!(is_done(&haproxy.weighted(&seat, 50).await.unwrap()));
    assert_eq!(traffic(&haproxy, &seat).await, Traffic::Draining { sessions: 0 });
    assert!(is_done(&serving(&haproxy, &seat, 5).await));
    assert_eq!(traffic(&haproxy, &seat).await, Traffic::Serving { weight: 5 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_share_that_would_be_nothing_or_cannot_be_is_refused() {
    let apps = App::several(2).await;
    let light = Proxy::start(&Shape { server: "", ..PLAIN }, &apps);
    let haproxy = Haproxy::new();
    let first = seat("s1", &[light.address()]);
    let error = haproxy.weighted(&first, 10).await.unwrap_err().to_string();
    assert!(error.contains("10% of the weight 1 of web/s1 is less than 1"), "{error}");
    assert_eq!(light.column("s1", "srv_uweight"), "1");

    let fixed =
        Proxy::start(&Shape { backend: "balance source\n    hash-type map-based", ..PLAIN }, &apps);
    let second = seat("s1", &[fixed.address()]);
    let error = haproxy.weighted(&second, 10).await.unwrap_err().to_string();
    assert!(error.contains("use a dynamic one, e.g. roundrobin"), "{error}");
}
