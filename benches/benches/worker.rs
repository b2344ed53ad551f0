//! What the worker's own code costs, piece by piece, each beside what it cannot be faster than.
//!
//! | measured | compared with |
//! |---|---|
//! | `event/parse`: one delta event, text in, event out | `event/json`: the same text read as any JSON by serde_json |
//! | `coalescing/reply`: 200 deltas into chunks | `coalescing/append`: the same deltas appended to a string |
//! | `turn/reply`: every event of a reply of 200 deltas parsed and dispatched to its turn, chunks handed out | `turn/parse`: the same events only parsed |
//! | `convex/mutation`: a call through the worker's client, frame out, two frames in, result | `convex/mutation floor`: the same frames over the same connection to the same peer, without the client |
//! | `convex/window`: a Transition with the window in, which turns the inbox starts out | `convex/window floor`: the same frame received and not read |
//!
//! A whole turn, from its message to its last chunk, is in `turn.rs`.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use ::benches::{
    reply::{self, Reply},
    wire::{Floor, Watch, Wire},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::{Builder, Runtime};
use worker::{config::Settings, opencode::events};

/// A usual reply: 20 a second for 10 seconds.
const DELTAS: usize = 200;
/// Where a delta stands among a reply's events.
const SOME_DELTA: usize = 10;

fn event(criterion: &mut Criterion) {
    let reply = Reply::new(DELTAS);
    let data = &reply.events[SOME_DELTA];
    let mut group = criterion.benchmark_group("event");
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("parse", |bencher| bencher.iter(|| events::parse(black_box(data))));
    group.bench_function("json", |bencher| {
        bencher.iter(|| serde_json::from_str::<serde_json::Value>(black_box(data)));
    });
    group.finish();
}

fn coalescing(criterion: &mut Criterion) {
    let reply = Reply::new(DELTAS);
    let mut group = criterion.benchmark_group("coalescing");
    group.throughput(Throughput::Elements(DELTAS as u64));
    group.bench_function("reply", |bencher| bencher.iter(|| reply::coalesce(black_box(&reply.deltas))));
    group.bench_function("append", |bencher| {
        bencher.iter(|| {
            let mut text = String::new();
            black_box(&reply.deltas).iter().for_each(|delta| text.push_str(delta));
            text
        });
    });
    group.finish();
}

fn turn(criterion: &mut Criterion) {
    let (reply, settings) = (Reply::new(DELTAS), Settings::default());
    let mut group = criterion.benchmark_group("turn");
    group.throughput(Throughput::Elements(reply.events.len() as u64));
    group.bench_function("reply", |bencher| bencher.iter(|| reply::reply_of_a_turn(&reply, &settings)));
    group.bench_function("parse", |bencher| {
        bencher.iter(|| {
            reply.events.iter().filter(|data| events::parse(black_box(data.as_str())).is_ok()).count()
        });
    });
    group.finish();
}

fn convex(criterion: &mut Criterion) {
    let runtime = runtime();
    let (wire, mut floor) = runtime.block_on(async { (Wire::new(), Floor::new().await) });
    let mut group = criterion.benchmark_group("convex");
    group.bench_function("mutation", |bencher| bencher.iter(|| runtime.block_on(wire.mutation())));
    group.bench_function("mutation floor", |bencher| bencher.iter(|| runtime.block_on(floor.mutation())));
    let mut watch = runtime.block_on(Watch::new());
    group.bench_function("window", |bencher| bencher.iter(|| runtime.block_on(watch.window())));
    group.bench_function("window floor", |bencher| bencher.iter(|| runtime.block_on(floor.window())));
    group.finish();
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime starts")
}

criterion_group!(benches, event, coalescing, turn, convex);
criterion_main!(benches);
