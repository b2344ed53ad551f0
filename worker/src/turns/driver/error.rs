//! Why a turn does not come as far as a prompt.

use crate::{error::CallError, turns::failure::Failure};

/// Why a turn cannot go on.
pub(super) enum TurnError {
    /// It fails, and the person is told why.
    Failed(Failure),
    /// A call of the backend failed.
    Call(CallError),
}

impl From<Failure> for TurnError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<CallError> for TurnError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}
