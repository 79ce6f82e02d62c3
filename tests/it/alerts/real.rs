//! What a real Alertmanager and a real Prometheus say, in good times and bad.

use std::fmt::Write as _;
use std::path::Path;

use towpath::config::{Change, Content, Loaded};
use towpath::model::{AlertQuery, Revision};

use super::servers::{Metrics, alertmanager, post, prometheus, silence};
use super::{asked, filled, line, question, until};

const BOOM: &str =
    r#"{"alertname":"Boom","severity":"critical","service":"shop","instance":"web-1"}"#;
const DOG: &str = r#"{"alertname":"Watchdog"}"#;

#[test]
fn an_alert_fires_is_silenced_is_inhibited_and_is_resolved() {
    let server = alertmanager();
    let ask = |rest: &str| {
        let port = server.port;
        question(&format!(
            "  - {{ alertmanager: \"http://127.0.0.1:{port}\", match: {{ severity: [critical, page] }}{rest} }}\n"
        ))
    };
    let usual = ask("");
    let said = line(&asked(&usual));
    assert!(
        said.contains("unknown") && said.contains("its watchdog alertname=Watchdog does not fire"),
        "{said}"
    );
    post(&server, DOG, 600);
    let said = until(&usual, "open");
    assert!(
        said.contains("none of severity=critical|page fires, watchdog alertname=Watchdog seen"),
        "{said}"
    );
    // Another label is another matter.
    post(&server, r#"{"alertname":"Meh","severity":"warning"}"#, 600);
    assert!(line(&asked(&usual)).starts_with("open"));
    post(&server, BOOM, 600);
    let said = until(&usual, "closed");
    assert!(
        said.contains(
            "1 alert fires of severity=critical|page: Boom{instance=web-1, service=shop}"
        ),
        "{said}"
    );
    // It fires, so what else is wrong does not matter.
    post(&server, DOG, -1);
    assert!(line(&asked(&usual)).contains("Boom{"));
    post(&server, DOG, 600);
    silence(&server, "Boom");
    let said = until(&usual, "(silenced)");
    assert!(said.starts_with("closed"), "{said}");
    let said = until(&ask(", silenced: ignored"), "open");
    assert!(said.contains("1 silenced: Boom{instance=web-1, service=shop} (silenced)"), "{said}");
    let flood = |ends| {
        for at in 0..9 {
            post(
                &server,
                &format!(r#"{{"alertname":"Flood","severity":"page","at":"{at}"}}"#),
                ends,
            );
        }
    };
    flood(600);
    let said = until(&ask(", silenced: ignored"), "9 alerts fire");
    assert!(said.contains("Flood{at=0}, Flood{at=1}") && said.contains("and 4 more"), "{said}");
    flood(-1);
    until(&ask(", silenced: ignored"), "open");
    post(&server, BOOM, -1);
    until(&usual, "open");
    // An inhibited alert fires all the same.
    post(&server, r#"{"alertname":"Quiet","severity":"critical"}"#, 600);
    post(&server, r#"{"alertname":"Loud","severity":"fatal"}"#, 600);
    until(&usual, "Quiet (inhibited)");
    post(&server, r#"{"alertname":"Quiet","severity":"critical"}"#, -1);
    until(&usual, "open");
    post(&server, DOG, -1);
    let said = until(&usual, "unknown");
    assert!(said.contains("does not fire: does Prometheus reach it?"), "{said}");
    assert!(line(&asked(&ask(", watchdog: none"))).starts_with("open"));
}

#[test]
fn the_alertmanager_of_a_dead_prometheus_is_not_believed() {
    let metrics = Metrics::start("trouble 0\n");
    let manager = alertmanager();
    let mut server = prometheus(&metrics, Some(&manager));
    let port = manager.port;
    let ask = question(&format!(
        "  - {{ alertmanager: \"http://127.0.0.1:{port}\", match: {{ severity: critical }}, max_staleness: 3s }}\n  - {{ prometheus: \"http://127.0.0.1:{}\", query: trouble, pass: \"== 0\" }}\n",
        server.port
    ));
    until(&ask, "open");
    metrics.set("trouble 1\n");
    let said = until(&ask, "Boom{");
    assert!(said.starts_with("closed") && said.contains("instance=127.0.0.1"), "{said}");
    until(&ask, "1 of 1 series of `trouble` are not == 0: trouble{");
    server.kill();
    let ask = question(&format!(
        "  - {{ alertmanager: \"http://127.0.0.1:{port}\", match: {{ severity: none-such }}, max_staleness: 3s }}\n"
    ));
    let said = until(&ask, "was heard last at");
    assert!(said.starts_with("unknown"), "{said}");
    drop(manager);
    until(&ask, "Connection refused");
}

#[test]
fn a_prometheus_is_asked_for_now_and_for_a_while() {
    let good = "health{service=\"shop\"} 1\nhealth{service=\"mail\"} 1\n";
    let metrics = Metrics::start(good);
    let server = prometheus(&metrics, None);
    let ask = |rest: &str| {
        question(&format!("  - {{ prometheus: \"http://127.0.0.1:{}\", {rest} }}\n", server.port))
    };
    let health = ask("query: \"health\", pass: \"== 1\", expect: 2");
    let said = until(&health, "open");
    assert!(said.contains("2 series of `health` == 1: 1"), "{said}");
    let one = line(&asked(&ask("query: 'health{service=\"{service}\"}', pass: \"== 1\"")));
    assert!(one.contains("1 series"), "{one}");
    let third = line(&asked(&ask("query: health, pass: \"== 1\", expect: 3")));
    assert!(
        third.contains("unknown") && third.contains("`health` has 2 series, 3 are expected"),
        "{third}"
    );
    let none = line(&asked(&ask("query: no_such_metric, pass: \"== 1\"")));
    assert!(none.contains("no data: `no_such_metric` has no series"), "{none}");
    let typo = line(&asked(&ask("query: \"health{\", pass: \"== 1\"")));
    assert!(typo.contains("refuses the query (bad_data, HTTP status 400)"), "{typo}");
    let nan = line(&asked(&ask("query: \"0 * health / 0\", pass: \"!= 7\"")));
    assert!(nan.contains("is not a number (NaN)"), "{nan}");
    // Values are dated by the question; the sample behind one may be of long ago.
    let then = jiff::Timestamp::now().as_millisecond() - 120_000;
    metrics.set(&format!("{good}old 1 {then}\n"));
    until(&ask("query: old, pass: \"== 1\""), "open");
    let old = line(&asked(&ask("query: old, pass: \"== 1\", max_staleness: 1m")));
    assert!(old.contains("unknown") && old.contains("is 2m"), "{old}");
    // Nor does an expression make it any newer.
    for query in ["sum(old)", "min(old) + on() group_right() health", "max_over_time(old[5m])"] {
        let asks = |staleness: &str| {
            ask(&format!("query: \"{query}\", pass: \"< 3\", max_staleness: {staleness}"))
        };
        let said = line(&asked(&asks("4m")));
        assert!(said.starts_with("open"), "{query}: {said}");
        let said = line(&asked(&asks("1m")));
        assert!(said.contains("unknown") && said.contains("sample of `old` is 2m"), "{said}");
    }
    let range = "query: min(old), pass: \"== 1\", range: { for: 4s, step: 1s }, max_staleness: 1m";
    let old = line(&asked(&ask(range)));
    assert!(old.contains("unknown") && old.contains("sample of `old` is 2m"), "{old}");
    // What is of the past by intent, or not there, is no matter of age.
    let absent = "query: \"sum(none_such or vector(1)) + 0 * max(old offset 1s)\", pass: \"== 1\", max_staleness: 1m";
    let said = line(&asked(&ask(absent)));
    assert!(said.starts_with("open"), "{said}");
    let scalar = line(&asked(&ask("query: \"scalar(sum(health))\", pass: \">= 2\"")));
    assert!(scalar.starts_with("open"), "{scalar}");
    let matrix = line(&asked(&ask("query: \"health[5m]\", pass: \">= 2\"")));
    assert!(matrix.contains("gives whole ranges"), "{matrix}");

    let young = line(&asked(&ask("query: health, pass: \"== 1\", range: { for: 10m, step: 10s }")));
    assert!(young.contains("unknown") && young.contains("has no samples for"), "{young}");
    let range = ask("query: min(health), pass: \"== 1\", range: { for: 4s, step: 1s }");
    let said = until(&range, "open");
    assert!(said.contains("== 1 over 4s"), "{said}");
    metrics.set("health{service=\"shop\"} 0\nhealth{service=\"mail\"} 1\n");
    let said = until(&health, "closed");
    assert!(
        said.contains("1 of 2 series of `health` are not == 1: health{instance=")
            && said.contains("is 0"),
        "{said}"
    );
    until(&range, "closed");
    // Well again now, and not yet for a while.
    metrics.set(good);
    until(&health, "open");
    until(&range, "open");

    let total = ask("query: \"sum(rate(health[1h])) * 0\", pass: \"== 0\"");
    until(&total, "open");
    drop(metrics);
    // A long window remembers what nobody measures any more.
    until(&total, "`health` had samples, and has none now");
    // What is not scraped any more is gone, and so is what it said.
    let said = until(&health, "unknown");
    assert!(said.contains("no data"), "{said}");
}

#[test]
fn the_burn_rates_of_the_example_close_when_both_windows_burn() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gitlab-com");
    let files = [
        "towpath.yaml",
        "environments/production.yaml",
        "environments/canary.yaml",
        "environments/staging.yaml",
    ];
    let files = files.map(|path| Change {
        path: path.to_owned(),
        content: Content::Bytes(std::fs::read(root.join(path)).unwrap()),
    });
    let loaded = Loaded::load(Revision::new([7; 20]), files);
    let mut ask = filled(&loaded, "production");
    ask.sources.retain(|it| matches!(it.asks, AlertQuery::Prometheus { .. }));
    assert_eq!(ask.sources.len(), 2, "a fast and a slow pair of windows");
    let rates = |hour: f64, minutes: f64, day: f64, half: f64| {
        let mut text = String::new();
        for service in ["web", "api"] {
            for (window, rate) in [("1h", hour), ("5m", minutes), ("6h", day), ("30m", half)] {
                // Only one of the services is ever in trouble.
                let rate = if service == "web" { rate } else { 0.0001 };
                writeln!(text, "gitlab_service_errors:ratio_{window}{{env=\"production\",type=\"{service}\"}} {rate}").unwrap();
            }
        }
        text
    };
    let metrics = Metrics::start(&rates(0.0002, 0.0002, 0.0002, 0.0002));
    let server = prometheus(&metrics, None);
    for source in &mut ask.sources {
        source.url = format!("http://127.0.0.1:{}", server.port);
    }
    until(&ask, "open");
    metrics.set(&rates(0.02, 0.03, 0.004, 0.02));
    let said = until(&ask, "closed");
    assert!(said.contains("is 20"), "the milder window counts: {said}");
    assert!(said.contains("type=web") && !said.contains("type=api"), "{said}");
    // Over: the long window remembers, the short one does not.
    metrics.set(&rates(0.02, 0.0001, 0.004, 0.0001));
    until(&ask, "open");
    // A slow fire.
    metrics.set(&rates(0.007, 0.007, 0.007, 0.007));
    until(&ask, "is 7");
    // Nobody measures one of the services any more.
    metrics.set("gitlab_service_errors:ratio_5m{env=\"production\",type=\"web\"} 0\n");
    until(&ask, "unknown");
}
