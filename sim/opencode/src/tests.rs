//! The fake against the recordings of the real server, in process, on a paused clock.

mod crash;
mod direct;
mod events;
mod permission;
mod prompting;
mod properties;
mod replay;
mod server;
mod shape;
mod turmoil;
mod worker_client;
mod world;
