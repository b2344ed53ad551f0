//! What is called, for whom, and what came of it.

use std::rc::Rc;

use convex::Value;

use super::{auth::Identity, error::Failure, store::Read};

/// What is to be run, and for whom.
#[derive(Debug, Clone)]
pub struct Call {
    /// `module:function`, canonical or not.
    pub path: String,
    /// One object.
    pub args: Value,
    /// Who calls.
    pub identity: Option<Identity>,
    /// The peer's name.
    pub caller: Rc<str>,
    /// Whether only public functions may be run.
    pub public: bool,
}

/// A query's answer and what it depends on.
#[derive(Debug)]
pub struct QueryRun {
    /// The snapshot that it read.
    pub ts: u64,
    /// The answer.
    pub result: Result<Value, Failure>,
    /// What it logged.
    pub logs: Vec<String>,
    /// Where its page ended.
    pub journal: Option<String>,
    /// What it read.
    pub reads: Vec<Read>,
}

/// A mutation that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// Its result.
    pub value: Value,
    /// When it was committed.
    pub ts: u64,
    /// What it logged.
    pub logs: Vec<String>,
}

/// An action that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionRun {
    /// Its answer.
    pub result: Result<Value, Failure>,
    /// What it logged.
    pub logs: Vec<String>,
}
