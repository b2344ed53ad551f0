//! What the benchmarks measure, and what they compare it with. The benchmarks themselves are in `benches/`.

pub mod floor;
pub mod functions;
pub mod main_job;
pub mod reply;
pub mod store;
pub mod wire;
