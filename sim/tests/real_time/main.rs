//! The `worker` binary under `sim`: real processes, real sockets, real time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod load;
mod serve;
mod worker;
