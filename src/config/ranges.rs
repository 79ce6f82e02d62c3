//! Ranges of node names: `web-[01..40]` stands for `web-01` to `web-40`.
//!
//! One range a name, whole numbers, inclusive. Zeros in front are kept: both bounds have the same
//! number of digits, or neither begins with a zero.

use std::ops::RangeInclusive;

use crate::model::NodeName;

/// Most nodes of one environment. A range is written in ten characters; this bounds what they cost.
pub(super) const NODES_MAX: usize = 10_000;

/// What one entry of `nodes` stands for. Not written out until it is known how many there are in
/// all: eight thousand ranges of ten thousand nodes fit into one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Nodes {
    /// One node.
    One(NodeName),
    /// A range of them.
    Range {
        /// What stands before the number.
        before: Box<str>,
        /// The numbers.
        numbers: RangeInclusive<usize>,
        /// Digits of each, with zeros in front.
        width: usize,
        /// What stands behind the number.
        after: Box<str>,
    },
}

impl Nodes {
    /// Reads a name or a range, or says why it is neither.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let name = |text: &str| NodeName::parse(text).map_err(|bad| bad.to_string());
        let Some((before, rest)) = text.split_once('[') else {
            return Ok(Self::One(name(text)?));
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
        // All names are of the same characters, and the last is the longest.
        name(&format!("{before}{last}{after}"))?;
        let (before, after) = (Box::from(before), Box::from(after));
        let width = if padded { first.len() } else { 0 };
        Ok(Self::Range { before, numbers: low..=high, width, after })
    }

    /// How many they are.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Range { numbers, .. } => numbers.end() - numbers.start() + 1,
        }
    }

    /// Their names.
    pub(super) fn names(&self) -> Vec<NodeName> {
        match self {
            Self::One(name) => vec![name.clone()],
            Self::Range { before, numbers, width, after } => {
                let name = |at| NodeName::parse(&format!("{before}{at:0width$}{after}"));
                numbers.clone().filter_map(|at| name(at).ok()).collect()
            }
        }
    }
}

fn number(digits: &str) -> Result<usize, String> {
    /// Digits of a bound; more would be no count of nodes.
    const DIGITS_MAX: usize = 9;
    let ok = (1..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let shown: String = digits.chars().take(20).collect();
    let bad = || match digits {
        "" => "a range has a first and a last number, such as [1..12]".to_owned(),
        _ => format!("`{shown}` is no whole number"),
    };
    if ok { digits.parse().map_err(|_| bad()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_keep_their_zeros_and_their_bounds() {
        let check = |text: &str| match Nodes::parse(text) {
            Ok(nodes) => {
                assert_eq!(nodes.count(), nodes.names().len());
                nodes.names().iter().map(|it| it.as_str().to_owned()).collect::<Vec<_>>().join(" ")
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
        let open = "! a range has a first and a last number, such as [1..12]";
        assert_eq!((check("w[1..]").as_str(), check("w[..2]").as_str()), (open, open));
        assert_eq!(check("w[a,b]"), "! `[a,b]` is no range");
        assert_eq!(check("w[1..2][1..2]"), "! only one range is possible in a name");
        assert_eq!(check("w[1..2"), "! the range has no `]`");
        assert!(check("-[1..2]").starts_with("! `-2` is not a valid node name"));
        assert!(check("a[1..2].").starts_with('!'));
        assert!(check("").starts_with('!'));
    }
}
