//! Migrations of a real PostgreSQL that take the database's lock, as Rails' do: somebody else may hold
//! it, and a client that is killed leaves a server process behind that goes on to its end.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::operations::{WITH_STATUS, shop};
use crate::world::{World, kill, patiently, stays};

/// A database server of our own on a socket in a directory of its own.
struct Postgres {
    dir: tempfile::TempDir,
    child: Child,
}

impl Postgres {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("towpath-pg-").tempdir().unwrap();
        let account = account(dir.path());
        let command = |program: &str, args: &[&str]| {
            let mut command = Command::new(programs().join(program));
            command.args(args).current_dir(dir.path()).env_clear().env("LC_ALL", "C.UTF-8");
            command.env("PATH", std::env::var_os("PATH").unwrap());
            command.stdin(Stdio::null()).stdout(Stdio::null());
            if let Some((user, group)) = account {
                command.uid(user).gid(group);
            }
            command
        };
        let initdb = ["-D", "data", "-U", "towpath", "-A", "trust", "--no-sync"];
        let made = command("initdb", &initdb).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let socket = dir.path().display().to_string();
        let args = ["-D", "data", "-k", &socket, "-c", "listen_addresses=", "-c", "fsync=off"];
        let child = command("postgres", &args).stderr(log).spawn().unwrap();
        let postgres = Self { dir, child };
        let ready = patiently(|| postgres.try_ask("select 1").is_some_and(|it| it == "1"));
        let log = std::fs::read_to_string(postgres.dir.path().join("log")).unwrap_or_default();
        assert!(ready, "PostgreSQL does not start:\n{log}");
        postgres.ask("create table schema_migrations (version text primary key)");
        postgres.ask("create table runs (version text)");
        postgres
    }

    /// How a script reaches it.
    fn psql(&self) -> String {
        let dir = self.dir.path().display();
        format!("psql -XqAt -v ON_ERROR_STOP=1 -h {dir} -U towpath -d postgres")
    }

    fn client(&self, sql: &str) -> Command {
        let psql = self.psql();
        let mut words = psql.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg("-c").arg(sql).stdin(Stdio::null());
        command
    }

    fn try_ask(&self, sql: &str) -> Option<String> {
        let answer = self.client(sql).output().unwrap();
        let text = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        answer.status.success().then_some(text)
    }

    fn ask(&self, sql: &str) -> String {
        self.try_ask(sql).unwrap_or_else(|| panic!("{sql}"))
    }

    /// How often a version's migration was begun by a client that had the lock.
    fn begun(&self, version: &str) -> String {
        self.ask(&format!("select count(*) from runs where version = '{version}'"))
    }

    fn locked(&self) -> bool {
        self.ask("select count(*) from pg_locks where locktype = 'advisory'") != "0"
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // At once, and what it started with it.
        if let Some(id) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(id, Signal::QUIT);
        }
        let _ = self.child.wait();
    }
}

/// Where Debian puts the newest server.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let servers = versions.map(|it| it.path().join("bin")).filter(|it| it.join("initdb").exists());
    servers.max().unwrap_or_else(|| panic!("there is no PostgreSQL (Debian: postgresql)"))
}

/// As root it does not run: who it runs as instead. The directory is theirs then.
fn account(dir: &Path) -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = accounts.lines().find(|it| it.starts_with("postgres:")).unwrap();
    let mut words = line.split(':').skip(2).map(|it| it.parse().unwrap());
    let (user, group) = (words.next().unwrap(), words.next().unwrap());
    std::os::unix::fs::chown(dir, Some(user), Some(group)).unwrap();
    Some((user, group))
}

/// A shop whose migrations take 4711, insert, take as long as they are told to, and are done, all in
/// one transaction; but for `runs`, which is kept whatever comes of it.
fn migrated(postgres: &Postgres) -> World {
    let world = shop(&["staging"], WITH_STATUS, "");
    let psql = postgres.psql();
    let root = world.root.display();
    world.script(
        "migrate",
        &format!(
            "{psql} -c \"select 1 / pg_try_advisory_lock(4711)::int\" -c \"insert into runs values ('$1')\" \
             -c \"select pg_sleep($(cat {root}/slow)); insert into schema_migrations values ('$1')\""
        ),
    );
    world.script(
        "status",
        &format!(
            "{psql} -c \"select case when exists (select from pg_locks where locktype = 'advisory') then 'locked' \
             when exists (select from schema_migrations where version = '$1') then 'applied' else 'pending' end\""
        ),
    );
    slow(&world, 0);
    world
}

fn slow(world: &World, seconds: u32) {
    std::fs::write(world.root.join("slow"), seconds.to_string()).unwrap();
}

#[test]
fn a_lock_that_somebody_else_holds_is_waited_for() {
    let postgres = Postgres::start();
    let world = migrated(&postgres);
    let _controller = world.start();
    world.until_in_sync();
    let mut person =
        postgres.client("select pg_advisory_lock(4711), pg_sleep(600)").spawn().unwrap();
    world.until("a person has the lock", || postgres.locked());
    world.want("staging", "1.1.0");
    world.until_explained("staging", "somebody else runs migrations now");
    assert!(stays(Duration::from_secs(3), || postgres.begun("1.1.0") == "0"));
    assert_eq!(world.count("staging", "web-2", "installed", "1.1.0"), 0);
    postgres.ask("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'");
    let _ = person.wait();
    world.until_runs("staging", "1.1.0");
    assert_eq!(postgres.begun("1.1.0"), "1");
}

#[test]
fn what_a_killed_client_left_running_is_neither_run_again_nor_overtaken() {
    let postgres = Postgres::start();
    let world = migrated(&postgres);
    let _controller = world.start();
    world.until_in_sync();
    slow(&world, 8);
    world.want("staging", "1.1.0");
    world.until("it runs", || postgres.begun("1.1.0") == "1");
    slow(&world, 0);
    for (id, words) in world.processes() {
        if !words.contains("run --json") {
            kill(id);
        }
    }
    assert!(postgres.locked(), "its server process goes on");
    assert_eq!(world.count("staging", "web-2", "installed", "1.1.0"), 0);
    world.until_runs("staging", "1.1.0");
    assert_eq!(postgres.begun("1.1.0"), "1", "it was not run again");
    assert_eq!(postgres.ask("select version from schema_migrations"), "1.1.0");
}
