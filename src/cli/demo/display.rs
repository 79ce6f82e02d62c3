//! How a demo is shown: progress bars on a terminal, plain lines otherwise, or one event a line.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::controller::News;
use crate::model::Target;
use crate::planner::ending_word;
use crate::rollout::{Fact, Ledger, Rollout, What};

use super::super::Ui;
use super::super::run::{Teller, event_json};
use super::super::ui::Tone;

/// Shows what happens.
pub(super) struct Display {
    teller: Teller,
    bars: Option<Bars>,
}

/// A bar for each environment.
struct Bars {
    all: MultiProgress,
    of: BTreeMap<String, ProgressBar>,
    rollouts: BTreeMap<Target, Rollout>,
}

impl Display {
    pub(super) fn new(ledger: &Ledger, environments: &[&str], ui: &Ui) -> Self {
        let bars = ui.is_live().then(|| Bars::new(environments));
        Self { teller: Teller::new(ledger), bars }
    }

    /// Shows one piece of news.
    pub(super) fn show(&mut self, news: &News, ui: &Ui) {
        let line = self.teller.line(news);
        if let Some(bars) = &mut self.bars {
            bars.follow(news);
        }
        let Some((target, line, tone)) = line else { return };
        if ui.json {
            ui.result_json(&event_json(news, target.as_ref(), &line));
        } else {
            self.say(&ui.paint(tone, line), ui);
        }
    }

    /// Says something of the demo's own.
    pub(super) fn narrate(&self, text: &str, ui: &Ui) {
        if !ui.json {
            self.say(&ui.paint(Tone::Strong, format!("\n{text}")), ui);
        }
    }

    fn say(&self, line: &str, ui: &Ui) {
        match &self.bars {
            // The bars stay below the story.
            Some(bars) => bars.all.suspend(|| ui.story(line)),
            None => ui.story(line),
        }
    }

    /// Takes the bars away.
    pub(super) fn end(&self) {
        if let Some(bars) = &self.bars {
            bars.of.values().for_each(ProgressBar::finish);
        }
    }
}

impl Bars {
    fn new(environments: &[&str]) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("  {prefix:<11} {bar:28} {pos:>3}/{len:<3} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━╸·");
        let of = environments
            .iter()
            .map(|name| {
                let bar = all.add(ProgressBar::new(1)).with_style(style.clone());
                bar.set_prefix((*name).to_owned());
                bar.set_message("waits");
                ((*name).to_owned(), bar)
            })
            .collect();
        Self { all, of, rollouts: BTreeMap::new() }
    }

    /// Folds the same events as the controller does, and draws what they come to.
    fn follow(&mut self, news: &News) {
        match news {
            News::Happened(entry) => match &entry.fact {
                Fact::Planned(plan) => {
                    let rollout = Rollout::new((**plan).clone());
                    self.rollouts.insert(plan.target.clone(), rollout);
                    self.draw(&plan.target);
                }
                Fact::Rollout { target, event, .. } => {
                    if let Some(rollout) = self.rollouts.get_mut(target) {
                        // Ours is a copy for show; the controller's own would have refused it.
                        let _ = rollout.apply(event);
                    }
                    self.draw(target);
                    if let What::Settled(ending) = event.what {
                        let over = self.rollouts.remove(target);
                        if let (Some(bar), Some(rollout)) =
                            (self.of.get(target.environment.as_str()), over)
                        {
                            let word = ending_word(ending);
                            bar.set_message(format!("{} ended {word}", rollout.plan().to));
                        }
                    }
                }
                _ => {}
            },
            News::Waits(target, holds) => {
                let lasting = holds.iter().find(|hold| !hold.is_passing());
                if let (Some(bar), Some(first)) =
                    (self.of.get(target.environment.as_str()), lasting)
                    && !self.rollouts.contains_key(target)
                {
                    bar.set_message(first.to_string());
                }
            }
        }
    }

    fn draw(&self, target: &Target) {
        let (Some(bar), Some(rollout)) =
            (self.of.get(target.environment.as_str()), self.rollouts.get(target))
        else {
            return;
        };
        let stages = rollout.progress();
        let sum = |count: fn(&crate::rollout::Progress) -> usize| -> u64 {
            stages.iter().map(|stage| count(stage) as u64).sum()
        };
        bar.set_length(sum(|stage| stage.total));
        bar.set_position(sum(|stage| stage.done));
        let now = stages.iter().find(|stage| stage.done < stage.total);
        let stage = now.map_or("done", |stage| stage.name.as_str());
        bar.set_message(format!("{} {stage}", rollout.plan().to));
    }
}
