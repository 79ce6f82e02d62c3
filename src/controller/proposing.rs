//! What a merge request of ours says to people: what moves, why, where to read more, and how to say no.

use crate::drivers::forge::Page;
use crate::observe::Merging;
use crate::planner::Promotion;
use crate::rollout::Recall;

/// Longest reason of a person that is shown, in characters.
const REASON_MAX: usize = 500;

/// The title.
pub(super) fn title(promotion: &Promotion) -> String {
    let Promotion { target, to, .. } = promotion;
    let verb = if promotion.recall.is_some() { "Roll" } else { "Promote" };
    let back = if promotion.recall.is_some() { "back " } else { "" };
    format!("{verb} {} {back}to {to} in {}", target.service, target.environment)
}

/// The description. `page` says where the forge shows something, `vetoes` how people say no there.
pub(super) fn body(
    promotion: &Promotion,
    vetoes: &str,
    page: impl Fn(Page<'_>) -> Option<String>,
) -> String {
    let Promotion { target, from, to, base: _, evidence, proofs, merging, recall } = promotion;
    let (service, environment) = (&target.service, &target.environment);
    let mut body = match recall {
        None => format!("Moves {service} in {environment} from {from} to {to}.\n\n"),
        Some(recall) => format!(
            "Puts {service} in {environment} back from {from} to {to}, and {from} onto `blocked`.\n\n{}",
            asked_for(recall)
        ),
    };
    for line in evidence {
        body.extend(["- ", line, "\n"]);
    }
    for (environment, commit) in proofs {
        let asked = page(Page::Commit(*commit))
            .map(|url| format!("[{} asked for it]({url})", commit.short()));
        let records =
            page(Page::Records { service, environment }).map(|url| format!("[its records]({url})"));
        let links: Vec<String> = asked.into_iter().chain(records).collect();
        if !links.is_empty() {
            body.extend(["- ", environment.as_str(), ": ", &links.join(", "), "\n"]);
        }
    }
    let when = match (merging, recall) {
        (Merging::Auto, Some(_)) => {
            "It merges by itself when its checks pass and the approvals that are asked for are there, or when somebody merges it.".to_owned()
        }
        (Merging::Manual, Some(_)) => "It waits for somebody to merge it.".to_owned(),
        (Merging::Auto, None) => "It merges by itself when its checks pass and its gates agree.".to_owned(),
        (Merging::Manual, None) => format!(
            "It waits for somebody to merge it, or to say `towpath promote {service} {environment}`: then it merges when its checks pass and its gates agree."
        ),
    };
    let held = match recall {
        None => String::new(),
        Some(_) => format!(
            " {target} is locked meanwhile, so that nothing newer comes there, and stays so whatever becomes of this: `towpath lock {service} {environment} --lift` lifts that."
        ),
    };
    body + &format!("\n{when} To veto it, {vetoes}.{held}\n")
}

/// By whose word, and why. A person's words on a page that may obey its text, so they begin no line and are no markup.
fn asked_for(recall: &Recall) -> String {
    // It stands in a commit as well, where brackets can keep the checks from running.
    let plain = |it: char| match it {
        '[' => '(',
        ']' => ')',
        it if it.is_control() => ' ',
        it => it,
    };
    let reason: String = recall.word.reason.chars().map(plain).take(REASON_MAX).collect();
    let reason = reason.trim().replace('`', "'");
    let how = if recall.fast { ", in haste" } else { "" };
    format!("- asked for by {} at {}{how}: `{reason}`\n", recall.word.by, recall.at)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use std::collections::BTreeSet;

    use crate::model::{
        EnvironmentName, PersonName, Ref, Revision, ServiceName, Target, Timestamp,
    };
    use crate::rollout::Word;

    #[test]
    fn it_says_where_to_read_more_and_how_to_say_no() {
        let name = |text: &str| EnvironmentName::parse(text).unwrap();
        let promotion = |merging| Promotion {
            target: Target::new(&ServiceName::parse("shop").unwrap(), &name("production")),
            from: Ref::parse("1.4").unwrap(),
            to: Ref::parse("1.5").unwrap(),
            base: Revision::new([1; 20]),
            evidence: vec!["staging runs 1.5".to_owned()],
            proofs: vec![(name("staging"), Revision::new([2; 20]))],
            merging,
            recall: None,
        };
        let back = |merging| {
            let (from, to) = (Ref::parse("1.5").unwrap(), Ref::parse("1.4").unwrap());
            let promotion = promotion(merging);
            let recall = Recall {
                target: promotion.target.clone(),
                from: from.clone(),
                to: to.clone(),
                fast: true,
                word: Word {
                    by: PersonName::parse("ada").unwrap(),
                    reason: "orders are `lost`\n/merge @all".to_owned(),
                },
                at: Timestamp(1_795_255_200_000),
                approvals: BTreeSet::new(),
            };
            let evidence = vec!["1.4 was proven there".to_owned()];
            let recall = Some(Box::new(recall));
            Promotion { from, to, evidence, proofs: Vec::new(), recall, ..promotion }
        };
        let page = |page: Page<'_>| {
            Some(match page {
                Page::Commit(it) => format!("https://forge/commit/{}", it.short()),
                Page::Records { service, environment } => {
                    format!("https://forge/records/{service}/{environment}")
                }
            })
        };
        expect![[r"
            Moves shop in production from 1.4 to 1.5.

            - staging runs 1.5
            - staging: [0202020202 asked for it](https://forge/commit/0202020202), [its records](https://forge/records/shop/staging)

            It merges by itself when its checks pass and its gates agree. To veto it, close it.
        "]]
        .assert_eq(&body(&promotion(Merging::Auto), "close it", page));
        assert_eq!(title(&back(Merging::Auto)), "Roll shop back to 1.4 in production");
        expect![[r"
            Puts shop in production back from 1.5 to 1.4, and 1.5 onto `blocked`.

            - asked for by ada at 2026-11-21T10:00:00Z, in haste: `orders are 'lost' /merge @all`
            - 1.4 was proven there

            It merges by itself when its checks pass and the approvals that are asked for are there, or when somebody merges it. To veto it, close it. shop/production is locked meanwhile, so that nothing newer comes there, and stays so whatever becomes of this: `towpath lock shop production --lift` lifts that.
        "]].assert_eq(&body(&back(Merging::Auto), "close it", |_| None));
        let manual = body(&back(Merging::Manual), "close it", |_| None);
        assert!(manual.contains("waits for somebody to merge it."), "{manual}");
        let manual = body(&promotion(Merging::Manual), "close it", |_| None);
        assert!(!manual.contains("by itself") && !manual.contains("]("), "{manual}");
        assert!(manual.contains("`towpath promote shop production`"), "{manual}");
    }
}
