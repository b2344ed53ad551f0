//! Runs repeat inside one process too: one after the other, and side by side.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::{Arc, mpsc};

use sim::{
    report::Report,
    scenario::Scenario,
    seed::Seed,
    world::{self, Order, progress::Progress},
};

const SCENARIO: &str = "
duration = '12s'
[population]
sessions = 4
missing_in_opencode = 2
stale_pending = 2
[workload]
turns = 8
[[faults]]
at = '5s'
kind = 'kill'
when = 'in-mid-reply'
";

fn start(seed: u64) -> mpsc::Receiver<Report> {
    let order = Order {
        scenario: Scenario::parse("some.toml", "some", SCENARIO).unwrap(),
        seed: Seed(seed),
        plants: Vec::new(),
        trace: None,
        replay: String::new(),
    };
    let (sender, receiver) = mpsc::channel();
    world::start(order, Arc::new(Progress::default()), move |report| sender.send(report.unwrap()).unwrap());
    receiver
}

fn hash(seed: u64) -> String {
    start(seed).recv().unwrap().trace.hash
}

#[test]
fn the_same_seed_gives_the_same_trace_in_a_process_that_has_run_before() {
    assert_eq!(hash(1), hash(1));
}

#[test]
fn runs_side_by_side_do_not_disturb_each_other() {
    let alone = [hash(1), hash(2), hash(3)];
    let together = [1, 2, 3].map(start).map(|report| report.recv().unwrap().trace.hash);
    assert_eq!(alone, together);
}

#[test]
fn another_seed_gives_another_trace() {
    assert_ne!(hash(1), hash(2));
}
