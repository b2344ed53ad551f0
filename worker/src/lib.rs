//! The worker: connects a Convex backend, where people chat, with a local OpenCode server, which does the work.

pub mod config;
pub mod env;
pub mod opencode;
