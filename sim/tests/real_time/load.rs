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

    /// A file that the kernel has on each of them.
    fn files(&self, name: &str) -> Vec<String> {
        let file = |pid| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        self.processes().into_iter().map(|pid| String::from_utf8_lossy(&file(pid)).into_owned()).collect()
    }

    fn commands(&self) -> Vec<String> {
        self.files("cmdline")
    }

    fn environments(&self) -> Vec<String> {
        self.files("environ")
    }

    /// The simulator, its worker, and the worker's OpenCode.
    #[track_caller]
    fn wait_until_all_are_there(&self) {
        let is_there = |part: &str| self.commands().iter().any(|command| command.contains(part));
        wait_for(|| ["sim\0load\0", "worker\0run", "opencode-under-load"].into_iter().all(is_there));
    }

    #[track_caller]
    fn check_empty(&self) {
        wait_for(|| self.processes().is_empty());
        let left: Vec<_> =
            fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("sim-serve")), "{left:?}");
    }

    fn read(&self, path: &str) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path().join(path)).unwrap()).unwrap()
    }

    fn report(&self, name: &str) -> Value {
        self.read(&format!("reports/{name}"))
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
    let number = |figure: &str| worker[figure].as_u64().unwrap_or_else(|| panic!("no {figure} in {worker}"));
    let mib = |figure: &str| number(figure) >> 20;
    // A debug build is larger than a release, and still far from these.
    assert!((2..48).contains(&mib("idle_rss")) && (2..48).contains(&mib("peak_rss")), "{worker}");
    assert!(number("peak_rss") >= number("idle_rss") && number("peak_pss") <= number("peak_rss"), "{worker}");
    // Memory that was allocated is a part of what is resident.
    assert!((100_000..number("peak_rss")).contains(&number("peak_heap")), "{worker}");
    assert!(number("peak_heap") >= number("idle_heap") && number("idle_heap") > 0, "{worker}");
    assert!((1..10).contains(&number("threads")) && (5..200).contains(&number("files")), "{worker}");
    assert_eq!(number("orphans"), 0);
    let cpu = worker["cpu_seconds"].as_f64().unwrap();
    assert!((0.005..6.0).contains(&cpu), "{worker}");
    let whole = &load["whole"];
    // Until people have done theirs, and not until all has come to rest.
    let seconds = whole["seconds"].as_f64().unwrap();
    assert!((5.9..8.0).contains(&seconds), "{whole}");
    let added = &whole["added"];
    assert!(added["count"].as_u64().unwrap() >= 3, "{whole}");
    let [p50, max] = ["p50", "max"].map(|quantile| added[quantile].as_f64().unwrap());
    assert!(p50 > 0.01 && p50 <= max && p50 < 200.0, "{whole}");
    let completed = figures["turns"]["completed"].as_u64().unwrap();
    let given_up = load["given_up"].as_u64().unwrap();
    let all = figures["latencies"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&all["stage"], all["count"].as_u64()),
        (&"sent → completed".into(), Some(completed + given_up))
    );
    assert!(completed >= 1 && completed + given_up == 10, "{figures}");
    let oracles = report["oracles"].as_array().unwrap();
    for oracle in ["resident", "cleanup", "no-panic", "converges", "sync-cost"] {
        assert!(oracles.iter().any(|judged| judged[0] == oracle), "no {oracle} in {oracles:?}");
    }
    let trace = fs::read_to_string(place.path().join("t.jsonl")).unwrap();
    assert!(trace.lines().filter(|line| line.contains(r#""event":"process""#)).count() > 10);
    // Someone was in mid-reply when the worker was killed, so a turn was left behind and expired.
    assert!(figures["turns"]["expired"].as_u64().unwrap() >= 2, "{figures}");
}

#[test]
fn the_same_is_run_faster_with_another_worker_and_cut_and_both_are_compared() {
    let place = Place::with(SCENARIO);
    let against = format!("env 'WITH=a word' '{}' run", *WORKER);
    let arguments =
        ["load", "some.toml", "--seed", "3", "--time-scale", "2", "--limit", "2s", "--worker", &WORKER];
    let [out, _] = place.check(&[&arguments[..], &["--against", &against, "--trace", "t.jsonl"]].concat(), 0);
    assert!(out.contains("beside another worker"), "{out}");
    place.check_empty();
    let report = place.report("some-load-0x3.json");
    let rows = report["load"]["against"].as_array().unwrap();
    assert!(rows.iter().any(|row| row[0] == "sent → completed" && row[1] != "" && row[2] != ""), "{rows:?}");
    let theirs = place.read(report["load"]["other"]["report"].as_str().unwrap());
    assert_eq!(theirs["load"]["command"], format!("env WITH=a word {} run", *WORKER));
    assert_eq!(
        (&theirs["seed"], theirs["load"]["against"].as_array().map(Vec::len)),
        (&report["seed"], Some(0))
    );
    // Both have their own facts.
    for (file, report) in [("t.jsonl", &report), ("t-against.jsonl", &theirs)] {
        let facts = fs::read_to_string(place.path().join(file)).unwrap().lines().count() as u64;
        assert_eq!(Some(facts), report["trace"]["facts"].as_u64(), "{file}");
    }
}

#[test]
fn ctrl_c_while_the_other_worker_runs_compares_nothing() {
    let place = Place::with(&lasting());
    let against = format!("env OTHER=yes '{}' run", *WORKER);
    let words =
        ["load", "some.toml", "--seed", "3", "--limit", "1s", "--worker", &WORKER, "--against", &against];
    let running = place.sim(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(|| place.environments().iter().any(|environment| environment.contains("OTHER=yes")));
    Command::new("kill").args(["-INT", &running.id().to_string()]).status().unwrap();
    let Output { status, stdout, stderr } = running.wait_with_output().unwrap();
    let [out, err] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(status.code(), Some(130), "{out}\n{err}");
    assert!(
        err.contains("cut short, so nothing is compared") && !out.contains("beside another worker"),
        "{out}"
    );
    place.check_empty();
}

#[test]
fn the_report_of_a_load_is_not_replayed_as_a_simulation() {
    let place = Place::with("duration = '1s'\n[workload]\nturns = 0\nfrom = '0s'");
    place.check(&["load", "some.toml", "--seed", "3", "--worker", &WORKER, "--max-rss", "60"], 0);
    let report = "reports/some-load-0x3.json";
    for command in ["replay", "shrink"] {
        let [out, err] = place.check(&[command, report], 2);
        let again = format!(
            "`cargo run --release -p sim -- load some.toml --seed 0x3 --worker {} --max-rss 60`",
            *WORKER
        );
        assert!(
            err.contains("a run in real time, which never repeats") && err.contains(&again),
            "{out}{err}"
        );
    }
    let [out, _] = place.check(&["compare", report, report], 0);
    assert!(out.contains("no figure changed"), "{out}");
    place.check(&["some.toml", "--seed", "3"], 0);
    let [_, err] = place.check(&["compare", report, "reports/some-0x3.json"], 2);
    assert!(err.contains("compare two of a kind"), "{err}");
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
        place.wait_until_all_are_there();
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
    place.wait_until_all_are_there();
    running.kill().unwrap();
    running.wait().unwrap();
    wait_for(|| place.processes().is_empty());
}

/// A worker behind a shell that waits for it, and tells no signal on.
fn wrapped() -> String {
    format!("sh -c '\"{}\" run; true'", *WORKER)
}

#[test]
fn a_wrapper_is_no_hiding_place_for_a_worker() {
    let place = Place::with(SCENARIO);
    let arguments = ["load", "some.toml", "--seed", "3", "--worker", &WORKER, "--against", &wrapped()];
    let [out, _] = place.check(&arguments, 0);
    assert!(place.processes().is_empty(), "{:?}", place.processes());
    let report = place.report("some-load-0x3.json");
    let rows = report["load"]["against"].as_array().unwrap();
    let theirs = |figure: &str| {
        let row = rows.iter().find(|row| row[0] == figure).unwrap_or_else(|| panic!("no {figure} in {out}"));
        row[2].as_str().unwrap().to_owned()
    };
    // A worker that had gone on beside its successor would have been refused by the backend, or have said nothing.
    assert_eq!(theirs("violated"), "nothing", "{out}");
    assert_eq!(theirs("worker-1: start to ready").split(", ").count(), 3, "{out}");
}

/// A helper that leaves the worker's process group, and stays.
#[test]
fn what_leaves_its_group_is_found_told_of_and_ended() {
    let place = Place::with("duration = '2s'\n[workload]\nturns = 1\nfrom = '0s'");
    let escaping = format!("sh -c 'setsid sleep 600 & exec \"{}\" run'", *WORKER);
    let words = ["load", "some.toml", "--seed", "3", "--worker", &WORKER, "--against", &escaping];
    let [out, _] = place.check(&words, 0);
    assert!(place.processes().is_empty(), "{:?}", place.processes());
    assert!(out.contains("have outlived their worker, the first is `sleep 600`"), "{out}");
}

#[test]
fn a_load_that_rises_is_measured_step_by_step() {
    let place = Place::with("");
    let arguments = ["limits", "--steps", "3,1", "--hold", "2s", "--bound", "5s", "--starts", "20"];
    let rates = ["--rates", "10,40", "--rate-turns", "2", "--allow-missed-goals"];
    let [out, _] = place.check(&[&arguments[..], &rates, &["--worker", &WORKER]].concat(), 0);
    assert!(out.contains("none up to 3 turns with 20 deltas per second each"), "{out}");
    assert!(out.contains("none up to 40 deltas per second in each of 2 turns"), "{out}");
    place.check_empty();
    let load = &place.report("limits-load-0x1.json")["load"];
    let steps = load["steps"].as_array().unwrap().iter();
    let steps: Vec<_> = steps
        .map(|step| [&step["running"], &step["deltas_per_turn"]].map(|figure| figure.as_u64().unwrap()))
        .collect();
    assert_eq!(steps, [[1, 20], [3, 20], [2, 10], [2, 40]]);
    for step in load["steps"].as_array().unwrap() {
        let [turns, each] = ["turns", "deltas_per_turn"].map(|figure| step[figure].as_f64().unwrap());
        let said = step["deltas_per_second"].as_f64().unwrap();
        assert!((turns * each * 0.75..turns * each * 1.3).contains(&said), "{step}");
        // Two seconds of a write every quarter of a second, in each turn.
        let writes = step["added"]["count"].as_f64().unwrap();
        assert!((turns * 4.0..=turns * 12.0).contains(&writes), "{step}");
        assert!(step["rss"].as_u64().unwrap() > 1 << 20 && step["strain"].is_null(), "{step}");
    }
    let goals = load["goals"].as_array().unwrap();
    let goal =
        |what: &str| goals.iter().find(|goal| goal["what"].as_str().unwrap().starts_with(what)).unwrap();
    // The goals are at 200 turns, which was not tried, whatever bound was asked for.
    assert_eq!(
        (&goal("added latency p99")["goal"], &goal("added latency p99")["met"]),
        (&"under 10 ms".into(), &Value::Null)
    );
    assert!(
        goal("start to ready with 20 sessions")["measured"].as_str().unwrap().ends_with(" ms"),
        "{goals:?}"
    );
}

#[test]
fn a_goal_that_is_missed_is_seen_in_the_exit_code() {
    let place = Place::with("");
    // The goals' load is asked for, and the first step is too much already.
    let arguments = ["limits", "--steps", "1,200", "--hold", "1s", "--bound", "0ms", "--rates", "--starts"];
    let [_, err] = place.check(&[&arguments[..], &["--worker", &WORKER]].concat(), 13);
    assert!(err.contains("3 goals were missed: added latency p99 at 200 turns"), "{err}");
    place.check_empty();
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
    check_refused(&["limits", "--hold", "61s"], "it must be 1s to 60s");
    check_refused(&["limits", "--worker", "/nowhere/worker"], "there is no worker at `/nowhere/worker`");
}

#[test]
fn the_predecessor_has_no_binary_to_be_run() {
    let place = Place::with("kind = 'legacy'\nduration = '10s'");
    let [_, err] = place.check(&["load", "some.toml"], 2);
    assert!(err.contains("the predecessor exists in simulation only"), "{err}");
}
