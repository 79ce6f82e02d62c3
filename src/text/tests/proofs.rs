//! The proof of an edit must see every way in which an edit can go wrong.

use crate::text::proof::{Added, Change, proves};

/// Whether `after` is `before` with the value of its first key changed to `new`.
fn replaced(before: &str, after: &str, new: &str) -> bool {
    // Events: start of stream, of document, of mapping, key, value.
    proves(before, after, &Change::Replaced { event: 4, new })
}

#[test]
fn a_right_edit_is_proved() {
    assert!(replaced("a: b # x\nc: d\n", "a: \"1.10\" # x\nc: d\n", "1.10"));
    assert!(replaced("a: &x b\n", "a: &x c\n", "c"));
    assert!(replaced("a: !!str b\n", "a: !!str 1.10\n", "1.10"));
}

#[test]
fn a_wrong_edit_is_not() {
    let wrong = [
        ("the value is another", "a: b", "a: x"),
        ("the value is a number to some", "a: b", "a: 1.10"),
        ("a key changed", "a: b", "x: \"1.10\""),
        ("an anchor went", "a: &x b", "a: \"1.10\""),
        ("an anchor came", "a: b", "a: &x \"1.10\""),
        ("a tag went", "a: !!str b", "a: \"1.10\""),
        ("a tag came", "a: b", "a: !!str \"1.10\""),
        ("a list came", "a: b", "a: [\"1.10\"]"),
        ("another value changed", "a: b\nc: d", "a: \"1.10\"\nc: e"),
        ("other quotes changed", "a: b\nc: d", "a: \"1.10\"\nc: \"d\""),
        ("another key went", "a: b\nc: d", "a: \"1.10\""),
        ("another key came", "a: b", "a: \"1.10\"\nc: d"),
        ("a document came", "a: b", "a: \"1.10\"\n---\nb"),
        ("a later document changed", "a: b\n---\nb", "a: \"1.10\"\n---\nc"),
        ("the rest is broken", "a: b\nc: d", "a: \"1.10\"\nc: ["),
        ("all of it is broken", "a: b", "["),
        ("both are broken", "a: b\nc: [", "a: \"1.10\"\nc: ["),
        ("brackets changed", "a: b\nc: [d]", "a: \"1.10\"\nc:\n- d"),
    ];
    for (why, before, after) in wrong {
        assert!(!replaced(before, after, "1.10"), "{why}");
    }
}

#[test]
fn additions_are_proved_alike() {
    let added = [Added::Text("k"), Added::ListStart, Added::Text("v"), Added::ListEnd];
    let inserted = |after: &str| {
        proves("a: b\n", after, &Change::Inserted { event: 3, removed: 0, added: &added })
    };
    assert!(inserted("k: [v]\na: b\n"));
    for wrong in [
        "k: [v, w]\na: b",
        "k: v\na: b",
        "k: [w]\na: b",
        "k: [v]\na: c",
        "k: [v]",
        "k: [&x v]\nb: c",
        "k: &x [v]\na: b",
        "k: !x [v]\na: b",
        "k: [!!str v]\na: b",
        "a: b",
    ] {
        assert!(!inserted(wrong), "{wrong}");
    }
}
