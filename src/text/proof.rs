//! Proves an edit: reads the file before and after and compares everything the parser sees, in all
//! documents: structure, keys, values, styles, tags, anchors and aliases. Knows nothing of how the
//! edit was made.

use super::find::events;
use super::scalar::ambiguity;
use granit_parser::{Event, ScalarStyle};

/// The one difference that is allowed.
pub(super) enum Change<'c> {
    /// The scalar that is this event of the stream becomes this string.
    Replaced { event: usize, new: &'c str },
    /// Before this event of the stream stand these new ones, in place of `removed` old ones.
    Inserted { event: usize, removed: usize, added: &'c [Added<'c>] },
}

/// An event that an edit adds.
pub(super) enum Added<'c> {
    /// A string.
    Text(&'c str),
    /// The start of a list in brackets.
    ListStart,
    /// The end of a list.
    ListEnd,
}

/// Says whether `after` differs from `before` by this change and by nothing else.
pub(super) fn proves(before: &str, after: &str, change: &Change<'_>) -> bool {
    let mut old = events(before);
    let mut new = events(after);
    let mut next_old = || old.next().and_then(Result::ok).map(|(event, _)| event);
    let mut next_new = || new.next().and_then(Result::ok).map(|(event, _)| event);
    let at = match change {
        Change::Replaced { event, .. } | Change::Inserted { event, .. } => *event,
    };
    for _ in 0..at {
        if !next_old().is_some_and(|event| next_new() == Some(event)) {
            return false;
        }
    }
    let changed = match change {
        Change::Replaced { new, .. } => match (next_old(), next_new()) {
            (Some(old), Some(event)) => {
                is_string(&event, new)
                    && old.scalar().is_some()
                    && event.anchor_id() == old.anchor_id()
                    && event.tag() == old.tag()
            }
            _ => false,
        },
        Change::Inserted { removed, added, .. } => {
            (0..*removed).all(|_| next_old().is_some())
                && added.iter().all(|added| next_new().is_some_and(|event| is(&event, added)))
        }
    };
    if !changed {
        return false;
    }
    // Both must end, and with the end of the stream rather than with an error.
    loop {
        match (next_old(), next_new()) {
            (Some(Event::StreamEnd), Some(Event::StreamEnd)) => return true,
            (Some(old), Some(new)) if old == new => {}
            _ => return false,
        }
    }
}

fn is(event: &Event<'_>, added: &Added<'_>) -> bool {
    match added {
        Added::Text(text) => is_string(event, text) && event.tag().is_none(),
        Added::ListStart => matches!(event, Event::SequenceStart(_, 0, None)),
        Added::ListEnd => matches!(event, Event::SequenceEnd),
    }
}

/// Whether every reader takes this event for this very string.
fn is_string(event: &Event<'_>, text: &str) -> bool {
    let tagged = event.tag().is_some();
    event.scalar().is_some_and(|(value, style)| {
        value == text && (style != ScalarStyle::Plain || tagged || ambiguity(value).is_none())
    })
}
