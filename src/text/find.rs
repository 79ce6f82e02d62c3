//! Finds what stands at a pointer in YAML of any kind: one walk over the events of the whole file,
//! which keeps only what lies on the way.
//!
//! Invariants: what is found is reached by keys and positions alone, never through an alias or a
//! merge key, and neither it nor anything around it is used again elsewhere. Otherwise: refusal.

use super::diagnostic::{LineIndex, closest, position};
use super::pointer::{Pointer, list_index};
use super::refusal::Refusal;
use super::tree::Style;
use granit_parser::{Event, Parser, ScanError, Span, StrInput, StructureStyle};
use std::collections::HashMap;
use std::ops::Range;

/// What stands at a pointer, and all that an edit of it needs to know.
#[derive(Debug)]
pub(super) struct Found {
    /// Which event of the stream it is.
    pub(super) event: usize,
    /// Its bytes.
    pub(super) span: Range<usize>,
    /// What it is.
    pub(super) what: What,
    /// Where anchor and tag before it end, if it has any.
    pub(super) properties_end: Option<usize>,
    /// Where the text before it ends: its key, or its predecessor in a list.
    pub(super) before: usize,
    /// Whether it stands inside of brackets or braces.
    pub(super) in_flow: bool,
    /// Whether it is the first item of a list.
    pub(super) is_first: bool,
    /// Its key, if it has one.
    pub(super) key: Option<KeyAt>,
}

/// Where a key is.
#[derive(Clone, Debug)]
pub(super) struct KeyAt {
    /// Which event of the stream it is.
    pub(super) event: usize,
    /// Its bytes.
    pub(super) span: Range<usize>,
    /// Where the text before it ends.
    pub(super) before: usize,
}

/// What can stand at a pointer. Aliases are refused before anybody sees them.
#[derive(Debug)]
pub(super) enum What {
    Scalar { text: String, style: Style, is_string: bool },
    Missing,
    Map,
    List(List),
}

/// A list that stands at a pointer.
#[derive(Debug)]
pub(super) struct List {
    pub(super) flow: bool,
    pub(super) items: Vec<Item>,
    /// Which event of the stream its end is.
    pub(super) end_event: usize,
    /// Bytes of its closing bracket.
    pub(super) end: Range<usize>,
}

/// An item of a list; `text` and `style` only if it is a scalar.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) span: Range<usize>,
    pub(super) scalar: Option<(String, Style)>,
}

/// Reads a file the lax way, for edits: everything that YAML allows.
pub(super) fn events(text: &str) -> Parser<'_, StrInput<'_>> {
    let options = granit_parser::options! { emit_anchor_events: true, emit_comments: false };
    Parser::new_from_str_with_options(text, options)
}

/// Finds what stands at `pointer`.
pub(super) fn find(text: &str, document: usize, pointer: &Pointer) -> Result<Found, Refusal> {
    let mut walk = Walk::new(text, document, pointer);
    for (at, item) in events(text).enumerate() {
        let (event, span) = item.map_err(|error| unreadable(text, &error))?;
        walk.event(at, &event, &span);
    }
    walk.finish()
}

fn unreadable(text: &str, error: &ScanError) -> Refusal {
    let (line, column) = position(text, error.marker().byte_offset().unwrap_or_default());
    Refusal::Unreadable { line, column, what: error.kind().to_string() }
}

struct Walk<'t> {
    text: &'t str,
    wanted: usize,
    pointer: &'t Pointer,
    documents: usize,
    open: Vec<Open>,
    found: Option<Found>,
    /// Depth of the found list while its items pass by.
    list_at: Option<usize>,
    refusal: Option<Refusal>,
    /// Anchors on what is found and on all around it, with the aliases seen of each.
    held: Vec<Held>,
    /// Text of anchored scalars, because a key may be an alias of one.
    anchored: HashMap<usize, String>,
    /// Where the last event ended.
    before: usize,
}

struct Open {
    flow: bool,
    /// Whether the pointer leads into it.
    on_way: bool,
    place: Place,
}

enum Place {
    List { index: usize },
    Map(MapPlace),
}

#[derive(Default)]
struct MapPlace {
    /// The key whose value comes next.
    key: Option<KeyAt>,
    /// Whether that key is the one the pointer names.
    key_wanted: bool,
    value_next: bool,
    /// The rest is kept only on the way.
    first: Option<Range<usize>>,
    merge: Option<Range<usize>>,
    others: Vec<String>,
}

struct Held {
    id: usize,
    name: String,
    at: usize,
    aliases: Vec<usize>,
}

/// A node as it passes by.
struct Passing<'e> {
    at: usize,
    span: Range<usize>,
    anchor: usize,
    tag: Option<Range<usize>>,
    tag_is_string: bool,
    what: Kind<'e>,
}

#[derive(Clone, Copy)]
enum Kind<'e> {
    Scalar(&'e str, Style),
    Map { flow: bool },
    List { flow: bool },
    Alias(usize),
}

impl<'t> Walk<'t> {
    fn new(text: &'t str, wanted: usize, pointer: &'t Pointer) -> Self {
        Self {
            text,
            wanted,
            pointer,
            documents: 0,
            open: Vec::new(),
            found: None,
            list_at: None,
            refusal: None,
            held: Vec::new(),
            anchored: HashMap::new(),
            before: 0,
        }
    }

    fn event(&mut self, at: usize, event: &Event<'_>, span: &Span) {
        let bytes = span.byte_range().unwrap_or_default();
        let what = match event {
            Event::Scalar(text, style, ..) => Kind::Scalar(text, (*style).into()),
            Event::MappingStart(style, ..) => Kind::Map { flow: *style == StructureStyle::Flow },
            Event::SequenceStart(style, ..) => Kind::List { flow: *style == StructureStyle::Flow },
            Event::Alias(id) => Kind::Alias(*id),
            Event::DocumentStart(..) => {
                self.documents += 1;
                self.before = bytes.end;
                return;
            }
            Event::MappingEnd | Event::SequenceEnd => return self.end(at, bytes),
            Event::Anchor(id, name) => return self.anchor(*id, name, &bytes),
            _ => return,
        };
        let tag = span.tag_span().and_then(|tag| tag.byte_range());
        let tag_is_string = event.tag().is_some_and(|tag| {
            tag.is_yaml_core_schema_tag("str") || (tag.handle().is_empty() && tag.suffix() == "!")
        });
        let anchor = event.anchor_id().unwrap_or_default();
        self.node(&Passing { at, span: bytes, anchor, tag, tag_is_string, what });
    }

    fn node(&mut self, node: &Passing<'_>) {
        if let (Kind::Scalar(text, _), true) = (node.what, node.anchor != 0) {
            self.anchored.insert(node.anchor, text.to_owned());
        }
        if let Kind::Alias(id) = node.what
            && let Some(held) = self.held.iter_mut().find(|held| held.id == id)
        {
            held.aliases.push(node.span.start);
        }
        self.item_of_found(node);
        let is_key = self.is_key_next();
        let depth = self.open.len();
        let wanted = !is_key && self.is_wanted();
        if is_key {
            self.key(node);
        } else if wanted {
            self.on_way(node, depth);
        }
        let (flow, place) = match node.what {
            Kind::Scalar(..) | Kind::Alias(_) => {
                self.passed();
                self.before = node.span.end;
                return;
            }
            Kind::Map { flow } => (flow, Place::Map(MapPlace::default())),
            Kind::List { flow } => (flow, Place::List { index: 0 }),
        };
        let on_way = wanted && depth < self.pointer.segments().len();
        self.open.push(Open { flow, on_way, place });
        self.before = node.span.end;
    }

    fn is_key_next(&self) -> bool {
        match self.open.last().map(|open| &open.place) {
            Some(Place::Map(map)) => !map.value_next,
            Some(Place::List { .. }) | None => false,
        }
    }

    /// Whether the next value is where the pointer, up to this depth, leads.
    fn is_wanted(&self) -> bool {
        let Some(open) = self.open.last() else {
            return self.documents == self.wanted.saturating_add(1);
        };
        let segment = self.pointer.segments().get(self.open.len() - 1);
        open.on_way
            && match &open.place {
                Place::List { index } => segment.and_then(|s| list_index(s)) == Some(*index),
                Place::Map(map) => map.key_wanted,
            }
    }

    /// Notes that a node of the innermost collection is complete.
    fn passed(&mut self) {
        match self.open.last_mut().map(|open| &mut open.place) {
            Some(Place::List { index }) => *index += 1,
            Some(Place::Map(map)) => {
                map.value_next = !map.value_next;
                if !map.value_next {
                    map.key = None;
                    map.key_wanted = false;
                }
            }
            None => {}
        }
    }

    fn key(&mut self, node: &Passing<'_>) {
        let depth = self.open.len();
        let segment = depth.checked_sub(1).and_then(|at| self.pointer.segments().get(at));
        let (text, alias) = match node.what {
            // The parser writes a missing key as `~` without a place.
            Kind::Scalar(_, Style::Plain) if node.span.is_empty() => (Some(""), false),
            Kind::Scalar(text, _) => (Some(text), false),
            Kind::Alias(id) => (self.anchored.get(&id).map(String::as_str), true),
            Kind::Map { .. } | Kind::List { .. } => (None, false),
        };
        let wanted = text.is_some() && text == segment.map(String::as_str);
        let merge = matches!(node.what, Kind::Scalar("<<", Style::Plain));
        let other = text.map(str::to_owned);
        let (before, span) = (self.before, node.span.clone());
        let mut again = None;
        let mut on_way = false;
        if let Some(Open { on_way: true, place: Place::Map(map), .. }) = self.open.last_mut() {
            on_way = true;
            map.key = Some(KeyAt { event: node.at, span: span.clone(), before });
            map.key_wanted = wanted;
            if merge {
                map.merge = Some(span.clone());
            }
            if wanted {
                again = map.first.replace(span.clone());
            } else if map.first.is_none() && map.others.len() < OTHERS_MAX {
                map.others.extend(other.clone());
            }
        }
        if self.refusal.is_some() {
            // Finding lines costs a pass over the text; once is enough.
        } else if let Some(first) = again {
            let (first, second) = (self.line(first.start), self.line(span.start));
            self.refuse(Refusal::DuplicateKey { key: other.unwrap_or_default(), first, second });
        } else if on_way && wanted && alias {
            let alias = self.slice(&span);
            self.refuse(Refusal::ThroughAlias { line: self.line(span.start), alias });
        }
    }

    /// A value on the way: either what is looked for or something around it.
    fn on_way(&mut self, node: &Passing<'_>, depth: usize) {
        if node.anchor != 0 {
            let (id, at) = (node.anchor, node.span.start);
            self.held.push(Held { id, name: String::new(), at, aliases: Vec::new() });
        }
        if self.refusal.is_some() {
            return;
        }
        let line = self.line(node.span.start);
        let here = depth == self.pointer.segments().len();
        match node.what {
            Kind::Alias(_) if here => {
                return self.refuse(Refusal::Alias { line, alias: self.slice(&node.span) });
            }
            Kind::Alias(_) => {
                return self.refuse(Refusal::ThroughAlias { line, alias: self.slice(&node.span) });
            }
            Kind::Scalar(..) if !here => return self.not_found(depth, &[]),
            Kind::Scalar(..) | Kind::Map { .. } | Kind::List { .. } if !here => return,
            Kind::Scalar(..) | Kind::Map { .. } | Kind::List { .. } => {}
        }
        if let Some(tag) = node.tag.as_ref().filter(|_| !node.tag_is_string) {
            return self.refuse(Refusal::Tagged { line, tag: self.slice(tag) });
        }
        let is_string = node.tag_is_string;
        let what = match node.what {
            Kind::Scalar(_, Style::Plain) if node.span.is_empty() => What::Missing,
            Kind::Scalar(text, style) => What::Scalar { text: text.to_owned(), style, is_string },
            Kind::Map { .. } | Kind::Alias(_) => What::Map,
            Kind::List { flow } => {
                self.list_at = Some(depth);
                What::List(List { flow, items: Vec::new(), end_event: node.at, end: 0..0 })
            }
        };
        let parent = self.open.last();
        self.found = Some(Found {
            event: node.at,
            span: node.span.clone(),
            what,
            properties_end: node.tag.as_ref().map(|tag| tag.end),
            before: self.before,
            in_flow: parent.is_some_and(|open| open.flow),
            is_first: parent.is_some_and(|open| matches!(open.place, Place::List { index: 0 })),
            key: parent.and_then(|open| match &open.place {
                Place::Map(map) => map.key.clone(),
                Place::List { .. } => None,
            }),
        });
    }

    /// Collects the items of the list that was found.
    fn item_of_found(&mut self, node: &Passing<'_>) {
        let direct = self.list_at.is_some_and(|depth| self.open.len() == depth + 1);
        let list = self.found.as_mut().map(|found| &mut found.what);
        if let (true, Some(What::List(list))) = (direct, list) {
            let scalar = match node.what {
                Kind::Scalar(text, style) => Some((text.to_owned(), style)),
                Kind::Map { .. } | Kind::List { .. } | Kind::Alias(_) => None,
            };
            list.items.push(Item { span: node.span.clone(), scalar });
        }
    }

    fn anchor(&mut self, id: usize, name: &str, span: &Range<usize>) {
        let Some(held) = self.held.last_mut().filter(|held| held.id == id) else { return };
        name.clone_into(&mut held.name);
        held.at = span.start;
        // The anchor follows its node in the stream but precedes it in the text.
        let Some(found) = self.found.as_mut().filter(|_| self.list_at.is_none()) else { return };
        if found.properties_end.is_none_or(|end| end < span.end) && span.start >= found.before {
            found.properties_end = Some(span.end);
        }
    }

    fn end(&mut self, at: usize, span: Range<usize>) {
        let Some(open) = self.open.pop() else { return };
        self.before = self.before.max(span.end);
        if self.list_at == Some(self.open.len()) {
            self.list_at = None;
            if let Some(What::List(list)) = self.found.as_mut().map(|found| &mut found.what) {
                list.end_event = at;
                list.end = span;
            }
        }
        if open.on_way && self.found.is_none() && self.refusal.is_none() {
            self.missed(open.place);
        }
        self.passed();
    }

    /// The pointer led into a collection but not on from there.
    fn missed(&mut self, place: Place) {
        let depth = self.open.len();
        match place {
            Place::List { .. } => self.not_found(depth, &[]),
            Place::Map(MapPlace { merge: Some(merge), .. }) => {
                let segment = self.pointer.segments().get(depth).cloned().unwrap_or_default();
                self.refuse(Refusal::ThroughMerge { line: self.line(merge.start), segment });
            }
            Place::Map(map) => self.not_found(depth, &map.others),
        }
    }

    fn not_found(&mut self, depth: usize, others: &[String]) {
        let segment = self.pointer.segments().get(depth).cloned().unwrap_or_default();
        let meant = closest(&segment, others).map(str::to_owned);
        let pointer = self.pointer.prefix(depth + 1);
        self.refuse(Refusal::NotFound { pointer, segment, meant });
    }

    fn refuse(&mut self, refusal: Refusal) {
        // A key that is given twice also makes a find doubtful that came first.
        if self.refusal.is_none() {
            self.refusal = Some(refusal);
        }
    }

    fn line(&self, byte: usize) -> usize {
        position(self.text, byte).0
    }

    fn slice(&self, span: &Range<usize>) -> String {
        self.text.get(span.clone()).unwrap_or_default().to_owned()
    }

    fn finish(self) -> Result<Found, Refusal> {
        if self.wanted >= self.documents {
            return Err(Refusal::NoSuchDocument { asked: self.wanted, documents: self.documents });
        }
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        if let Some(held) = self.held.iter().find(|held| !held.aliases.is_empty()) {
            let lines = LineIndex::new(self.text);
            let line = |&byte: &usize| lines.position(byte).0;
            let mut aliases: Vec<usize> = held.aliases.iter().map(line).collect();
            aliases.dedup();
            let anchor = held.name.clone();
            return Err(Refusal::Shared { anchor, line: line(&held.at), aliases });
        }
        let missing = || Refusal::NotFound {
            pointer: self.pointer.clone(),
            segment: self.pointer.segments().last().cloned().unwrap_or_default(),
            meant: None,
        };
        self.found.ok_or_else(missing)
    }
}

/// Most keys kept of a mapping, to find the one that was meant.
const OTHERS_MAX: usize = 1000;
