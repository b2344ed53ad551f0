//! What a step of the simulation costs when nobody does anything: `sim` is a world of one idle worker, with fakes,
//! oracles and measurements; compared with it, `turmoil` is as many steps of the bare engine with as many hosts and
//! nothing in them.

#![allow(missing_docs, reason = "criterion's macros make public items")]

mod run;

use std::time::Duration;

use ::benches::floor::{self, Load};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use sim_model::scenario::Scenario;

const IDLE: &str = "duration = '60s'\n[population]\nsessions = 50\n[workload]\nturns = 0";

fn step(criterion: &mut Criterion) {
    let scenario = Scenario::parse("idle.toml", "idle", IDLE).unwrap_or_else(|error| panic!("{error}"));
    let steps = run::run(&scenario).engine.steps;
    let load = Load {
        tick: scenario.tick,
        min_latency: scenario.latency.min.0,
        max_latency: scenario.latency.max.0,
        steps,
        websocket: 0,
        http: 0,
        events: 0,
    };
    let mut group = criterion.benchmark_group("step");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements(steps));
    group.bench_function("sim", |bencher| bencher.iter(|| run::run(&scenario)));
    group.bench_function("turmoil", |bencher| bencher.iter(|| floor::run(&load)));
    group.finish();
}

criterion_group!(benches, step);
criterion_main!(benches);
