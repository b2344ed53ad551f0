use futures_util::future::join_all;
use tokio::{sync::mpsc, time::Instant};

use super::*;
use crate::{
    env::testing::{Answer, TestEnv},
    opencode::{
        body::MAX_EVENT,
        events::EventKind,
        id::OpencodeSessionId,
        registry::{EventReceiver, SessionEvent},
    },
};

/// A piece of an event that has no end (bytes).
const ENDLESS: usize = 256 * 1024;

struct Bench {
    env: TestEnv,
    server: Server,
    stats: Arc<ServerStats>,
    tap: mpsc::Receiver<TapEvent>,
}

fn bench() -> Bench {
    let (env, stats) = (TestEnv::new(), Arc::new(ServerStats::default()));
    let (sender, tap) = mpsc::channel(16);
    let settings =
        OpencodeSettings { request_timeout: Duration::from_secs(5), ..OpencodeSettings::default() };
    let server = Server::new(env.clone(), "/project".into(), settings, stats.clone(), Some(sender));
    Bench { env, server, stats, tap }
}

fn id() -> OpencodeSessionId {
    OpencodeSessionId::new("ses_1").unwrap()
}

async fn pause(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

fn idle_event(env: &TestEnv) {
    env.event("session.idle", r#"{"sessionID":"ses_1"}"#);
}

async fn expect_idle(events: &mut EventReceiver) {
    let received = timeout(Duration::from_secs(1), events.recv()).await;
    assert!(matches!(received, Ok(SessionEvent::Event(e)) if e.kind == EventKind::Idle), "got no event");
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_before_the_first_need() {
    let bench = bench();
    pause(3600).await;
    assert_eq!((bench.env.launches(), bench.stats.starts()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_24_shares_one_start() {
    let bench = bench();
    bench.env.world().launch_takes = Duration::from_secs(2);
    let leases = join_all((0..24).map(|_| bench.server.acquire())).await;
    assert!(leases.iter().all(|lease| lease.as_ref().is_ok_and(|lease| lease.generation() == 1)));
    assert_eq!((bench.env.launches(), bench.env.open_streams(), bench.stats.open_streams()), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn events_reach_the_session_s_receiver() {
    let bench = bench();
    let lease = bench.server.acquire().await.unwrap();
    let mut events = lease.events(&id());
    bench.env.push("data: {\"type\":\ndata: broken\n\n: a comment\n\n");
    bench.env.event("session.idle", r#"{"sessionID":"ses_other"}"#);
    idle_event(&bench.env);
    expect_idle(&mut events).await;
    assert_eq!(bench.stats.skipped_events(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_event_without_end_is_given_up_at_its_bound_and_told_as_a_gap() {
    let bench = bench();
    let lease = bench.server.acquire().await.unwrap();
    let mut events = lease.events(&id());
    bench.env.push("data: ");
    for _ in 0..=MAX_EVENT / ENDLESS {
        bench.env.push(&"x".repeat(ENDLESS));
    }
    assert_eq!(events.recv().await, SessionEvent::Gap);
    assert_eq!((bench.env.open_streams(), bench.stats.losses()), (1, 0), "the server is not to blame");
    idle_event(&bench.env);
    expect_idle(&mut events).await;
}

#[tokio::test(start_paused = true)]
async fn events_of_unknown_types_and_wrong_shapes_are_passed_over() {
    let bench = bench();
    let lease = bench.server.acquire().await.unwrap();
    let mut events = lease.events(&id());
    bench.env.event("session.surprise", r#"{"sessionID":"ses_1","status":{"type":"busy"}}"#);
    bench.env.event("session.idle", "[]");
    bench.env.event("session.status", r#"{"sessionID":"ses_1","status":"busy"}"#);
    bench.env.event("message.part.delta", r#"{"sessionID":"ses_1","delta":{}}"#);
    bench.env.event("session.idle", r#"{"sessionID":"../etc"}"#);
    bench.env.push("data: \ndata: \n\nevent: x\n\n\u{feff}\u{0}\n\n");
    idle_event(&bench.env);
    expect_idle(&mut events).await;
    assert_eq!(bench.stats.skipped_events(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_is_opened_again_and_receivers_are_told() {
    let mut bench = bench();
    let lease = bench.server.acquire().await.unwrap();
    let mut events = lease.events(&id());
    assert_eq!(bench.tap.recv().await, Some(TapEvent::Gap));
    bench.env.end_streams();
    assert_eq!(events.recv().await, SessionEvent::Gap);
    assert_eq!(bench.tap.recv().await, Some(TapEvent::Gap));
    assert_eq!((bench.env.open_streams(), bench.stats.open_streams()), (1, 1));
    idle_event(&bench.env);
    expect_idle(&mut events).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_replaced_after_the_deadline_and_a_comment_counts_as_life() {
    let bench = bench();
    let lease = bench.server.acquire().await.unwrap();
    let mut events = lease.events(&id());
    for _ in 0..5 {
        pause(20).await;
        bench.env.push(": heartbeat\n\n");
    }
    let begun = Instant::now();
    assert_eq!(events.recv().await, SessionEvent::Gap);
    let waited = begun.elapsed().as_secs_f32();
    assert!((25.0..27.0).contains(&waited), "{waited}");
    assert_eq!(bench.env.open_streams(), 1, "the dead stream was closed");
}

#[tokio::test(start_paused = true)]
async fn a_crash_tells_receivers_and_the_next_lease_reaches_a_new_generation() {
    let bench = bench();
    let old = bench.server.acquire().await.unwrap();
    let mut events = old.events(&id());
    bench.env.crash();
    let reason = "its process ended: killed by signal 9".to_owned();
    assert_eq!(events.recv().await, SessionEvent::ServerLost { reason });
    let begun = Instant::now();
    let new = bench.server.acquire().await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(500), "it backs off");
    assert_eq!((old.generation(), new.generation(), bench.stats.losses()), (1, 2, 1));
    assert!(old.client().health().await.is_err(), "an old handle never reaches the new server");
    let mut late = old.events(&id());
    idle_event(&bench.env);
    assert!(matches!(late.recv().await, SessionEvent::ServerLost { .. }));
    assert!(new.client().health().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn leases_of_a_lost_generation_do_not_keep_the_next_one_alive_or_stop_it() {
    let bench = bench();
    let old = bench.server.acquire().await.unwrap();
    bench.env.crash();
    pause(60).await;
    let new = bench.server.acquire().await.unwrap();
    drop(old);
    pause(3600).await;
    assert!(new.client().health().await.is_ok());
    drop(new);
    pause(601).await;
    assert_eq!(bench.env.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_unused_server_stops_and_starts_again_when_work_comes() {
    let bench = bench();
    drop(bench.server.acquire().await.unwrap());
    pause(599).await;
    assert_eq!(bench.env.running(), 1);
    pause(2).await;
    assert_eq!((bench.env.running(), bench.stats.generation()), (0, 0));
    assert_eq!(bench.server.acquire().await.unwrap().generation(), 2);
}

#[tokio::test(start_paused = true)]
async fn work_that_arrives_during_the_idle_stop_waits_for_the_next_generation() {
    let bench = bench();
    bench.env.world().stop_takes = Duration::from_secs(3);
    drop(bench.server.acquire().await.unwrap());
    pause(601).await;
    assert_eq!(bench.env.running(), 1, "it is stopping");
    let lease = bench.server.acquire().await.unwrap();
    assert_eq!((lease.generation(), bench.env.running()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn starts_that_fail_are_tried_again_and_then_fail_those_who_wait_with_the_reason() {
    let bench = bench();
    bench.env.world().failing_launches = 2;
    assert!(bench.server.acquire().await.is_ok());
    bench.env.crash();
    bench.env.world().failing_launches = 3;
    insta::assert_snapshot!(
        bench.server.acquire().await.unwrap_err(),
        @"the OpenCode server did not start (attempts: 3): `opencode` ended before it was ready (exit code 1); the worker's log has what it printed"
    );
    assert!(bench.server.acquire().await.is_ok());
    assert_eq!((bench.stats.starts(), bench.stats.failed_starts()), (7, 5));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_version_is_refused_at_once_and_clearly() {
    let bench = bench();
    bench.env.answer("GET /global/health", Answer::json(200, r#"{"healthy":true,"version":"2.0.5"}"#));
    insta::assert_snapshot!(
        bench.server.acquire().await.unwrap_err(),
        @"the OpenCode server did not start (attempts: 1): OpenCode 2.0.5 is not supported; install version 1.18 (`npm install -g opencode-ai@1.18`)"
    );
    assert_eq!(bench.env.running(), 0, "what was started is gone");
}

#[tokio::test(start_paused = true)]
async fn a_web_page_is_no_health() {
    let bench = bench();
    bench.env.world().answers.remove("GET /global/health");
    let error = bench.server.acquire().await.unwrap_err().to_string();
    assert!(error.contains("does not know the route"), "{error}");
    assert_eq!(bench.env.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_becomes_healthy_is_given_up_and_killed() {
    let bench = bench();
    bench.env.answer("GET /global/health", Answer::Silence);
    let begun = Instant::now();
    let error = bench.server.acquire().await.unwrap_err().to_string();
    assert!(error.contains("not healthy within 30s of its ready line"), "{error}");
    assert!(error.contains("no answer within 5s"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(100));
    assert_eq!(bench.env.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_slow_health_answer_never_restarts_a_server_in_use() {
    let bench = bench();
    let lease = bench.server.acquire().await.unwrap();
    let mut events = lease.events(&id());
    bench.env.answer("GET /global/health", Answer::Silence);
    assert!(lease.client().health().await.is_err());
    idle_event(&bench.env);
    expect_idle(&mut events).await;
    assert_eq!((bench.stats.losses(), bench.env.launches()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_lives_but_serves_no_more_is_replaced() {
    let bench = bench();
    let lease = bench.server.acquire().await.unwrap();
    let mut events = lease.events(&id());
    bench.env.answer("GET /event", Answer::Silence);
    bench.env.end_streams();
    let begun = Instant::now();
    let SessionEvent::ServerLost { reason } = events.recv().await else {
        panic!("the server was not given up")
    };
    assert!(reason.contains("its event stream failed 6 times in a row"), "{reason}");
    assert!(begun.elapsed() > Duration::from_secs(60), "that is no verdict of a moment");
    bench.env.world().answers.remove("GET /event");
    assert_eq!(bench.server.acquire().await.unwrap().generation(), 2);
    assert_eq!(bench.env.running(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_opens_and_ends_at_once_is_opened_less_and_less_often_and_then_no_more() {
    let bench = bench();
    let lease = bench.server.acquire().await.unwrap();
    let mut events = lease.events(&id());
    let greeting = "data: {\"type\":\"server.connected\",\"properties\":{}}\n\n";
    bench.env.answer("GET /event", Answer::Body(200, "text/event-stream", greeting.into()));
    bench.env.end_streams();
    let begun = Instant::now();
    let mut gaps = 0;
    let lost = async {
        while events.recv().await == SessionEvent::Gap {
            gaps += 1;
        }
    };
    timeout(Duration::from_secs(600), lost).await.expect("it is given up");
    assert_eq!(gaps, 5);
    assert!(begun.elapsed() > Duration::from_secs(10), "after {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_left_behind_is_asked_to_stop_and_not_prompted_while_it_is_busy() {
    let bench = bench();
    bench.env.answer("POST /session/ses_1/abort", Answer::json(200, "true"));
    bench.env.answer("GET /session/status", Answer::json(200, r#"{"ses_1":{"type":"busy"}}"#));
    let lease = bench.server.acquire().await.unwrap();
    assert!(lease.wait_until_idle(&id()).await, "nothing is asked about a session that nobody left behind");
    lease.begin(&id()).finish();
    assert!(lease.wait_until_idle(&id()).await);
    let asked = |what: &str| bench.env.world().requests.iter().filter(|request| *request == what).count();
    assert_eq!((asked("POST /session/ses_1/abort"), asked("GET /session/status")), (0, 0));

    drop(lease.begin(&id()));
    let begun = Instant::now();
    assert!(!lease.wait_until_idle(&id()).await);
    assert_eq!(begun.elapsed(), Duration::from_secs(8));
    assert_eq!((asked("POST /session/ses_1/abort"), asked("GET /session/status")), (5, 5));
    bench.env.answer("GET /session/status", Answer::json(200, "{}"));
    assert!(lease.wait_until_idle(&id()).await && lease.wait_until_idle(&id()).await);
    assert_eq!(asked("GET /session/status"), 6);
}

#[tokio::test(start_paused = true)]
async fn a_server_is_alive_ready_and_healthy_each_for_itself() {
    let bench = bench();
    let states = |stats: &ServerStats| (stats.is_alive(), stats.is_ready(), stats.is_healthy());
    assert_eq!(states(&bench.stats), (false, false, false));
    let lease = bench.server.acquire().await.unwrap();
    assert_eq!(states(&bench.stats), (true, true, true));
    bench.env.answer("GET /global/health", Answer::Silence);
    assert!(lease.client().health().await.is_err());
    assert_eq!(states(&bench.stats), (true, true, false));
    bench.env.answer("GET /event", Answer::Silence);
    bench.env.end_streams();
    pause(1).await;
    assert_eq!(states(&bench.stats), (true, false, false));
    bench.env.crash();
    pause(1).await;
    assert_eq!(states(&bench.stats), (false, false, false));
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_the_process_and_every_waiter() {
    let bench = bench();
    bench.env.world().launch_takes = Duration::from_secs(10);
    let (lease, ()) = tokio::join!(bench.server.acquire(), async {
        pause(1).await;
        bench.server.shutdown(Duration::from_secs(5)).await;
    });
    assert_eq!(lease.unwrap_err(), ServerError::Closed);
    assert_eq!(bench.server.acquire().await.unwrap_err(), ServerError::Closed);
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_the_process_and_tells_receivers() {
    let bench = bench();
    bench.env.world().stop_takes = Duration::from_secs(3);
    let lease = bench.server.acquire().await.unwrap();
    let mut events = lease.events(&id());
    let begun = Instant::now();
    bench.server.shutdown(Duration::from_secs(10)).await;
    assert_eq!((begun.elapsed(), bench.env.running()), (Duration::from_secs(3), 0));
    assert_eq!(events.recv().await, SessionEvent::ServerLost { reason: "the worker is stopping".into() });
    assert_eq!(bench.stats.open_streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_server_leaves_nothing_behind() {
    let Bench { env, server, stats, .. } = bench();
    let lease = server.acquire().await.unwrap();
    drop(server);
    pause(1).await;
    assert_eq!((env.running(), stats.open_streams()), (0, 0));
    assert!(lease.client().health().await.is_err());

    let Bench { env, server, .. } = bench();
    env.answer("GET /global/health", Answer::Silence);
    assert!(timeout(Duration::from_secs(1), server.acquire()).await.is_err());
    drop(server);
    pause(1).await;
    assert_eq!(env.running(), 0, "a start that was under way is undone");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_gives_up_holds_no_lease() {
    let bench = bench();
    bench.env.world().launch_takes = Duration::from_secs(2);
    assert!(timeout(Duration::from_secs(1), bench.server.acquire()).await.is_err());
    pause(700).await;
    assert_eq!((bench.env.launches(), bench.env.running()), (1, 0), "it started, idled and stopped");
}
