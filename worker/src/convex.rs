//! The Convex backend: the connection, the sync protocol over it, and the functions that the worker calls.

pub mod api;
pub mod driver;
mod protocol;
mod transport;
mod values;

pub use api::{Backend, Claim, ReadySession, Registration, Window};
pub use driver::{ConvexClient, Subscription};
