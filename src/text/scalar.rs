//! Strings as YAML scalars: which plain ones some reader takes for something else, and how to
//! write one so that none does.
//!
//! Invariant: too many quotes are harmless, too few deploy the wrong version. Every rule here errs
//! on the side of the quote. The union of YAML 1.1, 1.2 and what `PyYAML`, Psych, go-yaml and
//! js-yaml really do is what counts.

use super::diagnostic::hostile;
use super::tree::Style;
use std::fmt::{self, Write as _};

/// What a plain scalar could be taken for instead of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ambiguity {
    /// Nothing, `~`, `null`.
    Null,
    /// `true`, `no`, `On`, `y` and their like.
    Boolean,
    /// Decimal, octal, hexadecimal, binary, base 60, with exponent, with underscores, infinite.
    Number,
    /// A day or a point in time.
    Date,
    /// `=` and `<<`, which YAML 1.1 gives a meaning.
    Special,
    /// `:word`, which Ruby reads as a symbol.
    Symbol,
}

impl fmt::Display for Ambiguity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::Date => "a date",
            Self::Special => "a YAML instruction",
            Self::Symbol => "a symbol",
        })
    }
}

/// Says whether some YAML reader could take an unquoted scalar for something else than a string.
pub fn ambiguity(plain: &str) -> Option<Ambiguity> {
    const BOOLEANS: [&str; 8] = ["true", "false", "yes", "no", "on", "off", "y", "n"];
    let is = |word: &&str| plain.eq_ignore_ascii_case(word);
    if plain.is_empty() || plain == "~" || is(&"null") {
        Some(Ambiguity::Null)
    } else if BOOLEANS.iter().any(is) {
        Some(Ambiguity::Boolean)
    } else if plain == "=" || plain == "<<" {
        Some(Ambiguity::Special)
    } else if is_date(plain) {
        Some(Ambiguity::Date)
    } else if is_number(plain) {
        Some(Ambiguity::Number)
    } else if plain.starts_with(':') {
        Some(Ambiguity::Symbol)
    } else {
        None
    }
}

fn is_number(plain: &str) -> bool {
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(plain);
    if [".inf", ".nan"].iter().any(|word| unsigned.eq_ignore_ascii_case(word)) {
        return true;
    }
    if let Some(digits) = unsigned.strip_prefix('0').and_then(|rest| {
        rest.strip_prefix(['x', 'X', 'o', 'O', 'b', 'B']).filter(|digits| !digits.is_empty())
    }) {
        return digits.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'_' | b'.'));
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    if let Some(exponent) = exponent {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        return is_digits(digits) && is_mantissa(mantissa);
    }
    match mantissa.rsplit_once(':') {
        Some((first, last)) => first.split(':').all(is_digits) && is_mantissa(last),
        None => is_mantissa(mantissa),
    }
}

/// Digits, which may be grouped by underscores or (in Ruby) by commas.
fn is_digits(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || c == '_')
        && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'_' | b','))
        && text.bytes().any(|b| b.is_ascii_digit())
}

/// Digits with at most one point somewhere; `1.`, `.5` and even `._` count, a lone point does not.
fn is_mantissa(text: &str) -> bool {
    match text.split_once('.') {
        None => is_digits(text),
        Some((whole, part)) => {
            let grouped = |digits: &str| {
                digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'_' | b','))
            };
            grouped(whole) && grouped(part) && !(whole.is_empty() && part.is_empty())
        }
    }
}

/// `2024-01-31`, `2024-1-31`, and anything after it that starts like a time of day.
fn is_date(plain: &str) -> bool {
    let mut rest = plain.as_bytes();
    for (least, most, separator) in [(4, 4, b"-"), (1, 2, b"-")] {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let Some(after) = rest.get(digits..).and_then(|rest| rest.strip_prefix(separator)) else {
            return false;
        };
        if digits < least || digits > most {
            return false;
        }
        rest = after;
    }
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let after = rest.get(digits..).unwrap_or_default();
    let time = after.iter().position(|b| !matches!(b, b'T' | b't' | b' ' | b'\t'));
    (1..=2).contains(&digits)
        && match time {
            None => true,
            Some(0) => false,
            Some(at) => after.get(at).is_some_and(u8::is_ascii_digit),
        }
}

/// Writes a string as a YAML scalar, in the given style if that is safe.
///
/// A plain scalar stays plain only if it is neither ambiguous nor in need of quotes; a block style
/// counts as plain. Control characters force double quotes. The result is one line, and if it is
/// double-quoted it is valid JSON too.
pub fn encode(value: &str, style: Style, in_flow: bool) -> String {
    let printable = !value.chars().any(needs_escape);
    match style {
        Style::SingleQuoted if printable => format!("'{}'", value.replace('\'', "''")),
        Style::Plain | Style::Literal | Style::Folded
            if printable && is_plain(value, in_flow) && ambiguity(value).is_none() =>
        {
            value.to_owned()
        }
        Style::Plain | Style::Literal | Style::Folded
            if printable && value.contains(['"', '\\']) =>
        {
            format!("'{}'", value.replace('\'', "''"))
        }
        Style::Plain
        | Style::SingleQuoted
        | Style::DoubleQuoted
        | Style::Literal
        | Style::Folded => double_quoted(value),
    }
}

fn needs_escape(c: char) -> bool {
    hostile(c) || matches!(c, '\u{fffe}' | '\u{ffff}')
}

/// Whether a printable string reads back as itself without quotes.
fn is_plain(value: &str, in_flow: bool) -> bool {
    const INDICATORS: &str = "-?:,[]{}#&*!|>'\"%@`";
    let quoted = value.is_empty()
        || value.trim() != value
        || value.starts_with(|c| INDICATORS.contains(c))
        || value.starts_with("...")
        || value.ends_with(':')
        || value.contains(": ")
        || value.contains(" #")
        || (in_flow && value.contains([',', '[', ']', '{', '}', '?', ':']));
    !quoted
}

fn double_quoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // All of these are below U+10000, so that four digits are enough, in JSON as well.
            c if needs_escape(c) => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
