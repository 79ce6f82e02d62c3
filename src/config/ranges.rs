//! Ranges of node names: `web-[01..40]` stands for `web-01` to `web-40`.
//!
//! One range a name, whole numbers, inclusive. Zeros in front are kept: both bounds have the same
//! number of digits, or neither begins with a zero.

use crate::model::NodeName;

/// Most nodes of one environment. A range is written in ten characters; this bounds what they cost.
pub(super) const NODES_MAX: usize = 10_000;

/// The nodes that one entry of `nodes` stands for, or why it stands for none.
pub(super) fn expand(text: &str) -> Result<Vec<NodeName>, String> {
    let name = |text: &str| NodeName::parse(text).map_err(|bad| bad.to_string());
    let Some((before, rest)) = text.split_once('[') else {
        return Ok(vec![name(text)?]);
    };
    let Some((range, after)) = rest.split_once(']') else {
        return Err("the range has no `]`".to_owned());
    };
    if after.contains('[') {
        return Err("only one range is possible in a name".to_owned());
    }
    let Some((first, last)) = range.split_once("..") else {
        return Err(format!("`[{range}]` is no range"));
    };
    let (low, high) = (number(first)?, number(last)?);
    if low > high {
        return Err(format!("the range goes backwards, from {first} to {last}"));
    }
    let padded = [first, last].iter().any(|it| it.len() > 1 && it.starts_with('0'));
    if padded && first.len() != last.len() {
        return Err(format!("`{first}` and `{last}` differ in their number of digits"));
    }
    let many = high - low + 1;
    if many > NODES_MAX {
        return Err(format!("the range has {many} nodes, at most {NODES_MAX} are possible"));
    }
    let width = if padded { first.len() } else { 0 };
    (low..=high).map(|at| name(&format!("{before}{at:0width$}{after}"))).collect()
}

fn number(digits: &str) -> Result<usize, String> {
    /// Digits of a bound; more would be no count of nodes.
    const DIGITS_MAX: usize = 9;
    let ok = (1..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let shown: String = digits.chars().take(20).collect();
    let bad = || format!("`{shown}` is no whole number");
    if ok { digits.parse().map_err(|_| bad()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_keep_their_zeros_and_their_bounds() {
        let check = |text: &str| match expand(text) {
            Ok(nodes) => {
                nodes.iter().map(|it| it.as_str().to_owned()).collect::<Vec<_>>().join(" ")
            }
            Err(why) => format!("! {why}"),
        };
        assert_eq!(check("web-1"), "web-1");
        assert_eq!(check("web-[08..11].example.com").len(), "web-08.example.com ".len() * 4 - 1);
        assert_eq!(check("web-[08..11]"), "web-08 web-09 web-10 web-11");
        assert_eq!(check("w[8..11]"), "w8 w9 w10 w11");
        assert_eq!(check("w[0..0]"), "w0");
        assert_eq!(check("w[2..1]"), "! the range goes backwards, from 2 to 1");
        assert_eq!(check("w[1..010]"), "! `1` and `010` differ in their number of digits");
        assert_eq!(
            check("w[1..9999999]"),
            "! the range has 9999999 nodes, at most 10000 are possible"
        );
        assert_eq!(
            check("w[1..99999999999999999999999]"),
            "! `99999999999999999999` is no whole number"
        );
        assert_eq!(check("w[a,b]"), "! `[a,b]` is no range");
        assert_eq!(check("w[1..2][1..2]"), "! only one range is possible in a name");
        assert_eq!(check("w[1..2"), "! the range has no `]`");
        assert!(check("-[1..2]").starts_with("! `-1` is not a valid node name"));
        assert!(check("").starts_with('!'));
    }
}
