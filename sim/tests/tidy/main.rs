//! What keeps the source tree and its documents as ARCHITECTURE.md describes them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod calls;
mod circles;
mod uses;
