//! Both fakes on loopback, in real time: a worker is tried against them by hand, or by a test.
//!
//! ```text
//! deployment   the fake Convex on a port, with the real functions and a machine to work on
//! opencode     the executable that the worker starts instead of OpenCode
//! person       what the demo person calls
//! approver    approves the worker and tells what becomes of it
//! chat         sends messages and shows the replies as they come
//! guide        says how to start the worker
//! ```
//!
//! Run everything inside a `tokio::task::LocalSet`. Nothing listens outside loopback.

pub mod approver;
pub mod chat;
pub mod deployment;
pub mod guide;
pub mod opencode;
pub mod person;
pub mod screen;

/// Unix time in nanoseconds, by the real clock.
#[expect(clippy::disallowed_methods, reason = "this is where the wall clock enters what is served")]
#[must_use]
pub fn unix_nanos() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
