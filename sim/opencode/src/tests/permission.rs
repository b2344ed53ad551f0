//! Permission questions, by the API description.

use std::time::Duration;

use serde_json::json;

use super::world::run;

/// Asks, answers by one of the two routes, and checks how the tool and the reply ended.
fn check(route: &'static str, field: &'static str, reply: &'static str, tool: &'static str, replied: bool) {
    run(async |world| {
        let session = world.prompted("asks", "[[tool=1 ask=1]]", Duration::from_secs(60)).await;
        let asked = world.get("/permission").await;
        let id = asked[0]["id"].as_str().expect("it waits as long as it takes");
        let path = route.replace("{session}", &session).replace("{id}", id);
        let answer = world.call("POST", &path, Some(&json!({ (field): reply }))).await;
        assert_eq!((answer.status, answer.body()), (200, json!(true)));
        world.settle().await;
        assert_eq!(world.get("/permission").await, json!([]));
        let messages = world.messages(&session).await;
        assert_eq!(messages[1]["parts"][1]["state"]["status"], tool);
        assert_eq!(messages.as_array().unwrap().len(), if replied { 3 } else { 2 });
        assert_eq!(world.heard("ReplyEnded").len(), 1);
        assert_eq!(world.call("POST", &path, Some(&json!({ (field): reply }))).await.status, 404);
    });
}

#[test]
fn a_permitted_tool_runs_and_the_reply_goes_on() {
    check("/permission/{id}/reply", "reply", "once", "completed", true);
    check("/session/{session}/permissions/{id}", "response", "always", "completed", true);
}

#[test]
fn a_refused_tool_ends_the_turn() {
    check("/permission/{id}/reply", "reply", "reject", "error", false);
}

#[test]
fn an_abort_withdraws_the_question_and_ends_the_tool() {
    run(async |world| {
        let session = world.prompted("asks", "[[tool=1 ask=1]]", Duration::from_secs(2)).await;
        world.abort(&session).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(world.get("/permission").await, json!([]));
        let messages = world.messages(&session).await;
        assert_eq!(messages[1]["parts"][1]["state"]["status"], "error");
        assert_eq!(messages[1]["info"]["error"]["name"], "MessageAbortedError");
    });
}
