//! OpenCode sessions: which are known, and how new ones are made without overwhelming the server.

pub mod cache;
pub mod creator;
pub mod throttle;
