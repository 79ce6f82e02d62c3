//! How often a controller looks at the world, and how much of it at once.

use std::time::Duration;

/// How often, and how many.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Routine looks at what a target runs are so far apart.
    pub survey_every: Duration,
    /// Looks at the config branch and the merge requests, beside those that a wake asks for.
    pub poll_every: Duration,
    /// Routine looks per second, over all targets: with many targets the looks are further apart.
    pub surveys_per_second: u32,
    /// Surveys under way at once.
    pub surveys_at_once: usize,
    /// Whether people's merge requests and comments on the forge are looked at.
    pub looks_around: bool,
    /// Whether effects that change the world are withheld (`run --check`).
    pub check_only: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            survey_every: Duration::from_mins(5),
            poll_every: Duration::from_secs(30),
            surveys_per_second: 2,
            surveys_at_once: 16,
            looks_around: false,
            check_only: false,
        }
    }
}
