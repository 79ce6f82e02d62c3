//! The lines in which two texts differ, for people: one scalar was changed, so one block differs.

use crate::text;

use super::{Tone, Ui};

/// Most lines shown of either text; the rest is counted.
const SHOWN_MAX: usize = 12;

/// Where two texts differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// The first line that differs, from 1.
    pub(super) line: usize,
    /// The lines that were there.
    pub(super) before: Vec<String>,
    /// The lines that are there now.
    pub(super) after: Vec<String>,
}

/// Finds it; `None` if there is no difference.
pub(super) fn difference(before: &[u8], after: &[u8]) -> Option<Difference> {
    if before == after {
        return None;
    }
    let lines = |bytes: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(bytes);
        text.split_inclusive('\n').map(str::to_owned).collect()
    };
    let (old, new) = (lines(before), lines(after));
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[same..], &new[same..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let show = |lines: &[String]| -> Vec<String> {
        let lines = &lines[..lines.len() - tail];
        let shown = lines.iter().take(SHOWN_MAX);
        let mut shown: Vec<String> =
            shown.map(|it| text::visible(it.trim_end_matches(['\r', '\n'])).into_owned()).collect();
        if lines.len() > SHOWN_MAX {
            shown.push(format!("… {} more lines", lines.len() - SHOWN_MAX));
        }
        shown
    };
    Some(Difference { line: same + 1, before: show(old), after: show(new) })
}

impl Difference {
    /// Shows it under the name of its file.
    pub(super) fn show(&self, file: &str, ui: &Ui) {
        let Self { line, before, after } = self;
        ui.result(ui.paint(Tone::Strong, format_args!("{}:{line}", text::visible(file))));
        for line in before {
            ui.result(ui.paint(Tone::Bad, format_args!("-{line}")));
        }
        for line in after {
            ui.result(ui.paint(Tone::Good, format_args!("+{line}")));
        }
    }
}
