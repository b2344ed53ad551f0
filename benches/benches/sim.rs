//! How fast the main job runs, beside what it cannot be faster than.
//!
//! - `scenario`: `scenarios/500-sessions.toml` as a whole, with everything: worker, fakes, trace and oracles;
//! - `engine floor`: compared with it, turmoil alone with the same number of hosts, steps and messages
//!   ([`benches::floor`]);
//! - `function calls`: compared with it, the backend functions alone, as often as the scenario calls them
//!   ([`benches::functions`]).
//!
//! The last lines print the scenario's time per simulated second and per turn, and its ratio to floor and calls
//! together. Criterion shows wall time; the ratio is of processor time, and of the fastest samples, because the three
//! are measured one after the other and a machine that others use slows them unequally.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![expect(clippy::print_stdout, reason = "the ratio is the result")]

mod run;

use std::{path::Path, time::Duration};

use ::benches::{
    floor::{self, Load},
    functions::{Backend, Mix},
};
use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, criterion_group, criterion_main, measurement::WallTime,
};
use rustix::time::{ClockId, clock_gettime};
use sim::engine::determinism::wall_clock;
use sim_model::scenario::Scenario;
use sim_report::Report;

/// Where the scenario is.
const SCENARIO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/500-sessions.toml");

/// Reads the scenario.
///
/// # Panics
/// If it cannot be read: then there is nothing to measure.
#[must_use]
fn scenario() -> Scenario {
    Scenario::read(Path::new(SCENARIO)).unwrap_or_else(|error| panic!("{}", error.render(false)))
}

/// The target for the scenario's time over floor and calls (what the project aims at).
const TARGET: f64 = 2.0;

fn whole_job(criterion: &mut Criterion) {
    let scenario = scenario();
    let report = run::run(&scenario);
    let (load, mix) = (Load::of(&scenario, &report), Mix::of(&report));
    let mut group = criterion.benchmark_group("500-sessions");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).warm_up_time(Duration::from_millis(100));
    group.measurement_time(Duration::from_secs(1));
    let whole = measure(&mut group, "scenario", || run::run(&scenario).engine.wall);
    let engine = measure(&mut group, "engine floor", || timed(|| floor::run(&load)));
    let backend = Backend::new(scenario.population.sessions);
    let calls = measure(&mut group, "function calls", || timed(|| backend.run(mix)));
    group.finish();
    summarise(&report, &load, &mix, [whole, engine, calls]);
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = wall_clock();
    work();
    (wall_clock() - start).as_secs_f64()
}

/// The processor time of this process, in seconds.
fn processor() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The fastest samples, in seconds. Infinite when a filter on the command line left a benchmark out.
#[derive(Clone, Copy)]
struct Fastest {
    wall: f64,
    processor: f64,
}

/// Benchmarks `work`, which returns its own wall time in seconds.
fn measure(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut work: impl FnMut() -> f64) -> Fastest {
    let mut fastest = Fastest { wall: f64::INFINITY, processor: f64::INFINITY };
    let mut sample = || {
        let start = processor();
        let wall = work();
        fastest.wall = fastest.wall.min(wall);
        fastest.processor = fastest.processor.min(processor() - start);
        wall
    };
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| Duration::from_secs_f64((0..iterations).map(|_| sample()).sum()));
    });
    fastest
}

fn summarise(report: &Report, load: &Load, mix: &Mix, [whole, engine, calls]: [Fastest; 3]) {
    let turns: u64 = report.figures.turns.values().sum();
    let (second, turn) = (per(whole.wall, report.engine.simulated), per(whole.wall, turns as f64));
    let Load { steps, websocket, http, events, .. } = load;
    let call = 1e3 * per(calls.wall, mix.calls() as f64);
    println!(
        "scenario        {:.2} s: {second:.2} ms per simulated second, {turn:.2} ms per turn",
        whole.wall
    );
    println!(
        "engine floor    {:.2} s: {steps} steps, {websocket} WebSocket and {http} HTTP round trips, {events} events",
        engine.wall
    );
    println!("function calls  {:.2} s: {} calls, {call:.0} µs each", calls.wall, mix.calls());
    println!(
        "ratio           {:.2} (target: at most {TARGET}), processor time",
        whole.processor / (engine.processor + calls.processor)
    );
}

/// Milliseconds for one of `count`.
fn per(seconds: f64, count: f64) -> f64 {
    1e3 * seconds / count
}

criterion_group!(benches, whole_job);
criterion_main!(benches);
