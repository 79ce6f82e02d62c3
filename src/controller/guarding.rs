//! Asks the gates that guard a bake.

use crate::drivers::clock;
use crate::drivers::fleet::Place;
use crate::rollout::{CANNOT_ASK, Guard};

use super::perform::{GATE_AGAIN, Hands};
use super::wake::Report;

impl Hands {
    /// Asks everything that guards a bake, at once.
    pub(super) async fn guards(&self, place: &Place, guards: &[Guard]) -> Report {
        let mut asked = tokio::task::JoinSet::new();
        for guard in guards {
            let (hands, place, guard) = (self.clone(), place.clone(), guard.clone());
            asked.spawn(async move { (hands.gate(&place, &guard.question).await, guard.name) });
        }
        let mut answers = asked.join_all().await;
        answers.sort_by(|(_, a), (_, b)| a.cmp(b));
        let (mut closed, mut open, mut oldest) = (Vec::new(), Vec::new(), clock::now());
        for (report, name) in answers {
            match report {
                Report::Done { evidence, at } => {
                    oldest = oldest.min(at);
                    open.push(format!("{name}: {evidence}"));
                }
                report => {
                    let why = report.words().into_owned();
                    // What said no before what could not be asked, and alerts before all others.
                    let order = (why.starts_with(CANNOT_ASK), name.as_str() != "alerts");
                    closed.push((order, format!("gate {name}: {why}")));
                }
            }
        }
        closed.sort();
        let closed: Vec<String> = closed.into_iter().map(|(_, why)| why).collect();
        if closed.is_empty() {
            Report::Done { evidence: open.join("; "), at: oldest }
        } else {
            Report::Pending { again_after: GATE_AGAIN, why: closed.join("; ") }
        }
    }
}
