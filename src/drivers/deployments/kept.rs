//! What is not told of deployments yet, in a file: one line each. Lost without much harm.

use std::path::Path;
use std::time::Duration;

use super::{Deployment, Job, Stand};
use crate::model::{Ref, Revision, RolloutId, Target, Timestamp};

/// The first line: what these are, and how they are written.
const HEAD: &str = "towpath deployments 1";
/// Longest file that is read.
const BYTES_MAX: u64 = 4 << 20;

/// Those of the file; none if there is none, or it is another.
pub(super) fn load(file: &Path) -> Vec<Job> {
    let fits = std::fs::metadata(file).is_ok_and(|it| it.len() <= BYTES_MAX);
    let Some(text) = fits.then(|| std::fs::read_to_string(file).ok()).flatten() else {
        return Vec::new();
    };
    let mut lines = text.lines();
    if lines.next() != Some(HEAD) {
        return Vec::new();
    }
    lines.filter_map(read).collect()
}

/// Writes them in the place of what was there.
pub(super) fn save(file: &Path, all: &[Job]) -> std::io::Result<()> {
    let mut text = format!("{HEAD}\n");
    for job in all {
        text.push_str(&line(job));
        text.push('\n');
    }
    let beside = file.with_extension("new");
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, file)
}

fn line(job: &Job) -> String {
    let Job { deployment, told, known, failed, .. } = job;
    let Deployment { rollout, target, to, sha, begun, stand } = deployment;
    let known = known.map_or_else(|| "-".to_owned(), |it| it.to_string());
    let told = told.map_or("-", word);
    let (service, environment) = (&target.service, &target.environment);
    format!(
        "{rollout}\t{service}\t{environment}\t{to}\t{sha}\t{}\t{}\t{told}\t{known}\t{failed}",
        begun.0,
        word(*stand)
    )
}

fn read(line: &str) -> Option<Job> {
    let words: Vec<&str> = line.split('\t').collect();
    let [rollout, service, environment, to, sha, begun, stand, told, known, failed] = words[..]
    else {
        return None;
    };
    let target = Target { service: service.parse().ok()?, environment: environment.parse().ok()? };
    let deployment = Deployment {
        rollout: RolloutId::parse(rollout)?,
        target,
        to: Ref::parse(to).ok()?,
        sha: Revision::parse(sha).ok()?,
        begun: Timestamp(begun.parse().ok()?),
        stand: stood(stand)?,
    };
    let told = if told == "-" { None } else { Some(stood(told)?) };
    let known = if known == "-" { None } else { Some(known.parse().ok()?) };
    let (failed, next) = (failed.parse().ok()?, Duration::ZERO);
    Some(Job { deployment, told, known, failed, tries: 0, next })
}

fn word(stand: Stand) -> &'static str {
    match stand {
        Stand::Running => "running",
        Stand::Success => "success",
        Stand::Failed => "failed",
        Stand::Canceled => "canceled",
    }
}

fn stood(word: &str) -> Option<Stand> {
    let all = [Stand::Running, Stand::Success, Stand::Failed, Stand::Canceled];
    all.into_iter().find(|it| self::word(*it) == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_rubbish_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("deployments");
        assert_eq!(load(&file), []);
        let job = |stand, told, known| Job {
            deployment: Deployment {
                rollout: RolloutId::parse("0123456789ab").unwrap(),
                target: Target {
                    service: "shop".parse().unwrap(),
                    environment: "staging".parse().unwrap(),
                },
                to: Ref::parse("1.2.3").unwrap(),
                sha: Revision::parse(&"a".repeat(40)).unwrap(),
                begun: Timestamp(1_795_255_200_123),
                stand,
            },
            told,
            known,
            failed: known.is_some(),
            tries: 0,
            next: Duration::ZERO,
        };
        let all =
            [job(Stand::Running, None, None), job(Stand::Failed, Some(Stand::Running), Some(7))];
        save(&file, &all).unwrap();
        assert_eq!(load(&file), all);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("\tshop\t", "\t../x\t")).unwrap();
        assert_eq!(load(&file), []);
        std::fs::write(&file, "\u{0}").unwrap();
        assert_eq!(load(&file), []);
    }
}
