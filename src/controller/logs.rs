//! Reads what steps printed from the nodes that ran them. Needs no controller and no authority.

use std::sync::Arc;

use crate::drivers::fleet::{Fleet, NodeError, Place, Printed, StepState};
use crate::drivers::fleets::{Above, Fleets};
use crate::drivers::local::Local;
use crate::drivers::ssh::SshFleet;
use crate::model::{Connect, NodeName, StepKey, Target};

use super::service::{ServiceError, Setup};

/// A way to the logs on all nodes.
pub struct Logs {
    fleet: Arc<dyn Fleet>,
    runtime: tokio::runtime::Runtime,
}

/// What a step printed so far, and whether it still runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepLog {
    /// Its beginning and its end.
    pub printed: Printed,
    /// How the step stands.
    pub state: StepState,
}

impl Logs {
    /// Opens it.
    pub fn open(setup: &Setup) -> Result<Self, ServiceError> {
        let state = |source| ServiceError::State { path: setup.state.clone(), source };
        // Looking needs no authority: no fence and no step carries this name.
        let local = Local::new(&setup.nodes, "inspection", &setup.executable).map_err(state)?;
        let fleet = Fleets { local, ssh: SshFleet::new("inspection"), above: Above::default() };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ServiceError::Threads)?;
        Ok(Self { fleet: Arc::new(fleet), runtime })
    }

    /// Reads the log of one step.
    pub fn read(
        &self,
        target: &Target,
        connect: &Connect,
        node: Option<&NodeName>,
        key: &StepKey,
    ) -> Result<StepLog, NodeError> {
        let place = Place {
            environment: target.environment.clone(),
            node: node.cloned(),
            connect: node.map_or_else(|| connect.clone(), |node| connect.for_node(node)),
        };
        self.runtime.block_on(async {
            // The state first: what is printed between the two looks is then shown next time.
            let state = self.fleet.state(&place, key).await?;
            let printed = self.fleet.log(&place, key).await?;
            Ok(StepLog { printed, state })
        })
    }
}
