//! Turns: which to start, how one runs, and what its reply is made of.

pub(crate) mod driver;
pub(crate) mod failure;
pub mod inbox;
pub(crate) mod permissions;
pub mod state;
