//! The scenarios that stand in `scenarios/`: those of the worker pass, and those that must fail do so as they should.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde_json::Value;
use sim_model::scenario::Scenario;
use sim_report::{Report, RunVerdict};
use worker::config::PermissionPolicy;

use crate::start::{facts, parse, start};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name)
}

fn run(name: &str, trace: Option<PathBuf>) -> Report {
    run_scenario(Scenario::read(&file(name)).unwrap(), trace)
}

fn run_scenario(scenario: Scenario, trace: Option<PathBuf>) -> Report {
    start(scenario, 1, &[], trace).recv().unwrap()
}

/// The oracles that fired.
fn fired(report: &Report) -> BTreeSet<&str> {
    report.oracles.iter().filter(|(_, count)| *count > 0).map(|(oracle, _)| &**oracle).collect()
}

#[track_caller]
fn passes(name: &str) {
    let report = run(name, None);
    assert_eq!(report.verdict, RunVerdict::Passed, "{name}: {:#?}", report.violations.first());
}

#[test]
fn five_hundred_sessions_and_three_restarts_stay_within_every_bound() {
    passes("500-sessions.toml");
}

#[test]
fn the_smallest_world_passes() {
    passes("smoke.toml");
}

#[test]
fn a_burst_of_creations_passes_the_throttle_and_the_cache_forgets() {
    passes("creation-burst.toml");
}

#[test]
fn whatever_goes_wrong_the_worker_does_what_it_promises() {
    for name in [
        "kill-at-each-step.toml",
        "rolling-restart-10-workers.toml",
        "workers-that-leave.toml",
        "connect-requests.toml",
        "zombie.toml",
        "partitions.toml",
        "half-dead.toml",
        "suspend.toml",
        "mutation-resets.toml",
        "opencode-crash.toml",
        "opencode-errors.toml",
        "vanished-sessions.toml",
        "lost-events.toml",
        "permission-question.toml",
        "convex-storm.toml",
        "chaos.toml",
    ] {
        passes(name);
    }
}

#[test]
fn a_long_message_on_a_slow_line_is_waited_for_on_the_connection_on_which_it_comes() {
    passes("slow-line.toml");
    // The slow line alone.
    let source = std::fs::read_to_string(file("slow-line.toml")).unwrap();
    let mut parts = source.split("[[faults]]");
    let (before, slow) = (parts.next().unwrap(), parts.next().unwrap());
    let source = format!("{before}[[faults]]{slow}")
        .replace("required_marks = [\"reconnected\"]", "")
        .replace("duration = \"8min\"", "duration = \"3min\"")
        .replace("until = \"460s\"", "until = \"150s\"");
    let report = run_scenario(parse(&source), None);
    assert_eq!(report.verdict, RunVerdict::Passed, "{:#?}", report.violations.first());
    assert_eq!(report.figures.counts.connections, 1);
}

#[test]
fn relayed_permission_questions_never_hang_a_turn() {
    passes("permissions.toml");
}

/// How a scenario's turns end: how many completed, and how many failed with each code.
fn endings(name: &str) -> (u64, BTreeMap<String, usize>) {
    endings_of(Scenario::read(&file(name)).unwrap())
}

fn endings_of(scenario: Scenario) -> (u64, BTreeMap<String, usize>) {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace.jsonl");
    let name = scenario.name.clone();
    let report = run_scenario(scenario, Some(trace.clone()));
    assert_eq!(report.verdict, RunVerdict::Passed, "{name}: {:#?}", report.violations.first());
    let mut codes = BTreeMap::new();
    for fact in facts(&trace).into_iter().filter(|fact| fact["event"] == "turn-changed") {
        if let Some(code) = fact["error"].as_str() {
            *codes.entry(code.to_owned()).or_default() += 1;
        }
    }
    (report.figures.turns["completed"], codes)
}

/// The codes alone.
fn codes(endings: &BTreeMap<String, usize>) -> Vec<&str> {
    endings.keys().map(String::as_str).collect()
}

#[test]
fn a_model_whose_provider_puts_it_off_ends_its_turn_within_bounds() {
    let (completed, failed) = endings("model-put-off.toml");
    assert_eq!(codes(&failed), ["model_unavailable"], "{failed:?}");
    assert_eq!(completed as usize + failed["model_unavailable"], 60);
}

#[test]
fn a_reply_goes_on_after_a_summary() {
    assert_eq!(endings("full-context.toml"), (80, BTreeMap::new()));
}

#[test]
fn a_model_that_does_not_exist_spoils_one_answer_and_not_the_chat() {
    let (completed, failed) = endings("unknown-model.toml");
    assert!(failed["model_unknown"] > 10 && completed > 45, "{completed} completed, {failed:?}");
}

#[test]
fn a_session_that_does_not_stop_is_not_prompted_until_it_has() {
    let (completed, failed) = endings("abort-ignored.toml");
    assert!(failed["idle_timeout"] > 0 && failed["session_busy"] > 0, "{failed:?}");
    assert!(completed > 20, "{completed} completed, {failed:?}");
}

#[test]
fn a_prompt_that_opencode_forgets_ends_its_turn_with_advice() {
    let (completed, failed) = endings("prompt-lost.toml");
    assert_eq!(codes(&failed), ["prompt_lost"], "{failed:?}");
    assert!(completed > 30, "{completed} completed");
}

#[test]
fn replies_of_every_kind_are_answered_with_what_the_model_said_to_the_person() {
    assert_eq!(endings("kinds-of-replies.toml"), (60, BTreeMap::new()));
}

/// How the turns end under `policy`, without restarts: how many completed, and the codes of those that did not.
fn endings_under(policy: PermissionPolicy) -> (u64, BTreeMap<String, usize>) {
    let mut scenario = Scenario::read(&file("permissions.toml")).unwrap();
    scenario.settings.opencode.permissions = policy;
    scenario.faults.clear();
    endings_of(scenario)
}

#[test]
fn a_policy_answers_permission_questions_by_itself() {
    let (allowed, failed) = endings_under(PermissionPolicy::Allow);
    assert!(failed.keys().all(|code| code == "session_ended"), "{failed:?}");
    let (denied, failed) = endings_under(PermissionPolicy::Deny);
    assert!(failed.contains_key("permission_refused") && !failed.contains_key("no_reply"), "{failed:?}");
    let (relayed, _) = endings_under(PermissionPolicy::Relay);
    assert!(denied < relayed && relayed < allowed, "{denied}, {relayed}, {allowed}");
}

#[test]
fn models_are_published_once_over_all_starts_while_they_stay_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace.jsonl");
    run("smoke.toml", Some(trace.clone()));
    let facts = facts(&trace);
    let listed = facts.iter().filter(|fact| fact["event"] == "models-listed").count();
    let published = facts.iter().filter(|fact| fact["function"] == "workerModels:updateModels").count();
    assert!(listed > 1, "{listed}");
    assert_eq!(published, 1);
}

#[test]
fn a_person_who_asks_a_worker_to_connect_finds_its_models_before_any_message() {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace.jsonl");
    let mut scenario = Scenario::read(&file("connect-requests.toml")).unwrap();
    scenario.workload.turns = 0;
    scenario.faults.clear();
    let report = run_scenario(scenario, Some(trace.clone()));
    assert_eq!(report.verdict, RunVerdict::Passed, "{:#?}", report.violations.first());
    let facts = facts(&trace);
    let first = |event: &str| facts.iter().position(|fact| fact["event"] == *event).unwrap();
    let published = facts.iter().position(|fact| fact["function"] == "workerModels:updateModels").unwrap();
    assert!(first("connect-asked") < first("server-started") && first("models-listed") < published);
}

#[test]
fn what_happens_in_opencode_reaches_the_chats() {
    passes("sync.toml");
}

#[test]
fn sessions_of_other_directories_are_left_alone() {
    passes("directories.toml");
}

#[test]
fn a_tenant_who_means_harm_delays_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace.jsonl");
    let report = run("hostile-tenant.toml", Some(trace.clone()));
    assert_eq!(report.verdict, RunVerdict::Passed, "{:#?}", report.violations.first());

    // It did what it is there for, and was refused what nobody may do.
    let mut calls: BTreeMap<(String, String), usize> = BTreeMap::new();
    for fact in facts(&trace).iter().filter(|fact| fact["event"] == "executed" && fact["caller"] == "unknown")
    {
        let [function, error] =
            ["function", "error"].map(|key| fact[key].as_str().unwrap_or_default().into());
        *calls.entry((function, error)).or_default() += 1;
    }
    let count = |function: &str, error: &str| calls.get(&(function.into(), error.into())).copied();
    assert_eq!(count("chat:claim", ""), Some(60), "{calls:#?}");
    assert_eq!(count("chat:sendMessage", ""), Some(480), "{calls:#?}");
    for (function, error) in [
        ("chat:sendMessage", "message_too_long"),
        ("chat:sendMessage", "too_long"),
        ("chat:sendMessage", "too_many_messages"),
        ("chat:startSession", "too_long"),
        ("workers:createMachine", "limit_reached"),
        ("workers:createMachine", "too_long"),
        ("workers:register", "not_invited"),
        ("workers:register", "too_long"),
        ("workers:register", "too_many_pending"),
        ("workers:register", "unauthorized"),
    ] {
        assert!(count(function, error) > Some(0), "{function} was never refused with {error}: {calls:#?}");
    }
}

#[test]
fn a_day_of_idling_passes() {
    passes("idle-day.toml");
}

#[test]
fn the_predecessor_is_convicted_of_what_it_did_and_of_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace.jsonl");
    let report = run("legacy-255.toml", Some(trace.clone()));
    let expected = [
        "answered",
        "bounded-reads",
        "converges",
        "fencing",
        "lazy",
        "memory",
        "stale",
        "sync-cost",
        "throttle",
    ];
    assert_eq!(fired(&report), BTreeSet::from(expected));

    // The figures of the incident: 255 sessions restored, 90 lists of models in one round, 3 old messages run again.
    let facts = facts(&trace);
    let are = |event: &str| facts.iter().filter(move |fact| fact["event"] == *event).collect::<Vec<_>>();
    let restored = are("cache").iter().filter_map(|fact| fact["sessions"].as_u64()).max();
    assert_eq!(restored, Some(255));
    let first_round = |fact: &&&Value| fact["at"].as_u64().is_some_and(|at| at < 20_000_000);
    assert_eq!(are("models-listed").iter().filter(first_round).count(), 90);
    assert_eq!(are("prompted").iter().filter(first_round).count(), 3);
}
