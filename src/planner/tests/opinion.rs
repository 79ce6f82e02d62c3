//! The second opinion on plans that move traffic.

use super::*;

#[test]
fn the_second_opinion_objects_to_unsound_traffic() {
    let Deploy::Start(plan) = decision("") else { panic!("it does not start") };
    let loaded = {
        let files = CONFIG.split("--- ").skip(1).filter_map(|part| part.split_once('\n'));
        let files = files.map(|(path, body)| Change {
            path: path.to_owned(),
            content: Content::Bytes(body.as_bytes().to_vec()),
        });
        Loaded::load(Revision::new([7; 20]), files)
    };
    let spec = loaded.snapshot().spec(&target()).unwrap();
    let object = |change: &dyn Fn(&mut Vec<Op>)| {
        let mut plan = (*plan).clone();
        for stage in &mut plan.stages {
            for batch in stage.lanes.iter_mut().flat_map(|it| &mut it.batches) {
                batch.tasks.iter_mut().for_each(|it| change(&mut it.ops));
            }
        }
        objections(&plan, &spec).join("; ")
    };
    assert_eq!(object(&|_| {}), "");
    let never_back = object(&|ops| ops.retain(|it| !matches!(it, Op::Serving { .. })));
    assert!(never_back.contains("never serves again"), "{never_back}");
    let unasked = object(&|ops| {
        if ops.iter().any(|it| matches!(it, Op::Serving { .. })) {
            ops.retain(|it| !matches!(it, Op::Runs { .. }));
        }
    });
    assert!(unasked.contains("before it says what it runs"), "{unasked}");
    let believed = object(&|ops| {
        for op in ops {
            if let Op::Serving { voucher, .. } = op {
                *voucher = Voucher::Node;
            }
        }
    });
    assert!(believed.contains("is called well and was not asked"), "{believed}");
    let traffic = object(&|ops| {
        ops.retain(|it| !matches!(it, Op::Drained { .. } | Op::Serving { .. }));
    });
    assert!(traffic.contains("under traffic"), "{traffic}");
    let greedy = object(&|ops| {
        for op in ops {
            if let Op::Drained { keep, .. } = op {
                *keep = 0;
            }
        }
    });
    assert!(greedy.contains("needs 1"), "{greedy}");
    let hasty = object(&|ops| {
        ops.retain(|it| !matches!(it, Op::Weighted { weight: 0, .. }));
        for op in ops {
            if let Op::Serving { weight, .. } = op {
                *weight = 26;
            }
        }
    });
    assert!(hasty.contains("web-1 of web serves with 26% before 25%"), "{hasty}");
    let mut kept = (*plan).clone();
    if let Some(closing) = kept.stages.last_mut() {
        closing.lanes.truncate(1);
    }
    let kept = objections(&kept, &spec).join("; ");
    assert!(kept.contains("not put back"), "{kept}");
}
