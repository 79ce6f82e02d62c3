//! A part of the terminal that is drawn anew in place: what did not change does not move.
//!
//! Invariant: each line of ours is one row there; one that is too long is cut by its right edge, lines
//! that are too many by its lower one.

use std::io::{IsTerminal as _, Write};

use super::Ui;

/// What is drawn on a terminal.
#[derive(Debug, Default)]
pub(super) struct Screen {
    drawn: Vec<String>,
}

impl Screen {
    /// The terminal that results go to, if it can be drawn on.
    pub(super) fn of_results() -> Option<Self> {
        let dumb = std::env::var_os("TERM").is_none_or(|it| it == "dumb");
        (std::io::stdout().is_terminal() && !dumb).then(Self::default)
    }

    /// Draws these lines in place of those before.
    pub(super) fn draw(&mut self, lines: Vec<String>, ui: &Ui) {
        let plain = |line: String| anstream::adapter::strip_str(&line).to_string();
        let lines = if ui.wants_colour() { lines } else { lines.into_iter().map(plain).collect() };
        let mut out = std::io::stdout().lock();
        // Whoever watched may be gone.
        let _ = self.draw_on(&mut out, fitting(lines, rows())).and_then(|()| out.flush());
    }

    fn draw_on(&mut self, out: &mut impl Write, lines: Vec<String>) -> std::io::Result<()> {
        /// Whether what is longer than a row goes on in the next one.
        const WRAP: (&str, &str) = ("\x1b[?7l", "\x1b[?7h");
        /// Clears what is right of here, and below.
        const CLEAR: (&str, &str) = ("\x1b[K", "\x1b[J");
        if lines == self.drawn {
            return Ok(());
        }
        let mut text = String::from(WRAP.0);
        if !self.drawn.is_empty() {
            text.extend(["\r\x1b[", &self.drawn.len().to_string(), "A"]);
        }
        for line in &lines {
            text.extend([line, CLEAR.0, "\r\n"]);
        }
        text.extend([CLEAR.1, WRAP.1]);
        self.drawn = lines;
        // At one stroke: nobody sees half of it.
        out.write_all(text.as_bytes())
    }
}

/// As many lines as there is room for, the cursor's own below them.
fn fitting(mut lines: Vec<String>, rows: usize) -> Vec<String> {
    let room = rows.saturating_sub(1).max(1);
    if lines.len() > room {
        let more = lines.len() - (room - 1);
        lines.truncate(room - 1);
        lines.push(format!("… and {more} more lines"));
    }
    lines
}

/// How many rows the terminal has now.
fn rows() -> usize {
    /// As terminals had.
    const USUAL: usize = 24;
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    size.ok().map(|it| usize::from(it.ws_row)).filter(|rows| *rows > 0).unwrap_or(USUAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a terminal shows: as much of one as we need.
    fn shown(bytes: &[u8]) -> Vec<String> {
        let (mut rows, mut at) = (vec![String::new()], 0_usize);
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let mut rest = text.as_str();
        while let Some(char) = rest.chars().next() {
            rest = &rest[char.len_utf8()..];
            match char {
                '\r' => {}
                '\n' => {
                    at += 1;
                    if rows.len() == at {
                        rows.push(String::new());
                    }
                }
                '\x1b' => {
                    let end = rest.find(char::is_alphabetic).unwrap();
                    let (words, letter) = (&rest[1..end], &rest[end..=end]);
                    rest = &rest[end + 1..];
                    match letter {
                        "A" => {
                            at -= words.parse::<usize>().unwrap();
                            // What is written there takes the place of what was there.
                            rows[at..].iter_mut().for_each(|it| it.insert(0, '\0'));
                        }
                        "J" => rows.truncate(at + 1),
                        _ => {}
                    }
                }
                other => {
                    if rows[at].starts_with('\0') {
                        rows[at].clear();
                    }
                    rows[at].push(other);
                }
            }
        }
        rows.pop();
        rows
    }

    #[test]
    fn what_is_drawn_takes_the_place_of_what_was_and_nothing_is_drawn_twice() {
        let (mut screen, mut out) = (Screen::default(), Vec::new());
        let mut draw = |lines: &[&str]| {
            let before = out.len();
            let lines = lines.iter().map(|it| (*it).to_owned()).collect();
            screen.draw_on(&mut out, lines).unwrap();
            (shown(&out), out.len() - before)
        };
        assert_eq!(draw(&["head, 1s", "a", "b"]).0, ["head, 1s", "a", "b"]);
        assert_eq!(draw(&["head, 2s", "a", "b"]).0, ["head, 2s", "a", "b"]);
        assert_eq!(draw(&["head, 2s", "a", "b"]).1, 0, "what is the same costs nothing");
        assert_eq!(draw(&["head, 3s", "b"]).0, ["head, 3s", "b"]);
        assert_eq!(draw(&["head, 4s", "b", "c", "d"]).0, ["head, 4s", "b", "c", "d"]);
    }

    #[test]
    fn more_lines_than_rows_are_cut_and_counted() {
        let lines = |count: usize| (0..count).map(|it| it.to_string()).collect::<Vec<_>>();
        assert_eq!(fitting(lines(3), 4), ["0", "1", "2"]);
        assert_eq!(fitting(lines(5), 4), ["0", "1", "… and 3 more lines"]);
        assert_eq!(fitting(lines(5), 1), ["… and 5 more lines"]);
    }
}
