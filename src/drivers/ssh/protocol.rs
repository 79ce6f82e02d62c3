//! What the controller and the runner on a node say to one another, a line at a time. The runner's
//! own text, `runner/1-base.sh`, has the grammar.
//!
//! Invariants:
//! - no text of ours is ever read by a shell as code: values are lines that a shell reads as data;
//! - no text of a command is ever taken for the runner's: it comes as base64, and each line of the
//!   runner begins with a word that only this session knows.

use crate::model::{Epoch, StepKey, Timestamp};

/// Most values of one request, and lines of one value: far more than any command needs.
const VALUES_MAX: usize = 10_000;

/// The latest time that a shell can reckon with: far enough.
const TIME_MAX: u64 = 1 << 60;

/// A request to the runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Whose steps and fence: an environment.
    pub(super) place: String,
    pub(super) verb: Verb,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Fence {
        store: String,
        epoch: Epoch,
    },
    Run(Run),
    /// How a step stands, at once.
    State {
        key: StepKey,
    },
    Log {
        key: StepKey,
    },
    Kill {
        key: StepKey,
    },
    Ask {
        variables: Vec<(String, String)>,
        argv: Vec<String>,
        seconds: u64,
    },
}

/// A step. The answer comes when it ends, or at once where somebody else began it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) store: String,
    pub(super) epoch: Epoch,
    pub(super) key: StepKey,
    pub(super) seconds: u64,
    pub(super) not_after: Timestamp,
    pub(super) rerun_lost: bool,
    pub(super) variables: Vec<(String, String)>,
    pub(super) argv: Vec<String>,
}

impl Request {
    /// Seconds that an honest answer may take.
    pub(super) fn patience(&self) -> u64 {
        /// A kill waits for two graces and the runner's files.
        const KILL: u64 = 15;
        /// Nobody may hold the gate of a place for longer, nor a full disk hold back the end.
        const RUN: u64 = 120;
        match &self.verb {
            Verb::Fence { .. } | Verb::Log { .. } | Verb::State { .. } => 0,
            Verb::Run(run) => run.seconds.saturating_add(RUN),
            Verb::Kill { .. } => KILL,
            Verb::Ask { seconds, .. } => *seconds,
        }
    }

    /// As lines. `skew` is how much the node's clock is before ours, in milliseconds, if we know.
    pub(super) fn encode(&self, id: u64, skew: Option<i64>) -> String {
        let (verb, words, values) = match &self.verb {
            Verb::Fence { store, epoch } => ("fence", format!("{store} {epoch}"), Vec::new()),
            Verb::Run(run) => ("run", run.words(skew), values(&run.variables, &run.argv)),
            Verb::State { key } => ("state", key.to_string(), Vec::new()),
            Verb::Log { key } => ("log", key.to_string(), Vec::new()),
            Verb::Kill { key } => ("kill", key.to_string(), Vec::new()),
            Verb::Ask { variables, argv, seconds } => {
                ("ask", format!("{seconds} {}", variables.len()), values(variables, argv))
            }
        };
        let mut text = format!("{id} {verb} {} {} {words}\n", self.place, values.len());
        for value in values {
            let lines = value.matches('\n').count() + 1;
            let head = if lines == 1 { "=".to_owned() } else { format!("+{lines}\n") };
            text.extend([head.as_str(), value.as_str(), "\n"]);
        }
        text
    }
}

impl Run {
    fn words(&self, skew: Option<i64>) -> String {
        let Self { store, epoch, key, seconds, not_after, rerun_lost, variables, .. } = self;
        let skew = skew.map_or("-".to_owned(), |it| it.to_string());
        let lost = if *rerun_lost { "rerun" } else { "once" };
        let (not_after, variables) = (not_after.0.min(TIME_MAX), variables.len());
        format!("{store} {epoch} {key} {seconds} {not_after} {skew} {lost} {variables}")
    }
}

fn values(variables: &[(String, String)], argv: &[String]) -> Vec<String> {
    let variables = variables.iter().map(|(name, value)| format!("{name}={value}"));
    variables.chain(argv.iter().cloned()).collect()
}

/// Whether a command can be passed on as it is: `Err` says why not.
pub(super) fn passable(argv: &[String], variables: &[(String, String)]) -> Result<(), String> {
    match argv.first() {
        None => return Err("there is no program to run".to_owned()),
        Some(program) if program.is_empty() => return Err("there is no program to run".to_owned()),
        Some(program) if program.starts_with('-') => {
            return Err(format!("`{}` is an option, not a program", program.escape_debug()));
        }
        Some(_) => {}
    }
    let named = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if let Some((name, _)) = variables.iter().find(|(name, _)| !named(name)) {
        return Err(format!("`{}` cannot name a variable", name.escape_debug()));
    }
    let mut texts = argv.iter().chain(variables.iter().map(|(_, value)| value));
    if texts.any(|it| it.contains('\0') || it.matches('\n').count() > VALUES_MAX)
        || argv.len() + variables.len() > VALUES_MAX
    {
        return Err("the command cannot be passed on: it is too long, or holds a NUL".to_owned());
    }
    Ok(())
}

/// A line of the runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// It listens; this is its clock, and the word that its directory has until the machine boots.
    Ready { now: Timestamp, machine: Option<String> },
    /// It is another version, or not there at all.
    Need,
    /// It cannot serve.
    Trouble { why: String },
    /// A piece of what a request wants to know.
    Piece { id: u64, stream: u8, bytes: Vec<u8> },
    /// The end of an answer.
    Said { id: u64, words: Vec<String> },
}

impl Line {
    /// Reads one; `None` if it is not of this session, or makes no sense.
    pub(super) fn parse(line: &[u8], nonce: &str) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let hello = format!("towpath {nonce} ");
        // A login shell may have printed something without ending its line.
        if let Some(at) = line.find(&hello) {
            let said = &line[at + hello.len()..];
            let (word, rest) = said.split_once(' ').unwrap_or((said, ""));
            return Some(match word {
                "ready" => {
                    let (now, machine) = rest.split_once(' ').unwrap_or((rest, ""));
                    let now = Timestamp(now.parse().ok()?);
                    Self::Ready { now, machine: is_word(machine).then(|| machine.to_owned()) }
                }
                "need" => Self::Need,
                "trouble" => Self::Trouble { why: rest.to_owned() },
                _ => return None,
            });
        }
        let mut words = line.strip_prefix(nonce)?.strip_prefix(' ')?.split(' ');
        let id = words.next()?.parse().ok()?;
        match words.next()? {
            "." => Some(Self::Said { id, words: words.map(str::to_owned).collect() }),
            stream => {
                let number = stream.trim_start_matches(['=', '-']);
                let plain = stream.len() - number.len();
                let stream_number = number.parse().ok().filter(|it| matches!(it, 1 | 2))?;
                let bytes = match (plain, stream.as_bytes()[0]) {
                    (0, _) => decode(words.next()?)?,
                    // A line of text, as it is.
                    (1, mark) => {
                        let mut text = words.collect::<Vec<_>>().join(" ").into_bytes();
                        text.extend((mark == b'=').then_some(b'\n'));
                        text
                    }
                    (..) => return None,
                };
                Some(Self::Piece { id, stream: stream_number, bytes })
            }
        }
    }
}

/// Whether this may be the word of a machine.
fn is_word(text: &str) -> bool {
    /// A UUID has 36.
    const WORD_MAX: usize = 64;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=WORD_MAX).contains(&text.len()) && text.bytes().all(plain)
}

/// Reads base64 (RFC 4648) with its padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for four in text.as_bytes().chunks(4) {
        let kept = four.iter().rposition(|b| *b != b'=').map_or(0, |at| at + 1);
        if four.len() != 4 || kept < 2 {
            return None;
        }
        let mut bits = 0_u32;
        for byte in &four[..kept] {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(digit);
        }
        bits <<= 6 * (4 - kept);
        bytes.extend(&bits.to_be_bytes()[1..kept]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RolloutId;

    #[test]
    fn values_are_lines_of_data() {
        let ask = Verb::Ask {
            variables: vec![("A".to_owned(), "$(rm -rf /)".to_owned())],
            argv: vec!["sh".to_owned(), "one\ntwo\n".to_owned(), String::new()],
            seconds: 5,
        };
        let text = Request { place: "prod".to_owned(), verb: ask }.encode(7, None);
        assert_eq!(text, "7 ask prod 4 5 1\n=A=$(rm -rf /)\n=sh\n+3\none\ntwo\n\n=\n");
        let key = StepKey::new(&RolloutId::unset(), "a", 1);
        let state = Request { place: "prod".to_owned(), verb: Verb::State { key } };
        assert_eq!(state.encode(1, None), "1 state prod 0 000000000000.a\n");
    }

    #[test]
    fn only_lines_of_this_session_are_heard() {
        let line = |text: &str| Line::parse(text.as_bytes(), "n0");
        assert_eq!(line("hello towpath n0 need"), Some(Line::Need));
        assert_eq!(line("towpath n1 need"), None);
        for (text, word) in [
            ("5", None),
            ("5 a-1", Some("a-1")),
            ("5 ", None),
            ("5 a b", None),
            ("5 \u{1b}[2J", None),
        ] {
            let ready = Line::Ready { now: Timestamp(5), machine: word.map(str::to_owned) };
            assert_eq!(line(&format!("towpath n0 ready {text}")), Some(ready), "{text:?}");
        }
        assert_eq!(line("n0 3 . done code 0"), {
            let words = ["done", "code", "0"].map(str::to_owned).to_vec();
            Some(Line::Said { id: 3, words })
        });
        assert_eq!(line("n0 3 1 aGk="), {
            Some(Line::Piece { id: 3, stream: 1, bytes: b"hi".to_vec() })
        });
        for (text, bytes) in [("n0 3 =1 a  b", "a  b\n"), ("n0 3 -1 a ", "a "), ("n0 3 =1 ", "\n")]
        {
            let bytes = bytes.as_bytes().to_vec();
            assert_eq!(line(text), Some(Line::Piece { id: 3, stream: 1, bytes }), "{text}");
        }
        for bad in ["n0 3 ==1 a", "n0 3 =3 a", "n0 3 = a", "n0 3  a"] {
            assert_eq!(line(bad), None, "{bad}");
        }
        for bad in ["n1 3 . ok", "n0 x . ok", "n0 3 9 aGk=", "n0 3 1 aGk", "n0 3 1 a===", "n0"] {
            assert_eq!(line(bad), None, "{bad}");
        }
    }

    #[test]
    fn base64_is_read_as_it_is_written() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo")] {
            assert_eq!(decode(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!(decode("AP+/").unwrap(), [0, 255, 191]);
    }

    #[test]
    fn a_command_that_would_be_misread_is_refused() {
        let argv = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        assert!(passable(&argv(&["echo", "-n", "a\nb"]), &[]).is_ok());
        for bad in [&[][..], &[""], &["-c"], &["a", "b\0c"]] {
            assert!(passable(&argv(bad), &[]).is_err(), "{bad:?}");
        }
        assert!(passable(&argv(&["a"]), &[("A-B".to_owned(), String::new())]).is_err());
    }
}
