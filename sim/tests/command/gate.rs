//! The gate: what it lets pass, what it stops, and with which exit code.

use std::fs;

use serde_json::Value;

use crate::place::Place;

/// Turns that send text for about a second each.
const SCENARIO: &str = "
duration = '12s'
[population]
sessions = 4
missing_in_opencode = 2
[workload]
turns = 6
until = '6s'
[replies]
deltas = { min = 20, max = 30 }
[gate]
seeds = [1, 2]
";

const BASELINE: &str = "reports/baseline.json";
const CALLS: &str = "functions.chat:claim.calls";

impl Place {
    /// With a folder of scenarios, in which this is the only one.
    fn of_gate(scenario: &str) -> Self {
        let place = Self::with("");
        fs::create_dir(place.path().join("scenarios")).unwrap();
        place.change(scenario);
        place
    }

    /// With a baseline of what the scenario costs.
    fn blessed() -> Self {
        let place = Self::of_gate(SCENARIO);
        place.gate(&["--bless", "--reason", "a first time"], 0);
        place
    }

    fn change(&self, scenario: &str) {
        fs::write(self.path().join("scenarios/some.toml"), scenario).unwrap();
    }

    fn baseline(&self) -> Value {
        self.json(BASELINE)
    }

    fn doctor(&self, change: impl FnOnce(&mut Value)) {
        let mut baseline = self.baseline();
        change(&mut baseline);
        fs::write(self.path().join(BASELINE), baseline.to_string()).unwrap();
    }

    #[track_caller]
    fn gate(&self, arguments: &[&str], code: i32) -> (String, String) {
        self.check(&[&["gate"], arguments].concat(), code)
    }
}

/// The figure of the first run.
fn figure(baseline: &Value, name: &str) -> i64 {
    baseline["runs"]["some 0x1"][name].as_i64().unwrap()
}

/// The lines of a table that are about `figure`.
fn rows<'a>(out: &'a str, figure: &str) -> Vec<&'a str> {
    out.lines().filter(|line| line.starts_with('│') && line.contains(figure)).collect()
}

#[test]
fn what_was_blessed_passes_and_its_reason_is_kept() {
    let place = Place::blessed();
    let (out, _) = place.gate(&[], 0);
    assert!(out.contains("no figure changed\npassed: no figure got worse"), "{out}");
    place.gate(&["--bless", "--reason", "a second time"], 0);
    let baseline = place.baseline();
    assert_eq!(baseline["history"], Value::from(vec!["a second time", "a first time"]));
    let seeds: Vec<_> = baseline["runs"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(seeds, ["some 0x1", "some 0x2"]);
    for expected in [CALLS, "prompts", "cached_sessions", "peak_heap.worker-1", "trace.hash", "engine.steps"]
    {
        assert!(!baseline["runs"]["some 0x1"][expected].is_null(), "no {expected} in {baseline:#}");
    }
}

#[test]
fn one_more_call_for_each_turn_is_a_regression() {
    let place = Place::blessed();
    let arguments =
        ["--plant", "extra-call", "--annotations", "github", "--markdown", "gate.md", "--junit", "gate.xml"];
    let (out, _) = place.gate(&arguments, 13);
    let calls = "functions.permissions:list.calls";
    let rows = rows(&out, calls);
    // Six turns in each of the two runs; before there was no such call.
    assert!(rows.iter().all(|row| row.contains("+6") && row.contains("WORSE")) && rows.len() == 2, "{out}");
    let annotations: Vec<_> = out.lines().filter(|line| line.starts_with("::error ")).collect();
    assert_eq!(annotations.len(), 2, "{out}");
    assert!(annotations[0].starts_with("::error file=scenarios/some.toml,title=some 0x1%3A "), "{out}");
    assert!(place.read("gate.md").starts_with("## ❌ Gate failed") && place.read("gate.md").contains(calls));
    assert!(place.read("gate.xml").contains(r#"type="worse">"#));
    place.gate(&[], 0);
}

#[test]
fn a_worker_that_calls_once_more_for_each_turn_is_a_regression() {
    let place = Place::blessed();
    let before = place.baseline();
    place.change(&format!("{SCENARIO}[worker.turns]\ncoalesce_interval = '100ms'\n"));
    let (out, _) = place.gate(&[], 13);
    let calls = "functions.chat:writeChunk.calls";
    assert!(
        rows(&out, calls).iter().all(|row| row.contains("WORSE")) && rows(&out, calls).len() == 2,
        "{out}"
    );

    place.gate(&["--bless", "--reason", "to see by how much"], 0);
    let more = figure(&place.baseline(), calls) - figure(&before, calls);
    assert!(more >= figure(&before, "prompts"), "only {more} more calls: the test shows less than it says");
}

#[test]
fn what_got_better_passes_and_should_be_blessed() {
    let place = Place::blessed();
    place.doctor(|baseline| baseline["runs"]["some 0x1"][CALLS] = 100.into());
    let (out, _) = place.gate(&[], 0);
    assert!(rows(&out, CALLS)[0].contains("better"), "{out}");
    assert!(out.contains("1 better; to keep the change, `cargo run -p sim -- gate --bless"), "{out}");
}

#[test]
fn another_trace_alone_is_not_the_run_that_was_accepted() {
    let place = Place::blessed();
    place.doctor(|baseline| baseline["runs"]["some 0x1"]["trace.hash"] = "abc".into());
    let (out, _) = place.gate(&[], 13);
    assert!(rows(&out, "trace.hash")[0].contains("changed"), "{out}");
    assert!(
        out.contains("NOT ACCEPTED: no figure got worse, 0 got better; but 1 run took another course"),
        "{out}"
    );
}

#[test]
fn a_baseline_that_does_not_fit_is_refused_before_anything_runs() {
    let place = Place::of_gate(SCENARIO);
    let refused = |expected: &str| {
        let (out, err) = place.gate(&[], 2);
        assert_eq!(out, "");
        assert!(err.contains(expected) && err.contains("help: make it with `cargo run"), "{err}");
    };
    refused("cannot read the baseline `reports/baseline.json`");
    fs::create_dir(place.path().join("reports")).unwrap();
    fs::write(place.path().join(BASELINE), "{\"schema\": 0}").unwrap();
    refused("is not of schema 1: its schema is 0");
    fs::remove_file(place.path().join(BASELINE)).unwrap();
    place.gate(&["--bless", "--reason", "a first time"], 0);
    place.change(&SCENARIO.replace("[1, 2]", "[1, 3]"));
    refused("it does not know some 0x3; no scenario is marked for some 0x2");
}

#[test]
fn a_baseline_that_cannot_be_read_is_not_replaced_without_its_history() {
    let place = Place::blessed();
    let conflict = format!("<<<<<<< ours\n{}=======\n>>>>>>> theirs\n", place.read(BASELINE));
    fs::write(place.path().join(BASELINE), &conflict).unwrap();
    let (_, err) = place.gate(&["--bless", "--reason", "after a merge"], 2);
    assert!(err.contains("help: mend it, or its history is lost"), "{err}");
    assert_eq!(place.read(BASELINE), conflict);
}

#[test]
fn wrong_usage_is_explained() {
    let place = Place::of_gate(SCENARIO);
    for (arguments, expected) in [
        (&["--bless"][..], "--reason <TEXT>"),
        (&["--bless", "--reason", ""], "say why, for whoever reads the baseline later"),
        (&["--bless", "--reason", " \t"], "say why, for whoever reads the baseline later"),
        (&["--bless", "--reason", "a bug", "--plant", "extra-call"], "cannot be used with"),
        (&["--reason", "none"], "--bless"),
        (&["nowhere"], "cannot list `nowhere`"),
    ] {
        let (_, err) = place.gate(arguments, 2);
        assert!(err.contains(expected), "no `{expected}` in:\n{err}");
    }
}

#[test]
fn the_figures_of_a_run_that_fails_are_worth_nothing() {
    let place = Place::blessed();
    let before = place.baseline();
    place.change(&format!("{SCENARIO}[limits]\nworker_heap_idle = '1B'\n"));
    let (_, err) = place.gate(&["--bless", "--reason", "nobody looked"], 10);
    assert!(
        err.contains("some 0x1 failed") && err.contains("memory: ") && err.contains("--seed 0x1"),
        "{err}"
    );
    assert_eq!(place.baseline(), before);

    let late = SCENARIO.replace(
        "[replies]",
        "[liveness]\nwithin = '1ms'\n[replies]\nfirst_token = { min = '2min', max = '2min' }",
    );
    place.change(&late);
    place.gate(&[], 11);
}

#[test]
fn two_reports_are_compared_figure_by_figure() {
    let place = Place::of_gate(SCENARIO);
    place.check(&["scenarios/some.toml", "--seed", "1", "--quiet"], 0);
    place.check(&["scenarios/some.toml", "--seed", "2", "--quiet"], 0);
    let [one, two] = ["reports/some-0x1.json", "reports/some-0x2.json"];
    let (out, _) = place.check(&["compare", one, two], 0);
    assert!(out.starts_with("before  some, seed 0x1: passed\nnow     some, seed 0x2: passed\n"), "{out}");
    assert_eq!(rows(&out, "trace.hash").len(), 1, "{out}");
    let (out, _) = place.check(&["compare", one, one], 0);
    assert!(out.ends_with("no figure changed\n"), "{out}");
    let (_, err) = place.check(&["compare", one, "nowhere.json"], 2);
    assert!(err.contains("cannot read the report `nowhere.json`"), "{err}");
    let (_, err) = place.check(&["compare", one, "scenarios/some.toml"], 2);
    assert!(err.contains("`scenarios/some.toml` is not a report"), "{err}");
}
