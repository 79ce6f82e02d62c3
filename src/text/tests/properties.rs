//! Properties over random texts: edits are exact, strings survive, nothing panics.

use crate::text::{
    Pointer, Style, Value, ambiguity, edit, encode, insert_into_list, parse, render, replace,
};
use proptest::prelude::*;

/// A random document as text with one value marked, and the way to that value.
#[derive(Clone, Debug)]
struct Marked {
    before: String,
    old: String,
    behind: String,
    pointer: Pointer,
    in_flow: bool,
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9.]{0,8}",
        "[0-9]\\.[0-9]{1,2}(\\.[0-9])?",
        "'[a-z :#\"]{0,6}'",
        "\"[a-z :#']{0,6}(\\\\n|\\\\u00e9)?\"",
        Just("~".to_owned()),
        Just("日本".to_owned()),
        Just("!!str 7".to_owned()),
    ]
}

fn style_of_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("\n"), Just(" # c: [d\n"), Just("  \n\n"), Just("\n# é\n"), Just("\r\n")]
}

/// One level: a list or a mapping, in lines or in brackets, with the marked node among others.
#[derive(Clone, Debug)]
struct Level {
    list: bool,
    others: Vec<(String, String, &'static str)>,
    at: usize,
}

fn level() -> impl Strategy<Value = Level> {
    let other = ("[a-z]{2,5}", scalar(), style_of_end());
    (any::<bool>(), prop::collection::vec(other, 0..4), any::<prop::sample::Index>())
        .prop_map(|(list, others, at)| Level { list, at: at.index(others.len() + 1), others })
}

fn marked() -> impl Strategy<Value = Marked> {
    let old = prop_oneof![
        scalar().prop_filter("no tag on what is replaced", |s| !s.starts_with('!')),
        Just("|\nBLOCK".to_owned()),
    ];
    (prop::collection::vec(level(), 1..5), 0..5usize, old, style_of_end()).prop_map(
        |(levels, flow_from, old, end)| {
            // What follows a block on its last line would be part of it.
            let end = if old.starts_with('|') { "\n" } else { end };
            write(&levels, flow_from, &old, end)
        },
    )
}

fn write(levels: &[Level], flow_from: usize, old: &str, end: &'static str) -> Marked {
    let (mut before, mut behind, mut segments) = (String::new(), String::new(), Vec::new());
    for (depth, level) in levels.iter().enumerate() {
        let pad = "  ".repeat(depth);
        let flow = depth >= flow_from;
        let inner = depth + 1 < levels.len() && depth + 1 < flow_from;
        let mut tail = String::new();
        if flow {
            before.push_str(if level.list { "[" } else { "{" });
        }
        for (at, (key, value, end)) in level.others.iter().enumerate() {
            let entry = match (flow, level.list) {
                (true, true) => format!("{value}, "),
                (true, false) => format!("{key}{at}: {value}, "),
                (false, true) => format!("{pad}- {value}{end}"),
                (false, false) => format!("{pad}{key}{at}: {value}{end}"),
            };
            let place = if at < level.at { &mut before } else { &mut tail };
            place.push_str(&entry);
        }
        let key = format!("k{depth}");
        if !flow {
            before.push_str(&pad);
        }
        let opening = match (level.list, flow) {
            (true, true) => String::new(),
            (true, false) => "- ".to_owned(),
            (false, _) => format!("{key}: "),
        };
        before.push_str(&opening);
        if inner {
            before.truncate(before.trim_end().len());
            before.push('\n');
        }
        segments.push(if level.list { level.at.to_string() } else { key });
        let close = match (flow, level.list) {
            (true, true) => format!(", {tail}]"),
            (true, false) => format!(", {tail}}}"),
            (false, _) => tail,
        };
        let line = if !flow && depth + 1 >= flow_from.min(levels.len()) { end } else { "" };
        behind = format!("{line}{close}{behind}");
        if flow && depth == 0 {
            behind.push_str(end);
        }
    }
    let in_flow = levels.len() > flow_from;
    let old = if in_flow && old.starts_with('|') { "x" } else { old };
    let indented = format!("{}b # c", "  ".repeat(levels.len() + 1));
    let old = old.replace("BLOCK", &indented);
    Marked { before, old, behind, pointer: Pointer::new(segments), in_flow }
}

/// Follows a pointer in a tree.
fn at<'n>(root: &'n crate::text::Node<'n>, pointer: &Pointer) -> Option<&'n str> {
    let mut node = root;
    for segment in pointer.segments() {
        node = match &node.value {
            Value::Map(entries) => &entries.iter().find(|entry| entry.key.text == *segment)?.value,
            Value::Seq(items) => items.get(segment.parse::<usize>().ok()?)?,
            Value::Scalar(_) => return None,
        };
    }
    match &node.value {
        Value::Scalar(scalar) => Some(&scalar.text),
        Value::Map(_) | Value::Seq(_) => None,
    }
}

fn new_value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9]\\.[0-9]{1,2}\\.[0-9]{1,3}",
        "[a-z0-9.:/@ #'\"\\\\,\\[\\]{}-]{0,12}",
        "\\PC{0,8}",
        any::<String>(),
        Just("yes".to_owned()),
    ]
}

/// A value as it is, or read from a text around it.
fn read_back(written: &str, in_flow: bool) -> Option<(String, Style)> {
    let text =
        if in_flow { format!("[{written}, x]") } else { format!("a: {written} # c\nb: c\n") };
    let document = parse("a.yaml", text.as_bytes()).ok()?;
    let node = match &document.root.value {
        Value::Map(entries) => &entries.first()?.value,
        Value::Seq(items) => items.first()?,
        Value::Scalar(_) => return None,
    };
    match &node.value {
        Value::Scalar(scalar) => Some((scalar.text.clone().into_owned(), scalar.style)),
        Value::Map(_) | Value::Seq(_) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn an_edit_is_exact(marked in marked(), new in new_value()) {
        let Marked { before, old, behind, pointer, in_flow } = marked;
        let text = [before.as_str(), &old, &behind].concat();
        let edited = replace(text.as_bytes(), 0, &pointer, &new);
        let edited = edited.map_err(|refusal| TestCaseError::fail(format!("{refusal} in {text:?}")))?;
        let edited = String::from_utf8(edited).unwrap();
        prop_assert!(edited.starts_with(&before) && edited.ends_with(&behind), "{:?}", edited);
        // Tags are refused by the strict reader, and not what this is about.
        let plain = edited.replace("!!str 7", "7");
        let document = parse("a.yaml", plain.as_bytes()).map_err(|e| TestCaseError::fail(format!("{e:?}")))?;
        prop_assert_eq!(at(&document.root, &pointer), Some(new.as_str()));
        prop_assert_eq!(replace(edited.as_bytes(), 0, &pointer, &new), Ok(edited.clone().into_bytes()));
        prop_assert!(in_flow || edited.lines().count() <= text.lines().count());
    }

    #[test]
    fn a_written_string_reads_back(value in new_value(), style in 0..5usize, in_flow: bool) {
        let styles = [Style::Plain, Style::SingleQuoted, Style::DoubleQuoted, Style::Literal, Style::Folded];
        let written = encode(&value, styles[style], in_flow);
        let (read, style) = read_back(&written, in_flow).ok_or(TestCaseError::fail(written.clone()))?;
        prop_assert_eq!(&read, &value);
        prop_assert!(style != Style::Plain || ambiguity(&read).is_none());
        prop_assert!(!written.chars().any(char::is_control));
    }

    #[test]
    fn nothing_panics_on_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), new in any::<String>()) {
        anything(&bytes, &new);
    }

    #[test]
    fn nothing_panics_on_signs(text in "([-?:,\\[\\]{}#&*!|>'\"% @~\n\r\ta<é\u{feff}]|: |- |a: |\n  ){0,60}", new in new_value()) {
        anything(text.as_bytes(), &new);
    }

    #[test]
    fn nothing_panics_on_mutations(
        marked in marked(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4usize), 1..4),
    ) {
        let mut bytes = [marked.before, marked.old, marked.behind].concat().into_bytes();
        for (at, byte, how) in cuts {
            let at = at.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match how {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, b"-?:,[]{}#&*!|>'\"\n\r\t "[usize::from(byte) % 20]),
                2 if !bytes.is_empty() => drop(bytes.remove(at)),
                _ if !bytes.is_empty() => bytes[at] = byte,
                _ => {}
            }
        }
        if let Ok(edited) = replace(&bytes, 0, &marked.pointer, "x1") {
            prop_assert!(replace(&edited, 0, &marked.pointer, "x1") == Ok(edited));
        }
        anything(&bytes, "1.10");
    }
}

/// Does everything that can be done with a text.
fn anything(bytes: &[u8], new: &str) {
    let shown = std::str::from_utf8(bytes).ok();
    if let Err(problems) = parse("a.yaml", bytes) {
        assert!(!problems.is_empty());
        render(&problems, |_| shown, false);
    }
    for pointer in ["", "/a", "/0", "/a/0", "/0/a", "/~0", "/"] {
        let pointer: Pointer = pointer.parse().unwrap();
        for file in ["a.yaml", "a.json", "a.toml"] {
            if let Err(refusal) = edit(file, bytes, 0, &pointer, new) {
                assert!(!refusal.to_string().chars().any(char::is_control), "{refusal:?}");
            }
        }
        let _ = insert_into_list(bytes, 0, &pointer, "a", new);
    }
}
