//! Keeps the head and the tail of what a command prints, and makes text of it that is safe to show.
//!
//! Invariant: neither memory nor disk grows with the output.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::super::fleet::Printed;

/// Bytes kept of the beginning: where a command says what it is about to do.
const HEAD_MAX: usize = 64 * 1024;
/// Bytes kept of the end: where it says why it stopped.
const TAIL_MAX: usize = 64 * 1024;
/// Raw bytes of the end that become the text of a [`StepEnd`](crate::drivers::fleet::StepEnd).
const SHOWN_MAX: usize = 2048;
/// Bytes of that text, escapes included: what the exit file has room for.
pub(super) const SHOWN_TEXT_MAX: usize = 4096;

/// The log of one step. The head is written as it comes, and so is what is beyond it, into pieces beside it of
/// which the last two are kept: somebody may look on. At the end the tail follows the head.
pub(super) struct Log {
    path: PathBuf,
    file: Option<File>,
    head: usize,
    tail: VecDeque<u8>,
    total: u64,
    closed: bool,
    piece: Option<Piece>,
}

/// A file with what came behind so many bytes.
struct Piece {
    file: File,
    begins: u64,
    length: usize,
}

impl Log {
    /// Writes there; where that cannot be, the tail is still kept.
    pub(super) fn create(path: &Path) -> Self {
        let file = File::create(path).ok();
        // Of a try that was lost.
        remove_pieces(path);
        let (path, tail) = (path.to_owned(), VecDeque::new());
        Self { path, file, head: 0, tail, total: 0, closed: false, piece: None }
    }

    /// Takes more output. A log that cannot be written never stops a step.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        let (head, beyond) = bytes.split_at(bytes.len().min(HEAD_MAX - self.head));
        self.head += head.len();
        self.write(head);
        self.total += head.len() as u64;
        if !beyond.is_empty() {
            self.show(beyond);
        }
        self.total += beyond.len() as u64;
        // The ring also holds the end of the head, so that the shown tail is whole.
        let kept = &bytes[bytes.len().saturating_sub(TAIL_MAX)..];
        let over = (self.tail.len() + kept.len()).saturating_sub(TAIL_MAX);
        self.tail.drain(..over.min(self.tail.len()));
        self.tail.extend(kept);
    }

    /// Writes the tail behind the head, with how much is missing between them, and gives the
    /// last of it as text. What comes later is dropped.
    pub(super) fn close(&mut self) -> String {
        self.closed = true;
        let beyond_head = self.total - self.head as u64;
        let in_tail = beyond_head.min(self.tail.len() as u64);
        let dropped = beyond_head - in_tail;
        let mut end = Vec::new();
        if dropped > 0 {
            end.extend(gap(dropped).bytes());
        }
        let bytes: Vec<u8> = std::mem::take(&mut self.tail).into();
        let skip = bytes.len() - usize::try_from(in_tail).unwrap_or(bytes.len());
        end.extend(&bytes[skip..]);
        // At one stroke: from here on the pieces are not looked at.
        self.write(&end);
        if self.piece.take().is_some() {
            remove_pieces(&self.path);
        }
        printable(&bytes[bytes.len().saturating_sub(SHOWN_MAX)..])
    }

    /// Writes what is beyond the head where it can be looked at while the step runs.
    fn show(&mut self, bytes: &[u8]) {
        let begins = self.total;
        let full = self.piece.as_ref().is_none_or(|it| it.length >= TAIL_MAX);
        if full {
            let before = self.piece.take().map(|it| it.begins);
            for (at, path) in pieces(&self.path) {
                if Some(at) != before {
                    let _ = std::fs::remove_file(path);
                }
            }
            let created = File::create(piece_at(&self.path, begins)).ok();
            self.piece = created.map(|file| Piece { file, begins, length: 0 });
        }
        let Some(piece) = &mut self.piece else { return };
        if piece.file.write_all(bytes).is_err() {
            self.piece = None;
            remove_pieces(&self.path);
        } else {
            piece.length += bytes.len();
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(file) = &mut self.file
            && file.write_all(bytes).is_err()
        {
            self.file = None;
        }
    }
}

/// Makes text of bytes: line ends and tabs stay; controls, text that turns the reading direction,
/// and bytes that are no UTF-8 are spelled out. At most [`SHOWN_TEXT_MAX`] bytes, the last ones.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut pieces = Vec::new();
    for chunk in bytes.utf8_chunks() {
        pieces.extend(chunk.valid().chars().map(|c| match c {
            '\n' | '\t' => c.to_string(),
            _ if c.is_control() || turns_text(c) => c.escape_default().to_string(),
            _ => c.to_string(),
        }));
        pieces.extend(chunk.invalid().iter().map(|byte| {
            let mut text = String::new();
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
            text
        }));
    }
    let mut room = SHOWN_TEXT_MAX;
    let fitting = pieces.iter().rev().take_while(|piece| {
        let fits = piece.len() <= room;
        room = room.saturating_sub(piece.len());
        fits
    });
    let first = pieces.len() - fitting.count();
    pieces[first..].concat()
}

/// One line of it, for a sentence.
pub(crate) fn one_line(bytes: &[u8], max: usize) -> String {
    let text = printable(&bytes[..bytes.len().min(max)]);
    text.trim().replace('\n', "\\n").replace('\t', "\\t")
}

fn turns_text(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The line between head and tail.
fn gap(dropped: u64) -> String {
    format!("\n{}\n", super::super::fleet::Piece::Dropped(dropped))
}

fn piece_at(log: &Path, begins: u64) -> PathBuf {
    log.with_extension(format!("from-{begins}"))
}

/// The pieces beside a log, in order, by where they begin.
fn pieces(log: &Path) -> Vec<(u64, PathBuf)> {
    let Some(entries) = log.parent().and_then(|it| std::fs::read_dir(it).ok()) else {
        return Vec::new();
    };
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let begins = name.to_str().and_then(|it| it.strip_prefix("log.from-")?.parse().ok());
        found.extend(begins.map(|begins| (begins, entry.path())));
    }
    found.sort();
    found
}

fn remove_pieces(log: &Path) {
    for (_, path) in pieces(log) {
        let _ = std::fs::remove_file(path);
    }
}

/// Reads a file, however it came to its size; nothing where there is none.
fn read(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(max as u64).read_to_end(&mut bytes).map(|_| bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(bytes),
        Err(error) => Err(error),
    }
}

/// Reads a log, also one that grows.
pub(super) fn read_log(path: &Path) -> io::Result<Printed> {
    /// The longest line between head and tail.
    const GAP_MAX: usize = 256;
    let mut head = read(path, HEAD_MAX + GAP_MAX + TAIL_MAX)?;
    if head.len() < HEAD_MAX {
        return Ok(Printed { head, ..Printed::default() });
    }
    let rest = head.split_off(HEAD_MAX);
    if !rest.is_empty() {
        // It has ended. What is between its head and its tail says its line.
        let line = rest.iter().skip(1).position(|it| *it == b'\n').map_or(0, |at| at + 2);
        let said = String::from_utf8_lossy(&rest[..line]);
        let words = said.strip_prefix("\n[towpath: ").and_then(|it| it.split(' ').next());
        let dropped = words.and_then(|it| it.parse().ok()).filter(|it| gap(*it) == said);
        let tail = rest[dropped.map_or(0, |_| line)..].to_vec();
        return Ok(Printed { head, dropped: dropped.unwrap_or(0), tail });
    }
    let mut tail = Vec::new();
    let mut begins = None;
    for (at, path) in pieces(path) {
        // What the one before has not, this one does not follow.
        if begins.is_some_and(|begins| begins + tail.len() as u64 != at) {
            tail.clear();
            begins = None;
        }
        tail.extend(read(&path, 2 * TAIL_MAX)?);
        begins.get_or_insert(at);
    }
    let surplus = tail.len().saturating_sub(TAIL_MAX);
    tail.drain(..surplus);
    let begins = begins.unwrap_or(HEAD_MAX as u64) + surplus as u64;
    Ok(Printed { head, dropped: begins.saturating_sub(HEAD_MAX as u64), tail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_tail_survive_a_flood_and_the_gap_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::create(&path);
        log.take(b"first\n");
        for _ in 0..1000 {
            log.take(&[b'x'; 1000]);
        }
        log.take(b"last\n");
        assert!(log.close().ends_with("xlast\n"));
        log.take(b"too late");
        let text = String::from_utf8(read_log(&path).unwrap().whole()).unwrap();
        assert!(text.starts_with("first\n") && text.ends_with("xlast\n"));
        let dropped = 1_000_011 - HEAD_MAX - TAIL_MAX;
        assert!(text.contains(&format!("[towpath: {dropped} bytes dropped here]")));
        assert!(text.len() < HEAD_MAX + TAIL_MAX + 256);
    }

    #[test]
    fn a_short_output_is_kept_as_it_is() {
        for size in [0, 1, HEAD_MAX - 1, HEAD_MAX, HEAD_MAX + 1, HEAD_MAX + TAIL_MAX] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            let mut log = Log::create(&path);
            let bytes: Vec<u8> = (0..=255).cycle().take(size).collect();
            bytes.chunks(777).for_each(|chunk| log.take(chunk));
            log.close();
            assert_eq!(read_log(&path).unwrap().whole(), bytes, "{size}");
        }
    }

    #[test]
    fn one_who_looks_on_sees_what_comes_and_what_was_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let line = |at: usize| format!("{at:06}\n").into_bytes();
        let lines = |of: std::ops::Range<usize>| of.flat_map(line).collect::<Vec<u8>>();
        let mut log = Log::create(&path);
        let (mut seen, mut heard) = (0, Vec::new());
        for chunk in 0..400 {
            log.take(&lines(chunk * 100..(chunk + 1) * 100));
            // Now and then, and not for a while.
            if chunk % 7 == 0 && !(150..300).contains(&chunk) {
                let printed = read_log(&path).unwrap();
                assert_eq!(printed.length(), (chunk as u64 + 1) * 700);
                heard.extend(printed.behind(seen).iter().map(ToString::to_string));
                seen = printed.length();
            }
            let files: u64 = std::fs::read_dir(dir.path())
                .unwrap()
                .map(|it| it.unwrap().metadata().unwrap().len())
                .sum();
            assert!(files <= (HEAD_MAX + 2 * TAIL_MAX + 1400) as u64, "{files} bytes");
        }
        log.close();
        let printed = read_log(&path).unwrap();
        assert_eq!(printed.length(), 280_000);
        heard.extend(printed.behind(seen).iter().map(ToString::to_string));
        let heard = heard.concat();
        assert_eq!(heard.matches("dropped here").count(), 1, "while nobody looked");
        let (before, after) = heard.split_once("[towpath: ").unwrap();
        let (dropped, after) = after.split_once(" bytes dropped here]").unwrap();
        let dropped: usize = dropped.parse().unwrap();
        assert_eq!(before.len() + dropped + after.len(), 280_000);
        assert_eq!(before.as_bytes(), &lines(0..40_000)[..before.len()]);
        assert_eq!(after.as_bytes(), &lines(0..40_000)[before.len() + dropped..]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "its pieces are gone");
    }

    #[test]
    fn text_cannot_move_the_cursor() {
        assert_eq!(printable(b"a\x1b[31mred\x00\r\n\xff\tb"), "a\\u{1b}[31mred\\u{0}\\r\n\\xff\tb");
        assert_eq!(printable("ü\u{202e}".as_bytes()), "ü\\u{202e}");
        assert!(printable(&[0; 2048]).len() <= SHOWN_TEXT_MAX);
    }
}
