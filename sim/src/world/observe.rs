//! Turns what the fakes say they did into facts.

// mod backend;
mod opencode;

// pub use backend::observer as backend_observer;
pub use opencode::observer as opencode_observer;
