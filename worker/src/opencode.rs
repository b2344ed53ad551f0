//! Everything about the OpenCode server: its process, its HTTP API and its event stream.
//!
//! ```text
//! Server::acquire ──► Lease ──► client()   one request at a time, bounded      (http, connection, error, types)
//!    │ owner task       ├─────► events(id) one receiver per turn               (registry)
//!    │                  └─────► begin(id)  what is left behind is stopped      (work)
//!    │   supervisor: when to start, back off, stop                (pure)
//!    └── reader: the one event stream of a generation             (reader, body; events parses, pure)
//! ```

pub mod body;
pub mod connection;
pub mod error;
pub mod events;
pub mod generation;
pub mod http;
mod json_text;
pub mod prompt_id;
mod questions;
pub mod reader;
pub mod registry;
pub mod server;
pub mod supervisor;
pub mod types;
pub mod work;

pub use error::ApiError;
pub use events::{Event, EventKind, PermissionAsked};
pub use generation::{Lease, Onlooker, ServerStats};
pub use http::Client;
pub use registry::{EventReceiver, SessionEvent, TapEvent};
pub use server::{Server, ServerError};
pub use types::{
    InvalidId, Message, MessageInfo, ModelRef, OpencodeSessionId, Part, PartKind, PermissionReply,
    RemoteError, Role, Session, Status,
};
pub use work::Work;
