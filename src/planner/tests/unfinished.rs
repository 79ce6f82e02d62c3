//! Nodes that were left in the middle of a change: what they say that they run is not believed.

use super::*;

/// What is done, and on which nodes.
fn begins(text: &str) -> Option<(Purpose, String)> {
    match decision_of(PLAIN, text) {
        Deploy::Start(plan) => {
            let steps = plan.ops().filter(|(_, _, op)| matches!(op, Op::Step { .. }));
            let nodes = steps.filter_map(|(_, task, _)| task.node.as_ref()).map(NodeName::as_str);
            Some((plan.purpose, nodes.collect::<Vec<_>>().join(" ")))
        }
        Deploy::InSync(_) => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_was_left_in_the_middle_is_brought_its_ref_whatever_it_says() {
    let all = "web-1 1.0.1\nweb-2 1.0.1\n";
    let proven = format!("{all}proven 1.0.1\n");
    assert_eq!(begins(&proven), None);
    let one = |purpose| Some((purpose, "web-2".to_owned()));
    assert_eq!(begins(&format!("{proven}unfinished web-2")), one(Purpose::Repair));
    assert_eq!(begins(&format!("{all}unfinished web-2")), one(Purpose::Deploy));
    // Also on the way back from what was tried.
    let tried = format!("{proven}tried 1.0.2\nunfinished web-2");
    assert_eq!(begins(&tried), one(Purpose::Rollback));
    // Who is in no role any more is nobody's concern.
    assert_eq!(begins(&format!("{proven}unfinished web-9")), None);
    let mixed = "web-2 1.0.1\nunfinished web-2";
    assert_eq!(begins(mixed), Some((Purpose::Deploy, "web-1 web-2".to_owned())));
}
