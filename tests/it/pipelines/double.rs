//! A CI that runs what it is told to: GitLab's pipelines and GitHub's workflow runs, as their API
//! documentation describes them. A test is the runner: it says how each ends. Where the forges' published
//! descriptions are at hand, what is asked and what is answered is held against them (`hosted/published.rs`).

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::hosted::double_calls::{Answer, read_query};
use crate::hosted::gitlab_double::Face;
use crate::hosted::published::{self, Said};

pub(crate) const TOKEN: &str = "ci-token-0123456789";
pub(crate) const PROJECT: &str = "ops/deployer";

#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) id: u64,
    pub(crate) branch: String,
    pub(crate) variables: BTreeMap<String, String>,
    /// GitLab's status, or GitHub's conclusion, or `running`.
    pub(crate) status: String,
    /// Lists do not show it.
    pub(crate) hidden: bool,
}

/// A pipeline of another project.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    /// Of which ref.
    pub(crate) of: String,
    pub(crate) status: String,
    /// Who started it.
    pub(crate) by: By,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Whoever pushed.
    Push,
    /// A program by the API, that is none of ours.
    Program,
    /// The same, and the token may not read its variables.
    Stranger,
    /// A stage of ours.
    Towpath,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a trouble of its own")]
pub(crate) struct State {
    pub(crate) runs: Vec<Run>,
    /// The token may read only.
    pub(crate) read_only: bool,
    /// The connection is cut after the next start, before its answer.
    pub(crate) cut_next_start: bool,
    /// Nobody answers.
    pub(crate) down: bool,
    /// Runs are not shown at first.
    pub(crate) hides: bool,
    /// Pipelines of `ops/builds`, the oldest first.
    pub(crate) builds: Vec<Build>,
    /// Its packages: name, version, status.
    pub(crate) packages: Vec<[String; 3]>,
    /// `.github/workflows/deploy.yml`.
    pub(crate) workflow: String,
    /// What was asked or answered otherwise than the forge describes.
    violations: Vec<String>,
}

/// A server; ends when it is dropped.
pub(crate) struct Double {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
    ends: Arc<AtomicBool>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Double {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let ends = Arc::new(AtomicBool::new(false));
        let (shared, end) = (Arc::clone(&state), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || drop(serve(&stream, &shared)));
            }
        });
        Self { url: format!("http://{address}"), state, ends, address, thread: Some(thread) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn runs(&self) -> Vec<Run> {
        self.state().runs.clone()
    }

    pub(crate) fn ends(&self, id: u64, status: &str) {
        let mut state = self.state();
        let run = state.runs.iter_mut().find(|it| it.id == id).unwrap();
        status.clone_into(&mut run.status);
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        if !std::thread::panicking() {
            let violations = self.state().violations.clone();
            assert!(violations.is_empty(), "{violations:?}");
        }
    }
}

/// One request a connection.
fn serve(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (verb, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut length, mut token) = (0, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0),
            "authorization" => value.clone_into(&mut token),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let text = String::from_utf8_lossy(&body);
    let body: Value = serde_json::from_slice(text.as_bytes()).unwrap_or(Value::Null);
    let mut state = state.lock().unwrap();
    if state.down {
        return Ok(());
    }
    let answer = if token == format!("Bearer {TOKEN}") {
        let said = answer(&mut state, &verb, &path, &body);
        said.map(|said| held(&mut state, &verb, &path, &text, said))
    } else {
        Some((401, json!({ "message": "401 Unauthorized" })))
    };
    drop(state);
    // None: cut.
    let Some((status, body)) = answer else { return Ok(()) };
    let body = if status == 204 { String::new() } else { body.to_string() };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = stream;
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

fn answer(state: &mut State, verb: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    if path == "/api/v4/user" {
        return Some((200, json!({ "id": 1, "username": "towpath-bot" })));
    }
    if let Some(rest) = path.strip_prefix("/api/v4/projects/ops%2Fdeployer/") {
        return gitlab(state, verb, rest, query, body);
    }
    if let Some(rest) = path.strip_prefix("/api/v3/repos/ops/deployer/") {
        return github(state, verb, rest, query, body);
    }
    if let Some(rest) = path.strip_prefix("/api/v4/projects/ops%2Fbuilds/") {
        return Some(built(state, rest, query));
    }
    if let Some(rest) = path.strip_prefix("/api/v3/repos/ops/builds/") {
        return Some(built(state, rest, query));
    }
    Some((404, json!({ "message": "404 Not Found" })))
}

/// Holds a call and its answer against the forge's own description, which also fills the answer up.
fn held(
    state: &mut State,
    verb: &str,
    path: &str,
    body: &str,
    (status, answer): (u16, Value),
) -> (u16, Value) {
    let (face, path) = match (path.strip_prefix("/api/v4"), path.strip_prefix("/api/v3")) {
        (Some(rest), _) => (Face::GitLab, rest),
        (None, Some(rest)) => (Face::GitHub, rest),
        (None, None) => return (status, answer),
    };
    let Some(description) = published::of(face) else { return (status, answer) };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let query = read_query(query);
    let mut answer = Answer { status, body: answer, ..Answer::default() };
    let wrong = description.hold(Said { verb, path, query: &query, body }, &mut answer);
    state.violations.extend(wrong);
    (status, answer.body)
}

/// What another project has built.
fn built(state: &State, path: &str, query: &str) -> (u16, Value) {
    let pairs = query.split('&').filter_map(|it| it.split_once('='));
    let query: BTreeMap<&str, &str> = pairs.collect();
    let run = |(id, it): (usize, &Build)| {
        let (branch, status) = (it.of.clone(), it.status.clone());
        let key = || ("TOWPATH_STEP".to_owned(), "0123456789ab.1-0-0-0-0".to_owned());
        let variables = (it.by == By::Towpath).then(key).into_iter().collect();
        Run { id: id as u64, branch, variables, status, hidden: false }
    };
    // A commit of GitHub: the ref in hexadecimal digits.
    let sha = |of: &str| format!("{:0<40}", data_encoding::HEXLOWER.encode(of.as_bytes()));
    match path {
        "pipelines" => {
            let all = state.builds.iter().enumerate().rev();
            let ours = all.filter(|(_, it)| query["ref"] == it.of);
            let shown = ours.map(|(id, it)| {
                let mut shown = pipeline(&run((id, it)));
                shown["source"] = json!(if it.by == By::Push { "push" } else { "api" });
                shown
            });
            (200, shown.take(query["per_page"].parse().unwrap()).collect())
        }
        variables if variables.starts_with("pipelines/") => {
            let id = variables.split('/').nth(1).and_then(|it| it.parse::<usize>().ok());
            match id.and_then(|id| Some((id, state.builds.get(id)?))) {
                Some((_, Build { by: By::Stranger, .. })) => {
                    (403, json!({ "message": "403 Forbidden" }))
                }
                Some(it) => (200, shown_variables(&run(it))),
                None => (404, json!({ "message": "404 Not found" })),
            }
        }
        "packages" => {
            let fits = |it: &&[String; 3]| {
                it[0].contains(query["package_name"]) && it[1] == query["package_version"]
            };
            let show = |it: &[String; 3]| json!({ "id": 1, "name": it[0], "version": it[1], "status": it[2] });
            (200, state.packages.iter().filter(fits).map(show).collect())
        }
        "actions/runs" => {
            let all = state.builds.iter().enumerate();
            let ours = all.filter(|(_, it)| query["head_sha"] == sha(&it.of));
            let shown = ours.map(|(id, it)| {
                let mut shown = workflow_run(&run((id, it)));
                shown["workflow_id"] = json!(7);
                shown["event"] =
                    json!(if it.by == By::Push { "push" } else { "workflow_dispatch" });
                shown
            });
            let all: Vec<Value> = shown.collect();
            (200, json!({ "total_count": all.len(), "workflow_runs": all }))
        }
        commit => {
            let of = commit.strip_prefix("commits/").unwrap_or_default();
            if state.builds.iter().any(|it| it.of == of) {
                return (200, json!({ "sha": sha(of) }));
            }
            (422, json!({ "message": format!("No commit found for SHA: {of}") }))
        }
    }
}

fn gitlab(
    state: &mut State,
    verb: &str,
    path: &str,
    query: &str,
    body: &Value,
) -> Option<(u16, Value)> {
    let segments: Vec<&str> = path.split('/').collect();
    let one = |id: &str| id.parse::<u64>().ok();
    Some(match (verb, segments.as_slice()) {
        ("POST", ["pipeline"]) => {
            if state.read_only {
                let scope = json!({ "error": "insufficient_scope", "scope": "api" });
                return Some((403, scope));
            }
            let branch = body["ref"].as_str().unwrap_or_default().to_owned();
            if branch != "master" {
                let why = json!({ "message": { "base": ["Reference not found"] } });
                return Some((400, why));
            }
            let pairs = body["variables"].as_array().cloned().unwrap_or_default();
            let text = |it: &Value, key: &str| it[key].as_str().unwrap().to_owned();
            let variables = pairs.iter().map(|it| (text(it, "key"), text(it, "value"))).collect();
            let run = begin(state, branch, variables);
            if std::mem::take(&mut state.cut_next_start) {
                return None;
            }
            (201, pipeline(&run))
        }
        ("GET", ["pipelines"]) => {
            assert!(query.contains("&source=api&username=towpath-bot&updated_after="), "{query}");
            let first = query.ends_with("&page=1");
            let shown = state.runs.iter().rev().filter(|it| first && !it.hidden);
            (200, shown.map(pipeline).collect())
        }
        ("GET", ["pipelines", id, "variables"]) => match find(state, one(id)) {
            Some(run) => (200, shown_variables(run)),
            None => (404, json!({ "message": "404 Not found" })),
        },
        ("GET", ["pipelines", id, "jobs"]) => match find(state, one(id)) {
            Some(run) if run.status == "failed" => {
                (200, json!([{ "id": 1, "name": "deploy:gitaly", "status": "failed" }]))
            }
            Some(_) => (200, json!([])),
            None => (404, json!({ "message": "404 Not found" })),
        },
        ("GET", ["pipelines", id]) => match find(state, one(id)) {
            Some(run) => (200, pipeline(run)),
            None => (404, json!({ "message": "404 Not found" })),
        },
        ("POST", ["pipelines", id, "cancel"]) => {
            let id = one(id);
            let run = state.runs.iter_mut().find(|it| Some(it.id) == id)?;
            if run.status == "running" {
                "canceled".clone_into(&mut run.status);
            }
            (200, pipeline(run))
        }
        _ => (404, json!({ "error": "404 Not Found" })),
    })
}

fn pipeline(run: &Run) -> Value {
    let id = run.id;
    json!({
        "id": id, "iid": id, "project_id": 1, "sha": "0".repeat(40), "ref": run.branch,
        "status": run.status, "source": "api",
        "web_url": format!("https://ops.example.com/ops/deployer/-/pipelines/{id}"),
    })
}

fn github(
    state: &mut State,
    verb: &str,
    path: &str,
    query: &str,
    body: &Value,
) -> Option<(u16, Value)> {
    let segments: Vec<&str> = path.split('/').collect();
    let one = |id: &str| id.parse::<u64>().ok();
    Some(match (verb, segments.as_slice()) {
        ("GET", ["contents", ".github", "workflows", "deploy.yml"]) => {
            let text = data_encoding::BASE64_MIME.encode(state.workflow.as_bytes());
            (200, json!({ "type": "file", "encoding": "base64", "content": text }))
        }
        ("POST", ["actions", "workflows", "deploy.yml", "dispatches"]) => {
            if state.read_only {
                let why = "Resource not accessible by personal access token";
                return Some((403, json!({ "message": why })));
            }
            let inputs = body["inputs"].as_object().cloned().unwrap_or_default();
            let inputs = inputs.into_iter().map(|(key, it)| (key, it.as_str().unwrap().to_owned()));
            let branch = body["ref"].as_str().unwrap_or_default().to_owned();
            begin(state, branch, inputs.collect());
            (204, Value::Null)
        }
        ("GET", ["actions", "workflows", "deploy.yml", "runs"]) => {
            assert!(
                query.contains("event=workflow_dispatch&branch=master&created=%3E%3D"),
                "{query}"
            );
            let runs: Vec<Value> =
                state.runs.iter().rev().filter(|it| !it.hidden).map(workflow_run).collect();
            (200, json!({ "total_count": runs.len(), "workflow_runs": runs }))
        }
        ("GET", ["actions", "runs", id]) => match find(state, one(id)) {
            Some(run) => (200, workflow_run(run)),
            None => (404, json!({ "message": "Not Found" })),
        },
        ("POST", ["actions", "runs", id, "cancel"]) => {
            let id = one(id);
            let run = state.runs.iter_mut().find(|it| Some(it.id) == id)?;
            if run.status != "running" {
                return Some((409, json!({ "message": "Cannot cancel a completed run" })));
            }
            "cancelled".clone_into(&mut run.status);
            (202, json!({}))
        }
        _ => (404, json!({ "message": "Not Found" })),
    })
}

fn shown_variables(run: &Run) -> Value {
    let pair = |(key, value): (&String, &String)| json!({ "variable_type": "env_var", "key": key, "value": value });
    run.variables.iter().map(pair).collect()
}

fn workflow_run(run: &Run) -> Value {
    let id = run.id;
    let running = run.status == "running";
    let key = run.variables.get("TOWPATH_STEP").cloned().unwrap_or_default();
    json!({
        "id": id, "display_title": format!("deploy {key} by bot"), "event": "workflow_dispatch",
        "head_branch": run.branch, "run_attempt": 1,
        "status": if running { "in_progress" } else { "completed" },
        "conclusion": if running { Value::Null } else { json!(run.status) },
        "html_url": format!("https://github.example.com/ops/deployer/actions/runs/{id}"),
    })
}

fn begin(state: &mut State, branch: String, variables: BTreeMap<String, String>) -> Run {
    let id = 100 + state.runs.len() as u64;
    let (status, hidden) = ("running".to_owned(), state.hides);
    state.runs.push(Run { id, branch, variables, status, hidden });
    state.runs[state.runs.len() - 1].clone()
}

fn find(state: &State, id: Option<u64>) -> Option<&Run> {
    state.runs.iter().find(|it| Some(it.id) == id)
}
