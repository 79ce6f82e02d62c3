//! STUB until the real one lands.
use crate::model::*;
use crate::rollout::*;
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct FormatError;
pub fn encode(_: &Entry) -> (String, &'static str, String) {
    unimplemented!()
}
pub fn decode(_: Timestamp, _: &str, _: &str) -> Result<Entry, FormatError> {
    unimplemented!()
}
pub struct RecordSummary;
impl RecordSummary {
    pub fn parse(_: &str) -> Result<Self, FormatError> {
        unimplemented!()
    }
}
pub fn restore(_: &[RecordSummary]) -> Vec<Fact> {
    unimplemented!()
}
pub fn rollout_record(_: &Rollout, _: Timestamp) -> String {
    unimplemented!()
}
pub fn entry_record(_: &Entry, _: &str) -> String {
    unimplemented!()
}
