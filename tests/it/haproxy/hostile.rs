//! Wrong names, wrong rights, and sockets that are no HAProxy: a clear error each, and nothing is
//! changed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use towpath::drivers::balancer::{Balancer as _, BalancerError};
use towpath::drivers::haproxy::Haproxy;
use towpath::model::{BalancerAddress, Seat, Socket};
use towpath::observe::Fact;

use super::apps::App;
use super::proxy::{PLAIN, Proxy, free_port};
use super::seat;

/// All four calls fail with the same kind of error, which says this.
async fn check(seat: &Seat, says: &str, later: bool) {
    let haproxy = Haproxy::new();
    let drained = haproxy.drained(seat, 0, Duration::ZERO);
    let errors: [BalancerError; 3] = [
        drained.await.unwrap_err(),
        haproxy.serving(seat, 100, towpath::model::Voucher::Node).await.unwrap_err(),
        haproxy.weighted(seat, 50).await.unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.may_work_later(), later, "{error}");
        assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
    }
}

async fn check_unknown(seat: &Seat, says: &str) {
    match Haproxy::new().traffic(seat).await {
        Fact::Unknown { why, .. } => assert!(why.contains(says), "{why}"),
        Fact::Known { value, .. } => panic!("{value:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn names_that_do_not_fit() {
    let apps = App::several(2).await;
    let proxy = Proxy::start(&PLAIN, &apps);
    let before = proxy.say("show servers state web").lines().count();
    let mut wrong = seat("s9", &[proxy.address()]);
    check(&wrong, "its backend `web` has no server `s9`", false).await;
    check_unknown(&wrong, "no server `s9`").await;
    wrong = seat("s1", &[proxy.address()]);
    wrong.backends = vec!["web".to_owned(), "webb".to_owned()];
    check(&wrong, "asked for the servers of `webb`", false).await;
    for name in
        ["s1;shutdown sessions server web/s2", "s1\nset server web/s1 state maint", "", "s 1"]
    {
        wrong.server = name.to_owned();
        check(&wrong, "letters, digits", false).await;
    }
    assert_eq!((proxy.admin("s1"), proxy.admin("s2")), (0, 0));
    assert_eq!(proxy.say("show servers state web").lines().count(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_socket_without_the_right_to_change_anything() {
    let apps = App::several(2).await;
    let proxy = Proxy::start(&PLAIN, &apps);
    let socket = Socket::Unix(proxy.path("user.sock"));
    let mut seat = seat("s1", &[BalancerAddress::Haproxy { socket, master: None }]);
    let haproxy = Haproxy::new();
    let says = "write `level admin` on its `stats socket` line";
    let error = haproxy.drained(&seat, 1, Duration::ZERO).await.unwrap_err();
    assert!(error.to_string().contains(says), "{error}");
    let error = haproxy.weighted(&seat, 50).await.unwrap_err();
    assert!(error.to_string().contains(says), "{error}");
    assert_eq!((proxy.admin("s1"), proxy.column("s1", "srv_uweight").as_str()), (0, "100"));
    // A stats socket is no master's, nor the other way round.
    let (admin, master) =
        (Socket::Unix(proxy.path("admin.sock")), Socket::Unix(proxy.path("master.sock")));
    seat.balancers = vec![BalancerAddress::Haproxy { socket: admin.clone(), master: Some(admin) }];
    check(&seat, "no master's socket", false).await;
    seat.balancers = vec![BalancerAddress::Haproxy { socket: master, master: None }];
    check(&seat, "this is HAProxy's master", false).await;
    assert_eq!(proxy.admin("s1"), 0);
}

/// What a server that is no HAProxy does with those who come.
#[derive(Clone, Copy)]
enum Manner {
    Echo,
    Silent,
    Endless,
    EndlessLikeIt,
    Closes,
    Half,
}

/// Starts one; gives a seat there, and what it is told.
async fn other(manner: Manner) -> (Seat, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let heard = Arc::clone(&heard);
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let read = stream.read(&mut buffer).await.unwrap_or(0);
                heard.lock().unwrap().extend_from_slice(&buffer[..read]);
                let answer: &[u8] = match manner {
                    Manner::Closes => return,
                    Manner::Silent => b"",
                    Manner::Echo => &buffer[..read],
                    Manner::EndlessLikeIt | Manner::Half => b"Name: HAProxy\nVersion: 9\n",
                    Manner::Endless => b"\x1b[31m\xff",
                };
                let _ = stream.write_all(answer).await;
                match manner {
                    Manner::Half | Manner::Closes => return,
                    Manner::Echo | Manner::Silent => {}
                    Manner::Endless | Manner::EndlessLikeIt => {
                        let much = vec![b'a'; 1024 * 1024];
                        while stream.write_all(&much).await.is_ok() {}
                    }
                }
                // Open until the other side has had enough.
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    let balancer = BalancerAddress::Haproxy { socket: Socket::Tcp(address), master: None };
    (seat("s1", &[balancer]), told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn sockets_that_are_no_haproxy() {
    let cases = [
        (Manner::Echo, "no HAProxy answers there, but something that says `show info", false),
        (Manner::Endless, "no HAProxy answers there, but something that says `\\u{1b}[31m", false),
        (Manner::EndlessLikeIt, "an answer of more than 16 MiB", false),
        (Manner::Half, "answers to 2 questions", false),
        (Manner::Closes, "closed the connection without an answer", true),
        (Manner::Silent, "no whole answer within 5s", true),
    ];
    for (manner, says, later) in cases {
        let (seat, told) = other(manner).await;
        if later {
            let haproxy = Haproxy::new();
            let error = haproxy.drained(&seat, 0, Duration::ZERO).await.unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            assert!(error.may_work_later(), "{error}");
        } else {
            check(&seat, says, later).await;
        }
        let told = String::from_utf8(told.lock().unwrap().clone()).unwrap();
        assert!(told.starts_with("show info;"), "{told}");
        assert!(!told.contains("set "), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn nobody_there() {
    let tcp = Socket::Tcp(format!("127.0.0.1:{}", free_port()));
    let directory = tempfile::tempdir().unwrap();
    let unix = Socket::Unix(directory.path().join("none.sock").display().to_string());
    for (socket, says) in [(tcp, "refused"), (unix, "No such file")] {
        let seat = seat("s1", &[BalancerAddress::Haproxy { socket, master: None }]);
        check(&seat, says, true).await;
        check_unknown(&seat, "did not answer").await;
    }
}

/// A master that knows of an old worker for so many questions and reaches it never; gives its address.
async fn master_of_one_that_leaves(known: usize) -> Socket {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut asked = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).await.unwrap_or(0);
            let answer = if buffer[..read].starts_with(b"show proc") {
                asked += 1;
                let old = if asked <= known { "26979 worker 1 0d00h00m56s 2.6.12\n" } else { "" };
                format!(
                    "#<PID> <type> <reloads> <uptime> <version>\n20744 master 3 0d00h04m43s 2.6.12\n# workers\n\
                     28424 worker 0 0d00h00m01s 2.6.12\n# old workers\n{old}# programs\n\n"
                )
            } else {
                // Recorded, of a worker that was about to end.
                "Can't connect to the target CLI!\n".to_owned()
            };
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    Socket::Tcp(address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_old_worker_that_is_about_to_leave_is_asked_again_and_not_for_ever() {
    let apps = App::several(2).await;
    let proxy = Proxy::start(&PLAIN, &apps);
    let admin = Socket::Unix(proxy.path("admin.sock"));
    for (known, leaves) in [(3, true), (usize::MAX, false)] {
        let master = Some(master_of_one_that_leaves(known).await);
        let seat = seat("s1", &[BalancerAddress::Haproxy { socket: admin.clone(), master }]);
        if leaves {
            assert!(matches!(Haproxy::new().traffic(&seat).await, Fact::Known { .. }));
        } else {
            check_unknown(&seat, "Can't connect to the target CLI!").await;
        }
    }
}
