//! Turns what the fakes say they did into facts.

mod backend;
mod opencode;

pub use crate::observe::backend::BackendFacts;
pub use crate::observe::opencode::observer as opencode_observer;
