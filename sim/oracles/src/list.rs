//! Which oracles watch a run.

use std::time::Duration;

use sim_model::scenario::Scenario;

use crate::{
    answered::Answered,
    bounded_reads::BoundedReads,
    chunks::Chunks,
    cleanup::Cleanup,
    converges::Converges,
    fairness::Fairness,
    fencing::Fencing,
    lazy::Lazy,
    lifecycle::Lifecycle,
    memory::Memory,
    no_panic::NoPanic,
    oracle::Oracle,
    resident::{Ceilings, Resident},
    stale::Stale,
    sync_cost::SyncCost,
    throttle::Throttle,
};

/// From where a worker is watched.
#[derive(Debug, Clone, Copy)]
pub enum View {
    /// In simulation: its heap, its cache and its phases are seen.
    Inside,
    /// In real time, as a process: it shows no heap and no cache, so resident memory stands for both, and no phases.
    Outside {
        /// By how much requests may bunch on their way over loopback.
        spread: Duration,
        /// How much memory may be resident.
        ceilings: Ceilings,
    },
}

/// The oracles that watch a run of `scenario`, in the order in which they see each fact.
#[must_use]
pub fn all(scenario: &Scenario, view: View) -> Vec<Box<dyn Oracle>> {
    let limits = &scenario.limits;
    let (memory, spread): (Box<dyn Oracle>, _) = match view {
        View::Inside => (Box::new(Memory::new(limits)), scenario.network_spread()),
        View::Outside { spread, ceilings } => (Box::new(Resident::new(ceilings)), spread),
    };
    let mut oracles: Vec<Box<dyn Oracle>> = vec![
        memory,
        Box::new(Throttle::new(limits, spread)),
        Box::new(Stale::default()),
        Box::new(Answered::default()),
        Box::new(Chunks::default()),
        Box::new(Lazy::default()),
        Box::new(BoundedReads::new(limits)),
        Box::new(SyncCost::new(limits)),
        Box::new(Fencing::default()),
        Box::new(Cleanup::default()),
        Box::new(NoPanic),
    ];
    if matches!(view, View::Inside) {
        oracles.push(Box::new(Fairness::new(scenario)));
        oracles.push(Box::new(Lifecycle::new(scenario)));
    }
    if scenario.settings.sync.enabled {
        oracles.push(Box::new(Converges::new(limits)));
    }
    oracles
}
