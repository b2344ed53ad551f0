//! OpenCode sessions: which are known, and how new ones are made without overwhelming the server.

pub(crate) mod cache;
pub(crate) mod creator;
pub(crate) mod throttle;
