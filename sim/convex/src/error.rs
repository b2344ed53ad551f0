//! Why something failed: a function, a call, a mutation, loading.

use convex::Value;

/// Why a function failed, as its developer would read it.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionError {
    /// The message with the stack, without request id.
    pub message: String,
    /// What a `ConvexError` carries.
    pub data: Option<Value>,
}

impl FunctionError {
    /// Only a message.
    pub(crate) fn plain(message: impl Into<String>) -> Self {
        Self { message: message.into(), data: None }
    }
}

/// Why a function gave no result, as clients see it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The message, with request id and stack as in a development deployment.
    pub message: String,
    /// What a `ConvexError` carries.
    pub data: Option<Value>,
}

/// Why a mutation had no effect.
#[derive(Debug, Clone, PartialEq)]
pub enum MutationError {
    /// The function failed.
    Failed(Failure, Vec<String>),
    /// It conflicted with other writes at every attempt.
    Conflict,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The function failed, or there is none.
    #[error("{0}")]
    Failed(Failure),
    /// A mutation conflicted with other writes at every attempt.
    #[error("the mutation conflicted with other writes at every attempt")]
    Conflict,
}

/// Why a deployment was not loaded.
#[derive(Debug, thiserror::Error)]
#[error("cannot load the backend functions: {0}")]
pub struct LoadError(pub(crate) String);
