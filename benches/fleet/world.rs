//! What the tests' harness expects beside itself, and what processes have in memory.

use std::time::{Duration, Instant};

/// kill -9 of one process.
pub(crate) fn kill(id: i32) {
    if let Some(id) = rustix::process::Pid::from_raw(id) {
        // It may be gone already.
        let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
    }
}

/// Asks again and again, for as long as is reasonable.
pub(crate) fn patiently(mut condition: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_mins(1) {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Bytes of a process and all below it; what several share counts once.
pub(crate) fn memory(id: u32) -> u64 {
    let read =
        |file: &str| std::fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default();
    let share = read("smaps_rollup")
        .lines()
        .find_map(|line| line.strip_prefix("Pss:")?.trim().split(' ').next()?.parse::<u64>().ok());
    let tasks = std::fs::read_dir(format!("/proc/{id}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let children: u64 = tasks
        .map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default())
        .flat_map(|it| it.split_whitespace().filter_map(|it| it.parse().ok()).collect::<Vec<_>>())
        .map(memory)
        .sum();
    share.unwrap_or(0) * 1024 + children
}

/// What a tool took.
pub(crate) struct Run {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) memory: u64,
}
