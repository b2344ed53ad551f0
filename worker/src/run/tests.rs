use std::{future::ready, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{calls::APPROVAL_POLL, *};
use crate::{
    convex::{
        ReadySession,
        api::{Approval, CLAIM},
    },
    env::testing::TestEnv,
    error::CallError,
    lifecycle::{
        heartbeat::{self, Pace},
        state::Phase,
    },
};

/// A worker whose Convex deployment cannot be reached.
fn config() -> Config {
    Config {
        convex_url: "http://127.0.0.1:1".parse().unwrap(),
        token: "machine_m:worker_w:0123456789abcdef0123456789abcdef".parse().unwrap(),
        directory: ".".into(),
        settings: crate::config::Settings::default(),
    }
}

fn worker() -> (Worker<TestEnv>, AbortOnDropHandle<()>) {
    let (env, config) = (TestEnv::new(), config());
    let (client, connection) = ConvexClient::start(&env, config.convex_url.clone());
    let backend = Backend::new(client, config.token.clone());
    (Worker::new(env, config, backend, Stop::default(), Arc::default()), connection)
}

fn superseded() -> CallError {
    CallError::Refused { path: "workers:heartbeat", code: "superseded".into(), message: "by 2".into() }
}

#[tokio::test(start_paused = true)]
async fn a_heart_that_stopped_while_turns_end_is_not_listened_to_again() {
    let (mut worker, _connection) = worker();
    worker.apply(LifecycleEvent::Start);
    worker.apply(LifecycleEvent::Registered { epoch: 1.0, approval: Approval::Approved });
    worker.apply(LifecycleEvent::StopRequested);
    worker.inbox.close();
    worker.heart = Some(Box::pin(ready(Pulse::Answered(Err(superseded())))));
    let input = worker.next_input().await;
    assert_eq!(worker.handle(input), []);
    let more = timeout(Duration::from_secs(60), worker.next_input()).await;
    assert!(more.is_err(), "the heart was listened to after its end");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_never_reached_convex_stops_within_seconds() {
    let stop = Stop::default();
    let begun = Instant::now();
    let running = run(TestEnv::new(), config(), stop.clone(), Arc::default());
    tokio::pin!(running);
    let early = timeout(Duration::from_secs(3600), &mut running).await;
    assert!(early.is_err(), "it ended though nobody asked it to");
    stop.gracefully.cancel();
    assert_eq!(running.await, Exit::Stopped);
    assert!(begun.elapsed() < Duration::from_secs(3610), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_waits_for_approval_asks_again_when_its_subscription_is_silent() {
    let (mut worker, _connection) = worker();
    worker.apply(LifecycleEvent::Start);
    let actions = worker.apply(LifecycleEvent::Registered { epoch: 1.0, approval: Approval::Pending });
    actions.into_iter().for_each(|action| worker.perform(action));
    let begun = Instant::now();
    for polls in 1..=3 {
        let input = worker.next_input().await;
        assert!(matches!(input, Input::ApprovalSilent));
        assert_eq!(begun.elapsed(), APPROVAL_POLL * polls);
        worker.handle(input);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_begins_to_wait_for_a_worker_hears_of_its_faster_heart_at_once() {
    let (mut worker, _connection) = worker();
    worker.open_window();
    let window = Window { connect_requested_at: Some(1.0), ..Window::default() };
    let begun = Instant::now();
    worker.handle(Input::Window(window.clone()));
    assert_eq!(worker.pace, Pace::Busy, "a beat is on its way that says so");
    worker.handle(Input::Pulse(Pulse::Answered(Ok(()))));
    let Input::Pulse(Pulse::Due) = worker.next_input().await else { panic!("no beat is due") };
    assert!(begun.elapsed() <= Duration::from_secs(5), "{:?}", begun.elapsed());
    tokio::time::advance(heartbeat::LATELY).await;
    worker.handle(Input::Pulse(Pulse::Due));
    assert_eq!(worker.pace, Pace::Idle, "nobody looks any more");
}

#[tokio::test(start_paused = true)]
async fn a_request_to_connect_starts_opencode_once_and_publishes_its_models() {
    let (mut worker, _connection) = worker();
    let window = |at| Input::Window(Window { connect_requested_at: Some(at), ..Window::default() });
    worker.handle(window(1.0));
    worker.handle(window(1.0));
    assert_eq!(worker.calls.len(), 1, "a window that shows the request again");
    assert!(!worker.models.is_due());
    worker.handle(window(2.0));
    assert_eq!(worker.calls.len(), 2);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "boom")]
async fn a_panic_of_a_turn_ends_the_worker_instead_of_keeping_the_turns_place() {
    let (mut worker, _connection) = worker();
    let panic = AssertUnwindSafe(async { panic!("boom") }).catch_unwind().await;
    worker.report_end.send(("s".into(), panic)).await.unwrap();
    let input = worker.next_input().await;
    worker.handle(input);
}

/// A worker that is ready, and whose window shows these turns, each of a session of its own.
fn ready_with(turns: &[&str]) -> (Worker<TestEnv>, AbortOnDropHandle<()>) {
    let (mut worker, connection) = worker();
    for event in [
        LifecycleEvent::Start,
        LifecycleEvent::Registered { epoch: 1.0, approval: Approval::Approved },
        LifecycleEvent::PageExpired { is_done: true },
        LifecycleEvent::Connected,
    ] {
        let actions = worker.apply(event);
        let of_state = |action: &LifecycleAction| {
            matches!(action, LifecycleAction::Adopt { .. } | LifecycleAction::OpenWindow)
        };
        actions.into_iter().filter(of_state).for_each(|action| worker.perform(action));
    }
    let row = |turn: &&str| ReadySession { session: format!("session of {turn}"), turn: (*turn).to_owned() };
    let window = Window { ready: turns.iter().map(row).collect(), ..Window::default() };
    worker.handle(Input::Window(window));
    (worker, connection)
}

#[tokio::test(start_paused = true)]
async fn a_turn_whose_claim_throws_waits_by_itself_and_costs_nobody_else_a_pause() {
    let (mut worker, _connection) = ready_with(&["1", "2"]);
    let thrown = || CallError::Failed { path: CLAIM, message: "Uncaught Error: poisoned".into() };
    let mut waited = Vec::new();
    for _ in 0..9 {
        let actions = worker.handle(Input::TurnEnded("session of 1".into(), Ok(Err(thrown()))));
        assert_eq!((actions, worker.lifecycle.phase()), (vec![], Phase::Ready));
        assert_eq!(worker.turns.keys().collect::<Vec<_>>(), ["session of 2"]);
        let begun = Instant::now();
        let again = worker.claims.next().await.unwrap();
        waited.push(begun.elapsed().as_secs());
        worker.handle(Input::ClaimAgain(again));
        assert!(worker.turns.contains_key("session of 1"), "it is tried again");
    }
    assert_eq!(waited, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_says_something_about_the_worker_is_not_the_matter_of_one_turn() {
    let (mut worker, _connection) = ready_with(&["1"]);
    let refused = CallError::Refused { path: CLAIM, code: "superseded".into(), message: "by 2".into() };
    worker.handle(Input::TurnEnded("session of 1".into(), Ok(Err(refused))));
    assert_eq!(worker.lifecycle.phase(), Phase::Stopping);
    let (mut worker, _connection) = ready_with(&["1"]);
    // It may be claimed: only recovery expires what runs nowhere.
    let odd = CallError::Unexpected { path: CLAIM, problem: "no status".into() };
    worker.handle(Input::TurnEnded("session of 1".into(), Ok(Err(odd))));
    assert_eq!(worker.lifecycle.phase(), Phase::Recovering);
}
