//! Small reports of sweeps for tests.

use std::collections::BTreeMap;

use sim_model::seed::Seed;

use super::{
    outcome::{First, MEASURES, Run, SweptVerdict},
    report::{Ended, Head, Machine, Slow, SweepReport, Swept},
    seeds::SeedRange,
};

/// A run of `some` with this seed, whose figures are its seed.
#[must_use]
pub fn run(seed: u64, verdict: SweptVerdict) -> Run {
    let figure = |name: &str| if name.contains("heap") { seed as f64 * 100_000.0 } else { seed as f64 };
    let first = First { oracle: "stale".into(), at: 1_500_000, message: "a <b>stale</b> | turn".into() };
    Run {
        scenario: "some".into(),
        seed: Seed(seed),
        corpus: false,
        verdict,
        first: (verdict != SweptVerdict::Passed).then_some(first),
        fired: BTreeMap::new(),
        figures: MEASURES.iter().map(|measure| (measure.name.to_owned(), figure(measure.name))).collect(),
        marks: BTreeMap::from([("reply-cut".to_owned(), seed % 2)]),
        trace: format!("{seed:064x}"),
        replay: format!("cargo run -p sim -- some.toml --seed {seed:#x}"),
    }
}

/// A sweep of `some` over as many seeds as are `planned`, of which a kill in mid-reply must be reached.
#[must_use]
pub fn head(planned: u64) -> Head {
    let some = Swept {
        name: "some".into(),
        description: "a test of sweeps".into(),
        path: "some.toml".into(),
        digest: "0123".into(),
        seeds: SeedRange { first: Seed(1), count: planned },
        required_marks: vec!["reply-cut".into()],
    };
    Head { scenarios: vec![some], plants: Vec::new(), shard: None, planned }
}

/// A sweep in which the runs with these seeds failed.
#[must_use]
pub fn sweep(seeds: u64, failed: &[u64]) -> SweepReport {
    let verdict = |seed| if failed.contains(&seed) { SweptVerdict::Safety } else { SweptVerdict::Passed };
    let runs = (1..=seeds).map(|seed| run(seed, verdict(seed))).collect();
    let slowest = vec![Slow { scenario: "some".into(), seed: Seed(2), wall: 0.25 }];
    SweepReport::of(head(seeds), runs, Ended::Complete, Machine { jobs: 2, wall: 0.5, slowest })
}
