//! One HAProxy with its sockets: what it says of a seat's servers, in the worker that serves and
//! in the old ones that a reload left behind, and telling it what to do.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::{sleep, timeout};
use tracing::info;

use super::socket::{Kind, Line};
use super::state::{self, Load, Process, Server};
use crate::drivers::balancer::BalancerError;
use crate::drivers::clock;
use crate::model::{BalancerAddress, InService, Seat, Timestamp, format_duration};

/// Longest that one waits for others to look and act on the same HAProxy.
const TURN_MAX: Duration = Duration::from_secs(30);
/// Most old workers that are asked. Each reload leaves one as long as its connections live.
const OLD_MAX: usize = 32;

/// How often an old worker is asked that its master knows and that cannot be reached.
const LEAVING_ASKED: u32 = 5;
/// How long one waits in between: it ends within milliseconds of its last connection.
const LEAVING_PAUSE: Duration = Duration::from_millis(100);

/// Who holds it may act on one HAProxy.
pub(super) type Turn = tokio::sync::Mutex<()>;

/// One HAProxy.
pub(super) struct Post {
    address: BalancerAddress,
    stats: Line,
    master: Option<Line>,
    /// Held from the look to the read-back of the act that follows from it.
    turn: Arc<Turn>,
    /// The process that answered last.
    last: Mutex<Option<Process>>,
}

/// What one HAProxy says.
pub(super) struct Look {
    pub(super) process: Process,
    /// When that process began, by our clock and to the second.
    pub(super) begun: Timestamp,
    /// The seat's server in each of its backends.
    pub(super) servers: Vec<Seen>,
    /// Sessions with the seat's servers in workers that a reload left behind.
    pub(super) old: Vec<Old>,
}

/// A seat's server in one backend.
pub(super) struct Seen {
    pub(super) backend: String,
    pub(super) server: Server,
    pub(super) load: Load,
    /// How many others there serve.
    pub(super) others: usize,
    /// Those that could stand in for it and do not, and why.
    pub(super) missing: Vec<(String, &'static str)>,
}

/// A worker that only ends its connections.
pub(super) struct Old {
    pub(super) pid: u64,
    pub(super) sessions: u64,
}

impl Look {
    /// Sessions and queued requests, of all workers.
    pub(super) fn left(&self) -> u64 {
        let now = self.servers.iter().map(|it| it.load.left());
        now.chain(self.old.iter().map(|it| it.sessions)).fold(0, u64::saturating_add)
    }
}

impl Post {
    /// Begins to speak with it. Needs a runtime.
    pub(super) fn open(address: &BalancerAddress, turn: Arc<Turn>) -> Self {
        let BalancerAddress::Haproxy { socket, master } = address;
        Self {
            address: address.clone(),
            stats: Line::open(socket, Kind::Stats),
            master: master.as_ref().map(|socket| Line::open(socket, Kind::Master)),
            turn,
            last: Mutex::default(),
        }
    }

    /// Whether it must be opened anew.
    pub(super) fn is_closed(&self) -> bool {
        self.stats.is_closed() || self.master.as_ref().is_some_and(Line::is_closed)
    }

    /// Where it is, as seats say it.
    pub(super) fn address(&self) -> &BalancerAddress {
        &self.address
    }

    /// What people call it.
    pub(super) fn name(&self) -> &str {
        self.stats.name()
    }

    /// Says in its name that it did not do as told.
    pub(super) fn refused(&self, why: impl Into<String>) -> BalancerError {
        self.stats.refused(why)
    }

    /// Waits until nobody else looks and acts here.
    pub(super) async fn turn(&self) -> Result<OwnedMutexGuard<()>, BalancerError> {
        let turn = timeout(TURN_MAX, Arc::clone(&self.turn).lock_owned()).await;
        turn.map_err(|_| {
            let waited = format_duration(TURN_MAX);
            self.stats.unreachable(format!("others acted on it for {waited}"))
        })
    }

    /// Everything that matters of a seat.
    pub(super) async fn look(&self, seat: &Seat) -> Result<Look, BalancerError> {
        let mut commands = vec!["show info".to_owned()];
        commands.extend(seat.backends.iter().map(|it| format!("show servers state {it}")));
        let answers = self.stats.ask(commands).await?;
        let process = self.process(&answers)?;
        let begun = clock::now().before(Duration::from_secs(process.uptime_secs));
        let mut found = Vec::new();
        let mut commands = vec!["show info".to_owned()];
        for (backend, answer) in seat.backends.iter().zip(&answers[1..]) {
            let all = state::servers(answer, backend).map_err(|why| self.refused(why))?;
            let Some(server) = all.iter().find(|it| it.name == seat.server) else {
                return Err(self.refused(no_server(backend, &seat.server)));
            };
            commands.push(format!("show stat {} 4 -1", server.backend));
            found.push(all);
        }
        let answers = self.stats.ask(commands).await?;
        if process.was_replaced_by(&self.process(&answers)?) {
            return Err(self.stats.unreachable("it was reloaded while it was looked at"));
        }
        let mut servers = Vec::new();
        for ((backend, all), loads) in seat.backends.iter().zip(found).zip(&answers[1..]) {
            let seen = seen(backend, &seat.server, all, loads);
            servers.push(seen.map_err(|why| self.refused(why))?);
        }
        Ok(Look { process, begun, servers, old: self.old(seat).await? })
    }

    /// Whether it has no server of this name in any of these backends.
    pub(super) async fn lacks(&self, seat: &Seat) -> Result<bool, BalancerError> {
        let mut commands = vec!["show info".to_owned()];
        commands.extend(seat.backends.iter().map(|it| format!("show servers state {it}")));
        let answers = self.stats.ask(commands).await?;
        self.process(&answers)?;
        for (backend, answer) in seat.backends.iter().zip(&answers[1..]) {
            if state::is_no_backend(answer) {
                continue;
            }
            let all = state::servers(answer, backend).map_err(|why| self.refused(why))?;
            if all.iter().any(|it| it.name == seat.server) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Every server of the seat's backends that new sessions reach; no backups.
    pub(super) async fn in_service(&self, seat: &Seat) -> Result<Vec<InService>, BalancerError> {
        let refused = |why| self.refused(why);
        let mut found = Vec::new();
        for backend in &seat.backends {
            let answers = self.answer(format!("show servers state {backend}")).await?;
            let servers = state::servers(&answers, backend).map_err(refused)?;
            let Some(first) = servers.first() else { continue };
            let answers = self.answer(format!("show stat {} 4 -1", first.backend)).await?;
            let loads = state::loads(&answers, backend).map_err(refused)?;
            let is_backup = |name: &str| loads.iter().any(|it| it.server == name && it.is_backup);
            let serving = servers.into_iter().filter(|it| it.serves() && !is_backup(&it.name));
            found.extend(serving.map(|it| InService {
                balancer: self.name().to_owned(),
                backend: backend.clone(),
                server: it.name,
            }));
        }
        Ok(found)
    }

    /// A quick look at what a server still has to do. `None`: look properly, something is new.
    pub(super) async fn glance(&self, before: &Look) -> Result<Option<u64>, BalancerError> {
        let mut commands = vec!["show info".to_owned()];
        for it in &before.servers {
            commands.push(format!("show stat {} 4 {}", it.server.backend, it.server.id));
        }
        let answers = self.stats.ask(commands).await?;
        if before.process.was_replaced_by(&self.process(&answers)?) {
            return Ok(None);
        }
        let mut left: u64 = 0;
        for (it, answer) in before.servers.iter().zip(&answers[1..]) {
            let loads = state::loads(answer, &it.backend).map_err(|why| self.refused(why))?;
            match loads.as_slice() {
                [load] if load.server == it.server.name => left = left.saturating_add(load.left()),
                _ => return Ok(None),
            }
        }
        Ok(Some(left))
    }

    /// Tells it what to do, and reads that it did not say no.
    pub(super) async fn tell(&self, mut orders: Vec<String>) -> Result<(), BalancerError> {
        orders.insert(0, "show info".to_owned());
        let answers = self.stats.ask(orders.clone()).await?;
        self.process(&answers)?;
        let mut said = orders.iter().zip(&answers).skip(1);
        match said.find(|(_, answer)| !answer.trim().is_empty()) {
            // HAProxy reports success whatever happened: silence alone is good.
            Some((order, answer)) => {
                Err(self.refused(format!("told `{order}`, {}", state::remedy(answer))))
            }
            None => Ok(()),
        }
    }

    /// Ends a seat's sessions, also in old workers.
    pub(super) async fn cut(&self, seat: &Seat, look: &Look) -> Result<(), BalancerError> {
        let orders = seat.backends.iter();
        let orders = orders.map(|it| format!("shutdown sessions server {it}/{}", seat.server));
        self.tell(orders.collect()).await?;
        let Some(master) = &self.master else { return Ok(()) };
        for old in look.old.iter().filter(|it| it.sessions > 0) {
            let pid = old.pid;
            // An old worker takes no orders about its servers, only about single sessions.
            let Ok(answers) = master.ask(vec![format!("@!{pid} show sess")]).await else {
                continue; // It may just have left; whether it did is seen by the next look.
            };
            for backend in &seat.backends {
                for id in state::sessions(&answers[0], backend, &seat.server) {
                    // The same.
                    let _ = master.ask(vec![format!("@!{pid} shutdown session {id}")]).await;
                }
            }
        }
        Ok(())
    }

    /// What it answers to one question, and that it is the HAProxy that it should be.
    async fn answer(&self, question: String) -> Result<String, BalancerError> {
        let mut answers = self.stats.ask(vec!["show info".to_owned(), question]).await?;
        self.process(&answers)?;
        Ok(answers.pop().unwrap_or_default())
    }

    fn process(&self, answers: &[String]) -> Result<Process, BalancerError> {
        let info = &answers[0];
        let process = state::process(info).map_err(|why| self.refused(why))?;
        if state::is_stopping(info) {
            return Err(self.stats.unreachable("its process is about to end"));
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(|last| last.was_replaced_by(&process)) {
            info!(balancer = self.name(), pid = process.pid, "HAProxy was reloaded or restarted");
        }
        *last = Some(process.clone());
        Ok(process)
    }

    async fn old(&self, seat: &Seat) -> Result<Vec<Old>, BalancerError> {
        let Some(master) = &self.master else { return Ok(Vec::new()) };
        let pids = Self::old_pids(master).await?;
        if pids.len() > OLD_MAX {
            return Err(master.refused(format!(
                "{} old workers still end their connections, more than {OLD_MAX}: \
                 set `hard-stop-after` in HAProxy's configuration",
                pids.len()
            )));
        }
        let mut old = Vec::new();
        for pid in pids {
            let mut asked = 1;
            loop {
                match Self::left_in(master, pid, seat).await {
                    Ok(sessions) => {
                        old.push(Old { pid, sessions });
                        break;
                    }
                    // It may have left between the question and the answer.
                    Err(_) if !Self::old_pids(master).await?.contains(&pid) => break,
                    Err(error) if asked == LEAVING_ASKED => return Err(error),
                    // Or be about to: its master knows it for a moment longer than anybody reaches it.
                    Err(_) => sleep(LEAVING_PAUSE).await,
                }
                asked += 1;
            }
        }
        Ok(old)
    }

    async fn old_pids(master: &Line) -> Result<Vec<u64>, BalancerError> {
        let answers = master.ask(vec!["show proc".to_owned()]).await?;
        state::old_workers(&answers[0]).map_err(|why| master.refused(why))
    }

    async fn left_in(master: &Line, pid: u64, seat: &Seat) -> Result<u64, BalancerError> {
        let ask = |backend: &String| format!("@!{pid} show servers state {backend}");
        let answers = master.ask(seat.backends.iter().map(ask).collect()).await?;
        let mut found = Vec::new();
        for (backend, answer) in seat.backends.iter().zip(&answers) {
            let all = state::servers(answer, backend).map_err(|why| master.refused(why))?;
            // The configuration before the reload may not have had it.
            found.extend(all.into_iter().find(|it| it.name == seat.server).map(|it| (backend, it)));
        }
        if found.is_empty() {
            return Ok(0);
        }
        let ask = |it: &Server| format!("@!{pid} show stat {} 4 {}", it.backend, it.id);
        let answers = master.ask(found.iter().map(|(_, it)| ask(it)).collect()).await?;
        let mut left: u64 = 0;
        for ((backend, server), answer) in found.iter().zip(&answers) {
            let loads = state::loads(answer, backend).map_err(|why| master.refused(why))?;
            let [load] = loads.as_slice() else {
                return Err(master.refused(no_server(backend, &server.name)));
            };
            left = left.saturating_add(load.left());
        }
        Ok(left)
    }
}

fn seen(backend: &str, name: &str, mut servers: Vec<Server>, loads: &str) -> Result<Seen, String> {
    let loads = state::loads(loads, backend)?;
    let load_of = |name: &str| loads.iter().find(|it| it.server == name).cloned();
    let at = servers.iter().position(|it| it.name == name);
    let (Some(at), Some(load)) = (at, load_of(name)) else {
        return Err(no_server(backend, name));
    };
    let server = servers.swap_remove(at);
    // Backup servers get nothing as long as another serves: they stand in for no active one.
    let alike =
        |other: &Server| load_of(&other.name).is_some_and(|it| load.is_backup || !it.is_backup);
    let mut others = 0;
    let mut missing = Vec::new();
    for other in servers.iter().filter(|it| alike(it)) {
        match other.why_not() {
            None => others += 1,
            Some(why) => missing.push((other.name.clone(), why)),
        }
    }
    missing.sort_unstable();
    Ok(Seen { backend: backend.to_owned(), server, load, others, missing })
}

fn no_server(backend: &str, name: &str) -> String {
    format!(
        "its backend `{backend}` has no server `{name}`: \
         correct the server's name, here or in HAProxy's configuration"
    )
}
