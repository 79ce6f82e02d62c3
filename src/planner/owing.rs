//! Whether post-deploy migrations that a rollout left for later may be run, or forgotten, now: the same rule for a
//! person's command and for who only asks.

use crate::model::Target;

use super::{World, ended_short};

/// Why there is nothing to run, or with `settled` to forget, of post-deploy migrations left for later.
pub fn no_post_migrations(target: &Target, settled: bool, world: World<'_>) -> Option<String> {
    if let Some(rollout) = world.ledger.rollouts.get(target) {
        let id = &rollout.plan().id;
        return Some(format!("rollout {id} is under way at {target}: wait for its end"));
    }
    let Some(owed) = world.ledger.history(target).and_then(|it| it.owed.as_ref()) else {
        return Some(format!("no post-deploy migrations are owed at {target}"));
    };
    if settled {
        return None;
    }
    let spec = world.snapshot.spec(target)?;
    let wanted = &spec.target.reference;
    if *wanted != owed.reference {
        return Some(format!(
            "post-deploy migrations of {} are owed, and {target} is set to {wanted}: they are run with their own ref only; `--done` forgets them",
            owed.reference
        ));
    }
    let stages = &spec.recipe.stages;
    let known = stages.iter().any(|it| owed.stages.iter().any(|name| *name == it.name.as_str()));
    if !known {
        return Some(format!(
            "recipe `{}` has no stage {} any more; `--done` forgets what is owed",
            spec.recipe.name,
            owed.stages.join(", ")
        ));
    }
    // They would begin some day, by a word that was about something else.
    ended_short(target, world).map(|hold| {
        let Target { service, environment } = target;
        format!(
            "{hold}: say `towpath retry {service} {environment}` first, and ask again when its rollout has ended"
        )
    })
}
