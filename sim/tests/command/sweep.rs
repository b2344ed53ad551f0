//! Many seeds, shards, the corpus, shrinking and replaying, as people and scripts meet them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::place::Place;

/// A short life with a kill in it. The limits on memory are wide: what they are is not tested here.
const SCENARIO: &str = "
description = 'a test'
duration = '10s'
[population]
sessions = 4
[workload]
turns = 6
[replies]
deltas = { min = 2, max = 10 }
[[faults]]
at = '6s'
kind = 'kill'
[limits]
worker_heap_above_idle = '64MiB'
";

impl Place {
    /// Processes that are at work here.
    fn processes(&self) -> usize {
        let here = |entry: &fs::DirEntry| {
            fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == self.path())
        };
        fs::read_dir("/proc").unwrap().filter(|entry| entry.as_ref().is_ok_and(here)).count()
    }
}

fn seeds(report: &Value) -> Vec<&str> {
    report["runs"].as_array().unwrap().iter().map(|run| run["seed"].as_str().unwrap()).collect()
}

#[test]
fn a_sweep_that_passes_says_what_it_ran_and_leaves_reports() {
    let place = Place::with(SCENARIO);
    let (out, err) = place.check(&["some.toml", "--seeds", "4", "--jobs", "2", "--junit", "junit.xml"], 0);
    assert_eq!(err, "");
    for expected in ["0x1 to 0x4, 4 in all", "runs         4, 2 at once", "4 runs in", "passed: every oracle"]
    {
        assert!(out.contains(expected), "no `{expected}` in:\n{out}");
    }
    assert!(!out.contains('\u{1b}'), "colours without a terminal");
    let report = place.json("reports/sweep-some.json");
    assert_eq!(
        (&report["kind"], &report["schema"], &report["ended"]),
        (&json!("sweep"), &json!(1), &json!("complete"))
    );
    assert_eq!(seeds(&report), ["0x1", "0x2", "0x3", "0x4"]);
    assert!(report["runs"][0]["figures"]["turns"].as_f64() > Some(0.0), "{report}");
    assert!(place.read("reports/sweep-some.html").contains("<title>Passed: sweep of some</title>"));
    assert_eq!(place.read("junit.xml").matches("<testcase").count(), 4);
    assert!(!place.path().join("reports/corpus.toml").exists());
}

#[test]
fn a_run_of_a_sweep_is_the_run_that_it_is_alone() {
    let place = Place::with(SCENARIO);
    place.check(&["some.toml", "--seeds", "7..9", "--quiet"], 0);
    place.check(&["some.toml", "--seed", "8", "--quiet"], 0);
    let (sweep, run) = (place.json("reports/sweep-some.json"), place.json("reports/some-0x8.json"));
    assert_eq!(sweep["runs"][1]["trace"], run["trace"]["hash"]);
}

#[test]
fn several_scenarios_take_turns_in_one_sweep() {
    let place = Place::with(SCENARIO);
    fs::write(place.path().join("other.toml"), SCENARIO).unwrap();
    place.check(&["some.toml", "other.toml", "--seeds", "2", "--quiet"], 0);
    assert_eq!(seeds(&place.json("reports/sweep-2-scenarios.json")), ["0x1", "0x2", "0x1", "0x2"]);
    place.check(&["some.toml", "other.toml", "--quiet", "--markdown", "-"], 0);
    assert_eq!(seeds(&place.json("reports/sweep-2-scenarios.json")), ["0x1", "0x1"]);
}

#[test]
fn wrong_usage_is_explained() {
    let place = Place::with(SCENARIO);
    for (arguments, expected) in [
        (&["some.toml", "--seeds", "many"][..], "`many` does not say which seeds"),
        (&["some.toml", "--seeds", "5..5"], "has no seed in it"),
        (&["some.toml", "--seeds", "2", "--shard", "3/2"], "`3/2` is not a shard"),
        (&["some.toml", "--seeds", "2", "--jobs", "0"], "--jobs"),
        (&["some.toml", "--seeds", "2", "--time-limit", "soon"], "--time-limit"),
        (&["some.toml", "--jobs", "2"], "--jobs is for many seeds"),
        (&["some.toml", "--fail-fast"], "--fail-fast is for many seeds"),
        (&["some.toml", "--seeds", "1..3", "--seed", "1"], "already says where to begin"),
        (&["some.toml", "--seeds", "2", "--trace", "t"], "--trace is for one run"),
        (&["some.toml", "--seeds", "2", "--check-determinism"], "--check-determinism is for one run"),
        (&["some.toml", "some.toml"], "two of the scenarios are called `some`"),
        (&["some.toml", "nowhere.toml"], "cannot read scenario `nowhere.toml`"),
        (&["merge"], "required"),
        (&["merge", "some.toml"], "`some.toml` is not a report"),
        (&["replay", "nowhere.json"], "cannot read the report `nowhere.json`"),
        (&["shrink", "some.toml"], "the scenario has no seed of its own"),
        (&["shrink", "some.toml", "--seed", "1"], "there is nothing to shrink"),
    ] {
        let (_, err) = place.check(arguments, 2);
        assert!(err.contains(expected), "no `{expected}` in:\n{err}");
    }
    let broken = Place::with("duration = '1min'\n[population]\nsesions = 3\n");
    let (_, err) = broken.check(&["some.toml", "--seeds", "3"], 2);
    assert!(err.contains("some.toml:3:1") && err.contains("did you mean `sessions`?"), "{err}");
}

#[test]
fn a_failing_sweep_names_its_seeds_and_remembers_them() {
    let place = Place::with(&SCENARIO.replace("64MiB", "1B"));
    let (out, _) = place.check(&["some.toml", "--seeds", "2"], 10);
    for expected in
        ["FAIL  some 0x1  memory at", "cargo run -p sim -- some.toml --seed 0x2", "2 of 2 runs failed"]
    {
        assert!(out.contains(expected), "no `{expected}` in:\n{out}");
    }
    assert!(place.path().join("reports/some-0x2.html").exists(), "a failed run has a page of its own");

    // What failed is run before anything else, the newest first.
    let (out, _) = place.check(&["some.toml", "--seeds", "8..=9", "--fail-fast", "--jobs", "1"], 10);
    assert!(out.contains("first        2 that failed before"), "{out}");
    assert!(out.contains("only 1 of 4 runs were made: it was to end at the first failure"), "{out}");
    let report = place.json("reports/sweep-some.json");
    assert_eq!((seeds(&report), &report["runs"][0]["corpus"]), (vec!["0x2"], &json!(true)));
}

#[test]
fn what_a_planted_bug_breaks_is_not_remembered() {
    let place = Place::with(SCENARIO);
    place.check(&["some.toml", "--seeds", "1", "--plant", "claim-off", "--quiet"], 10);
    assert!(!place.path().join("reports/corpus.toml").exists());
}

#[test]
fn an_interrupted_sweep_leaves_a_partial_report_and_no_process() {
    let place = Place::with(&SCENARIO.replace("10s", "1000h"));
    assert_eq!(place.interrupt(&["some.toml", "--seeds", "9", "--jobs", "2"]), Some(130));
    let report = place.json("reports/sweep-some.json");
    assert_eq!((&report["verdict"], &report["ended"]), (&json!("interrupted"), &json!("interrupted")));
    assert_eq!((seeds(&report).len(), &report["planned"]), (0, &json!(9)));
    assert_eq!(place.processes(), 0);
}

#[test]
fn a_sweep_ends_when_its_time_is_up() {
    let place = Place::with(&SCENARIO.replace("10s", "1000h"));
    let (out, _) = place.check(&["some.toml", "--seeds", "9", "--time-limit", "1s"], 0);
    assert!(out.contains("only 0 of 9 runs were made: its time was up"), "{out}");
    assert_eq!(place.processes(), 0);
}

#[test]
fn three_shards_put_together_are_the_sweep() {
    let place = Place::with(SCENARIO);
    place.check(&["some.toml", "--seeds", "7", "--quiet", "--report", "whole"], 0);
    for shard in ["1/3", "2/3", "3/3"] {
        place.check(&["some.toml", "--seeds", "7", "--quiet", "--report", "parts", "--shard", shard], 0);
    }
    let parts = [
        "parts/sweep-some-shard-1-of-3.json",
        "parts/sweep-some-shard-2-of-3.json",
        "parts/sweep-some-shard-3-of-3.json",
    ];
    assert_eq!(seeds(&place.json(parts[1])), ["0x2", "0x5"]);
    place.check(&["merge", parts[2], parts[0], parts[1], "--quiet", "--report", "merged"], 0);
    let repeating = |file: &str| {
        let mut report = place.json(file);
        report.as_object_mut().unwrap().remove("machine").unwrap();
        report
    };
    assert_eq!(repeating("merged/sweep-some.json"), repeating("whole/sweep-some.json"));

    let (_, err) = place.check(&["merge", parts[0], parts[2]], 2);
    assert!(err.contains("shards are missing: 2"), "{err}");
    let (_, err) = place.check(&["merge", "whole/sweep-some.json"], 2);
    assert!(err.contains("is of a whole sweep, not of a shard"), "{err}");
}

#[test]
fn a_state_that_must_be_reached_and_is_not_fails_the_sweep_as_a_whole() {
    let place = Place::with(&format!("required_marks = ['zombie-write-refused']\n{SCENARIO}"));
    let (out, _) = place.check(&["some.toml", "--seeds", "2"], 14);
    assert!(out.contains("FAILED: no run reached zombie-write-refused"), "{out}");
    for shard in ["1/2", "2/2"] {
        place.check(&["some.toml", "--seeds", "2", "--shard", shard, "--quiet"], 0);
    }
    let shards = ["reports/sweep-some-shard-1-of-2.json", "reports/sweep-some-shard-2-of-2.json"];
    let (out, _) = place.check(&["merge", shards[0], shards[1], "--quiet", "--annotations", "github"], 14);
    assert!(
        out.starts_with("::error file=some.toml,title=some%3A zombie-write-refused was not reached::"),
        "{out}"
    );
    let (out, _) = place.check(&["merge", shards[0], "--annotations", "github"], 2);
    assert_eq!(out, "::error title=the sweep cannot be judged::shards are missing: 2\n");
}

#[test]
fn an_empty_shard_passes() {
    let place = Place::with(SCENARIO);
    let (out, _) = place.check(&["some.toml", "--seeds", "1", "--shard", "5/5"], 0);
    assert!(out.contains("0 runs in"), "{out}");
    assert_eq!(seeds(&place.json("reports/sweep-some-shard-5-of-5.json")).len(), 0);
}

#[test]
fn a_report_is_replayed_and_what_differs_is_said() {
    let place = Place::with(&SCENARIO.replace("64MiB", "1B"));
    place.check(&["some.toml", "--seed", "7", "--plant", "claim-off", "--quiet"], 10);
    let (out, err) = place.check(&["replay", "reports/some-0x7.json"], 10);
    assert!(
        out.contains("planted bugs [ClaimOff]") && out.contains("the same trace as in the report"),
        "{out}"
    );
    assert_eq!(err, "");

    // The scenario's file has changed: what the report says is run all the same.
    fs::write(place.path().join("some.toml"), SCENARIO).unwrap();
    let (_, err) = place.check(&["replay", "reports/some-0x7.json", "--quiet"], 10);
    assert!(err.contains("note: `some.toml` has changed since"), "{err}");

    let mut report = place.json("reports/some-0x7.json");
    report["trace"]["hash"] = "00".into();
    fs::write(place.path().join("other.json"), report.to_string()).unwrap();
    let (_, err) = place.check(&["replay", "other.json", "--quiet"], 12);
    assert!(err.contains("this is not what happened then"), "{err}");

    report["source"]["text"] = "duration = '1s'".into();
    fs::write(place.path().join("other.json"), report.to_string()).unwrap();
    let (_, err) = place.check(&["replay", "other.json"], 2);
    assert!(err.contains("is not the one that was run"), "{err}");
}

/// The number before and after the arrow of `size 82 → 4`.
fn sizes(out: &str) -> (u64, u64) {
    let (_, sizes) = out.split_once("size ").unwrap();
    let (before, after) = sizes.lines().next().unwrap().split_once(" → ").unwrap();
    (before.parse().unwrap(), after.parse().unwrap())
}

#[track_caller]
fn shrinks(scenario: &str, plant: &str, oracle: &str) {
    let place = Place::with(SCENARIO);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(scenario);
    let file = file.to_str().unwrap();
    let arguments =
        ["shrink", file, "--seed", "1", "--plant", plant, "--oracle", oracle, "--output", "small.toml"];
    let (out, _) = place.check(&arguments, 0);
    let (before, after) = sizes(&out);
    let small = place.read("small.toml");
    assert!(after * 10 < before, "{before} → {after}:\n{small}");
    assert!(small.starts_with("# Shrunk from "), "{small}");

    // What is left fails in the same way, with the printed command and without the bug not at all.
    assert!(
        out.contains(&format!("run it: cargo run -p sim -- small.toml --seed 0x1 --plant {plant}")),
        "{out}"
    );
    place.check(&["small.toml", "--seed", "0x1", "--plant", plant, "--quiet"], 10);
    let (name, _) = scenario.split_once('.').unwrap();
    let report = place.json(&format!("reports/{name}-0x1.json"));
    let fired = report["oracles"].as_array().unwrap().iter().find(|pair| pair[0] == oracle).unwrap();
    assert!(fired[1].as_u64() > Some(0), "{report}");
    place.check(&["small.toml", "--seed", "0x1", "--quiet"], 0);
}

#[test]
fn prompting_without_a_claim_shrinks_to_a_tenth() {
    shrinks("smoke.toml", "claim-off", "stale");
}

#[test]
fn chunks_without_a_sequence_shrink_to_a_tenth() {
    shrinks("smoke.toml", "sequence-off", "chunks");
}

#[test]
fn a_worker_without_a_throttle_shrinks_to_a_tenth() {
    shrinks("creation-burst.toml", "throttle-off", "throttle");
}

#[test]
fn a_failed_report_is_shrunk_from_what_it_says() {
    let place = Place::with(&SCENARIO.replace("64MiB", "1B"));
    place.check(&["some.toml", "--seed", "7", "--quiet"], 10);
    fs::remove_file(place.path().join("some.toml")).unwrap();
    let (out, _) = place.check(&["shrink", "reports/some-0x7.json", "--attempts", "30"], 0);
    assert!(out.contains("reports/some-0x7-shrunk.toml"), "{out}");
    let (before, after) = sizes(&out);
    assert!(after < before, "{out}");
    place.check(&["reports/some-0x7-shrunk.toml", "--quiet"], 10);
}

#[test]
fn the_schema_is_json_and_the_list_a_table() {
    let place = Place::with(SCENARIO);
    let (out, _) = place.check(&["schema"], 0);
    let schema: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(schema["properties"]["workload"]["description"], "What people do.");
    let scenarios: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let (out, _) = place.check(&["list", scenarios.to_str().unwrap()], 0);
    assert!(out.contains("│ population ┆") && out.contains("3 seeds"), "{out}");
}
