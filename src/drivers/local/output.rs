//! Keeps the head and the tail of what a command prints, and makes text of it that is safe to show.
//!
//! Invariant: neither memory nor disk grows with the output.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};

/// Bytes kept of the beginning: where a command says what it is about to do.
const HEAD_MAX: usize = 64 * 1024;
/// Bytes kept of the end: where it says why it stopped.
const TAIL_MAX: usize = 64 * 1024;
/// Raw bytes of the end that become the text of a [`StepEnd`](crate::drivers::fleet::StepEnd).
const SHOWN_MAX: usize = 2048;
/// Bytes of that text, escapes included: what the exit file has room for.
pub(super) const SHOWN_TEXT_MAX: usize = 4096;

/// The log of one step. The head is written as it comes, the tail at the end.
pub(super) struct Log {
    file: Option<File>,
    head: usize,
    tail: VecDeque<u8>,
    total: u64,
    closed: bool,
}

impl Log {
    /// Writes to `file`; without one the tail is still kept.
    pub(super) fn new(file: Option<File>) -> Self {
        Self { file, head: 0, tail: VecDeque::new(), total: 0, closed: false }
    }

    /// Takes more output. A log that cannot be written never stops a step.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        self.total += bytes.len() as u64;
        let head = &bytes[..bytes.len().min(HEAD_MAX - self.head)];
        self.head += head.len();
        self.write(head);
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
        if dropped > 0 {
            self.write(format!("\n[towpath: {dropped} bytes dropped here]\n").as_bytes());
        }
        let bytes: Vec<u8> = std::mem::take(&mut self.tail).into();
        let skip = bytes.len() - usize::try_from(in_tail).unwrap_or(bytes.len());
        self.write(&bytes[skip..]);
        printable(&bytes[bytes.len().saturating_sub(SHOWN_MAX)..])
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

/// Reads a log, however it came to its size.
pub(super) fn read_log(path: &std::path::Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    /// Head, tail and the line between them.
    const LOG_MAX: u64 = (HEAD_MAX + TAIL_MAX + 256) as u64;
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(LOG_MAX).read_to_end(&mut bytes).map(|_| bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(bytes),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_tail_survive_a_flood_and_the_gap_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::new(Some(File::create(&path).unwrap()));
        log.take(b"first\n");
        for _ in 0..1000 {
            log.take(&[b'x'; 1000]);
        }
        log.take(b"last\n");
        assert!(log.close().ends_with("xlast\n"));
        log.take(b"too late");
        let text = String::from_utf8(read_log(&path).unwrap()).unwrap();
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
            let mut log = Log::new(Some(File::create(&path).unwrap()));
            let bytes: Vec<u8> = (0..=255).cycle().take(size).collect();
            bytes.chunks(777).for_each(|chunk| log.take(chunk));
            log.close();
            assert_eq!(read_log(&path).unwrap(), bytes, "{size}");
        }
    }

    #[test]
    fn text_cannot_move_the_cursor() {
        assert_eq!(printable(b"a\x1b[31mred\x00\r\n\xff\tb"), "a\\u{1b}[31mred\\u{0}\\r\n\\xff\tb");
        assert_eq!(printable("ü\u{202e}".as_bytes()), "ü\\u{202e}");
        assert!(printable(&[0; 2048]).len() <= SHOWN_TEXT_MAX);
    }
}
