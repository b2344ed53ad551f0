//! A stand-in for `opencode serve` 1.18.33: its HTTP API and event stream, with scripted replies.
//!
//! One [`OpenCode`] is one machine: its disk survives restarts. [`OpenCode::start`] gives one server process, which
//! speaks HTTP/1 over any byte stream ([`Server::serve_connection`]): in the simulated network or on loopback.
//! Everything runs in one thread; call it inside a `tokio::task::LocalSet`.
//!
//! Shapes, orders and errors are those that were measured on the real server; the recordings beside this file are
//! replayed by the tests.
//!
//! # Modelled
//! `/global/health`, `/event`, `/experimental/session`, `/session` (list, create, get, patch, delete, children), `/session/status`,
//! `/session/{id}/message` (list with cursors, prompt, one message), `/session/{id}/prompt_async`,
//! `/session/{id}/abort`, `/permission` (list, both ways to reply), `/question` (always empty),
//! `/config/providers`, `/doc`. Basic auth; HTML with status 200 for routes that do not exist.
//!
//! # Not modelled: refused with 501 and [`Observation::Refused`]
//! All other routes of the real server, also `/api/*` and `/global/event`; prompt parts other than text; structured
//! output (`format`); a `messageID` that is taken; creating a session in another directory; bodies over 8 MiB.
//!
//! # Differences that remain
//! * `/experimental/session` knows the parameters of `/session`, `cursor` and `archived`; `workspace` is ignored.
//! * All directories are one project, and there are two of them. A run in a session of the other one publishes its events
//!   to whoever listens to the servers' own.
//! * The web page is a short one of our own (2,884 bytes in the real one); `/doc` names the version and no paths.
//! * The first prompt of a process publishes four of the some fifty events about plugins and catalogues.
//! * The title of a session is made of the prompt's first words, at once; the real one asks the model in parallel.
//! * All events between the phases of a reply carry the same millisecond; the real ones are 1 to 60 ms apart.
//! * Whether a refusal of the model's is asked again is the script's choice; the real server asks again after 429 and 5xx.
//! * A summary is made at once and cannot be aborted; the pauses before a model is asked again have no jitter.
//!
//! # Assumed, because it was not measured
//! * The permission flow: shapes are those of the API description; a refusal ends the turn. Of a child session there is
//!   nothing but its creation, its question and its idleness.
//! * Reasoning parts; and that a tool which is aborted ends as `error`.
//! * Prompts that were queued when a run is aborted or fails stay unanswered.
//! * A deleted session's run goes on and publishes deltas only.
//! * Aborting a session that does not exist publishes idle, as for one that is idle.
//! * Messages are ordered by arrival, also when a prompt brings a `messageID` that sorts elsewhere.
//! * `before` without `limit`; a reader that is 65,536 events behind is cut off (and reported as refused).

mod api;
mod bus;
mod direct;
mod events;
mod faults;
mod ids;
mod observation;
mod opencode;
mod options;
mod permissions;
mod run;
mod script;
mod server;
mod sessions;
mod state;
#[cfg(test)]
mod tests;
mod wire;

pub use direct::Way;
pub use faults::{Faults, NoFaults};
pub use observation::{Observation, ReplyOutcome};
pub use opencode::{OpenCode, StoredMessage};
pub use options::{Latencies, Options, PROVIDER_KEY};
pub use script::{
    Compaction, Content, MAX_DELTA_BYTES, MAX_DELTAS, Outcome, Prompt, PutOff, Reply, Script, ToolCall,
    by_directives,
};
pub use server::Server;
pub use sessions::Place;
pub use wire::{Model, VERSION};
