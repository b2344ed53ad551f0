//! Turns: which to start, how one runs, and what its reply is made of.

pub mod driver;
pub mod failure;
pub mod inbox;
pub mod permissions;
pub mod state;
