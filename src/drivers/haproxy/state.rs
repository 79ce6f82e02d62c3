//! Reads HAProxy's answers. Pure, and by the names of columns: their number grows with every
//! version. What is not understood is an error, with what is wrong.

use std::collections::BTreeMap;

use super::socket::QUOTED_MAX;
use crate::drivers::local::one_line;

/// Forced out of service by somebody at the socket, or by `disabled` in the configuration.
const FORCED_MAINT: u32 = 0x01;
/// Out of service because the server it tracks is.
const INHERITED_MAINT: u32 = 0x02;
/// Forced to drain.
const FORCED_DRAIN: u32 = 0x08;
/// Draining because the server it tracks is, or its agent says so.
const INHERITED_DRAIN: u32 = 0x10;
/// Out of service because its name does not resolve, or stands for another host now.
const NAME_MAINT: u32 = 0x20 | 0x40;

/// A check that is carried out: `CHK_ST_ENABLED` of `srv_check_state`.
const CHECK_ENABLED: u32 = 0x04;

/// The process that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u64,
    pub(super) uptime_secs: u64,
    pub(super) version: String,
}

impl Process {
    /// Whether `now` is another process than this one: in a container both may have one number.
    pub(super) fn was_replaced_by(&self, now: &Self) -> bool {
        self.pid != now.pid || now.uptime_secs < self.uptime_secs
    }
}

/// Whether a server could take requests, apart from what its administrators say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Its checks have failed.
    Stopped,
    /// Up, and slowly getting more.
    Starting,
    /// Up.
    Running,
    /// Up for the sessions it has.
    Stopping,
}

/// What its administrators say of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admin(u32);

impl Admin {
    pub(super) fn is_forced_maint(self) -> bool {
        self.0 & FORCED_MAINT != 0
    }
    pub(super) fn is_forced_drain(self) -> bool {
        self.0 & FORCED_DRAIN != 0
    }
    pub(super) fn is_inherited_maint(self) -> bool {
        self.0 & INHERITED_MAINT != 0
    }
    pub(super) fn is_name_maint(self) -> bool {
        self.0 & NAME_MAINT != 0
    }
    pub(super) fn is_maint(self) -> bool {
        self.is_forced_maint() || self.is_inherited_maint() || self.is_name_maint()
    }
    pub(super) fn is_drain(self) -> bool {
        self.0 & (FORCED_DRAIN | INHERITED_DRAIN) != 0
    }
    pub(super) fn is_ready(self) -> bool {
        !self.is_maint() && !self.is_drain()
    }
}

/// A server as one process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) id: u64,
    /// The number of its backend in this process: a frontend may have the same name, and statistics asked for by
    /// that name are the frontend's.
    pub(super) backend: u64,
    pub(super) operation: Operation,
    pub(super) admin: Admin,
    /// Its weight now.
    pub(super) weight: u32,
    /// The weight that the configuration gives it.
    pub(super) configured: u32,
    pub(super) is_checked: bool,
    pub(super) has_agent: bool,
}

impl Server {
    /// Whether new sessions reach it.
    pub(super) fn serves(&self) -> bool {
        self.why_not().is_none()
    }

    /// Why no new sessions reach it.
    pub(super) fn why_not(&self) -> Option<&'static str> {
        match self.operation {
            _ if self.admin.is_maint() => Some("in maintenance"),
            _ if self.admin.is_drain() => Some("drained"),
            Operation::Stopped | Operation::Stopping => Some("down"),
            Operation::Starting | Operation::Running if self.weight == 0 => Some("weight 0"),
            Operation::Starting | Operation::Running => None,
        }
    }
}

/// What a server has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) server: String,
    pub(super) sessions: u64,
    pub(super) queued: u64,
    pub(super) is_backup: bool,
    pub(super) status: String,
}

impl Load {
    pub(super) fn left(&self) -> u64 {
        self.sessions.saturating_add(self.queued)
    }
}

/// Reads `show info`.
pub(super) fn process(answer: &str) -> Result<Process, String> {
    let fields: BTreeMap<&str, &str> =
        answer.lines().filter_map(|line| line.split_once(": ")).collect();
    let text = |key: &str| {
        let value = fields.get(key).copied();
        value.ok_or_else(|| format!("its `show info` has no {key}: is it HAProxy 1.8 or later?"))
    };
    let number = |key: &str| number(text(key)?, key);
    if text("Name")? != "HAProxy" {
        let name = one_line(text("Name")?.as_bytes(), QUOTED_MAX);
        return Err(format!("it calls itself `{name}`, not HAProxy"));
    }
    // Each process of the old kind has servers and sessions of its own.
    if number("Process_num")? != 1 || fields.get("Nbproc").is_some_and(|it| *it != "1") {
        return Err("it runs as several processes, and a socket shows one of them: \
                    use `nbthread` instead of `nbproc`"
            .to_owned());
    }
    Ok(Process {
        pid: number("Pid")?,
        uptime_secs: number("Uptime_sec")?,
        version: one_line(text("Version")?.as_bytes(), QUOTED_MAX),
    })
}

/// Whether `show info` is of a process that only ends its old connections.
pub(super) fn is_stopping(answer: &str) -> bool {
    answer.lines().any(|line| line == "Stopping: 1")
}

/// Reads `show servers state BACKEND`.
pub(super) fn servers(answer: &str, backend: &str) -> Result<Vec<Server>, String> {
    let mut lines = answer.lines();
    if lines.next() != Some("1") {
        return Err(format!("{} (asked for the servers of `{backend}`)", remedy(answer)));
    }
    let header = lines.next().and_then(|line| line.strip_prefix("# "));
    let header: Vec<&str> =
        header.ok_or("a table of servers without a header")?.split(' ').collect();
    let mut servers = Vec::new();
    for line in lines {
        let cells: Vec<&str> = line.split(' ').collect();
        if cells.len() != header.len() {
            let said = one_line(line.as_bytes(), QUOTED_MAX);
            return Err(format!("a line that does not fit the table of servers: `{said}`"));
        }
        let cell = |name: &str| cell(&header, &cells, name);
        let figure = |name: &str| number(cell(name)?, name);
        let bits = |name: &str| narrow(figure(name)?, name);
        if cell("be_name")? != backend {
            let said = one_line(line.as_bytes(), QUOTED_MAX);
            return Err(format!("a server of another backend: `{said}`"));
        }
        let operation = match figure("srv_op_state")? {
            0 => Operation::Stopped,
            1 => Operation::Starting,
            2 => Operation::Running,
            3 => Operation::Stopping,
            other => return Err(format!("srv_op_state is {other}, which means nothing to us")),
        };
        servers.push(Server {
            name: cell("srv_name")?.to_owned(),
            id: figure("srv_id")?,
            backend: figure("be_id")?,
            operation,
            admin: Admin(bits("srv_admin_state")?),
            weight: bits("srv_uweight")?,
            configured: bits("srv_iweight")?,
            is_checked: bits("srv_check_state")? & CHECK_ENABLED != 0,
            has_agent: bits("srv_agent_state")? & CHECK_ENABLED != 0,
        });
    }
    Ok(servers)
}

/// Reads `show stat BACKEND 4 ID`: servers only.
pub(super) fn loads(answer: &str, backend: &str) -> Result<Vec<Load>, String> {
    let rows = rows(answer)?;
    let (header, rows) = rows.split_first().ok_or("statistics without a header")?;
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let Some(first) = header.first().and_then(|it| it.strip_prefix("# ")) else {
        return Err(remedy(answer));
    };
    let header: Vec<&str> = [first].into_iter().chain(header.iter().skip(1).copied()).collect();
    let mut loads = Vec::new();
    for row in rows {
        let row: Vec<&str> = row.iter().map(String::as_str).collect();
        if row.len() != header.len() {
            return Err(format!("statistics of {} columns in {}", row.len(), header.len()));
        }
        let cell = |name: &str| cell(&header, &row, name);
        if cell("pxname")? != backend || cell("type")? != "2" {
            return Err("statistics of something that was not asked for".to_owned());
        }
        loads.push(Load {
            server: cell("svname")?.to_owned(),
            sessions: number(cell("scur")?, "scur")?,
            queued: number(cell("qcur")?, "qcur")?,
            is_backup: number(cell("bck")?, "bck")? != 0,
            status: cell("status")?.to_owned(),
        });
    }
    Ok(loads)
}

/// The old workers in the master's `show proc`: those that end their last connections.
pub(super) fn old_workers(answer: &str) -> Result<Vec<u64>, String> {
    if !answer.starts_with("#<PID>") {
        let said = one_line(answer.as_bytes(), QUOTED_MAX);
        return Err(format!("this is no master's socket (`-S`): it says `{said}`"));
    }
    let old = answer.lines().skip_while(|line| *line != "# old workers").skip(1);
    let old = old.take_while(|line| !line.starts_with('#'));
    let pids = old.map(|line| {
        let pid = line.split_whitespace().next().unwrap_or_default();
        number(pid, "PID")
    });
    pids.collect()
}

/// Sessions of a server in `show sess`, by their addresses in HAProxy's memory.
pub(super) fn sessions(answer: &str, backend: &str, server: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in answer.lines() {
        let mut words = line.split(' ');
        let Some(id) = words.next().and_then(|it| it.strip_suffix(':')) else { continue };
        let hex = id.strip_prefix("0x").is_some_and(|it| {
            !it.is_empty() && it.len() <= 16 && it.bytes().all(|b| b.is_ascii_hexdigit())
        });
        let words: Vec<&str> = words.collect();
        let is = |key: &str, value: &str| {
            words.iter().any(|word| word.strip_prefix(key).is_some_and(|it| it == value))
        };
        if hex && is("be=", backend) && is("srv=", server) {
            found.push(id.to_owned());
        }
    }
    found
}

/// Whether this says that there is no such backend.
pub(super) fn is_no_backend(answer: &str) -> bool {
    answer.contains("Can't find backend")
}

/// What HAProxy said instead of doing as told, and what people can do about it.
pub(super) fn remedy(answer: &str) -> String {
    /// What it says, and what helps. The texts are those of versions 2.0 to 3.2.
    const KNOWN: &[(&str, &str)] = &[
        (
            "Permission denied",
            "the socket must be of level admin: write `level admin` on its `stats socket` line",
        ),
        ("No such server", "correct the server's name, here or in HAProxy's configuration"),
        ("No such backend", "correct the backend's name, here or in HAProxy's configuration"),
        ("Can't find backend", "correct the backend's name, here or in HAProxy's configuration"),
        ("Can't find proxy", "correct the backend's name, here or in HAProxy's configuration"),
        ("No such proxy", "correct the backend's name, here or in HAProxy's configuration"),
        ("Require 'backend/server'", "correct the names of backend and server"),
        (
            "Proxy is disabled",
            "the backend is disabled: remove `disabled` from it, or the backend from here",
        ),
        (
            "static LB algorithm",
            "its `balance` algorithm knows only weights of 0 and 100%: use a dynamic one, e.g. roundrobin",
        ),
        ("Unknown command", "HAProxy 2.0 or later is needed"),
        ("tracking server", "set the server that it tracks"),
        ("not enabled on this server", "its health checks are off"),
    ];
    let said = one_line(answer.lines().next().unwrap_or_default().as_bytes(), QUOTED_MAX);
    let known = KNOWN.iter().find(|(text, _)| answer.contains(text));
    match known {
        Some((_, help)) => format!("it says `{said}`: {help}"),
        None => format!("it says `{said}`, which is not understood"),
    }
}

fn cell<'a>(header: &[&str], row: &[&'a str], name: &str) -> Result<&'a str, String> {
    let at = header.iter().position(|it| *it == name);
    let cell = at.and_then(|at| row.get(at)).copied();
    cell.ok_or_else(|| format!("its answer has no column {name}: HAProxy 2.0 or later is needed"))
}

fn number(text: &str, name: &str) -> Result<u64, String> {
    text.trim().parse().map_err(|_| {
        let said = one_line(text.as_bytes(), QUOTED_MAX);
        format!("{name} is `{said}`, not a number")
    })
}

fn narrow(number: u64, name: &str) -> Result<u32, String> {
    u32::try_from(number).map_err(|_| format!("{name} is {number}, out of bounds"))
}

/// Comma-separated values; quoted ones may hold commas, line ends and doubled quotes.
fn rows(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut rows = Vec::new();
    let mut row = Vec::new();
    let mut cell = String::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            c => cell.push(c),
        }
    }
    if quoted {
        return Err("statistics that end within quotes".to_owned());
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push(row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
