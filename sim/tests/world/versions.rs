//! A worker and functions that do not fit.

use sim_model::plant::Plant;

use crate::start::{facts, parse, start};

/// Two workers and nobody who writes.
const WORLD: &str = "
    duration = '30s'
    workers = 2
    [population]
    sessions = 3
    [workload]
    turns = 0
";

#[test]
fn a_worker_that_is_newer_than_the_functions_ends_and_says_which_to_update() {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace.jsonl");
    let report = start(parse(WORLD), 1, &[Plant::OldFunctions], Some(trace.clone())).recv().unwrap();
    let facts = facts(&trace);
    let all = |event: &'static str| facts.iter().filter(move |fact| fact["event"] == event);

    let exits: Vec<_> = all("exited").map(|fact| fact["exit"]["failed"].as_str().unwrap()).collect();
    assert_eq!(exits.len(), 2, "{exits:?}");
    for exit in exits {
        for part in ["Refused", "functions_too_old", "are older than this worker", "docs/upgrade.md"] {
            assert!(exit.contains(part), "no `{part}` in {exit}");
        }
    }
    // Each has asked once with what the functions do not know and once without; then nothing.
    let called: Vec<_> = all("executed").filter(|fact| fact["caller"] != "scheduler").collect();
    assert!(called.iter().all(|fact| fact["function"] == "workers:register"), "{called:#?}");
    let refused = called.iter().filter(|fact| fact["error"].is_string()).count();
    assert_eq!((called.len(), refused), (4, 2), "{called:#?}");
    assert_eq!(all("server-started").count() + all("panicked").count(), 0);

    // That it ended although nobody had asked it to is all that is noticed.
    let fired: Vec<_> = report.oracles.iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(format!("{fired:?}"), r#"[("lifecycle", 2)]"#, "{:#?}", report.violations);
}
