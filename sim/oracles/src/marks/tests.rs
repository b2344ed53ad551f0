use crate::marks::*;
use sim_model::trace::{Caller, Event, Exit, Name, ReplyOutcome, TurnState};

const SCENARIO: &str = "
    duration = '1min'
    [worker.turns]
    max_concurrent = 2
    window = 1
    [worker.sessions]
    cache_capacity = 1
    creates_per_second = 2
";

fn name(text: &str) -> Name {
    Name::from(text)
}

fn worker() -> Name {
    name("worker-1")
}

fn started() -> Event {
    Event::WorkerStarted { worker: worker(), start: 1 }
}

fn sent(turn: &str, session: &str) -> Event {
    let (turn, session, text) = (name(turn), name(session), Name::from(format!("text of {turn}")));
    Event::Sent { turn, session, worker: worker(), created: 0.0, text }
}

fn changed(turn: &str, session: &str, from: TurnState, to: TurnState) -> Event {
    let (turn, session, worker) = (name(turn), name(session), worker());
    Event::TurnChanged { turn, session, worker, from, to, epoch: None, chunks: None, error: None }
}

fn claimed(turn: &str, session: &str) -> Event {
    changed(turn, session, TurnState::Pending, TurnState::Claimed)
}

fn prompted(turn: &str, opencode_session: &str) -> Event {
    let (message, text) = (Name::from(format!("msg_{turn}")), Name::from(format!("text of {turn}")));
    Event::Prompted { opencode_session: name(opencode_session), message, text }
}

fn replied(turn: &str, outcome: ReplyOutcome) -> Event {
    let (opencode_session, message) = (name("ses_1"), Name::from(format!("msg_{turn}")));
    Event::ReplyEnded { opencode_session, message, reply: sim_model::trace::Digest::of(""), outcome }
}

fn chunk(turn: &str) -> Event {
    Event::ChunkWritten { turn: name(turn), sequence: 0, bytes: 1, total: sim_model::trace::Digest::of("a") }
}

fn killed() -> Event {
    Event::Killed { worker: worker() }
}

fn executed(function: &str, written: u64, attempts: u64, error: Option<&str>) -> Event {
    Event::Executed {
        function: name(function),
        caller: Caller::Worker(worker()),
        documents_read: 1,
        bytes_read: 1,
        documents_written: written,
        bytes_written: 0,
        attempts,
        rerun: false,
        identity: None,
        epoch: None,
        error: error.map(name),
    }
}

fn request(path: &str, status: u16) -> Event {
    Event::Request { method: name("POST"), path: name(path), status }
}

/// A worker that has claimed `t1`.
fn busy() -> Vec<Event> {
    vec![started(), Event::EventStreamOpened, sent("t1", "s1"), claimed("t1", "s1")]
}

/// The marks that `events`, half a second apart, reach.
#[track_caller]
fn check(events: &[Event], expected: &[&str]) {
    let mut marks = Marks::new(&Scenario::parse("a.toml", "a", SCENARIO).unwrap());
    for (number, event) in (0..).zip(events) {
        let host = name(if is_at_opencode(event) { "opencode-1" } else { "convex" });
        marks.observe(&Fact { at: number * 500_000, host, event: event.clone() });
    }
    let reached = marks.counts().iter().filter(|(_, count)| **count > 0);
    assert_eq!(reached.map(|(id, _)| &**id).collect::<Vec<_>>(), expected);
}

fn is_at_opencode(event: &Event) -> bool {
    matches!(
        event,
        Event::ServerStarted
            | Event::ServerStopped
            | Event::EventStreamOpened
            | Event::EventStreamClosed
            | Event::Prompted { .. }
            | Event::ReplyEnded { .. }
            | Event::Request { .. }
            | Event::CreateStarted { .. }
            | Event::CreateEnded { .. }
            | Event::Aborted { .. }
    )
}

#[track_caller]
fn check_busy(then: &[Event], expected: &[&str]) {
    check(&[&busy(), then].concat(), expected);
}

#[test]
fn a_kill_counts_by_what_the_turn_had_come_to() {
    let prompted = || prompted("t1", "ses_1");
    check_busy(&[killed()], &["kill-before-prompt"]);
    check_busy(&[prompted(), killed()], &[]);
    check_busy(&[prompted(), chunk("t1"), killed()], &["kill-in-mid-reply"]);
    check_busy(&[prompted(), replied("t1", ReplyOutcome::Finished), killed()], &["kill-after-reply"]);
}

#[test]
fn what_a_start_expires_is_told_apart() {
    let expired = |from| changed("t1", "s1", from, TurnState::Expired);
    check(&[sent("t1", "s1"), expired(TurnState::Pending)], &["stale-turn-expired"]);
    check_busy(&[expired(TurnState::Claimed)], &["abandoned-turn-expired"]);
}

#[test]
fn interruptions_in_mid_turn_count() {
    check_busy(&[Event::StopAsked { worker: worker() }], &["stop-in-mid-turn"]);
    check_busy(&[Event::PersonEnded { session: name("s1") }], &["ended-in-mid-turn"]);
    check(&[started(), Event::StopAsked { worker: worker() }], &[]);
    check(&[sent("t1", "s1"), Event::PersonEnded { session: name("s1") }], &[]);
}

#[test]
fn a_gap_in_the_stream_counts_if_a_reply_was_under_way() {
    let gap = [Event::EventStreamClosed, Event::EventStreamOpened];
    check_busy(&gap, &[]);
    check_busy(&[&[prompted("t1", "ses_1")][..], &gap].concat(), &["stream-gap-in-mid-reply"]);
    let ended = [prompted("t1", "ses_1"), replied("t1", ReplyOutcome::Finished)];
    check_busy(&[&ended[..], &gap].concat(), &[]);
}

#[test]
fn a_server_that_dies_under_a_reply_is_told_from_one_that_stops_idle_or_with_its_worker() {
    check_busy(&[prompted("t1", "ses_1"), Event::ServerStopped], &["server-crash-in-mid-reply"]);
    check_busy(&[Event::ServerStopped], &["idle-stop-raced"]);
    check(&[started(), Event::ServerStopped, sent("t1", "s1"), claimed("t1", "s1")], &["idle-stop-raced"]);
    check_busy(&[prompted("t1", "ses_1"), killed(), Event::ServerStopped], &[]);
}

#[test]
fn calls_count_by_how_they_ended() {
    check(&[executed("chat:writeChunk", 0, 1, Some("superseded"))], &["zombie-write-refused"]);
    check(&[executed("chat:subscribeToWorkerMessages", 0, 1, Some("superseded"))], &[]);
    check(&[executed("chat:claim", 2, 2, None)], &["conflict-retried"]);
    check(&[executed("chat:claim", 0, 5, Some("OptimisticConcurrencyControlFailure"))], &["conflict-failed"]);
    check(&[executed("chat:claim", 0, 1, None)], &["claim-in-vain"]);
    let replayed = Event::Replayed { function: name("chat:claim"), caller: Caller::Worker(worker()) };
    check(&[replayed], &["mutation-replayed"]);
}

#[test]
fn a_worker_that_comes_back_counts() {
    let connected = || Event::Connected { client: worker() };
    let phase = |state: &str| Event::Lifecycle { worker: worker(), state: name(state) };
    check(&[started(), connected(), connected()], &["reconnected"]);
    check(&[started(), connected(), started(), connected()], &[]);
    check(
        &[started(), phase("Ready"), phase("Recovering"), phase("Connecting"), phase("Ready")],
        &["recovered"],
    );
    check(&[started(), Event::Exited { worker: worker(), exit: Exit::Stopped }, connected()], &[]);
}

#[test]
fn limits_count_when_they_are_met() {
    check_busy(&[sent("t2", "s2"), claimed("t2", "s2")], &["places-full"]);
    check(&[sent("t1", "s1"), sent("t2", "s1")], &[]);
    check(&[sent("t1", "s1"), sent("t2", "s2")], &["window-full"]);
    check_busy(&[prompted("t1", "ses_1"), prompted("t2", "ses_2")], &["cache-evicted"]);
    let create = || Event::CreateStarted { in_flight: 1 };
    check(&[create(), create()], &[]);
    check(&[create(), create(), create()], &["create-throttled"]);
}

#[test]
fn what_opencode_answers_counts() {
    check(&[Event::Aborted { opencode_session: name("ses_1") }], &["abort"]);
    check_busy(&[prompted("t1", "ses_1"), replied("t1", ReplyOutcome::Failed)], &["model-error"]);
    check(&[request("/session", 500)], &["server-error"]);
    let vanished = || request("/session/{sessionID}/prompt_async", 404);
    check(&[vanished()], &["session-vanished"]);
    let created = || Event::CreateEnded { opencode_session: Some(name("ses_2")), in_flight: 0 };
    let linked = || Event::SessionLinked { session: name("s1"), opencode_session: name("ses_2") };
    check(&[vanished(), created(), linked()], &["session-recreated", "session-vanished"]);
    check(&[created(), linked()], &[]);
}
