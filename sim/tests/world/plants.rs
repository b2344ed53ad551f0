//! Each oracle sees what it is there for: a bug is planted into a copy of the behaviour, and that oracle says so, with
//! its message. The same scenario without the bug passes.

use sim_model::plant::Plant;
use sim_report::{Report, RunVerdict};

use crate::start::{parse, start};

/// Everything once: a kill in mid-reply, a stop, stale turns, sessions that OpenCode does not know.
const SMALL: &str = "
    duration = '25s'
    [population]
    sessions = 6
    missing_in_opencode = 2
    stale_pending = 3
    [workload]
    turns = 20
    from = '2s'
    until = '22s'
    [replies]
    deltas = { min = 5, max = 40 }
    first_token = { min = '100ms', max = '400ms' }
    pace = { min = '10ms', max = '40ms' }
    [[faults]]
    at = '8s'
    kind = 'kill'
    when = 'in-mid-reply'
    [[faults]]
    at = '16s'
    kind = 'stop'
";

/// A worker that nobody needs for a while.
const QUIET: &str = "
    duration = '90s'
    [population]
    sessions = 2
    [workload]
    turns = 2
    from = '1s'
    until = '3s'
";

/// Many sessions that OpenCode does not know yet.
const CREATIONS: &str = "
    duration = '40s'
    [worker.sync]
    accept_mass_deletions = true
    [population]
    sessions = 100
    missing_in_opencode = 100
    [workload]
    turns = 250
    until = '20s'
    [replies]
    deltas = { min = 2, max = 5 }
";

/// A long history.
const HISTORY: &str = "
    duration = '15s'
    [population]
    sessions = 40
    old_messages_per_session = 20
    [workload]
    turns = 10
";

/// Two people send most of the messages, more than the worker can answer at once.
const CROWD: &str = "
    duration = '1min'
    [worker.turns]
    max_concurrent = 4
    [population]
    sessions = 30
    [workload]
    turns = 150
    until = '20s'
    spread = 'skewed'
    [replies]
    deltas = { min = 10, max = 20 }
    pace = { min = '80ms', max = '120ms' }
    [liveness]
    within = '5min'
";

/// Two machines.
const PAIR: &str = "
    duration = '20s'
    workers = 2
    [population]
    sessions = 4
    [workload]
    turns = 12
";

/// A worker that leaves in the middle of its turns and never comes back.
const GONE: &str = "
    duration = '20s'
    tick = '20ms'
    latency = { min = '20ms', max = '20ms' }
    [population]
    sessions = 3
    [workload]
    turns = 12
    [[faults]]
    kind = 'leave'
    at = '8s'
    [liveness]
    within = '20min'
";

/// A machine that sleeps right after a claim, for longer than the backend waits.
const SLEEPER: &str = "
    duration = '19min'
    tick = '5ms'
    [population]
    sessions = 4
    [workload]
    turns = 30
    until = '40s'
    [[faults]]
    kind = 'suspend'
    when = 'before-prompt'
    at = '20s'
    for = '17min'
";

/// A tenant whose workers vanish with much to be ended.
const HOSTILE: &str = include_str!("../../../scenarios/hostile-tenant.toml");

/// Sessions that are made, renamed and deleted in OpenCode itself.
const DIRECT: &str = include_str!("../../../scenarios/sync.toml");

/// Sessions that an older version imported.
const IMPORTED: &str = "
    duration = '20s'
    [population]
    sessions = 4
    imported_from_other_directories = 4
    [workload]
    turns = 12
";

/// Sessions of other directories.
const DIRECTORIES: &str = include_str!("../../../scenarios/directories.toml");

fn run(scenario: &str, plants: &[Plant]) -> Report {
    start(parse(scenario), 1, plants, None).recv().unwrap()
}

/// Runs `scenario` with and without the last of `plants`: only with it `oracle` fires, and says `message`.
#[track_caller]
fn check(scenario: &str, plants: &[Plant], oracle: &str, message: &str) {
    let (plant, others) = plants.split_last().unwrap();
    let said = said_by(oracle, &run(scenario, plants));
    assert!(said.iter().any(|said| said.contains(message)), "with {plant:?} {oracle} said {said:#?}");
    let report = run(scenario, others);
    if others.is_empty() {
        assert_eq!(report.verdict, RunVerdict::Passed, "without {plant:?}: {:#?}", report.violations.first());
    }
    assert_eq!(said_by(oracle, &report), [""; 0], "without {plant:?}");
}

fn said_by(oracle: &str, report: &Report) -> Vec<String> {
    let by = report.violations.iter().filter(|violation| violation.oracle == oracle);
    by.map(|violation| violation.message.clone()).collect()
}

#[test]
fn a_reply_without_its_end_is_not_answered() {
    check(SMALL, &[Plant::TailOff], "answered", ", but OpenCode said ");
}

#[test]
fn turns_that_nobody_ends_for_a_worker_that_is_gone_are_not_answered() {
    check(GONE, &[Plant::SweepOff], "answered", " and waits for worker-1, which was not heard of for ");
}

#[test]
fn a_clean_up_that_one_tenant_can_stop_for_all_is_seen() {
    check(
        HOSTILE,
        &[Plant::CleanUpShared],
        "answered",
        " s old and waits for worker-1, which was not heard of for ",
    );
}

#[test]
fn a_claim_that_reads_the_whole_history_is_not_bounded() {
    check(HISTORY, &[Plant::IndexOff], "bounded-reads", "chat:claim read 8");
}

#[test]
fn chunks_without_a_sequence_are_seen() {
    check(SMALL, &[Plant::SequenceOff], "chunks", "where 1 was due");
}

#[test]
fn a_server_that_outlives_its_worker_is_not_cleaned_up() {
    check(SMALL, &[Plant::OrphanServer], "cleanup", "worker-1 is gone and left 1 OpenCode servers");
}

#[test]
fn a_worker_that_serves_one_person_at_a_time_is_not_fair() {
    check(CROWD, &[Plant::ConcurrencyOff], "fairness", "while worker-1 ran 1 turns of 4");
}

#[test]
fn a_window_that_shows_the_newest_first_is_not_fair() {
    check(CROWD, &[Plant::NewestFirst], "fairness", "worker-1 claimed 5 younger turns while turn ");
}

#[test]
fn a_backend_that_accepts_an_older_epoch_does_not_fence() {
    check(
        PAIR,
        &[Plant::SharedToken, Plant::FenceOff],
        "fencing",
        "for worker-1 as epoch 2 of worker-1, after epoch 3",
    );
}

#[test]
fn a_server_that_nobody_needs_yet_is_not_lazy() {
    check(SMALL, &[Plant::EagerServer], "lazy", "opencode-1 was started before worker-1 had claimed a turn");
}

#[test]
fn a_slow_heart_is_heard() {
    check(
        QUIET,
        &[Plant::SlowHeart],
        "lifecycle",
        "worker-1 is ready and connected, and has not beaten for ",
    );
}

#[test]
fn a_goodbye_that_changes_nothing_is_seen() {
    check(SMALL, &[Plant::GoodbyeOff], "lifecycle", "worker-1 stopped without saying that it is offline");
}

#[test]
fn a_cache_without_a_bound_is_seen() {
    check(CREATIONS, &[Plant::CacheBoundOff], "memory", " sessions, more than 64");
}

#[test]
fn a_panic_is_seen() {
    check(SMALL, &[Plant::ClockPanic], "no-panic", "this panic was planted");
}

#[test]
fn a_turn_that_a_restart_made_stale_is_seen() {
    check(SMALL, &[Plant::ExpiryOff], "stale", "was prompted, but is stale: sent ");
}

#[test]
fn a_prompt_without_a_claim_is_seen() {
    check(SMALL, &[Plant::ClaimOff], "stale", "was prompted without a claim");
}

#[test]
fn a_turn_that_ended_while_the_machine_slept_is_seen() {
    check(SLEEPER, &[Plant::SuspendUnseen], "stale", " s after it had ended");
}

#[test]
fn a_worker_without_a_throttle_is_seen() {
    check(CREATIONS, &[Plant::ThrottleOff], "throttle", "µs at opencode-1, more than 5 per second");
}

#[test]
fn titles_that_are_not_stored_do_not_converge() {
    check(DIRECT, &[Plant::RenamesLost], "converges", ", for more than 40 s of its server's life");
}

#[test]
fn a_sync_that_makes_a_call_for_each_session_costs_too_much() {
    check(
        DIRECT,
        &[Plant::BatchOff],
        "sync-cost",
        "worker-1 made 1 changes and soon after 1 more, in two calls",
    );
}

#[test]
fn sessions_of_other_directories_that_become_chats_are_seen() {
    check(DIRECTORIES, &[Plant::DirectoryOff], "tenancy", ", which is of another directory");
}

#[test]
fn sessions_of_other_directories_that_are_prompted_are_seen() {
    check(IMPORTED, &[Plant::DirectoryOff], "tenancy", " was prompted, which is of another directory");
}
