//! Builds the tree of a file from the parser's events, and refuses what the strict dialect does not
//! have. Goes on after a mistake as long as the parser does, so that all are told at once.
//!
//! Invariant: linear in the size of the text; a mistake costs no more than its message.

use super::diagnostic::{Diagnostic, visible};
use super::tree::{
    DEPTH_MAX, Document, Entry, Key, NODES_MAX, Node, PROBLEMS_MAX, Scalar, Style, Value,
};
use granit_parser::{ErrorKind, Event, Parser, ScanError, Span, StructureStyle};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// The tree while it grows.
pub(super) struct Builder<'a, 'f> {
    file: &'f str,
    text: &'a str,
    open: Vec<Open<'a>>,
    root: Option<Node<'a>>,
    documents: usize,
    nodes: usize,
    problems: Vec<Diagnostic>,
    unlisted: usize,
}

/// A collection whose end has not been seen.
struct Open<'a> {
    start: usize,
    flow: bool,
    body: Body<'a>,
}

enum Body<'a> {
    Seq(Vec<Node<'a>>),
    Map(Vec<Entry<'a>>, Slot<'a>),
}

/// What the next node of a mapping is.
enum Slot<'a> {
    Key,
    ValueOf(Key<'a>),
    /// The value of a key that was refused; it goes nowhere.
    ValueOfNone,
}

/// Whether reading goes on.
#[derive(PartialEq, Eq)]
enum Flow {
    More,
    Stop,
}

impl<'a, 'f> Builder<'a, 'f> {
    pub(super) fn new(file: &'f str, text: &'a str) -> Self {
        let (open, problems, root) = (Vec::with_capacity(8), Vec::new(), None);
        Self { file, text, open, root, documents: 0, nodes: 0, problems, unlisted: 0 }
    }

    pub(super) fn read(&mut self) {
        let options = granit_parser::options! {
            emit_unresolved_aliases: true,
            emit_anchor_events: true,
            emit_comments: false,
            disallow_directives: true,
            flow_nesting_limit: DEPTH_MAX,
            block_nesting_limit: DEPTH_MAX,
        };
        for item in Parser::new_from_str_with_options(self.text, options) {
            let flow = match item {
                Ok((event, span)) => self.event(event, &span),
                Err(error) => self.broken(&error),
            };
            if flow == Flow::Stop {
                return;
            }
        }
    }

    fn event(&mut self, event: Event<'a>, at: &Span) -> Flow {
        let span = at.byte_range().unwrap_or_default();
        if event.is_node() {
            self.nodes += 1;
            if self.nodes > NODES_MAX {
                return self.too_many(span);
            }
            if let Some(tag) = at.tag_span().and_then(|tag| tag.byte_range()) {
                self.tag(tag);
            }
        }
        match event {
            Event::DocumentStart(..) => return self.document(span),
            Event::Scalar(text, style, ..) => {
                self.indented_by_tab(&span);
                let node = self.scalar(text, style.into(), span);
                self.place(Some(node));
            }
            Event::SequenceStart(style, ..) => {
                return self.start(style, span, Body::Seq(Vec::new()));
            }
            Event::MappingStart(style, ..) => {
                return self.start(style, span, Body::Map(Vec::new(), Slot::Key));
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(&span),
            Event::Anchor(_, name) => {
                let message = format!("anchor `&{}` is not allowed", visible(&name));
                let hint = "write the value out where it is needed; Towpath reads no aliases";
                self.problem("anchor", message, span, hint);
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let name = visible(self.text.get(span.clone()).unwrap_or_default());
                let message = format!("alias `{name}` is not allowed");
                self.problem("alias", message, span, "write the value out here");
                self.place(None);
            }
            _ => {}
        }
        Flow::More
    }

    fn document(&mut self, span: Range<usize>) -> Flow {
        self.documents += 1;
        if self.documents == 1 {
            return Flow::More;
        }
        let hint = "put the second document into a file of its own";
        self.problem("many-documents", "a second document starts here".to_owned(), span, hint);
        Flow::Stop
    }

    fn scalar(&self, text: Cow<'a, str>, style: Style, span: Range<usize>) -> Node<'a> {
        let (text, span) = match style {
            // The parser writes a missing value as `~` without a place.
            Style::Plain if span.is_empty() => (Cow::Borrowed(""), self.missing(span)),
            Style::Plain | Style::SingleQuoted | Style::DoubleQuoted => (text, span),
            Style::Literal | Style::Folded => {
                let body = self.text.get(span.clone()).unwrap_or_default();
                (text, span.start..span.start + body.trim_end().len())
            }
        };
        Node { span, value: Value::Scalar(Scalar { text, style }) }
    }

    /// Where a value is missing: after its key, wherever the parser noticed it.
    fn missing(&self, span: Range<usize>) -> Range<usize> {
        match self.open.last() {
            Some(Open { body: Body::Map(_, Slot::ValueOf(key)), .. }) => key.span.end..key.span.end,
            _ => span,
        }
    }

    fn start(&mut self, style: StructureStyle, span: Range<usize>, body: Body<'a>) -> Flow {
        if self.open.len() == DEPTH_MAX {
            return self.too_deep(span);
        }
        let flow = style == StructureStyle::Flow;
        self.open.push(Open { start: span.start, flow, body });
        Flow::More
    }

    fn end(&mut self, span: &Range<usize>) {
        let Some(Open { start, flow, body }) = self.open.pop() else { return };
        let (last, value) = match body {
            Body::Seq(items) => (items.last().map(|item| item.span.end), Value::Seq(items)),
            Body::Map(entries, _) => {
                self.duplicates(&entries);
                (entries.last().map(|entry| entry.value.span.end), Value::Map(entries))
            }
        };
        // A block collection ends with its last child; the parser only notices later.
        let end = if flow { span.end } else { last.unwrap_or(start) };
        self.place(Some(Node { span: start..end.max(start), value }));
    }

    /// Puts a finished node where it belongs; `None` stands for one that was refused.
    fn place(&mut self, node: Option<Node<'a>>) {
        match self.open.last_mut().map(|open| &mut open.body) {
            None => self.root = node,
            Some(Body::Seq(items)) => items.extend(node),
            Some(Body::Map(entries, slot)) => match std::mem::replace(slot, Slot::Key) {
                Slot::ValueOf(key) => entries.extend(node.map(|value| Entry { key, value })),
                Slot::ValueOfNone => {}
                Slot::Key => {
                    *slot = Slot::ValueOfNone;
                    if let Some(node) = node {
                        self.key(node);
                    }
                }
            },
        }
    }

    fn key(&mut self, node: Node<'a>) {
        let span = node.span.clone();
        match node.value {
            Value::Scalar(Scalar { text, style: Style::Plain }) if text == "<<" => {
                let message = "merge key `<<` is not allowed".to_owned();
                self.problem("merge-key", message, span, "write the merged keys out here");
            }
            Value::Scalar(scalar) if scalar.is_missing() => {
                let message = "a key is missing".to_owned();
                self.problem("key", message, span, "write `key: value`");
            }
            Value::Scalar(Scalar { text, style }) => {
                if let Some(Open { body: Body::Map(_, slot), .. }) = self.open.last_mut() {
                    *slot = Slot::ValueOf(Key { span, text, style });
                }
            }
            Value::Map(_) | Value::Seq(_) => {
                let message = format!("{} cannot be a key", node.kind());
                let hint = "keys are words; if this was meant as text, quote it";
                self.problem("key", message, span, hint);
            }
        }
    }

    fn duplicates(&mut self, entries: &[Entry<'a>]) {
        /// Up to here comparing all pairs is cheaper than hashing.
        const PAIRS_MAX: usize = 12;
        if entries.len() <= PAIRS_MAX {
            for (at, entry) in entries.iter().enumerate() {
                let first = entries.iter().take(at).find(|other| other.key.text == entry.key.text);
                if let Some(first) = first {
                    self.duplicate(&first.key, &entry.key);
                }
            }
            return;
        }
        let mut seen: HashMap<&str, &Key<'a>> = HashMap::with_capacity(entries.len());
        for entry in entries {
            let first = *seen.entry(&entry.key.text).or_insert(&entry.key);
            if first.span != entry.key.span {
                self.duplicate(first, &entry.key);
            }
        }
    }

    fn duplicate(&mut self, first: &Key<'a>, second: &Key<'a>) {
        let message = format!("key `{}` is given twice", visible(&second.text));
        let found = self.list(|file| {
            Diagnostic::error(file, "duplicate-key", message)
                .at(second.span.clone())
                .hint("remove one of the two; readers differ in which one counts")
                .related("first given here", first.span.clone())
        });
        self.unlisted += usize::from(!found);
    }

    /// The parser takes ` \tkey:` for indented by one, other readers refuse it or see more.
    fn indented_by_tab(&mut self, span: &Range<usize>) {
        if span.is_empty() || self.open.last().is_some_and(|open| open.flow) {
            return;
        }
        let is_key = matches!(self.open.last(), Some(Open { body: Body::Map(_, Slot::Key), .. }));
        let blank = |b: &u8| matches!(b, b' ' | b'\t') || (is_key && matches!(b, b'-' | b'?'));
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        let blanks = before.iter().rev().take_while(|b| blank(b)).count();
        let line = before.len() - blanks;
        let starts_line = line == 0 || before.get(line - 1) == Some(&b'\n');
        let tab = before.iter().skip(line).position(|b| *b == b'\t').filter(|_| starts_line);
        if let Some(tab) = tab {
            self.tab(line + tab..line + tab + 1);
        }
    }

    fn tab(&mut self, span: Range<usize>) {
        let message = "a tab is used for indentation".to_owned();
        self.problem("tab", message, span, "YAML is indented with spaces only");
    }

    fn tag(&mut self, span: Range<usize>) {
        let tag = visible(self.text.get(span.clone()).unwrap_or_default());
        let message = format!("tag `{tag}` is not allowed");
        self.problem("tag", message, span, "remove it; quote the value if it is to be a string");
    }

    fn too_deep(&mut self, span: Range<usize>) -> Flow {
        let message = format!("nested more than {DEPTH_MAX} levels deep");
        self.problem(
            "too-deep",
            message,
            span,
            "no setting needs a tenth of that; look for a typo",
        );
        Flow::Stop
    }

    fn too_many(&mut self, span: Range<usize>) -> Flow {
        let message = format!("more than {NODES_MAX} values in one file");
        self.problem("too-many-values", message, span, "split the file");
        Flow::Stop
    }

    fn broken(&mut self, error: &ScanError) -> Flow {
        let at = self.text.floor_char_boundary(error.marker().byte_offset().unwrap_or_default());
        let rest = self.text.get(at..).unwrap_or_default();
        let span = at..at + rest.chars().next().filter(|&c| c != '\n').map_or(0, char::len_utf8);
        if *error.kind() == ErrorKind::RecursionLimitExceeded {
            return self.too_deep(span);
        }
        if *error.kind() == ErrorKind::DirectiveDisallowed {
            let message = "directives are not allowed".to_owned();
            self.problem("directive", message, span, "remove the line; files are read as YAML 1.2");
            return Flow::Stop;
        }
        if let Some(tab) = self.tab_near(at, error.kind()) {
            self.tab(tab);
            return Flow::Stop;
        }
        let message = visible(&error.kind().to_string()).into_owned();
        self.problem("syntax", message, span, syntax_hint(error.kind()));
        Flow::Stop
    }

    /// The tab in the indentation of the line where the parser gave up, or of its neighbours.
    fn tab_near(&self, at: usize, kind: &ErrorKind) -> Option<Range<usize>> {
        let before = self.text.get(..at)?;
        let here = before.rfind('\n').map_or(0, |at| at + 1);
        let above = before.get(..here.saturating_sub(1))?.rfind('\n').map_or(0, |at| at + 1);
        let about_tabs = matches!(
            kind,
            ErrorKind::TabNotAllowed
                | ErrorKind::TabInBlockIndentation
                | ErrorKind::TabInIndentation
                | ErrorKind::TabAtBlockScalarStart
                | ErrorKind::TabInPlainScalar
        );
        // A plain value goes on in the next line, so that it can break on the tab there.
        let below = self.text.get(at..)?.find('\n').filter(|_| about_tabs).map(|end| at + end + 1);
        let indented = [Some(here), below, Some(above)].into_iter().flatten().find_map(|line| {
            let blanks = self.text.get(line..)?.bytes();
            let tab = blanks.take_while(|&b| b == b' ' || b == b'\t').position(|b| b == b'\t')?;
            Some(line + tab..line + tab + 1)
        });
        let anywhere = || {
            let from = before.rfind('\t').filter(|_| about_tabs)?;
            Some(from..from + 1)
        };
        indented.or_else(anywhere)
    }

    fn problem(&mut self, code: &'static str, message: String, at: Range<usize>, hint: &str) {
        let found = self.list(|file| Diagnostic::error(file, code, message).at(at).hint(hint));
        self.unlisted += usize::from(!found);
    }

    fn list(&mut self, problem: impl FnOnce(&str) -> Diagnostic) -> bool {
        let room = self.problems.len() < PROBLEMS_MAX;
        if room {
            self.problems.push(problem(self.file));
        }
        room
    }

    pub(super) fn finish(mut self) -> Result<Document<'a>, Vec<Diagnostic>> {
        let empty =
            |root: &Node<'_>| matches!(&root.value, Value::Scalar(scalar) if scalar.is_missing());
        let root = self.root.filter(|root| !empty(root));
        match root {
            Some(root) if self.problems.is_empty() => Ok(Document { text: self.text, root }),
            None if self.problems.is_empty() => {
                let problem = Diagnostic::error(self.file, "empty", "the file says nothing");
                Err(vec![problem.hint("delete the file if nothing is meant to be there")])
            }
            Some(_) | None => {
                self.problems.sort_by_key(|problem| problem.span.as_ref().map(|span| span.start));
                if self.unlisted > 0 {
                    let message = format!("and {} more mistakes", self.unlisted);
                    self.problems.push(Diagnostic::error(self.file, "more", message));
                }
                Err(self.problems)
            }
        }
    }
}

fn syntax_hint(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => {
            "close the quote"
        }
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::MismatchedFlowCollectionEnd { .. }
        | ErrorKind::MisplacedFlowCollectionEnd
        | ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofFlowSequence => "look for a missing comma or closing bracket",
        ErrorKind::UnknownQuotedScalarEscape => {
            "write `\\\\` for a backslash, or use single quotes, which know no escapes"
        }
        ErrorKind::UnexpectedCharacter { .. } => "a value that starts with this needs quotes",
        ErrorKind::SimpleKeyExpected
        | ErrorKind::InvalidSimpleKey
        | ErrorKind::MappingValueNotAllowed
        | ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::InvalidIndentation => {
            "look at the indentation, for a missing `:`, or for a value with `: ` that needs quotes"
        }
        _ => "look at this line and the one above it",
    }
}
