//! Additions to a list at the top of a file.

use crate::text::{Pointer, insert_into_list};
use expect_test::{Expect, expect};

/// Adds `value` to /blocked, above `targets` if it is missing, and again, which changes nothing.
fn check(text: &str, value: &str, want: &Expect) {
    let pointer = Pointer::new(["blocked"]);
    let got = match insert_into_list(text.as_bytes(), 0, &pointer, "targets", value) {
        Ok(once) => {
            let twice = insert_into_list(&once, 0, &pointer, "targets", value);
            assert_eq!(twice.as_ref(), Ok(&once));
            String::from_utf8(once).unwrap().replace('\r', "␍")
        }
        Err(refusal) => refusal.to_string(),
    };
    want.assert_eq(&got);
}

#[test]
fn into_a_list_in_brackets() {
    check(
        "blocked: [1.4.1]  # bad\ntargets: {}\n",
        "1.4.2",
        &expect![[r"
        blocked: [1.4.1, 1.4.2]  # bad
        targets: {}
    "]],
    );
    check(
        "blocked: ['1.4.1', ]\ntargets: {}\n",
        "1.10",
        &expect![[r"
        blocked: ['1.4.1', '1.10', ]
        targets: {}
    "]],
    );
    check("blocked: []", "1.10", &expect![[r#"blocked: ["1.10"]"#]]);
    check(
        "blocked: [\n  a, # first\n  b # last\n]\r\n",
        "c:d",
        &expect![[r#"
        blocked: [
          a, # first
          b, "c:d" # last
        ]␍
    "#]],
    );
}

#[test]
fn into_a_list_of_lines() {
    check(
        "blocked:\n  - 1.4.1 # bad\n\n# t\ntargets: {}\n",
        "1.4.2",
        &expect![[r"
        blocked:
          - 1.4.1 # bad
          - 1.4.2

        # t
        targets: {}
    "]],
    );
    check(
        "blocked:\r\n-   \"a\"\r\ntargets: {}\r\n",
        "b",
        &expect![[r#"
        blocked:␍
        -   "a"␍
        -   "b"␍
        targets: {}␍
    "#]],
    );
    check(
        "blocked:\n- a",
        "b",
        &expect![[r"
        blocked:
        - a
        - b"]],
    );
}

#[test]
fn into_a_list_that_is_not_there() {
    check(
        "service: shop\n\n# where\n# it runs\ntargets: {}\n",
        "1.4.2",
        &expect![[r"
        service: shop

        blocked: [1.4.2]
        # where
        # it runs
        targets: {}
    "]],
    );
    check(
        "\u{feff}# head\r\ntargets: {}",
        "1.4.2",
        &expect![[r"
        ﻿# head␍
        blocked: [1.4.2]␍
        targets: {}"]],
    );
    check(
        "\u{feff}targets: {}",
        "1.4.2",
        &expect![[r"
        ﻿blocked: [1.4.2]
        targets: {}"]],
    );
    check(
        "notes: |\n  # text\n# c\ntargets: {}\n",
        "1e5",
        &expect![[r#"
            notes: |
              # text
            blocked: ["1e5"]
            # c
            targets: {}
        "#]],
    );
    check(
        "blocked:  # none\ntargets: {}\n",
        "1.4.2",
        &expect![[r"
        blocked: [1.4.2]  # none
        targets: {}
    "]],
    );
    check(
        "blocked: null # none\ntargets: {}\n",
        "1.4.2",
        &expect![[r"
        blocked: [1.4.2] # none
        targets: {}
    "]],
    );
}

#[test]
fn what_is_unclear_is_refused() {
    check("a: b\n", "1.4.2", &expect!["nothing at /targets: no `targets`"]);
    check(
        "{targets: {}}\n",
        "1.4.2",
        &expect!["line 1: cannot change this and be sure that nothing else changes"],
    );
    check(
        "? targets\n: {}\n",
        "1.4.2",
        &expect!["line 2: cannot change this and be sure that nothing else changes"],
    );
    check("blocked: 1.4.1\n", "1.4.2", &expect!["line 1: a single value stands there, not a list"]);
    check("blocked: {a: b}\n", "1.4.2", &expect!["line 1: a mapping stands there, not a list"]);
    check(
        "blocked: [{a: b}]\n",
        "1.4.2",
        &expect!["line 1: cannot change this and be sure that nothing else changes"],
    );
    check(
        "blocked:\n- |\n  a\n",
        "1.4.2",
        &expect!["line 2: cannot change this and be sure that nothing else changes"],
    );
    check(
        "blocked: &b [a]\nx: *b\n",
        "1.4.2",
        &expect!["line 1: `&b` is used again on line 2, which would change too"],
    );
    check(
        "a: &b {c: d}\n<<: *b\ntargets: {}\n",
        "1.4.2",
        &expect!["line 2: `blocked` is not there itself, but a merge key `<<` may bring it"],
    );
}
