//! GitHub's automatic merge, which takes whatever head is there. We never switch it on; where a person did, only the
//! GraphQL interface can switch it off.

use serde_json::{Value, json};

use super::GitHub;
use crate::drivers::hosted::api::{Api as _, ApiError};
use crate::drivers::hosted::client::Repeat;

const DISABLE: &str = "mutation($id: ID!) {
  disablePullRequestAutoMerge(input: { pullRequestId: $id }) { clientMutationId }
}";

impl GitHub {
    /// Switches it off, if it is on. What the answer says is not believed: it is looked at again.
    pub(super) fn switch_off(&self, number: u64) -> Result<(), ApiError> {
        if !self.get(number)?.is_some_and(|it| it.armed) {
            return Ok(());
        }
        let doing = format!("taking back the automatic merge of #{number}");
        let variables = json!({ "id": self.node(number)? });
        let said: Result<Value, ApiError> =
            self.graphql(&doing, DISABLE, &variables, Repeat::Harmless);
        let why = match said {
            Ok(_) => "it is still on".to_owned(),
            Err(ApiError::Refused { why, .. }) => why,
            Err(ApiError::NotFound { .. }) => "not found".to_owned(),
            Err(error) => return Err(error),
        };
        if self.get(number)?.is_some_and(|it| it.armed) {
            let why = format!(
                "somebody switched auto-merge on, which merges whatever head is there: switch it off on the pull request ({why})"
            );
            return Err(ApiError::Refused { doing, why });
        }
        Ok(())
    }
}
