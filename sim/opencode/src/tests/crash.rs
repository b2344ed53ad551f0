//! What a crash leaves on disk.

use std::time::Duration;

use serde_json::{Value, json};

use super::{shape::same_shape, world::run};

#[test]
fn a_crash_in_mid_reply_leaves_what_was_recorded() {
    run(async |world| {
        let session = world.prompted("c", "c [[chunks=100 delay=0.1]]", Duration::from_secs(3)).await;
        let recorded: Value = serde_json::from_str(include_str!("../recordings/crash.json")).unwrap();
        let live = world.messages(&session).await;
        same_shape("live", &live, &recorded);
        assert_eq!(live[1]["parts"][1]["text"], "", "deltas are not stored");

        world.crash();
        world.start(None).await;
        assert_eq!(world.messages(&session).await, live, "the disk is as it was");
        assert_eq!(world.get("/session/status").await, json!({}));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(world.messages(&session).await, live, "nothing is resumed");
        assert_eq!(world.heard("ServerStopped"), ["ServerStopped { generation: 1, lost_replies: 1 }"]);
        assert!(world.heard("ReplyEnded").is_empty());

        let next = world.prompt(&session, "next").await;
        assert_eq!(next["info"]["finish"], "stop", "the session still works");
        let after = world.messages(&session).await;
        assert_eq!(after[1], live[1], "the stale message stays as it is");
    });
}

#[test]
fn a_crash_breaks_streams_and_calls_off_and_leaves_tools_running() {
    run(async |world| {
        let events = world.listen("/event").await;
        let session = world.prompted("t", "[[tool=1 ask=1]]", Duration::from_secs(2)).await;
        let sync = world.open(world.request(
            "POST",
            &format!("/session/{session}/message"),
            Some(&json!({ "parts": [{ "type": "text", "text": "queued" }] })),
        ));
        let (answer, ()) = tokio::join!(sync, async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            world.crash();
        });
        assert!(answer.is_err(), "a pending call breaks off");
        let seen = events.borrow().len();
        world.start(None).await;
        assert_eq!(world.get("/permission").await, json!([]), "questions are not kept");
        let messages = world.messages(&session).await;
        assert_eq!(messages[1]["parts"][1]["state"]["status"], "running");
        world.create("other").await;
        assert_eq!(events.borrow().len(), seen, "the old stream is dead");
    });
}

#[test]
fn a_creation_under_way_dies_with_the_server() {
    run(async |world| {
        let create = world.open(world.request("POST", "/session", None));
        let (answer, ()) = tokio::join!(create, async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            world.crash();
        });
        assert!(answer.is_err());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(world.machine.session_ids().is_empty());
        assert_eq!(
            world.heard("Create"),
            ["CreateStarted { in_flight: 1 }", "CreateEnded { session: None, in_flight: 0 }",]
        );
    });
}
