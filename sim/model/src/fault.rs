//! What can go wrong, as data: the kinds of faults, and how a scenario asks for them.

pub mod kind;
pub mod schema;
pub(crate) mod validate;

pub use kind::FaultKind;
pub use schema::{Direction, Fault, Link, Swarm, Trigger};
