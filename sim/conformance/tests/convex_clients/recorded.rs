//! The clients say to the fake what they said to the backend that they were recorded with.

use std::collections::BTreeMap;

use conformance::{tap::Cut, tools};
use convex::Value;
use fake_convex::{Identity, SyncOptions};
use serde_json::{Value as Json, json};
use tokio::time::{Duration, Instant, sleep};

use super::{
    PLAIN, World,
    clients::{Args, Client, Npm, Official, Seen, args, until},
    run,
};

/// A message without what differs from run to run: sessions by number, times by whether they are there.
fn normal(message: &Json, sessions: &mut BTreeMap<String, usize>) -> Json {
    let mut message = message.clone();
    if let Some(session) = message["sessionId"].as_str().map(str::to_owned) {
        let next = sessions.len();
        message["sessionId"] = json!(*sessions.entry(session).or_insert(next));
    }
    for field in ["clientTs", "maxObservedTimestamp", "value"] {
        if message.get(field).is_some() {
            message[field] = json!("…");
        }
    }
    message
}

/// Checks all that the client said until now; telemetry is left out, as in the recordings.
async fn check(world: &World, recorded: &str) {
    check_until(world, recorded, usize::MAX).await;
}

/// Checks the first messages that the client said, so many of them.
async fn check_until(world: &World, recorded: &str, count: usize) {
    let recorded: Vec<Json> =
        recorded.lines().take(count).map(|line| serde_json::from_str(line).unwrap()).collect();
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let said =
            world.tap.said().into_iter().filter(|said| said.by_client && said.message["type"] != "Event");
        let (mut ours, mut theirs) = (BTreeMap::new(), BTreeMap::new());
        let said: Vec<_> = said.take(count).map(|said| normal(&said.message, &mut ours)).collect();
        let expected: Vec<_> = recorded.iter().map(|message| normal(message, &mut theirs)).collect();
        if said.len() >= expected.len() || Instant::now() > end {
            assert_eq!(said, expected);
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

fn mine(f: Option<f64>) -> Args {
    let mut args = args([("worker", "w1".into()), ("n", 3.0.into()), ("big", Value::Int64(5))]);
    args.extend(f.map(|f| ("f".to_owned(), Value::Float64(f))));
    args
}

/// A client that has subscribed to what there is.
async fn watching<C: Client>(world: &World, f: Option<f64>) -> (C, Seen) {
    let mut client = C::connect(world.tap.address).await;
    let seen = client.subscribe("queue:mine", mine(f)).await;
    until(&seen, "mine", |answer| answer.is_ok()).await;
    (client, seen)
}

/// The npm client, with a second query that fails until something is written.
async fn npm(test: impl AsyncFnOnce(&World, Npm, [Seen; 2])) {
    let world = World::new(1, PLAIN).await;
    let (mut client, seen) = watching::<Npm>(&world, Some(0.5)).await;
    let failing = client.subscribe("queue:failing", args([])).await;
    until(&failing, "failing", |answer| *answer == Err(Some("E".into()))).await;
    test(&world, client, [seen, failing]).await;
}

/// Messages of `respdrop`, the last of which says that an answer was not understood.
const UNTIL_IT_TRIPS: usize = 7;

fn number(name: &str, n: f64) -> Args {
    args([(name, n.into())])
}

#[test]
fn convexs_npm_client_says_what_was_recorded() {
    if tools::node().is_none() {
        return;
    }
    run(async || {
        npm(async |world, mut client, [_, failing]| {
            client.call("mutation", "queue:claim", args([("worker", "w1".into())])).await.unwrap();
            client.call("mutation", "queue:bad", args([])).await.unwrap_err();
            assert_eq!(client.call("action", "act:run", number("x", 1.0)).await, Ok("acted".into()));
            client.unsubscribe(&failing).await;
            let w = Identity { expires_at: Some(4_000_000_000), ..Identity::new("x", "w") };
            sleep(Duration::from_millis(50)).await;
            client.sign_in(Some(w.to_token())).await;
            check(world, include_str!("../../recordings/convex-client-js-1.48.0-basic.jsonl")).await;
        })
        .await;
    });
}

#[test]
fn convexs_npm_client_resends_what_was_recorded() {
    if tools::node().is_none() {
        return;
    }
    run(async || {
        npm(async |world, mut client, [seen, _]| {
            world.tap.cut(&[Cut::BeforeAnswer]);
            client.call("mutation", "queue:dropA", number("k", 1.0)).await.unwrap();
            client.call("mutation", "queue:claim", number("k", 2.0)).await.unwrap();
            client.unsubscribe(&seen).await;
            check(world, include_str!("../../recordings/convex-client-js-1.48.0-dropmut.jsonl")).await;
        })
        .await;
    });
}

/// The recorded backend went away too late for this client to notice.
#[test]
fn convexs_npm_client_resends_nothing_that_was_followed_by_a_transition() {
    if tools::node().is_none() {
        return;
    }
    run(async || {
        npm(async |world, mut client, _| {
            client.call("mutation", "queue:respdrop", number("k", 1.0)).await.unwrap();
            client.call("mutation", "queue:claim", number("k", 2.0)).await.unwrap();
            client.call("action", "act:slow", args([])).await.unwrap();
            check(world, include_str!("../../recordings/convex-client-js-1.48.0-respdrop.jsonl")).await;
        })
        .await;
    });
}

#[test]
fn convexs_rust_client_says_what_was_recorded() {
    run(async || {
        let world = World::new(1, PLAIN).await;
        let (mut client, seen) = watching::<Official>(&world, None).await;
        client.call("mutation", "queue:claim", args([])).await.unwrap();
        client.call("mutation", "queue:bad", args([])).await.unwrap_err();
        assert_eq!(client.call("action", "act:run", args([])).await, Ok("acted".into()));
        client.unsubscribe(&seen).await;
        sleep(Duration::from_millis(50)).await;
        client.sign_in(Some("jwt".into())).await;
        check(&world, include_str!("../../recordings/convex-client-rust-0.10.4-basic.jsonl")).await;
    });
}

/// It resends all that is under way, the action too, under a new session each time.
#[test]
fn convexs_rust_client_resends_what_was_recorded() {
    run(async || {
        // So slow that everything is under way when the first answer is cut off.
        let world = World::with_latency(1, PLAIN, Duration::from_millis(100)).await;
        let (client, _seen) = watching::<Official>(&world, None).await;
        world.tap.cut(&[Cut::BeforeAnswer, Cut::BeforeAnswer]);
        let [mut one, mut two, mut three] = [(); 3].map(|()| client.client.clone());
        let calls = tokio::join!(
            one.mutation("queue:dropA", args([])),
            two.mutation("queue:claim", args([])),
            three.action("act:slow", args([])),
        );
        assert!(calls.0.is_ok() && calls.1.is_ok() && calls.2.is_ok(), "{calls:?}");
        check(&world, include_str!("../../recordings/convex-client-rust-0.10.4-dropmut.jsonl")).await;
    });
}

/// It trips over the answer to what it takes for done. Afterwards it goes by chance: in the recording it tripped again,
/// over what was left of the connection before, which depends on what it reads first.
#[test]
fn convexs_rust_client_recovers_as_was_recorded() {
    run(async || {
        let late = SyncOptions { early_transition: 1.0, ..PLAIN };
        let world = World::new(1, late).await;
        let (mut client, _seen) = watching::<Official>(&world, None).await;
        world.tap.cut(&[Cut::CloseBeforeTransition]);
        client.call("mutation", "queue:respdrop", args([])).await.unwrap();
        let recording = include_str!("../../recordings/convex-client-rust-0.10.4-respdrop.jsonl");
        check_until(&world, recording, UNTIL_IT_TRIPS).await;
    });
}
