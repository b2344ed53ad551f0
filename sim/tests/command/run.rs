//! One run, and what is asked of a scenario file.

use assert_cmd::{Command, cargo::cargo_bin};

use crate::place::Place;

/// A short life with everything in it. The limits on memory are wide: what they are is not tested here.
const SCENARIO: &str = "
description = 'a test'
duration = '15s'
[population]
sessions = 4
missing_in_opencode = 2
stale_pending = 2
stale_claimed = 1
[workload]
turns = 8
[[faults]]
at = '6s'
kind = 'kill'
when = 'in-mid-reply'
[limits]
worker_heap_above_idle = '64MiB'
";

#[test]
fn a_run_that_passes_says_what_it_ran_and_leaves_a_report() {
    let place = Place::with(SCENARIO);
    let (out, err) = place.check(&["some.toml", "--seed", "7", "--trace", "trace.jsonl"], 0);
    assert_eq!(err, "");
    for expected in
        ["scenario     some", "seed         0x7", "4, 2 missing in OpenCode", "ok    answered", "passed"]
    {
        assert!(out.contains(expected), "no `{expected}` in:\n{out}");
    }
    assert!(!out.contains('\u{1b}'), "colours without a terminal");
    let report = place.read("reports/some-0x7.json");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["schema"], &report["verdict"]), (&1.into(), &"passed".into()));
    let facts = place.read("trace.jsonl").lines().count();
    assert_eq!(report["trace"]["facts"], facts);
}

/// Runs with a planted source of nondeterminism, and returns what is said of the first fact that differs.
#[track_caller]
fn differs(plant: &str) -> String {
    let place = Place::with(SCENARIO);
    let arguments = ["some.toml", "--seed", "1", "--check-determinism", "--plant", plant];
    // The traces are kept for whoever looks into it: here, until the test is over.
    let output = place.sim(&arguments).env("TMPDIR", place.path()).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(12), "{err}");
    assert!(err.contains("seed 0x1 is not deterministic; the traces are kept:\nfact "), "{err}");
    let changed = |sign: &str| err.lines().filter(|line| line.starts_with(sign)).count();
    assert_eq!((changed("- {"), changed("+ {")), (1, 1), "{err}");
    err
}

#[test]
fn a_real_clock_is_caught_and_the_first_fact_that_differs_is_shown() {
    let err = differs("real-clock");
    assert!(err.contains("\n- {\"at\":"), "{err}");
}

#[test]
fn a_randomly_hashed_map_is_caught_and_the_first_fact_that_differs_is_shown() {
    let err = differs("random-order");
    assert!(err.contains("\n- {\"at\":"), "{err}");
}

#[test]
fn a_run_leaves_a_page_and_on_request_more() {
    let place = Place::with(SCENARIO);
    let arguments = ["some.toml", "--seed", "7", "--junit", "junit.xml", "--markdown", "-"];
    let (out, err) = place.check(&arguments, 0);
    assert_eq!(err, "");
    assert!(out.starts_with("## ✅ some passed") && !out.contains("report:"), "{out}");
    let read = |file: &str| place.read(file);
    assert!(read("junit.xml").contains(r#"<testcase name="0x7" classname="some"/>"#));
    let page = read("reports/some-0x7.html");
    for expected in ["<title>Passed: some 0x7</title>", "Worker heap over time", "Convex calls over time"] {
        assert!(page.contains(expected), "no `{expected}`");
    }
    let place = Place::with(SCENARIO);
    let (_, err) = place.check(&["some.toml", "--junit", "-", "--markdown", "-"], 2);
    assert!(err.contains("both --junit and --markdown"), "{err}");
}

#[test]
fn a_build_server_shows_what_failed() {
    let place = Place::with(&SCENARIO.replace("64MiB", "1B"));
    let (out, err) = place.check(&["some.toml", "--seed", "7", "--quiet", "--annotations", "github"], 10);
    assert!(
        out.starts_with("::error file=some.toml,title=some 0x7%3A memory::at ") && err.is_empty(),
        "{out}"
    );
    assert!(out.trim_end().ends_with("run it again: cargo run -p sim -- some.toml --seed 0x7"), "{out}");
    // Standard output may carry something else.
    let arguments = ["some.toml", "--seed", "7", "--markdown", "-", "--annotations", "github"];
    let (out, err) = place.check(&arguments, 10);
    assert!(
        out.starts_with("## ❌") && !out.contains("::error") && err.starts_with("::error "),
        "{out}{err}"
    );
}

#[test]
fn the_page_of_a_seed_repeats_but_for_the_machine() {
    let page = || {
        let place = Place::with(SCENARIO);
        place.check(&["some.toml", "--seed", "7", "--quiet"], 0);
        let page = place.read("reports/some-0x7.html");
        let (before, machine) = page.split_once(r#"<section id="machine">"#).unwrap();
        assert!(machine.contains("wall time"), "{machine}");
        before.to_owned()
    };
    assert_eq!(page(), page());
}

#[test]
fn a_quiet_run_prints_nothing() {
    let place = Place::with(SCENARIO);
    assert_eq!(place.check(&["some.toml", "--seed", "7", "--quiet"], 0), (String::new(), String::new()));
}

#[test]
fn two_processes_agree_on_every_fact() {
    let place = Place::with(SCENARIO);
    let (out, _) = place.check(&["some.toml", "--seed", "0x2a", "--check-determinism"], 0);
    assert!(out.starts_with("deterministic: two runs of seed 0x2a gave the same "), "{out}");
}

#[test]
fn a_broken_promise_is_told_with_its_story_and_how_to_see_it_again() {
    let place = Place::with(&SCENARIO.replace("64MiB", "1B"));
    let (out, _) = place.check(&["some.toml", "--seed", "7"], 10);
    for expected in [
        "FAIL  memory",
        "first violation: memory at ",
        "what led to it, until ",
        "run it again: cargo run -p sim -- some.toml --seed 0x7",
    ] {
        assert!(out.contains(expected), "no `{expected}` in:\n{out}");
    }
}

#[test]
fn what_does_not_end_in_time_is_a_broken_promise_of_another_kind() {
    let late = "[liveness]\nwithin = '1ms'\n[replies]\nfirst_token = { min = '2min', max = '2min' }\n";
    let place = Place::with(&format!("{}{late}", SCENARIO.replace("turns = 8", "turns = 8\nfrom = '13s'")));
    let (out, _) = place.check(&["some.toml", "--seed", "7"], 11);
    assert!(out.contains("turns have not ended, among them"), "{out}");
}

#[test]
fn wrong_usage_is_explained() {
    let place = Place::with(SCENARIO);
    for (arguments, expected) in [
        (&["some.toml", "--oops"][..], "unexpected argument '--oops'"),
        (&["some.toml", "--seed", "many"], "`many` is not a seed"),
        (&["some.toml", "--plant", "weeds"], "possible values: throttle-off"),
        (&["nowhere.toml"], "cannot read scenario `nowhere.toml`"),
        (&["list", "nowhere"], "cannot list `nowhere`"),
    ] {
        let (_, err) = place.check(arguments, 2);
        assert!(err.contains(expected), "no `{expected}` in:\n{err}");
    }
}

#[test]
fn a_broken_scenario_is_shown_at_its_place() {
    let place = Place::with("duration = '1min'\n[population]\nsesions = 3\n");
    let (_, err) = place.check(&["some.toml"], 2);
    assert!(err.contains("some.toml:3:1") && err.contains("did you mean `sessions`?"), "{err}");
    let (_, err) = place.check(&["list", "."], 2);
    assert!(err.contains("some.toml:3:1"), "{err}");
}

#[test]
fn the_scenarios_of_a_directory_are_listed() {
    let place = Place::with(SCENARIO);
    let (out, _) = place.check(&["list", "."], 0);
    assert!(out.contains("some.toml") && out.contains("a test"), "{out}");
}

#[test]
fn the_scenarios_that_come_along_are_in_order() {
    let mut command = Command::new(cargo_bin("sim"));
    command.args(["list", concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios")]).assert().success();
}

#[test]
fn an_interrupted_run_leaves_a_partial_report() {
    let place = Place::with(&SCENARIO.replace("15s", "100h"));
    assert_eq!(place.interrupt(&["some.toml", "--seed", "7"]), Some(130));
    assert!(place.read("reports/some-0x7.json").contains(r#""verdict": "interrupted""#));
}
