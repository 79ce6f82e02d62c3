//! Answers recorded from HAProxy 2.6, the same with the columns of other versions, and rubbish.

use super::*;

const INFO: &str = include_str!("recorded/info-2.6.txt");
const SERVERS: &str = include_str!("recorded/servers-2.6.txt");
const STAT: &str = include_str!("recorded/stat-2.6.txt");

fn named<'a>(servers: &'a [Server], name: &str) -> &'a Server {
    servers.iter().find(|it| it.name == name).unwrap()
}

#[test]
fn a_process_is_known_by_its_id_and_age() {
    let now = process(INFO).unwrap();
    assert_eq!(now.version, "2.6.12-1+deb12u4");
    assert!(now.pid > 1);
    assert!(!is_stopping(INFO));
    assert!(is_stopping(&INFO.replace("Stopping: 0", "Stopping: 1")));
    let later = Process { uptime_secs: now.uptime_secs + 1, ..now.clone() };
    assert!(!now.was_replaced_by(&later));
    // In a container every process has the same number.
    assert!(later.was_replaced_by(&now));
    assert!(now.was_replaced_by(&Process { pid: now.pid + 1, ..later }));
}

#[test]
fn what_is_no_single_haproxy_is_refused() {
    let refused = |answer: &str| process(answer).unwrap_err();
    assert!(refused("hello").contains("has no Name"));
    assert!(refused(&INFO.replace("Name: HAProxy", "Name: \x1b[2J")).contains("\\u{1b}[2J"));
    for key in ["Version", "Pid", "Uptime_sec", "Process_num"] {
        assert!(refused(&INFO.replace(&format!("\n{key}: "), "\nX: ")).contains(key));
    }
    assert!(refused(&INFO.replace("\nPid: ", "\nPid: x")).contains("not a number"));
    assert!(refused(&INFO.replace("Nbproc: 1", "Nbproc: 4")).contains("several processes"));
    // Version 2.8 and later have no `Nbproc` of more than one, 3.x may leave it out.
    assert!(process(&INFO.replace("Nbproc: 1\n", "")).is_ok());
}

#[test]
fn servers_are_what_the_columns_say() {
    let servers = servers(SERVERS, "web").unwrap();
    assert_eq!(servers.len(), 5);
    let down = named(&servers, "s1");
    assert_eq!((down.operation, down.is_checked, down.serves()), (Operation::Stopped, true, false));
    let half = named(&servers, "s2");
    assert_eq!((half.weight, half.configured), (25, 50));
    let drained = named(&servers, "s3");
    assert!(drained.admin.is_forced_drain() && !drained.admin.is_maint() && !drained.serves());
    assert!(!drained.is_checked);
    let disabled = named(&servers, "t1");
    assert!(disabled.admin.is_forced_maint() && disabled.admin.is_maint());
    assert!(!disabled.has_agent);
}

/// Changes the cells of `s3`, which is drained and else well.
fn s3(cells: &[(usize, &str)]) -> Result<Server, String> {
    let text: Vec<String> = SERVERS
        .lines()
        .map(|line| {
            let mut row: Vec<&str> = line.split(' ').collect();
            if row.get(3) == Some(&"s3") {
                for (at, value) in cells {
                    row[*at] = value;
                }
            }
            row.join(" ")
        })
        .collect();
    Ok(named(&servers(&text.join("\n"), "web")?, "s3").clone())
}

#[test]
fn only_who_is_up_ready_and_has_weight_serves() {
    const OPERATION: usize = 5;
    const ADMIN: usize = 6;
    const WEIGHT: usize = 7;
    assert!(s3(&[(ADMIN, "0")]).unwrap().serves());
    // Enabled by a person though the configuration says `disabled`.
    assert!(s3(&[(ADMIN, "4")]).unwrap().serves());
    assert!(s3(&[(ADMIN, "0"), (OPERATION, "1")]).unwrap().serves());
    for cells in [(OPERATION, "0"), (OPERATION, "3"), (WEIGHT, "0")] {
        assert!(!s3(&[(ADMIN, "0"), cells]).unwrap().serves(), "{cells:?}");
    }
    for admin in ["1", "2", "5", "8", "16", "32", "64", "33"] {
        assert!(!s3(&[(ADMIN, admin)]).unwrap().serves(), "{admin}");
    }
    assert!(s3(&[(ADMIN, "32")]).unwrap().admin.is_name_maint());
    assert!(s3(&[(ADMIN, "2")]).unwrap().admin.is_inherited_maint());
    for bad in [(OPERATION, "7"), (ADMIN, "-1"), (ADMIN, "99999999999"), (WEIGHT, "much")] {
        assert!(s3(&[bad]).is_err(), "{bad:?}");
    }
}

#[test]
fn columns_are_found_by_their_names() {
    // Other versions have other columns in between.
    let shuffled: Vec<String> = SERVERS
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(header) => format!("# new_column {header} last_column"),
            None if line == "1" => line.to_owned(),
            None => format!("7 {line} -"),
        })
        .collect();
    assert_eq!(servers(&shuffled.join("\n"), "web"), servers(SERVERS, "web"));
    assert!(servers(&SERVERS.replace("srv_uweight", "weight"), "web").is_err());
    let stat: Vec<String> = STAT.lines().map(|line| format!("{line}9,")).collect();
    assert_eq!(loads(&stat.join("\n"), "web"), loads(STAT, "web"));
    assert!(loads(&STAT.replace(",scur,", ",cur,"), "web").is_err());
}

#[test]
fn a_table_that_does_not_fit_is_refused() {
    assert!(servers(&SERVERS.replacen('1', "2", 1), "web").is_err(), "another format");
    assert!(servers(SERVERS, "api").unwrap_err().contains("another backend"));
    assert!(servers(&SERVERS.replace("3 web 2 s2", "3 web 2"), "web").is_err());
    assert!(servers("1\n", "web").is_err());
    assert!(servers("", "web").is_err());
    assert!(servers("Can't find backend.", "web").unwrap_err().contains("backend's name"));
    assert!(loads(STAT, "api").is_err());
    assert!(loads("", "web").is_err());
    assert!(loads("# pxname,\"svname", "web").is_err());
    assert!(loads(&STAT.replace("web,s3,0,0,0", "web,s3,0,0,-1"), "web").is_err());
    assert!(loads("No such proxy.", "web").is_err());
}

#[test]
fn loads_are_read_with_what_is_quoted() {
    let found = loads(STAT, "web").unwrap();
    assert_eq!(found.len(), 5);
    assert!(found.iter().all(|it| it.left() == 0 && !it.is_backup));
    assert_eq!(found.iter().find(|it| it.server == "s3").unwrap().status, "DRAIN");
    let busy = STAT.replace("web,s3,0,0,0", "web,s3,2,9,5");
    assert_eq!(loads(&busy, "web").unwrap()[2].left(), 7);
    // A check's description may be anything.
    let quoted = STAT.replace("Layer4 connection problem", "\"a, \"\"b\"\"\nweb,s9\"");
    assert_ne!(quoted, STAT);
    assert_eq!(loads(&quoted, "web"), loads(STAT, "web"));
}

#[test]
fn old_workers_are_those_of_their_paragraph() {
    // Recorded, after a reload with a connection under way.
    let proc = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n\
        20744           master          3 [failed: 0]   0d00h04m43s     2.6.12-1+deb12u4\n\
        # workers\n\
        28424           worker          0               0d00h00m01s     2.6.12-1+deb12u4\n\
        # old workers\n\
        26979           worker          1               0d00h00m56s     2.6.12-1+deb12u4\n\
        # programs\n";
    assert_eq!(old_workers(proc), Ok(vec![26979]));
    assert_eq!(old_workers(&proc.replace("# old workers\n26979", "30000")), Ok(vec![]));
    assert!(old_workers("Unknown command").is_err());
    assert!(old_workers(&proc.replace("26979", "all")).is_err());
}

#[test]
fn sessions_are_those_of_the_server() {
    // Recorded, shortened.
    let sess = "0x5651d6bf8620: proto=tcpv4 src=127.0.0.1:43032 fe=f be=web srv=s3 ts=00 age=1s\n\
        0x5651d6bf8621: proto=tcpv4 src=127.0.0.1:43033 fe=f be=web srv=s33 ts=00 age=1s\n\
        0x5651d6bf8622: proto=tcpv4 src=127.0.0.1:43034 fe=f be=web2 srv=s3 ts=00 age=1s\n\
        0x1;show: proto=tcpv4 fe=f be=web srv=s3\n\
        0x5651d6cf3cf0: proto=sockpair src=unix:4 fe=GLOBAL be=<NONE> srv=<none> ts=00 age=0s\n";
    assert_eq!(sessions(sess, "web", "s3"), ["0x5651d6bf8620"]);
}

#[test]
fn what_it_says_comes_with_what_helps() {
    for (said, help) in [
        ("Permission denied", "level admin"),
        ("No such server.", "server's name"),
        ("No such backend.", "backend's name"),
        ("Proxy is disabled.", "remove `disabled`"),
        (
            "Backend is using a static LB algorithm and only accepts weights '0%' and '100%'.",
            "roundrobin",
        ),
        (
            "Unknown command, but maybe one of the following ones is a better match:\n  show",
            "2.0 or later",
        ),
        ("\x1b]0;gone\x07", "not understood"),
    ] {
        let sentence = remedy(said);
        assert!(sentence.contains(help), "{sentence}");
        assert!(!sentence.contains(char::is_control), "{sentence:?}");
    }
}
