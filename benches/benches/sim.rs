//! How fast the main job runs, beside what it cannot be faster than.
//!
//! - `scenario`: `scenarios/500-sessions.toml` as a whole, with everything: worker, fakes, trace and oracles;
//! - `engine floor`: compared with it, turmoil alone with the same number of hosts, steps and messages
//!   ([`benches::floor`]);
//! - `function calls`: compared with it, the backend functions alone, as often as the scenario calls them
//!   ([`benches::functions`]).
//!
//! The last lines print the scenario's time per simulated second and per turn, and its ratio to floor and calls
//! together. The target is 2.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![expect(clippy::print_stdout, reason = "the ratio is the result")]

use std::time::Duration;

use ::benches::{
    floor::{self, Load},
    functions::{Backend, Mix},
    main_job,
};
use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, criterion_group, criterion_main, measurement::WallTime,
};
use sim::{report::Report, world::determinism::wall_clock};

/// The target for the scenario's time over floor and calls (design: numbers to beat).
const TARGET: f64 = 2.0;

fn main_job(criterion: &mut Criterion) {
    let scenario = main_job::scenario();
    let report = main_job::run(&scenario);
    let (load, mix) = (Load::of(&scenario, &report), Mix::of(&report));
    let mut group = criterion.benchmark_group("500-sessions");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).warm_up_time(Duration::from_millis(100));
    group.measurement_time(Duration::from_secs(1));
    let whole = measure(&mut group, "scenario", || main_job::run(&scenario).engine.wall);
    let engine = measure(&mut group, "engine floor", || timed(|| floor::run(&load)));
    let calls = measure(&mut group, "function calls", || {
        let backend = Backend::new(scenario.population.sessions as u64);
        timed(|| backend.run(mix))
    });
    group.finish();
    summarise(&report, &load, &mix, [whole, engine, calls]);
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = wall_clock();
    work();
    (wall_clock() - start).as_secs_f64()
}

/// Benchmarks `work`, which returns its own time in seconds. Returns the median of all samples.
fn measure(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut work: impl FnMut() -> f64) -> f64 {
    let mut seconds = Vec::new();
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let run: Vec<_> = (0..iterations).map(|_| work()).collect();
            seconds.extend_from_slice(&run);
            Duration::from_secs_f64(run.iter().sum())
        });
    });
    seconds.sort_by(f64::total_cmp);
    // Empty when a filter on the command line leaves this one out.
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

fn summarise(report: &Report, load: &Load, mix: &Mix, [whole, engine, calls]: [f64; 3]) {
    let turns: u64 = report.figures.turns.values().sum();
    let Load { steps, websocket, http, events, .. } = load;
    println!(
        "scenario        {:.2} ms per simulated second, {:.2} ms per turn",
        per(whole, report.engine.simulated),
        per(whole, turns as f64)
    );
    println!(
        "engine floor    {engine:.2} s: {steps} steps, {websocket} + {http} round trips (WebSocket + HTTP), {events} events"
    );
    println!(
        "function calls  {calls:.2} s: {} of them, {:.0} µs each",
        mix.calls(),
        1e3 * per(calls, mix.calls() as f64)
    );
    println!("ratio           {:.2} (target: at most {TARGET})", whole / (engine + calls));
}

/// Milliseconds for one of `count`.
fn per(seconds: f64, count: f64) -> f64 {
    1e3 * seconds / count
}

criterion_group!(benches, main_job);
criterion_main!(benches);
