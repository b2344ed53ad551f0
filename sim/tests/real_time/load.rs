//! `sim load`: the `worker` binary as a process of its own, in real time.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    thread::sleep,
    time::Duration,
};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;
use tempfile::TempDir;

use crate::worker::{PATIENCE, WORKER};

/// A few seconds in which a worker is killed in mid-reply and stopped.
const SCENARIO: &str = "
description = 'a test'
duration = '6s'
[population]
sessions = 4
missing_in_opencode = 1
old_messages_per_session = 1
stale_pending = 1
[workload]
turns = 10
from = '200ms'
[replies]
deltas = { min = 5, max = 10 }
bytes = { min = '50B', max = '500B' }
first_token = { min = '20ms', max = '50ms' }
pace = { min = '50ms', max = '60ms' }
[[faults]]
at = '2s'
kind = 'kill'
when = 'in-mid-reply'
for = '300ms'
[[faults]]
at = '4500ms'
kind = 'stop'
for = '200ms'
";

/// The same, for so long that it does not end by itself while a test waits.
fn lasting() -> String {
    SCENARIO.replace("'6s'", "'10min'").replace("turns = 10", "turns = 1000")
}

struct Place(TempDir);

impl Place {
    fn with(scenario: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.path().join("some.toml"), scenario).unwrap();
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// `sim` with its temporary files here, by which its processes are told from all others.
    fn sim(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(cargo_bin("sim"));
        command.current_dir(self.path()).env("TMPDIR", self.path()).args(arguments);
        command
    }

    #[track_caller]
    fn check(&self, arguments: &[&str], code: i32) -> [String; 2] {
        let Output { status, stdout, stderr } = self.sim(arguments).output().unwrap();
        let told = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(status.code(), Some(code), "{}\n{}", told[0], told[1]);
        told
    }

    /// The processes that were told of this place, by their environment.
    fn processes(&self) -> Vec<u32> {
        let here = format!("TMPDIR={}", self.path().display());
        let all = fs::read_dir("/proc").unwrap();
        let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let is_here = |pid: &u32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == here.as_bytes())
        };
        pids.filter(is_here).collect()
    }

    #[track_caller]
    fn check_empty(&self) {
        wait_for(|| self.processes().is_empty());
        let left: Vec<_> =
            fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("sim-serve")), "{left:?}");
    }

    fn report(&self, name: &str) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path().join("reports").join(name)).unwrap()).unwrap()
    }
}

#[track_caller]
fn wait_for(done: impl Fn() -> bool) {
    const PAUSE: Duration = Duration::from_millis(50);
    let rounds = PATIENCE.as_millis() / PAUSE.as_millis();
    for _ in 0..rounds {
        if done() {
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "a test of real processes waits in real time")]
        sleep(PAUSE);
    }
    panic!("not within {PATIENCE:?}");
}

#[test]
fn a_scenario_is_lived_through_in_real_time_and_leaves_no_process() {
    let place = Place::with(SCENARIO);
    let arguments = ["load", "some.toml", "--seed", "3", "--worker", &WORKER, "--trace", "t.jsonl"];
    let [out, _] = place.check(&arguments, 0);
    assert!(out.contains("passed: every oracle is content"), "{out}");
    assert!(out.contains("in real time") && out.contains("added by the worker"), "{out}");
    place.check_empty();
    let report = place.report("some-load-0x3.json");
    let (figures, load) = (&report["figures"], &report["load"]);
    assert_eq!([&figures["kills"], &figures["worker_starts"], &figures["stops"]], [1, 3, 2]);
    let worker = &load["workers"][0];
    assert_eq!(worker["ready_ms"].as_array().unwrap().len(), 3);
    for figure in ["idle_rss", "peak_rss", "threads", "files"] {
        assert!(worker[figure].as_u64().unwrap() > 0, "{figure} in {worker}");
    }
    assert_eq!(worker["orphans"], 0);
    assert!(load["whole"]["added"]["count"].as_u64().unwrap() > 0, "{load}");
    let trace = fs::read_to_string(place.path().join("t.jsonl")).unwrap();
    assert!(trace.lines().filter(|line| line.contains(r#""event":"process""#)).count() > 10);
    // Someone was in mid-reply when the worker was killed, so a turn was left behind and expired.
    assert!(figures["turns"]["expired"].as_u64().unwrap() >= 2, "{figures}");
}

#[test]
fn the_same_is_run_faster_with_another_worker_and_cut_and_both_are_compared() {
    let place = Place::with(SCENARIO);
    let against = format!("env 'WITH=a word' '{}' run", *WORKER);
    let arguments = ["load", "some.toml", "--time-scale", "2", "--limit", "2s", "--worker", &WORKER];
    let [out, _] = place.check(&[&arguments[..], &["--against", &against]].concat(), 0);
    assert!(out.contains("beside another worker"), "{out}");
    place.check_empty();
    let name = fs::read_dir(place.path().join("reports")).unwrap().find_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.ends_with(".json").then_some(name)
    });
    let report = place.report(&name.unwrap());
    let rows = report["load"]["against"].as_array().unwrap();
    assert!(rows.iter().any(|row| row[0] == "sent → completed" && row[1] != "" && row[2] != ""), "{rows:?}");
}

#[test]
fn a_worker_that_takes_too_much_memory_or_ends_by_itself_is_convicted() {
    let place = Place::with("duration = '1s'\n[workload]\nturns = 0\nfrom = '0s'");
    let [out, _] = place.check(&["load", "some.toml", "--worker", &WORKER, "--max-rss", "1"], 10);
    assert!(out.contains("FAIL  resident: 1 violation"), "{out}");
    let [out, _] = place.check(&["load", "some.toml", "--worker", "/bin/false"], 10);
    assert!(out.contains("worker-1 ended by itself: Failed(\"exit code 1\")"), "{out}");
    place.check_empty();
}

#[test]
fn ctrl_c_in_the_middle_ends_everything_and_still_tells_what_was_seen() {
    for signal in ["INT", "TERM"] {
        let place = Place::with(&lasting());
        let mut command = place.sim(&["load", "some.toml", "--worker", &WORKER]);
        let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The simulator, its worker, and the worker's OpenCode.
        wait_for(|| place.processes().len() >= 3);
        Command::new("kill").args([&format!("-{signal}"), &running.id().to_string()]).status().unwrap();
        let Output { status, stdout, .. } = running.wait_with_output().unwrap();
        assert_eq!(status.code(), Some(130));
        assert!(String::from_utf8_lossy(&stdout).contains("interrupted: nothing is proved"));
        place.check_empty();
    }
}

#[test]
fn a_simulator_that_is_killed_takes_its_processes_with_it() {
    let place = Place::with(&lasting());
    let mut command = place.sim(&["load", "some.toml", "--quiet", "--worker", &WORKER]);
    let mut running = command.stdout(Stdio::null()).spawn().unwrap();
    wait_for(|| place.processes().len() >= 3);
    running.kill().unwrap();
    running.wait().unwrap();
    wait_for(|| place.processes().is_empty());
}

#[test]
fn a_load_that_rises_is_measured_step_by_step() {
    let place = Place::with("");
    let arguments = ["limits", "--steps", "3,1", "--hold", "2s", "--bound", "5s", "--starts", "20"];
    let [out, _] = place.check(&[&arguments[..], &["--worker", &WORKER]].concat(), 0);
    assert!(out.contains("none up to 3 turns"), "{out}");
    place.check_empty();
    let load = &place.report("limits-load-0x1.json")["load"];
    let steps: Vec<_> =
        load["steps"].as_array().unwrap().iter().map(|step| step["running"].as_u64()).collect();
    assert_eq!(steps, [Some(1), Some(3)]);
    assert!(
        load["goals"]
            .as_array()
            .unwrap()
            .iter()
            .any(|goal| goal["measured"].as_str().unwrap().ends_with(" ms"))
    );
}

#[track_caller]
fn check_refused(arguments: &[&str], expected: &str) {
    let place = Place::with(SCENARIO);
    let [out, err] = place.check(arguments, 2);
    assert!(err.contains(expected), "{out}\n{err}");
}

#[test]
fn wrong_usage_is_explained() {
    check_refused(&["load"], "<SCENARIO>");
    check_refused(&["load", "none.toml"], "none.toml");
    check_refused(&["load", "some.toml", "--time-scale", "0"], "it must be 0.1 to 100");
    check_refused(&["load", "some.toml", "--against", "'"], "quotes do not match");
    check_refused(&["load", "some.toml", "--worker", "/nowhere/worker"], "build it with `cargo build");
    check_refused(&["limits", "--steps", "0"], "0 is not in 1..=1000");
    check_refused(&["limits", "--worker", "/nowhere/worker"], "there is no worker at `/nowhere/worker`");
}

#[test]
fn the_predecessor_has_no_binary_to_be_run() {
    let place = Place::with("kind = 'legacy'\nduration = '10s'");
    let [_, err] = place.check(&["load", "some.toml"], 2);
    assert!(err.contains("the predecessor exists in simulation only"), "{err}");
}
