//! A token that may read and not write: what cannot be pushed is said once in the log, and by `explain` and `status` as long
//! as it lasts.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::end_to_end::{log, opened, shop};
use crate::world::{NEW, World, stays};

const NO: &str = "You are not allowed to push code to this project";

/// Nobody pushes to branches of ours, as on a forge where the token lacks the right.
fn refuse(world: &World) {
    // As a remote one: what is on the same disk is not pushed.
    let path = world.root.join("towpath.toml");
    let settings = std::fs::read_to_string(&path).unwrap();
    let url = format!("url = \"file://{}\"", world.root.join("config.git").display());
    std::fs::write(path, settings.replace("url = \"config.git\"", &url)).unwrap();
    let hook = world.root.join("config.git/hooks/pre-receive");
    let text = format!(
        "#!/bin/sh\nif grep -q ' refs/heads/towpath/'; then echo '{NO}.' >&2; exit 1; fi\n"
    );
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, text).unwrap();
    std::fs::set_permissions(hook, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn what_may_not_be_pushed_is_told_once_and_explained_as_long_as_it_lasts() {
    let (world, server) = shop();
    refuse(&world);
    let controller = world.start();
    world.want("staging", NEW);
    world.until_runs("staging", NEW);
    let said = world.until_explained("canary", NO);
    assert!(said.contains("they cannot be written"), "the records: {said}");
    let told = || {
        let said = world.explain("canary");
        said.contains(NO) && !said.contains("ready to be proposed")
    };
    // The records may have been tried before the merge request was.
    world.until("the merge request is explained too", told);
    assert!(stays(Duration::from_secs(8), told), "{}", world.explain("canary"));
    let status = world.towpath(&["status", "shop", "canary"]);
    assert!(status.stdout.contains(NO) && status.stderr.contains(NO), "{status:?}");
    let times = |part: &str| log(&world).matches(part).count();
    assert_eq!(times("a record cannot be entered"), 1, "{}", log(&world));
    let waits = |it: &serde_json::Value| {
        let text = it.to_string();
        text.contains("canary") && text.contains(NO)
    };
    let waits = controller.events().iter().filter(|it| waits(it)).count();
    assert_eq!(waits, 1, "{:?}", controller.events());
    // The token is given the right; who begins anew waits for nothing.
    drop(controller);
    std::fs::remove_file(world.root.join("config.git/hooks/pre-receive")).unwrap();
    let _controller = world.start();
    opened(&world, &server, "towpath/shop/canary");
    world.until("the records are there", || !world.records().is_empty());
    world.until("it is explained no more", || !world.explain("canary").contains(NO));
    assert_eq!(server.double().violations, Vec::<String>::new());
}
