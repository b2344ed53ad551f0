//! Turns what the fakes say they did into facts.

mod backend;
mod opencode;

pub use backend::BackendFacts;
pub use opencode::observer as opencode_observer;
