//! The files that `ssh -G` reads: whether its answer is still true, and which hosts they do not
//! tell apart. Asking once for a whole fleet is what makes the built-in client worth having: one
//! `ssh -G` costs more than a login.
//!
//! Invariant: what is not understood here only makes us ask more often.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::drivers::ssh::known_hosts::list_matches;

/// Most files that are followed.
const FILES_MAX: usize = 64;
/// Biggest file that is read.
const FILE_MAX: u64 = 4 << 20;

/// What was read, and what of it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    stamps: Vec<(PathBuf, Option<Stamp>)>,
    /// Whether the answer depends on these files alone.
    pub(super) complete: bool,
    /// Whether hosts are told apart by these patterns alone: one list a `Host` line.
    patterns: Option<Vec<String>>,
    /// Every `HostName` there is, lower case.
    hostnames: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

impl Files {
    /// Reads the user's file, or the one that is given instead.
    pub(super) fn read(config: Option<&str>, home: &Path) -> Self {
        let mut files = Self {
            stamps: Vec::new(),
            complete: true,
            patterns: Some(Vec::new()),
            hostnames: BTreeSet::new(),
        };
        match config {
            Some("none") => {}
            Some(config) => files.add(Path::new(config), &home.join(".ssh")),
            None => {
                files.add(&home.join(".ssh/config"), &home.join(".ssh"));
                files.add(Path::new("/etc/ssh/ssh_config"), Path::new("/etc/ssh"));
            }
        }
        files
    }

    /// Whether none of them has changed since.
    pub(super) fn hold(&self) -> bool {
        self.stamps.iter().all(|(path, stamp)| stamp_of(path) == *stamp)
    }

    /// To which `Host` lines a host belongs, one letter each; `None` if only `ssh` can tell.
    pub(super) fn class(&self, name: &str) -> Option<String> {
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        let patterns = self.patterns.as_ref().filter(|_| name.bytes().all(plain))?;
        let belongs = |pattern: &String| {
            if list_matches(pattern.as_bytes(), name.as_bytes()) { 'y' } else { 'n' }
        };
        Some(patterns.iter().map(belongs).collect())
    }

    /// The answer about one host, said of another one of its class.
    pub(super) fn transfer(&self, answer: &str, from: &str, to: &str) -> Option<String> {
        let mut said = String::with_capacity(answer.len());
        for line in answer.lines() {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            // Where one says the name itself by `HostName`, it would not mean the other.
            if key == "hostname" && value == from && self.hostnames.contains(value) {
                return None;
            }
            let its_own = key == "host" || key == "hostname" && value == from;
            said.extend([key, " ", if its_own { to } else { value }, "\n"]);
        }
        Some(said)
    }

    fn add(&mut self, path: &Path, base: &Path) {
        if self.stamps.iter().any(|(seen, _)| seen == path) {
            return;
        }
        let stamp = stamp_of(path);
        self.stamps.push((path.to_owned(), stamp));
        let Some(stamp) = stamp else { return };
        let text = std::fs::read_to_string(path);
        let (Ok(text), true) = (text, stamp.length <= FILE_MAX && self.stamps.len() <= FILES_MAX)
        else {
            self.complete = false;
            self.patterns = None;
            return;
        };
        for line in text.lines() {
            self.add_line(line.trim(), base);
        }
    }

    fn add_line(&mut self, line: &str, base: &Path) {
        if line.is_empty() || line.starts_with('#') {
            return;
        }
        let end = line.find([' ', '\t', '=']).unwrap_or(line.len());
        let (keyword, arguments) = line.split_at(end);
        let arguments = arguments.trim_start_matches([' ', '\t']);
        let arguments = arguments.strip_prefix('=').unwrap_or(arguments).trim();
        if arguments.contains('%') || keyword.contains('"') {
            self.patterns = None;
        }
        match keyword.to_ascii_lowercase().as_str() {
            "host" if arguments.contains(['"', '\'', '\\', ',', '#']) => self.patterns = None,
            "host" => {
                let list = arguments.split_whitespace().collect::<Vec<_>>().join(",");
                if let Some(patterns) = &mut self.patterns {
                    patterns.push(list);
                }
            }
            "hostname" => {
                self.hostnames.insert(arguments.trim_matches('"').to_ascii_lowercase());
            }
            // Which user, network or program it asks, only ssh knows; files are not all it reads.
            "match" => {
                self.complete = false;
                self.patterns = None;
            }
            "canonicalizehostname" | "canonicaldomains" => self.patterns = None,
            "include" => self.include(arguments, base),
            _ => {}
        }
    }

    fn include(&mut self, arguments: &str, base: &Path) {
        if arguments.contains(['"', '\'', '\\', '~', '$', '[', '?']) {
            self.complete = false;
            self.patterns = None;
            return;
        }
        for argument in arguments.split_whitespace() {
            let path = base.join(argument);
            match (path.parent(), path.file_name().and_then(std::ffi::OsStr::to_str)) {
                (Some(dir), Some(name))
                    if name.contains('*') && !dir.to_string_lossy().contains('*') =>
                {
                    self.include_all(dir, name, base);
                }
                (Some(_), Some(_)) if !argument.contains('*') => self.add(&path, base),
                (Some(_) | None, _) => {
                    self.complete = false;
                    self.patterns = None;
                }
            }
        }
    }

    fn include_all(&mut self, dir: &Path, pattern: &str, base: &Path) {
        // A file that comes or goes moves the directory's own time.
        self.stamps.push((dir.to_owned(), stamp_of(dir)));
        let Ok(entries) = std::fs::read_dir(dir) else { return };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .filter(|name| list_matches(pattern.as_bytes(), name.as_bytes()))
            .take(FILES_MAX + 1)
            .collect();
        names.sort();
        for name in names {
            self.add(&dir.join(name), base);
        }
    }
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    let seen = std::fs::metadata(path).ok()?;
    Some(Stamp { modified: seen.modified().ok(), length: seen.len() })
}
