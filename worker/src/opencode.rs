//! Everything about the OpenCode server: its process, its HTTP API and its event stream.

pub mod events;
pub mod http;
pub mod server;
