//! Runs repeat inside one process too: one after the other, and side by side.

use crate::start::{parse, start};

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

fn hash(seed: u64) -> String {
    start(parse(SCENARIO), seed, &[], None).recv().unwrap().trace.hash
}

#[test]
fn the_same_seed_gives_the_same_trace_in_a_process_that_has_run_before() {
    assert_eq!(hash(1), hash(1));
}

#[test]
fn runs_side_by_side_do_not_disturb_each_other() {
    let alone = [hash(1), hash(2), hash(3)];
    let together = [1, 2, 3].map(|seed| start(parse(SCENARIO), seed, &[], None));
    let together = together.map(|report| report.recv().unwrap().trace.hash);
    assert_eq!(alone, together);
}

#[test]
fn another_seed_gives_another_trace() {
    assert_ne!(hash(1), hash(2));
}
