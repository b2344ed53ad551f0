//! What the benchmarks measure, and what they compare it with. The benchmarks themselves are in `benches/`.

pub mod floor;
pub mod functions;
pub mod reply;
pub mod store;
pub mod wire;

/// The seed of all measurements, so that they do the same work.
pub const SEED: sim_model::seed::Seed = sim_model::seed::Seed(1);
