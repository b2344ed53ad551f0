//! A worker's life: registration, approval, readiness, recovery and the end.

pub mod heartbeat;
pub mod state;
