//! What a whole turn costs, from a person's message to its last chunk: claim, prompt, forty deltas, chunks, completion.
//!
//! - `turn/whole`: a world of one worker and its fakes, in memory, with a hundred such turns; of it only what they add
//!   to the same world without them, for each turn;
//! - `turn/engine floor`: compared with it, what as many messages add to as many steps of the bare engine.
//!
//! `turn/reply` in `worker.rs` is the share of it in which the worker reads the reply.

#![allow(missing_docs, reason = "criterion's macros make public items")]

mod run;

use std::time::Duration;

use ::benches::floor::{self, Load};
use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use sim::engine::determinism::wall_clock;
use sim_model::scenario::Scenario;

/// Turns of the world.
const TURNS: u32 = 100;

fn world(turns: u32) -> Scenario {
    let text = format!(
        "duration = '60s'\n[population]\nsessions = 50\n[workload]\nturns = {turns}\nuntil = '50s'\n\
         [replies]\ndeltas = {{ min = 40, max = 40 }}"
    );
    Scenario::parse("turns.toml", "turns", &text).unwrap_or_else(|error| panic!("{error}"))
}

fn took(work: impl FnOnce()) -> Duration {
    let start = wall_clock();
    work();
    wall_clock() - start
}

fn turn(criterion: &mut Criterion) {
    let (busy, idle) = (world(TURNS), world(0));
    let report = run::run(&busy);
    assert_eq!(report.figures.turns["completed"], u64::from(TURNS), "every turn is a whole one");
    let load = Load::of(&busy, &report);
    let nothing = Load { websocket: 0, http: 0, events: 0, ..load.clone() };
    let mut group = criterion.benchmark_group("turn");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(5));
    let each = |work: &dyn Fn(), without: &dyn Fn(), iterations: u64| {
        let all: Duration = (0..iterations).map(|_| took(work).saturating_sub(took(without))).sum();
        all / TURNS
    };
    group.bench_function("whole", |bencher| {
        bencher.iter_custom(|times| each(&|| drop(run::run(&busy)), &|| drop(run::run(&idle)), times));
    });
    group.bench_function("engine floor", |bencher| {
        bencher.iter_custom(|times| each(&|| floor::run(&load), &|| floor::run(&nothing), times));
    });
    group.finish();
}

criterion_group!(benches, turn);
criterion_main!(benches);
