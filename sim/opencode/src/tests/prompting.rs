//! How prompts, aborts and deletions interleave.

use std::time::Duration;

use serde_json::json;

use super::world::{run, run_with};
use crate::Latencies;

#[test]
fn a_prompt_during_the_end_of_an_aborted_reply_is_answered() {
    run(async |world| {
        let session = world.prompted("s", "one [[hang=1]]", Duration::from_secs(3)).await;
        world.prompt_async(&session, "queued before the abort").await;
        world.abort(&session).await;
        let reply = world.prompt(&session, "after [[chunks=2]]").await;
        assert_eq!(reply["parts"][1]["text"], "word0 word1 ");
        let messages = world.machine.messages(&session);
        assert_eq!(messages.len(), 5, "two replies to three prompts: {messages:#?}");
        assert_eq!(messages[1].error.as_deref(), Some("MessageAbortedError"));
        assert_eq!(messages[4].parent.as_deref(), Some(messages[3].id.as_str()));
        assert_eq!(world.get("/session/status").await, json!({}));
    });
}

#[test]
fn a_deleted_session_stays_busy_until_its_run_ends_by_itself() {
    run(async |world| {
        let session = world.prompted("s", "one [[chunks=100 delay=0.1]]", Duration::from_secs(2)).await;
        let path = format!("/session/{session}");
        assert_eq!(world.call("DELETE", &path, None).await.body(), json!(true));
        assert_eq!(world.call("GET", &path, None).await.status, 404);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_ne!(world.get("/session/status").await, json!({}));
        world.settle().await;
        assert_eq!(world.heard("ReplyEnded").len(), 1);
        assert!(world.heard("ReplyEnded")[0].ends_with("outcome: SessionDeleted }"));
    });
}

#[test]
fn a_client_that_goes_away_does_not_stop_its_prompt() {
    run(async |world| {
        let session = world.create("s").await;
        let body = json!({ "parts": [{ "type": "text", "text": "d [[chunks=20 delay=0.1]]" }] });
        let request = world.request("POST", &format!("/session/{session}/message"), Some(&body));
        let gone = tokio::time::timeout(Duration::from_secs(1), world.open(request)).await;
        assert!(gone.is_err());
        world.settle().await;
        let messages = world.machine.messages(&session);
        assert!(messages[1].text.ends_with("word19 ") && messages[1].completed.is_some());
    });
}

#[test]
fn a_rename_does_not_count_as_an_update_and_a_note_does() {
    run(async |world| {
        let session = world.create("s").await;
        let path = format!("/session/{session}");
        let before = world.get(&path).await["time"].clone();
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.call("PATCH", &path, Some(&json!({ "title": "new" }))).await;
        assert_eq!(world.get(&path).await["time"], before);
        let note = json!({ "noReply": true, "parts": [{ "type": "text", "text": "x" }] });
        world.call("POST", &format!("{path}/message"), Some(&note)).await;
        assert_ne!(world.get(&path).await["time"], before);
    });
}

#[test]
fn concurrent_creations_queue_and_are_counted() {
    run(async |world| {
        let start = tokio::time::Instant::now();
        let calls = (0..20).map(|_| world.call("POST", "/session", None));
        let replies = futures_util::future::join_all(calls).await;
        assert!(replies.iter().all(|reply| reply.status == 200));
        assert!(start.elapsed() >= Duration::from_millis(80), "{:?}", start.elapsed());
        assert!(world.heard("CreateStarted").contains(&"CreateStarted { in_flight: 20 }".to_owned()));
        assert!(world.heard("CreateEnded").last().unwrap().ends_with("in_flight: 0 }"));
    });
}

#[test]
fn without_latencies_no_time_passes_but_that_of_the_script() {
    run_with(Latencies::NONE, None, async |world| {
        let start = tokio::time::Instant::now();
        let session = world.create("s").await;
        world.prompt(&session, "[[deltas=10 pace=0 first=0]]").await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    });
}
