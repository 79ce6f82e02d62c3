//! Reading in the strict dialect, and how mistakes look.

use crate::text::{
    DEPTH_MAX, Diagnostic, FILE_BYTES_MAX, LineIndex, NODES_MAX, Node, PROBLEMS_MAX, Value,
    closest, parse, position, render,
};
use expect_test::{Expect, expect};
use std::fmt::Write as _;

/// Reads a text and shows the tree with its bytes, or the mistakes as a person sees them.
fn check(text: &str, want: &Expect) {
    let got = match parse("a.yaml", text.as_bytes()) {
        Ok(document) => {
            let mut out = String::new();
            show(&document.root, document.text, 0, &mut out);
            out
        }
        Err(problems) => render(&problems, |_| Some(text), false),
    };
    want.assert_eq(&got);
}

fn show(node: &Node<'_>, text: &str, depth: usize, out: &mut String) {
    let pad = "  ".repeat(depth);
    let raw = &text[node.span.clone()];
    match &node.value {
        Value::Scalar(scalar) => {
            writeln!(out, "{pad}{:?} {:?} from {raw:?}", scalar.style, scalar.text).unwrap();
        }
        Value::Seq(items) => {
            writeln!(out, "{pad}list {raw:?}").unwrap();
            for item in items {
                show(item, text, depth + 1, out);
            }
        }
        Value::Map(entries) => {
            writeln!(out, "{pad}map {raw:?}").unwrap();
            for entry in entries {
                assert!(entry.key.span.end <= entry.value.span.start);
                writeln!(out, "{pad}  {}:", entry.key.text).unwrap();
                show(&entry.value, text, depth + 2, out);
            }
        }
    }
}

/// Gives the codes of all mistakes in a text.
fn codes(text: &str) -> Vec<&'static str> {
    match parse("a.yaml", text.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(|problem| problem.code).collect(),
    }
}

#[test]
fn a_tree_has_spans() {
    check(
        "\u{feff}# c\r\na: 'x'\r\nb:\r\n  - {c: d, e: } # f\r\n  - >\r\n    g\r\n\r\nh: # none\r\n",
        &expect![[r#"
            map "a: 'x'\r\nb:\r\n  - {c: d, e: } # f\r\n  - >\r\n    g\r\n\r\nh"
              a:
                SingleQuoted "x" from "'x'"
              b:
                list "- {c: d, e: } # f\r\n  - >\r\n    g"
                  map "{c: d, e: }"
                    c:
                      Plain "d" from "d"
                    e:
                      Plain "" from ""
                  Folded "g\n" from "g"
              h:
                Plain "" from ""
        "#]],
    );
}

#[test]
fn every_mistake_is_reported() {
    check(
        "a: &x 1\nb: *x\na: !!str 2\nc:\n  <<: *y\n  \"d\": 1\n  d: 2\n[e]: f\n---\ng: h\n",
        &expect![[r#"
            error[anchor]: anchor `&x` is not allowed
             --> a.yaml:1:4
              |
            1 | a: &x 1
              |    ^^
              |
              = help: write the value out where it is needed; Towpath reads no aliases

            error[alias]: alias `*x` is not allowed
             --> a.yaml:2:4
              |
            2 | b: *x
              |    ^^
              |
              = help: write the value out here

            error[duplicate-key]: key `a` is given twice
             --> a.yaml:3:1
              |
            1 | a: &x 1
              | - first given here
            2 | b: *x
            3 | a: !!str 2
              | ^
              |
              = help: remove one of the two; readers differ in which one counts

            error[tag]: tag `!!str` is not allowed
             --> a.yaml:3:4
              |
            3 | a: !!str 2
              |    ^^^^^
              |
              = help: remove it; quote the value if it is to be a string

            error[merge-key]: merge key `<<` is not allowed
             --> a.yaml:5:3
              |
            5 |   <<: *y
              |   ^^
              |
              = help: write the merged keys out here

            error[alias]: alias `*y` is not allowed
             --> a.yaml:5:7
              |
            5 |   <<: *y
              |       ^^
              |
              = help: write the value out here

            error[duplicate-key]: key `d` is given twice
             --> a.yaml:7:3
              |
            6 |   "d": 1
              |   --- first given here
            7 |   d: 2
              |   ^
              |
              = help: remove one of the two; readers differ in which one counts

            error[key]: a list cannot be a key
             --> a.yaml:8:1
              |
            8 | [e]: f
              | ^^^
              |
              = help: keys are words; if this was meant as text, quote it

            error[many-documents]: a second document starts here
             --> a.yaml:9:1
              |
            9 | ---
              | ^^^
              |
              = help: put the second document into a file of its own
        "#]],
    );
}

#[test]
fn a_tab_is_named() {
    check(
        "a:\n\tb: 1\n",
        &expect![[r"
            error[tab]: a tab is used for indentation
             --> a.yaml:2:1
              |
            2 |     b: 1
              | ^^^^
              |
              = help: YAML is indented with spaces only
        "]],
    );
    assert_eq!(codes("a:\n  b: 1\n\tc: 2\n"), ["tab"]);
    assert_eq!(codes("a:\n \tb: 1\n"), ["tab"]);
    assert_eq!(codes("a:\n- b: 1\n\t- c: d"), ["tab"]);
    assert_eq!(codes("a: b\t# c\n"), [""; 0]);
}

#[test]
fn nothing_is_empty() {
    for text in ["", "\u{feff}", "# c\n", "\n\n", "---\n", "--- # c\n...\n"] {
        assert_eq!(codes(text), ["empty"], "{text:?}");
    }
    assert_eq!(codes("''"), [""; 0]);
}

#[test]
fn broken_text_is_a_mistake() {
    check(
        "a: [b, c\nd: e\n",
        &expect![[r"
            error[syntax]: illegal placement of ':' indicator
             --> a.yaml:2:2
              |
            2 | d: e
              |  ^
              |
              = help: look at this line and the one above it
        "]],
    );
    check(
        "a: \"b\\q\"\n",
        &expect![[r#"
            error[syntax]: while parsing a quoted scalar, found unknown escape character
             --> a.yaml:1:4
              |
            1 | a: "b\q"
              |    ^
              |
              = help: write `\\` for a backslash, or use single quotes, which know no escapes
        "#]],
    );
    assert_eq!(codes("a: b: c"), ["syntax"]);
    assert_eq!(codes("a: @b"), ["syntax"]);
    assert_eq!(codes(": a"), ["key"]);
    assert_eq!(codes("%YAML 1.1\n---\na: on"), ["directive"]);
    let problems = parse("a.yaml", b"a: \xff").unwrap_err();
    assert_eq!((problems[0].code, problems[0].span.clone()), ("not-utf8", Some(3..3)));
}

#[test]
fn hostile_text_does_not_reach_the_terminal() {
    let problem = Diagnostic::error("\u{1b}[2Jx.yaml", "syntax", "bad \u{1b}[31m\nvalue").at(5..9);
    let text = "a: \u{1b}[0m\u{9b}31m\u{202e}\n";
    let shown = render(&[problem.hint("\u{7}")], |_| Some(text), false);
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'), "{shown:?}");
    expect![[r"
        error[syntax]: bad \u{1b}[31m\nvalue
         --> \u{1b}[2Jx.yaml:1:11
          |
        1 | a: \u{1b}[0m\u{9b}31m\u{202e}
          |           ^^^^^^^^
          |
          = help: \u{7}
    "]]
    .assert_eq(&shown);
    let coloured = render(&parse("a.yaml", b"a: *b").unwrap_err(), |_| Some("a: *b"), true);
    assert!(coloured.contains("\u{1b}["));
}

#[test]
fn rendering_survives_any_place() {
    let text = "a: é\nb: 日本\r\n";
    for start in 0..text.len() + 3 {
        for end in 0..text.len() + 3 {
            let problem =
                Diagnostic::warning("a.yaml", "x", "y").at(start..end).related("z", end..start);
            assert!(
                render(std::slice::from_ref(&problem), |_| Some(text), false).contains("warning")
            );
            assert!(render(&[problem], |_| None, false).contains("a.yaml"));
        }
    }
}

#[test]
fn positions_count_characters() {
    let text = "\u{feff}aé\r\n日b";
    for (byte, want) in [
        (0, (1, 1)),
        (3, (1, 1)),
        (4, (1, 2)),
        (5, (1, 2)),
        (6, (1, 3)),
        (8, (2, 1)),
        (11, (2, 2)),
        (99, (2, 3)),
    ] {
        assert_eq!(position(text, byte), want, "{byte}");
        assert_eq!(LineIndex::new(text).position(byte), want, "{byte}");
    }
}

#[test]
fn misspelt_words_are_guessed() {
    let known = ["freeze_until", "targets", "ref", "promote"];
    assert_eq!(closest("freez_until", &known), Some("freeze_until"));
    assert_eq!(closest("tragets", &known), Some("targets"));
    assert_eq!(closest("rf", &known), Some("ref"));
    assert_eq!(closest("artifacts", &known), None);
    assert_eq!(closest("x", &["y"]), None);
    assert_eq!(closest("", &known), None);
    assert_eq!(closest(&"x".repeat(1000), &known), None);
}

#[test]
fn limits_hold() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(codes(&nested(DEPTH_MAX)), [""; 0]);
    assert_eq!(codes(&nested(DEPTH_MAX + 1)), ["too-deep"]);
    assert_eq!(codes(&format!("{}[[b]]", "- ".repeat(DEPTH_MAX - 2))), [""; 0]);
    assert_eq!(codes(&format!("{}[[b]]", "- ".repeat(DEPTH_MAX - 1))), ["too-deep"]);
    assert_eq!(codes(&" ".repeat(FILE_BYTES_MAX + 1)), ["too-large"]);
    assert_eq!(codes(&"-\n".repeat(NODES_MAX - 1)), [""; 0]);
    assert_eq!(codes(&"-\n".repeat(NODES_MAX)), ["too-many-values"]);
    let twice = parse("a.yaml", "a: b\n".repeat(1000).as_bytes()).unwrap_err();
    assert_eq!(twice.len(), PROBLEMS_MAX + 1);
    assert_eq!(twice[PROBLEMS_MAX].message, format!("and {} more mistakes", 999 - PROBLEMS_MAX));
}

#[test]
fn bombs_are_refused() {
    let pieces = [
        "[",
        "{",
        "{a: ",
        "- ",
        "? ",
        "- - - -\n",
        "a: ",
        "&a ",
        "*a ",
        "!a ",
        "'a",
        "\"a",
        "{: ",
        "[? ",
        "%A\n",
        "---\n",
        "- &a\n",
        "a: &a b\n",
        "!<a> ",
        "\"\":",
        "{\"\":{",
        "- ?\n",
        "a:\n",
        "\t",
        ": ",
        "&a [",
        "*a : ",
        "? - ",
    ];
    for piece in pieces {
        let bomb = piece.repeat(FILE_BYTES_MAX / piece.len());
        assert!(!codes(&bomb).is_empty(), "{piece:?}");
    }
    let laughs = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n";
    assert_eq!(
        codes(laughs),
        ["anchor", "anchor", "alias", "alias", "anchor", "alias", "alias", "alias", "alias"]
    );
    assert_eq!(codes(&format!("a: {}", "x".repeat(FILE_BYTES_MAX - 3))), [""; 0]);
}
