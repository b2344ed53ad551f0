//! The clients say to the fake what they said to the backend that they were recorded with.

use std::collections::BTreeMap;

use conformance::{tap::Cut, tools};
use convex::Value;
use serde_json::{Value as Json, json};
use tokio::time::{Duration, Instant, sleep};

use super::{
    PLAIN, World,
    clients::{Args, Client, Npm, Official, args, until},
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
    let recorded: Vec<Json> = recorded.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let said =
            world.tap.said().into_iter().filter(|said| said.by_client && said.message["type"] != "Event");
        let (mut ours, mut theirs) = (BTreeMap::new(), BTreeMap::new());
        let said: Vec<_> = said.map(|said| normal(&said.message, &mut ours)).collect();
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

#[test]
fn convexs_npm_client_says_what_was_recorded() {
    if tools::node().is_none() {
        return;
    }
    run(async || {
        let world = World::new(1, PLAIN).await;
        let mut client = Npm::connect(world.tap.address).await;
        let seen = client.subscribe("queue:mine", mine(Some(0.5))).await;
        until(&seen, "mine", |answer| answer.is_ok()).await;
        let failing = client.subscribe("queue:failing", args([])).await;
        until(&failing, "failing", |answer| *answer == Err(Some("E".into()))).await;
        client.call("mutation", "queue:claim", args([("worker", "w1".into())])).await.unwrap();
        client.call("mutation", "queue:bad", args([])).await.unwrap_err();
        client.call("action", "act:run", args([("x", 1.0.into())])).await.unwrap_err();
        client.unsubscribe(&failing).await;
        let ada =
            fake_convex::Identity { expires_at: Some(4_000_000_000), ..fake_convex::Identity::new("x", "w") };
        sleep(Duration::from_millis(50)).await;
        client.sign_in(Some(ada.to_token())).await;
        check(&world, include_str!("../../recordings/convex-client-js-1.48.0-basic.jsonl")).await;
    });
}

#[test]
fn convexs_npm_client_resends_what_was_recorded() {
    if tools::node().is_none() {
        return;
    }
    run(async || {
        let world = World::new(1, PLAIN).await;
        let mut client = Npm::connect(world.tap.address).await;
        let seen = client.subscribe("queue:mine", mine(Some(0.5))).await;
        until(&seen, "mine", |answer| answer.is_ok()).await;
        let failing = client.subscribe("queue:failing", args([])).await;
        until(&failing, "failing", |answer| answer.is_err()).await;
        world.tap.cut(&[Cut::BeforeAnswer]);
        client.call("mutation", "queue:dropA", args([("k", 1.0.into())])).await.unwrap();
        client.call("mutation", "queue:claim", args([("k", 2.0.into())])).await.unwrap();
        client.unsubscribe(&seen).await;
        check(&world, include_str!("../../recordings/convex-client-js-1.48.0-dropmut.jsonl")).await;
    });
}

#[test]
fn convexs_rust_client_says_what_was_recorded() {
    run(async || {
        let world = World::new(1, PLAIN).await;
        let mut client = Official::connect(world.tap.address).await;
        let seen = client.subscribe("queue:mine", mine(None)).await;
        until(&seen, "mine", |answer| answer.is_ok()).await;
        client.call("mutation", "queue:claim", args([])).await.unwrap();
        client.call("mutation", "queue:bad", args([])).await.unwrap_err();
        client.call("action", "act:run", args([])).await.unwrap_err();
        client.unsubscribe(&seen).await;
        sleep(Duration::from_millis(50)).await;
        client.sign_in(Some("jwt".into())).await;
        check(&world, include_str!("../../recordings/convex-client-rust-0.10.4-basic.jsonl")).await;
    });
}
