//! What the fake Convex costs, piece by piece, each beside what it cannot be faster than.
//!
//! | measured | compared with |
//! |---|---|
//! | `store/insert`: 1,000 turns inserted and committed, with four indexes, into 10,000 | `store/insert floor`: as many entries into four plain maps of the same size |
//! | `store/query`: 16 turns by an index, read set noted | `store/query floor`: the same range of a plain map |
//! | `store/paginate`: a page of 16, with its cursor | `store/query` |
//! | `store/invalidate`: a commit against 1,000 live queries | `store/invalidate floor`: each query's read set asked in turn |
//! | `isolate/query`: a function that reads next to nothing, by its public name | `store/query`: what such a function does besides the engine |
//! | `isolate/mix`: send, claim, four chunks and completion, per turn | `isolate/query`, seven times |

#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::{cell::RefCell, collections::BTreeMap, hint::black_box, rc::Rc};

use ::benches::{
    functions::{Backend, Mix},
    store::Turns,
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fake_convex::subscriptions::{Subscription, Subscriptions};
use tokio::sync::Notify;

/// Turns in the store.
const COUNT: u64 = 10_000;
/// Turns inserted in one iteration.
const INSERTS: u64 = 1_000;
/// Sessions that they belong to.
const SESSIONS: u64 = 500;
/// Live queries.
const QUERIES: u64 = 1_000;
/// Rows of a query and of a page.
const ROWS: usize = 16;

/// Each iteration begins with a store of [`COUNT`] and makes it a tenth larger: it does not grow from one to the next.
fn insert(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store");
    group.throughput(Throughput::Elements(INSERTS)).sample_size(20);
    group.bench_function("insert", |bencher| {
        bencher.iter_batched_ref(
            || Turns::new(COUNT, SESSIONS),
            |turns| (COUNT..COUNT + INSERTS).for_each(|number| drop(black_box(turns.insert(number)))),
            BatchSize::PerIteration,
        );
    });
    let plain: BTreeMap<Vec<u8>, u64> =
        Turns::new(COUNT, SESSIONS).entries().keys().cloned().zip(0..).collect();
    group.bench_function("insert floor", |bencher| {
        bencher.iter_batched_ref(
            || [(); 4].map(|()| plain.clone()),
            |maps| {
                for number in COUNT..COUNT + INSERTS {
                    let key = [&number.wrapping_mul(0x9e37_79b9).to_be_bytes()[..], &[7; 40]].concat();
                    for map in maps.iter_mut() {
                        black_box(map.insert(key.clone(), number));
                    }
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn query(criterion: &mut Criterion) {
    let turns = Turns::new(COUNT, SESSIONS);
    let mut group = criterion.benchmark_group("store");
    group.bench_function("query", |bencher| bencher.iter(|| turns.of_session(black_box(77), ROWS)));
    let (start, end) = turns.interval(77);
    let end = end.expect("a prefix has an end");
    group.bench_function("query floor", |bencher| {
        bencher.iter(|| {
            let found = turns.entries().range::<Vec<u8>, _>(black_box(&start)..black_box(&end)).take(ROWS);
            found.map(|(_, document)| Rc::clone(document)).collect::<Vec<_>>()
        });
    });
    group.bench_function("paginate", |bencher| bencher.iter(|| turns.page(black_box(77), ROWS)));
    group.finish();
}

fn invalidate(criterion: &mut Criterion) {
    let mut turns = Turns::new(COUNT, SESSIONS);
    let reads: Vec<_> = (0..QUERIES).map(|query| turns.of_session(query % SESSIONS, ROWS).1).collect();
    let touched = turns.insert(77);
    let (all, wake) = (Rc::new(RefCell::new(Subscriptions::default())), Rc::new(Notify::new()));
    let mut group = criterion.benchmark_group("store");
    let watch = || -> Vec<Subscription> {
        reads.iter().map(|reads| Subscription::new(&all, reads.clone(), &wake)).collect()
    };
    group.bench_function("invalidate", |bencher| {
        let _live = watch();
        bencher.iter(|| all.borrow_mut().invalidate(black_box(&touched)));
    });
    group.bench_function("invalidate floor", |bencher| {
        bencher.iter(|| reads.iter().flatten().filter(|read| read.is_hit_by(black_box(&touched))).count());
    });
    group.finish();
}

fn isolate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("isolate");
    let backend = Backend::new(8);
    group.bench_function("query", |bencher| bencher.iter(|| backend.window()));
    let mix = Mix { turns: 1, chunks: 4, windows: 0 };
    group.bench_function("mix", |bencher| {
        bencher.iter_batched(|| (), |()| backend.run(mix), BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(benches, insert, query, invalidate, isolate);
criterion_main!(benches);
