//! The `sim` command as people and scripts meet it: arguments, exit codes, output, files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod example;
mod gate;
mod page;
mod place;
mod run;
mod schema;
mod sweep;
#[expect(dead_code, reason = "here only the binary is needed")]
#[path = "../real_time/worker.rs"]
mod worker;
