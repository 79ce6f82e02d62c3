//! A rollout told to people in a few words: what an operation does, how far a lane is, what is waited for.

use crate::model::format_duration;
use crate::rollout::{
    Haste, LaneProgress, Op, OpId, Phase, Plan, Progress, Purpose, Rollout, Unit,
};

/// What an operation does, in a word or two.
pub fn op_word(plan: &Plan, id: OpId) -> String {
    plan.op(id).map_or_else(|| "nothing".to_owned(), Op::word)
}

/// What a rollout is for, in a word.
pub fn purpose_word(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Deploy => "rollout",
        Purpose::Rollback => "rollback",
        Purpose::Repair => "repair",
        Purpose::Verify => "test",
        Purpose::PostMigrate => "post-deploy migrations",
    }
}

/// The same, with why it was in haste where that is a name of its own.
pub fn purpose_name(purpose: Purpose, haste: Option<Haste>) -> &'static str {
    match (purpose, haste) {
        (Purpose::Deploy, Some(Haste::HotPatch)) => "hot patch",
        (Purpose::Deploy, Some(Haste::Hotfix)) => "hotfix",
        (Purpose::Rollback, Some(Haste::Asked)) => "fast rollback",
        (purpose, _) => purpose_word(purpose),
    }
}

/// Whose word it waits for, if it does: then nobody knows how long it takes.
pub fn awaits(rollout: &Rollout) -> Option<&'static str> {
    match rollout.phase() {
        Phase::Halted(_) => Some("waits for a person"),
        Phase::Running if rollout.asks_for_approval() => Some("waits for `towpath approve`"),
        Phase::Running | Phase::Stopping(_) | Phase::Settled(_) => None,
    }
}

/// How far a lane is: `12 of 40 nodes`.
pub fn lane_count(lane: &LaneProgress) -> String {
    let unit = match (lane.unit, lane.total) {
        (Unit::Nodes, 1) => "node",
        (Unit::Nodes, _) => "nodes",
        (Unit::Tasks, 1) => "task",
        (Unit::Tasks, _) => "tasks",
    };
    format!("{} of {} {unit}", lane.done, lane.total)
}

/// What else there is to know of a lane: `2 in hand, 1 failed`; empty while there is nothing.
pub fn lane_rest(lane: &LaneProgress) -> String {
    let counted = [(lane.open, "in hand"), (lane.failed, "failed"), (lane.left_out, "left out")];
    let counted = counted.into_iter().filter(|(count, _)| *count > 0);
    let mut said: Vec<String> = counted.map(|(count, how)| format!("{count} {how}")).collect();
    said.extend((lane.gates_asked > 0).then(|| "waits for a gate".to_owned()));
    said.extend((lane.gates_failed > 0).then(|| "a gate failed".to_owned()));
    said.join(", ")
}

/// Whether the lanes of a stage say more than the stage does: where it has several and has begun, and not all is done.
pub fn lanes_differ(stage: &Progress) -> bool {
    let begun = stage.done > 0 || stage.open > 0 || stage.failed > 0;
    let left_out = stage.lanes.iter().any(|lane| lane.left_out > 0);
    let lanes = stage.lanes.iter().filter(|lane| !lane.is_empty()).count();
    lanes > 1 && begun && (stage.done < stage.total || left_out)
}

/// An estimate must not look more exact than it is.
pub fn rough(span: std::time::Duration) -> String {
    let seconds = span.as_secs();
    let rounded = match seconds {
        0..60 => seconds.next_multiple_of(10).max(10),
        60..600 => seconds.next_multiple_of(30),
        600..7200 => seconds.next_multiple_of(60),
        _ => seconds.next_multiple_of(900),
    };
    format_duration(std::time::Duration::from_secs(rounded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(name: &str, [done, open, failed, left_out, total]: [usize; 5]) -> LaneProgress {
        let (name, unit) = (name.to_owned(), Unit::Nodes);
        let (gates_asked, gates_failed) = (0, 0);
        LaneProgress { name, unit, done, open, failed, left_out, total, gates_asked, gates_failed }
    }

    fn stage(lanes: &[LaneProgress]) -> Progress {
        let sum = |of: fn(&LaneProgress) -> usize| lanes.iter().map(of).sum();
        Progress {
            name: "fleet".to_owned(),
            done: sum(|it| it.done),
            open: sum(|it| it.open),
            failed: sum(|it| it.failed),
            total: sum(|it| it.total),
            lanes: lanes.to_vec(),
        }
    }

    #[test]
    fn a_lane_is_told_in_few_words() {
        let web = lane("web", [12, 2, 1, 3, 40]);
        assert_eq!(
            (lane_count(&web).as_str(), lane_rest(&web).as_str()),
            ("12 of 40 nodes", "2 in hand, 1 failed, 3 left out")
        );
        let alone = lane("db", [1, 0, 0, 0, 1]);
        assert_eq!((lane_count(&alone).as_str(), lane_rest(&alone).as_str()), ("1 of 1 node", ""));
        let gated = LaneProgress { gates_asked: 1, ..alone.clone() };
        assert_eq!(lane_rest(&gated), "waits for a gate");
        let refused = LaneProgress { gates_failed: 1, unit: Unit::Tasks, ..alone };
        assert_eq!(
            (lane_count(&refused).as_str(), lane_rest(&refused).as_str()),
            ("1 of 1 task", "a gate failed")
        );
    }

    #[test]
    fn lanes_are_told_where_they_say_more_than_the_stage() {
        let (done, half) = ([2, 0, 0, 0, 2], [1, 1, 0, 0, 3]);
        let (ahead, empty, short) = ([0, 0, 0, 0, 2], [0; 5], [1, 0, 0, 1, 1]);
        for (lanes, told) in [
            ([done, half], true),
            ([done, ahead], true),
            ([done, short], true),
            ([done, done], false),
            ([ahead, ahead], false),
            ([half, empty], false),
        ] {
            let stage = stage(&lanes.map(|it| lane("some", it)));
            assert_eq!(lanes_differ(&stage), told, "{lanes:?}");
        }
    }
}
