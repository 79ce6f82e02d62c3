//! A part of a whole: `10%` or `3`.

use std::fmt;

/// Why a text is no share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a share: write a whole number such as 3, or a percentage from 0% to 100%")]
pub struct BadShare(String);

/// How many of a number of nodes or targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So many, whatever the whole.
    Count(u32),
    /// So many in a hundred; 0 to 100.
    Percent(u32),
}

impl Share {
    /// Reads `3` or `10%`.
    pub fn parse(text: &str) -> Result<Self, BadShare> {
        let bad = || BadShare(text.chars().take(40).collect::<String>().escape_debug().to_string());
        let digits = text.strip_suffix('%').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let number: u32 = digits.parse().map_err(|_| bad())?;
        match text.ends_with('%') {
            true if number > 100 => Err(bad()),
            true => Ok(Self::Percent(number)),
            false => Ok(Self::Count(number)),
        }
    }

    /// Of `whole`, rounded down: what may be taken.
    pub fn floor_of(self, whole: usize) -> usize {
        match self {
            Self::Count(count) => (count as usize).min(whole),
            Self::Percent(percent) => whole * percent as usize / 100,
        }
    }

    /// Of `whole`, rounded up: what must remain.
    pub fn ceil_of(self, whole: usize) -> usize {
        match self {
            Self::Count(count) => (count as usize).min(whole),
            Self::Percent(percent) => (whole * percent as usize).div_ceil(100),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_taken_rounds_down_and_what_must_remain_rounds_up() {
        assert_eq!(Share::Percent(10).floor_of(19), 1);
        assert_eq!(Share::Percent(80).ceil_of(19), 16);
        assert_eq!(Share::Count(30).floor_of(4), 4);
        for bad in ["", "101%", "-1", "1.5", "%", "1 %", "99999999999"] {
            assert!(Share::parse(bad).is_err(), "{bad}");
        }
    }
}
