//! Everything about the OpenCode server: its process, its HTTP API and its event stream.
//!
//! ```text
//! Server::acquire ──► Lease ──► client()   one request at a time, bounded      (http, connection, error, types)
//!    │ owner task       ├─────► events(id) one receiver per turn               (registry)
//!    │                  └─────► begin(id)  what is left behind is stopped      (active_prompt, maybe_busy)
//!    │   supervisor: when to start, back off, stop                (pure)
//!    └── reader: the one event stream of a generation             (reader, body; events parses, pure)
//! ```
//!
//! What comments here and in `turns` call measured was seen with OpenCode 1.18.33. `cargo run -p conformance -- --record`
//! measures again, with the OpenCode that is installed.

pub(crate) mod active_prompt;
pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod directory;
pub(crate) mod error;
pub mod events;
pub(crate) mod generation;
pub(crate) mod http;
pub(crate) mod id;
mod json_text;
pub(crate) mod lease;
mod maybe_busy;
pub mod prompt_id;
mod questions;
pub(crate) mod reader;
pub(crate) mod registry;
pub(crate) mod server;
pub(crate) mod stats;
pub(crate) mod supervisor;
pub(crate) mod types;

pub use active_prompt::ActivePrompt;
pub use error::ApiError;
pub use events::{Event, EventKind};
pub use http::Client;
pub use id::{InvalidId, ModelRef, OpencodeSessionId};
pub use lease::{Lease, ServerWatch};
pub use registry::{EventReceiver, SessionEvent, TapEvent};
pub use server::{Server, ServerError};
pub use stats::ServerStats;
pub use types::{
    Message, MessageInfo, Part, PartKind, PermissionAsked, PermissionReply, RemoteError, Role, Session,
    SessionStatus, ToolCall, ToolRef,
};
