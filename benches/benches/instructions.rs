//! How many instructions the same pieces take, counted by valgrind: a number that hardly moves, on a busy machine too.
//! Compared with the run before, which gungraun keeps in `target/gungraun`.
//!
//! | counted | timed as |
//! |---|---|
//! | `event`: one delta event parsed and dispatched to its turn | `event/parse` in `worker.rs` |
//! | `window`: a Transition with the window in, which turns start out | `convex/window` in `worker.rs` |
//! | `coalescing`: 200 deltas into chunks | `coalescing/reply` in `worker.rs` |
//! | `isolate`: a function that reads next to nothing | `isolate/query` in `backend.rs` |
//! | `insert`, `query`: a turn inserted, 16 turns by an index, among 10,000 | `store/…` in `backend.rs` |
//!
//! Needs `valgrind` and `cargo install gungraun-runner --version 0.20.0`; without them it is skipped, and says so. As a
//! test, which is how it is run without `--bench`, each piece runs once and nothing is counted.

#![allow(missing_docs, reason = "gungraun's macros make public items")]
#![expect(clippy::print_stdout, reason = "what is skipped is said")]

use std::env;

/// What counts, if it is installed.
const NEEDED: [(&str, &str); 2] = [
    ("valgrind", "install it with the system's packages"),
    ("gungraun-runner", "cargo install gungraun-runner --version 0.20.0"),
];

/// How gungraun starts this again under valgrind.
const INSIDE: &str = "--gungraun-run";

/// What is counted, and what each begins with.
mod pieces {
    use std::hint::black_box;

    use ::benches::{
        functions::Backend,
        reply::{self, Listening, Reply},
        store::Turns,
        wire::Watch,
    };
    use tokio::runtime::{Builder, Runtime};

    /// A usual reply: 20 a second for 10 seconds.
    const DELTAS: usize = 200;

    pub(super) fn listening() -> (Listening, String) {
        let reply = Reply::new(DELTAS);
        (Listening::to_a_reply(&reply), reply.events[10].clone())
    }

    pub(super) fn event((mut turn, data): (Listening, String)) -> (Listening, usize) {
        let actions = turn.hear(black_box(&data));
        (turn, actions)
    }

    pub(super) fn watch() -> (Runtime, Watch) {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let mut watch = runtime.block_on(Watch::new());
        runtime.block_on(watch.window());
        (runtime, watch)
    }

    pub(super) fn window((runtime, mut watch): (Runtime, Watch)) -> (Runtime, Watch) {
        black_box(runtime.block_on(watch.window()));
        (runtime, watch)
    }

    pub(super) fn deltas() -> Vec<String> {
        Reply::new(DELTAS).deltas
    }

    pub(super) fn coalescing(deltas: Vec<String>) -> (Vec<String>, usize) {
        let chunks = reply::coalesce(black_box(&deltas));
        (deltas, chunks)
    }

    pub(super) fn backend() -> Backend {
        let backend = Backend::new(8);
        drop(backend.window());
        backend
    }

    pub(super) fn isolate(backend: Backend) -> Backend {
        black_box(backend.window());
        backend
    }

    pub(super) fn turns() -> Turns {
        Turns::new(10_000, 500)
    }

    pub(super) fn insert(mut turns: Turns) -> Turns {
        black_box(turns.insert(10_000));
        turns
    }

    pub(super) fn query(turns: Turns) -> Turns {
        black_box(turns.of_session(black_box(77), 16));
        turns
    }

    /// Each piece once.
    pub(super) fn run_once() {
        drop((event(listening()), window(watch()), coalescing(deltas())));
        drop((isolate(backend()), insert(turns()), query(turns())));
    }
}

/// What they are given is made and dropped uncounted.
#[expect(clippy::exit, reason = "gungraun's macro ends the process if the runner fails")]
mod counted {
    use ::benches::{functions::Backend, reply::Listening, store::Turns, wire::Watch};
    use gungraun::{library_benchmark, library_benchmark_group};
    use tokio::runtime::Runtime;

    use super::pieces;

    #[library_benchmark]
    #[bench::delta(setup = pieces::listening)]
    fn event(given: (Listening, String)) -> (Listening, usize) {
        pieces::event(given)
    }

    #[library_benchmark]
    #[bench::one_turn(setup = pieces::watch)]
    fn window(given: (Runtime, Watch)) -> (Runtime, Watch) {
        pieces::window(given)
    }

    #[library_benchmark]
    #[bench::reply(setup = pieces::deltas)]
    fn coalescing(given: Vec<String>) -> (Vec<String>, usize) {
        pieces::coalescing(given)
    }

    #[library_benchmark]
    #[bench::query(setup = pieces::backend)]
    fn isolate(given: Backend) -> Backend {
        pieces::isolate(given)
    }

    #[library_benchmark]
    #[bench::turn(setup = pieces::turns)]
    fn insert(given: Turns) -> Turns {
        pieces::insert(given)
    }

    #[library_benchmark]
    #[bench::by_index(setup = pieces::turns)]
    fn query(given: Turns) -> Turns {
        pieces::query(given)
    }

    library_benchmark_group!(name = all, benchmarks = [event, window, coalescing, isolate, insert, query]);
    gungraun::main!(library_benchmark_groups = all);

    /// What gungraun made of it.
    pub(super) fn count() {
        main();
    }
}

fn main() {
    let asked = |flag: &str| env::args().any(|argument| argument == flag);
    if asked(INSIDE) {
        return counted::count();
    }
    if !asked("--bench") || asked("--test") {
        return pieces::run_once();
    }
    match NEEDED.into_iter().find(|(tool, _)| !is_installed(tool)) {
        Some((tool, how)) => println!("skipped: counting instructions needs `{tool}` ({how})"),
        None => counted::count(),
    }
}

fn is_installed(tool: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|place| place.join(tool).is_file())
}
