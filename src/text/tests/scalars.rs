//! Which plain scalars are ambiguous, and how strings are written.

use crate::text::{Ambiguity, Style, ambiguity, encode};

#[test]
fn ambiguous_scalars_are_known() {
    let taken = [
        (Ambiguity::Null, " ~ null Null NULL"),
        (Ambiguity::Boolean, "true FALSE yes No on Off y N tRuE"),
        (
            Ambiguity::Number,
            "0 1 -1 +1 0777 0o17 0O17 0xFF -0x1 0b101 0b1_0 1_000 1,234 1:30 1:30.5 190:20:30 -1:30 00:11:22:33:44:55",
        ),
        (
            Ambiguity::Number,
            "1.10 1. .5 -.5 +1.5 1_0.0 1e10 1E-10 1.5e+3 .5e3 1._0 ._ 123e4567 .inf -.INF +.Inf .nan .NaN",
        ),
        (
            Ambiguity::Number,
            "0123456789012345678901234567890123456789 1234567890123456789012345678901234567e89",
        ),
        (Ambiguity::Date, "2024-01-01 2024-1-1 2024-01-01T10:00:00Z 2024-01-01t1:00:00+02:00"),
        (Ambiguity::Special, "= <<"),
        (Ambiguity::Symbol, ":word"),
    ];
    for (want, words) in taken {
        for word in words.split(' ') {
            assert_eq!(ambiguity(word), Some(want), "{word:?}");
        }
    }
    assert_eq!(ambiguity("2024-01-01 10:00:00"), Some(Ambiguity::Date));
    assert_eq!(ambiguity("1.10").map(|a| a.to_string()).as_deref(), Some("a number"));
}

#[test]
fn strings_are_left_alone() {
    let clear = "1.4.2 v1 1.2.3-rc1 abc yess nope oni true1 nullx e5 1e 1e+ 0x 0xZZ 0b2z . .. - + a:b \
        2024-01-01-rc1 2024-001-01 24-01-01 2024-01 deadbeef 12ab34 1.2.3e4 10.0.0.1:80 v2024-01-01 ~x x=y \
        a1b2c3d4e5f60718293a4b5c6d7e8f9012345678 1:a 1: .x 1+1 --1 infinity nan main release/17.2";
    for word in clear.split_whitespace() {
        assert_eq!(ambiguity(word), None, "{word:?}");
    }
}

#[test]
fn strings_are_written_in_their_style() {
    let all = |value: &str, in_flow: bool| {
        [Style::Plain, Style::SingleQuoted, Style::DoubleQuoted].map(|s| encode(value, s, in_flow))
    };
    assert_eq!(all("v1", false), ["v1", "'v1'", "\"v1\""]);
    assert_eq!(all("1.10", false), ["\"1.10\"", "'1.10'", "\"1.10\""]);
    assert_eq!(all("it's", false), ["it's", "'it''s'", "\"it's\""]);
    assert_eq!(all("#\\", false), ["'#\\'", "'#\\'", "\"#\\\\\""]);
    assert_eq!(all("a\u{7}\u{85}", false), ["\"a\\u0007\\u0085\""; 3]);
    assert_eq!(all("a\tb", false), ["\"a\\tb\""; 3]);
    assert_eq!(all("a:b", false)[0], "a:b");
    assert_eq!(all("a:b", true)[0], "\"a:b\"");
    let needy = "a #b|a: b|a:| a|a |#|- a|? a|[a|{a|&a|*a|!a|'a|%a|@a|`a|...|---|,a|]|}|>a||";
    for value in needy.split('|').chain(["|a", "\"a"]) {
        assert!(encode(value, Style::Plain, false).starts_with(['"', '\'']), "{value:?}");
    }
    for value in ["a,b", "a]", "a[", "a{", "a}", "a?", "a:b"] {
        assert_eq!(encode(value, Style::Plain, false), value);
        assert_eq!(encode(value, Style::Plain, true), format!("\"{value}\""));
    }
    assert_eq!(encode("v1", Style::Folded, false), "v1");
}
