//! The Convex backend: the connection, the sync protocol over it, and the functions that the worker calls.

pub mod api;
pub mod driver;
mod protocol;
mod transport;
mod values;

use crate::{config::ConvexUrl, env::Env};

pub use api::{Backend, Claim, ReadySession, Registration, Window};
pub use driver::{ConvexClient, Subscription};

/// Opens a connection and closes it again: name, TCP, TLS and WebSocket handshake. Says what failed.
pub async fn reach<E: Env>(env: &E, url: &ConvexUrl) -> Result<(), String> {
    transport::Socket::open(env, url).await.map(drop).map_err(|error| error.to_string())
}
