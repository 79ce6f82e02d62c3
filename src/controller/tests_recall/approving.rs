//! Approvals without a ref mean what waits for one now, and nothing that is there instead.

use super::*;

fn approve() -> Command {
    Command::Approve { target: canary(), reference: None }
}

/// What an approval without a ref was for, or why it was refused.
fn approved(world: &mut World) -> Result<String, String> {
    world.asks("bob", approve()).1.map_err(|it| it.to_string())
}

#[test]
fn the_open_promotion_is_meant_while_it_lacks_some() {
    let mut world = World::new("auto: true, approvals: 2");
    let refused = approved(&mut world).unwrap_err();
    assert!(refused.contains("nothing waits for approval at shop/canary"), "not open: {refused}");
    let open = request(7, Direction::Forward, "1.2.0");
    world.shows(Some(open.clone()));
    assert_eq!(approved(&mut world).unwrap(), "bob approved 1.2.0 for shop/canary");
    world.shows(Some(green(open)));
    assert!(world.asks("ann", approve()).1.is_ok_and(|it| it.contains("1.2.0")));
    let refused = approved(&mut world).unwrap_err();
    assert!(refused.contains("nothing waits for approval"), "two were enough: {refused}");
}

#[test]
fn who_is_late_does_not_approve_an_older_ref() {
    let mut world = World::new("auto: true, approvals: 1");
    // Somebody has put a newer ref there by hand meanwhile: staging is behind.
    let wanted = config("1.9.0", "auto: true, approvals: 1");
    let loaded = Loaded::load(NOW, wanted);
    assert!(loaded.findings().is_empty());
    world.core.loaded = Some(loaded);
    for open in [None, Some(green(request(7, Direction::Forward, "1.2.0")))] {
        world.shows(open);
        let refused = approved(&mut world).unwrap_err();
        assert!(refused.contains("nothing waits for approval at shop/canary now"), "{refused}");
        assert!(refused.contains("towpath explain shop canary"), "{refused}");
    }
    assert_eq!(world.count(|it| matches!(it, Fact::Asked { .. })), 0);
    let named = Command::Approve { target: canary(), reference: Some(reference("1.2.0")) };
    assert!(world.asks("bob", named).1.is_ok(), "by name before its turn");
}

#[test]
fn a_rollback_that_waits_in_a_merge_request_is_meant_before_anything_else() {
    let mut world = World::new("auto: true, approvals: 1");
    world.goes_back(false);
    assert_eq!(approved(&mut world).unwrap(), "bob approved 1.0.0 for shop/canary");
    let refused = approved(&mut world).unwrap_err();
    assert!(refused.contains("nothing waits for approval"), "{refused}");
}
