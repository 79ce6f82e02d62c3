//! Nodes behind real sshd's.

pub(crate) mod sshd;

mod built_in;
mod jump;
mod one_machine;
mod only_openssh;
mod logins;
mod rollout;
mod steps;

use std::time::Duration;

use towpath::drivers::fleet::{Fleet as _, NodeError, Place, Step, StepEnd, StepState};
use towpath::drivers::ssh::SshFleet;

use self::sshd::{Net, Sshd};
use crate::local_driver::step;

/// Longest that anything here may take before the test fails rather than hangs.
const WAIT_MAX: Duration = Duration::from_mins(2);

/// One node, and a controller's driver.
struct Rig {
    ssh: SshFleet,
    place: Place,
    node: Sshd,
    net: Net,
}

impl Rig {
    fn new() -> Self {
        let net = Net::new();
        let node = net.node("web-01");
        Self { ssh: SshFleet::new("store"), place: net.place("web-01"), node, net }
    }

    async fn ensure(&self, step: &Step) -> Result<StepEnd, NodeError> {
        let ending = self.ssh.ensure_step(&self.place, step);
        tokio::time::timeout(WAIT_MAX, ending).await.unwrap()
    }

    async fn run(&self, script: &str) -> StepEnd {
        self.ensure(&step("run", script)).await.unwrap()
    }

    async fn state(&self, step: &Step) -> StepState {
        self.ssh.state(&self.place, &step.key).await.unwrap()
    }

    fn lines(&self, file: &str) -> usize {
        self.node.read(file).lines().count()
    }

    /// Waits until a step has made a file.
    async fn made(&self, file: &str) {
        self.until(|| self.node.read(file).ends_with('\n')).await;
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        let waiting = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(WAIT_MAX, waiting).await.unwrap();
    }

    /// Processes of a step: its runner and its command.
    fn processes(&self, step: &Step) -> (i32, i32) {
        let path = self.node.state().join(format!("places/staging/steps/{}@start", step.key));
        let text = std::fs::read_to_string(path).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        (words[3].parse().unwrap(), words[5].parse().unwrap())
    }
}
