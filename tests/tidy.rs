//! Properties of the source itself: who may import whom, which rooms are pure, and what reviews
//! would otherwise repeat.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room, and the rooms it may name. Anything absent is forbidden.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("text", &[]),
    ("telemetry", &[]),
    ("config", &["model", "text"]),
    ("observe", &["model"]),
    ("rollout", &["model"]),
    ("planner", &["model", "config", "observe", "rollout"]),
    ("git", &["model"]),
    ("drivers", &["model", "observe", "git"]),
    ("record", &["model", "rollout", "git"]),
    ("notify", &["model", "rollout", "planner"]),
    (
        "controller",
        &[
            "model",
            "text",
            "telemetry",
            "config",
            "observe",
            "rollout",
            "planner",
            "drivers",
            "git",
            "record",
            "notify",
        ],
    ),
    ("settings", &["model", "git", "drivers", "controller"]),
    ("api", &["model", "controller", "telemetry"]),
    (
        "cli",
        &[
            "model",
            "text",
            "telemetry",
            "config",
            "observe",
            "rollout",
            "planner",
            "drivers",
            "git",
            "record",
            "notify",
            "controller",
            "settings",
            "api",
        ],
    ),
];

/// Rooms without a clock, randomness or I/O.
const PURE: &[&str] = &["model", "text", "config", "observe", "rollout", "planner", "notify"];

/// Parts of the controller that decide, and touch nothing.
const PURE_CONTROLLER: &[&str] = &[
    "wake.rs",
    "answer.rs",
    "core.rs",
    "configuring.rs",
    "looking.rs",
    "rolling.rs",
    "baking.rs",
    "promoting.rs",
    "visiting.rs",
    "orders.rs",
];

/// What pure code may not so much as mention.
const IMPURE: &[&str] = &[
    "tokio",
    "reqwest",
    "git2",
    "rusqlite",
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::thread",
    "async fn",
    "::now(",
    "tracing::",
];

/// Where serde may be: formats belong to boundaries.
const SERDE: &[&str] = &[
    "config/schema.rs",
    "record/format",
    "record/format_history",
    "record/history",
    "record/audit",
    "record/journal",
    "api/dto.rs",
    "api/socket.rs",
    "settings.rs",
    "drivers/alerts/format.rs", // what alert sources answer
    "drivers/alerts/fetch.rs",
    "drivers/local_forge/format",
    "drivers/local_forge",
    // What inventory commands print is JSON.
    "drivers/inventory.rs",
    "drivers/inventory/particulars.rs",
    "drivers/ci/github.rs", // what CIs answer
    "drivers/ci/gitlab.rs",
    "drivers/deployments/github.rs", // what pages of environments answer
    "drivers/deployments/gitlab.rs",
    "drivers/hosted/client",
    "drivers/hosted/gitea",
    "drivers/hosted/github",
    "drivers/hosted/gitlab",
    "drivers/hosted/marker",
    "cli/",
];

/// Longest file before somebody must find the second idea in it.
const LINES_MAX: usize = 600;

#[test]
fn rooms_import_only_what_they_may() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut errors = Vec::new();
    for source in sources() {
        let Some(may) = allowed.get(source.room.as_str()) else {
            errors.push(format!("{}: room `{}` is not in MAY_IMPORT", source.path, source.room));
            continue;
        };
        for (number, line) in source.code() {
            for used in line.split("crate::").skip(1) {
                let used: String =
                    used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if used != source.room && !may.contains(&used.as_str()) {
                    errors.push(format!(
                        "{}:{number}: `{}` may not import `{used}`",
                        source.path, source.room
                    ));
                }
            }
        }
    }
    assert!(errors.is_empty(), "\n{}\n", errors.join("\n"));
}

#[test]
fn pure_rooms_are_pure() {
    let mut errors = Vec::new();
    for source in sources() {
        let file = source.path.rsplit('/').next().unwrap_or_default();
        let pure = PURE.contains(&source.room.as_str())
            || (source.room == "controller" && PURE_CONTROLLER.contains(&file));
        if !pure || source.path.contains("tests") {
            continue;
        }
        for (number, line) in source.code() {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                errors.push(format!("{}:{number}: pure code mentions `{word}`", source.path));
            }
        }
    }
    assert!(errors.is_empty(), "\n{}\n", errors.join("\n"));
}

#[test]
fn formats_belong_to_boundaries() {
    let mut errors = Vec::new();
    for source in sources() {
        if SERDE.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        for (number, line) in source.code() {
            if line.contains("serde") && !source.path.contains("tests") {
                errors.push(format!("{}:{number}: serde away from a boundary", source.path));
            }
        }
    }
    assert!(errors.is_empty(), "\n{}\n", errors.join("\n"));
}

#[test]
fn every_file_says_what_it_is_and_holds_one_idea() {
    let mut errors = Vec::new();
    // Texts that are built in are no code; they say what they are in their own way.
    for source in sources()
        .into_iter()
        .filter(|it| it.is_code() || Path::new(&it.path).extension().is_some_and(|it| it == "sh"))
    {
        let script = Path::new(&source.path).extension().is_some_and(|it| it == "sh");
        let begins = if script { "# " } else { "//! " };
        let text = source.text.strip_prefix("#!/bin/sh\n").unwrap_or(&source.text);
        if !text.starts_with(begins) {
            errors.push(format!("{}: begin with a sentence behind {begins:?}", source.path));
        }
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            errors.push(format!("{}: {lines} lines, find the second idea", source.path));
        }
    }
    assert!(errors.is_empty(), "\n{}\n", errors.join("\n"));
}

#[test]
fn nothing_is_left_unsaid_or_unwrapped() {
    let mut errors = Vec::new();
    for source in sources() {
        let tests_at = source.text.find("#[cfg(test)]").unwrap_or(source.text.len());
        let product = source.text[..tests_at].lines().count();
        for (number, line) in source.code() {
            let in_tests = number > product || source.path.contains("test");
            for word in [".unwrap()", "todo!(", "unimplemented!(", "#[allow("] {
                if line.contains(word) && !in_tests {
                    errors.push(format!("{}:{number}: `{word}` in the product", source.path));
                }
            }
            if line.contains("#[ignore") {
                errors.push(format!("{}:{number}: a test that nobody runs", source.path));
            }
        }
    }
    assert!(errors.is_empty(), "\n{}\n", errors.join("\n"));
}

#[test]
fn the_usual_companions_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, must_hold) in [
        ("README.md", "towpath demo"),
        ("ARCHITECTURE.md", "planner"),
        ("CONTRIBUTING.md", "cargo"),
        ("CHANGELOG.md", "## Unreleased"),
        ("LICENSE-MIT", "MIT"),
        ("LICENSE-APACHE", "Apache"),
    ] {
        let text = fs::read_to_string(root.join(file)).unwrap_or_default();
        assert!(text.contains(must_hold), "{file} is missing, or does not speak of {must_hold}");
    }
}

struct Source {
    room: String,
    path: String,
    text: String,
}

impl Source {
    /// Whether it is Rust, and no text that is built in.
    fn is_code(&self) -> bool {
        std::path::Path::new(&self.path).extension().is_some_and(|it| it == "rs")
    }

    /// Numbered lines without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn sources() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut todo: Vec<PathBuf> = vec![src.clone()];
    let mut found = Vec::new();
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
                continue;
            }
            let inside = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
            let room = inside.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
            if room != "lib" && room != "main" {
                found.push(Source { room, path: inside, text: fs::read_to_string(&path).unwrap() });
            }
        }
    }
    found
}
