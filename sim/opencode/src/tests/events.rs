//! The recorded event streams: the same requests must lead to the same events in the same order, each of the same shape.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    shape::{same_shape, shape},
    world::{World, run},
};

fn recorded(text: &str) -> Vec<Value> {
    let events = text.lines().map(|line| serde_json::from_str(line).unwrap());
    events.filter(|event: &Value| event["type"] != "server.heartbeat").collect()
}

/// What an event is about, without identifiers and times.
fn outline(event: &Value) -> String {
    let properties = &event["properties"];
    let kind = event["type"].as_str().unwrap();
    let detail = match kind {
        "session.status" => properties["status"]["type"].to_string(),
        "session.error" => properties["error"]["name"].to_string(),
        "session.updated" => format!("summary={}", !properties["info"]["summary"].is_null()),
        "message.part.updated" => {
            let part = &properties["part"];
            format!("{} {} end={}", part["type"], part["state"]["status"], !part["time"]["end"].is_null())
        }
        "message.updated" => {
            let info = &properties["info"];
            let completed = !info["time"]["completed"].is_null();
            format!("{} {} completed={completed} {}", info["role"], info["finish"], info["error"]["name"])
        }
        _ => String::new(),
    };
    format!("{kind} {detail}")
}

fn same_events(ours: &[Value], recorded: &[Value]) {
    let lines = |events: &[Value]| events.iter().map(outline).collect::<Vec<_>>().join("\n");
    let (left, right) = (lines(ours), lines(recorded));
    assert!(left == right, "ours:\n{left}\n\nrecorded:\n{right}");
    for (ours, recorded) in ours.iter().zip(recorded) {
        same_shape(&outline(ours), ours, recorded);
    }
}

/// The events about one session, and the greeting.
fn about(events: &[Value], session: &str) -> Vec<Value> {
    let wanted =
        |event: &&Value| event["type"] == "server.connected" || event["properties"]["sessionID"] == session;
    events.iter().filter(wanted).cloned().collect()
}

async fn warm(world: &World) {
    let session = world.create("warm").await;
    world.prompt(&session, "warm up").await;
    world.settle().await;
}

#[test]
fn a_session_from_creation_to_deletion_publishes_what_was_recorded() {
    run(async |world| {
        warm(&world).await;
        let events = world.listen("/event").await;
        let session = world.call("POST", "/session", Some(&json!({}))).await.body()["id"].clone();
        let session = session.as_str().unwrap();
        let message = format!("/session/{session}/message");
        let text = |text: &str| json!([{ "type": "text", "text": text }]);

        let model = json!({ "providerID": "fake", "modelID": "m1" });
        let first = json!({ "model": model, "parts": text("What is up? [[chunks=5 delay=0.1]]") });
        world.call("POST", &format!("/session/{session}/prompt_async"), Some(&first)).await;
        world.settle().await;
        world.call("PATCH", &format!("/session/{session}"), Some(&json!({ "title": "Renamed" }))).await;
        world.call("POST", &message, Some(&json!({ "noReply": true, "parts": text("just note") }))).await;
        world.prompt(session, "use tool [[tool=1 chunks=2]]").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.prompt(session, "fail [[err=400]]").await;
        let nope = json!({ "model": { "providerID": "fake", "modelID": "nope" }, "parts": text("x") });
        assert_eq!(world.call("POST", &message, Some(&nope)).await.status, 500);
        let nope = json!({ "model": { "providerID": "zzz", "modelID": "nope" }, "parts": text("x") });
        world.call("POST", &format!("/session/{session}/prompt_async"), Some(&nope)).await;
        world.settle().await;
        world.call("POST", &message, Some(&json!({ "parts": [] }))).await;
        world.call("POST", &message, Some(&json!({ "agent": "noagent", "parts": text("x") }))).await;
        let long = json!({ "parts": text("long [[chunks=100 delay=0.1]]") });
        world.call("POST", &message, Some(&long)).await;
        world.abort(session).await;
        world.call("DELETE", &format!("/session/{session}"), None).await;
        tokio::time::sleep(Duration::from_millis(10)).await;

        let mut recorded = recorded(include_str!("../recordings/events.jsonl"));
        // The summary of a turn comes late. In the recording the next prompt overtook it once; here none does.
        let late = recorded.remove(76);
        assert_eq!(late["properties"]["info"]["role"], "user");
        recorded.insert(71, late);
        same_events(&about(&events.borrow(), session), &recorded);
    });
}

#[test]
fn an_abort_publishes_what_was_recorded() {
    run(async |world| {
        warm(&world).await;
        let events = world.listen("/event").await;
        let session =
            world.prompted("abort-sse", "a [[chunks=50 delay=0.1]]", Duration::from_millis(780)).await;
        assert_eq!(world.get("/session/status").await, json!({ (session.as_str()): { "type": "busy" } }));
        world.abort(&session).await;
        assert_eq!(world.get("/session/status").await, json!({}), "idle is reported before the last part");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let recorded = recorded(include_str!("../recordings/events-abort.jsonl"));
        same_events(&about(&events.borrow(), &session), &recorded);
    });
}

/// What tells how a reply goes on: no news of sessions and of summaries, which come beside it in any order, and one
/// delta for each row of them.
fn course(events: &[Value]) -> Vec<Value> {
    let is_aside = |event: &&Value| {
        let summary = &event["properties"]["info"]["summary"];
        event["type"] == "session.updated" || event["type"] == "session.diff" || summary.is_object()
    };
    let mut course: Vec<Value> = events.iter().filter(|event| !is_aside(event)).cloned().collect();
    let is_delta = |event: &Value| event["type"] == "message.part.delta";
    course.dedup_by(|next, last| is_delta(next) && is_delta(last));
    course
}

/// Two prompts in one session; the second is aborted `abort_after` it, if at all.
fn check_course(prompts: [&'static str; 2], abort_after: Option<Duration>, text: &'static str) {
    run(async |world| {
        warm(&world).await;
        let session = world.create("long").await;
        world.prompt(&session, "before").await;
        world.settle().await;
        let events = world.listen("/event").await;
        world.prompt(&session, prompts[0]).await;
        world.settle().await;
        world.prompt_async(&session, prompts[1]).await;
        if let Some(pause) = abort_after {
            tokio::time::sleep(pause).await;
            let status = world.get("/session/status").await;
            assert_eq!(status[&session]["type"], "retry");
            world.abort(&session).await;
        }
        world.settle().await;
        let ours = about(&events.borrow(), &session);
        same_events(&course(&ours[1..]), &course(&recorded(text)));
    });
}

#[test]
fn a_model_that_is_put_off_and_one_that_is_aborted_meanwhile_publish_what_was_recorded() {
    let prompts = ["x [[putoff=2 after=1000 deltas=2]]", "y [[putoff=1 after=3600000]]"];
    check_course(prompts, Some(Duration::from_secs(3)), include_str!("../recordings/events-retry.jsonl"));
}

#[test]
fn a_context_that_is_full_and_a_prompt_that_is_too_long_publish_what_was_recorded() {
    let prompts = ["work [[full=1 deltas=2]]", "long [[toolong=1 deltas=2]]"];
    check_course(prompts, None, include_str!("../recordings/events-compaction.jsonl"));
}

#[test]
fn two_streams_get_the_same_bytes_and_another_directory_gets_none() {
    run(async |world| {
        let one = world.listen("/event").await;
        let two = world.listen("/event?directory=/project").await;
        let other = world.listen("/event?directory=/elsewhere").await;
        let session = world.create("shared").await;
        world.prompt(&session, "hello").await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        let events = |stream: &[Value]| -> Vec<Value> {
            stream
                .iter()
                .filter(|event| !event["type"].as_str().unwrap().starts_with("server."))
                .cloned()
                .collect()
        };
        assert_eq!(events(&one.borrow()), events(&two.borrow()));
        assert!(events(&one.borrow()).len() > 20);
        let kinds: Vec<_> = other.borrow().iter().map(|event| event["type"].clone()).collect();
        assert_eq!(kinds, ["server.connected", "server.heartbeat", "server.heartbeat", "server.heartbeat"]);
        assert_eq!(world.heard("EventStreamOpened").len(), 3);
    });
}

#[test]
fn a_stream_that_is_dropped_is_forgotten_and_replays_nothing() {
    run(async |world| {
        let request = world.request("GET", "/event", None);
        let response = world.open(request).await.unwrap();
        drop(response);
        world.create("between").await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(world.heard("EventStreamClosed"), ["EventStreamClosed { open: 0 }"]);
        let events = world.listen("/event").await;
        assert_eq!(events.borrow().len(), 1, "only server.connected");
    });
}

#[test]
fn permission_events_have_the_described_shape() {
    run(async |world| {
        let events = world.listen("/event").await;
        world.prompted("asks", "[[tool=1 ask=1]]", Duration::from_secs(2)).await;
        let asked =
            events.borrow().iter().find(|event| event["type"] == "permission.asked").cloned().unwrap();
        let expect = json!({ "id": "evt_", "type": "permission.asked", "properties": {
            "id": "per_", "sessionID": "ses_", "permission": "bash", "patterns": ["x"], "metadata": { "command": "x" },
            "always": ["x"], "tool": { "messageID": "msg_", "callID": "call_1" },
        } });
        assert_eq!(shape(&asked), shape(&expect));
    });
}
