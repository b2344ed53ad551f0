//! What keeps the source tree as ARCHITECTURE.md describes it.

mod circles;
mod uses;
