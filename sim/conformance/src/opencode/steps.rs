//! What is asked: requests of every kind that the worker makes, and turns that end in every way.

use std::time::Duration;

use http::header;
use serde_json::{Value as Json, json};
use tokio::time::sleep;

use super::{
    shape::session_of,
    suite::{Suite, request},
};

/// Everything that needs no permission.
pub(super) async fn plain(suite: &mut Suite) {
    requests(suite).await;
    let nothing = async |_: &str, _: &Json| {};
    suite.turn("a reply", "hello [[deltas=3 pace=1000]]", nothing).await;
    suite.turn("a tool and a reply", "do it [[tool=1 deltas=2 pace=40]]", nothing).await;
    suite.turn("reasoning", "think [[reasoning=2 deltas=2 pace=40]]", nothing).await;
    suite.turn("an error of the model", "no [[error=400]]", nothing).await;
    let address = suite.address();
    let abort = async |label: &str, event: &Json| {
        if label == "message.part.delta" {
            sleep(Duration::from_millis(100)).await;
            let path = format!("/session/{}/abort", session_of(event).unwrap());
            Suite::aside(address, "POST", &path, None).await;
        }
    };
    suite.turn("an abort", "for ever [[deltas=1 hang=1]]", abort).await;
    suite.stream("GET /event").await;
}

async fn requests(suite: &mut Suite) {
    let mut stranger = request("GET", "/session", None);
    stranger.headers_mut().remove(header::AUTHORIZATION);
    suite.ask_with("without password", stranger, &Json::Null).await;
    let session = suite.session("POST /session").await;
    let path = |rest: &str| format!("/session/{session}{rest}");
    for (step, method, path, body) in [
        ("health", "GET", "/global/health".into(), None),
        ("POST /session, empty object", "POST", "/session".into(), Some("{}")),
        ("POST /session, malformed", "POST", "/session".into(), Some("{")),
        ("POST /session, wrong type", "POST", "/session".into(), Some(r#"{"title":1}"#)),
        ("GET /session/{id}", "GET", path(""), None),
        ("GET /session/{id}, missing", "GET", "/session/ses_doesnotexist000000000000".into(), None),
        ("GET /session/{id}, malformed", "GET", "/session/bogus".into(), None),
        ("PATCH /session/{id}", "PATCH", path(""), Some(r#"{"title":"another"}"#)),
        ("GET /session?limit=1", "GET", "/session?limit=1".into(), None),
        ("GET /session?limit=0", "GET", "/session?limit=0".into(), None),
        ("GET /session/status", "GET", "/session/status".into(), None),
        ("GET /session/{id}/message", "GET", path("/message"), None),
        ("GET /session/{id}/message?limit=x", "GET", path("/message?limit=x"), None),
        ("GET /session/{id}/children", "GET", path("/children"), None),
        ("prompt without parts", "POST", path("/message"), Some("{}")),
        ("prompt, malformed", "POST", path("/message"), Some("{")),
        (
            "prompt_async, missing session",
            "POST",
            "/session/ses_doesnotexist000000000000/prompt_async".into(),
            Some(r#"{"parts":[{"type":"text","text":"x [[deltas=3 pace=1000]]"}]}"#),
        ),
        (
            "prompt without reply",
            "POST",
            path("/message"),
            Some(r#"{"noReply":true,"parts":[{"type":"text","text":"x [[deltas=3 pace=1000]]"}]}"#),
        ),
        (
            "prompt, waiting",
            "POST",
            path("/message"),
            Some(r#"{"parts":[{"type":"text","text":"x [[deltas=3 pace=1000]]"}]}"#),
        ),
        (
            "prompt, unknown model",
            "POST",
            path("/message"),
            Some(
                r#"{"model":{"providerID":"no","modelID":"no"},"parts":[{"type":"text","text":"x [[deltas=3 pace=1000]]"}]}"#,
            ),
        ),
        ("GET /session/{id}/message?limit=1", "GET", path("/message?limit=1"), None),
        ("abort of nothing", "POST", path("/abort"), None),
        ("GET /permission", "GET", "/permission".into(), None),
        (
            "permission reply, missing",
            "POST",
            "/permission/per_missing/reply".into(),
            Some(r#"{"reply":"reject"}"#),
        ),
        ("GET /question", "GET", "/question".into(), None),
        ("GET /config/providers", "GET", "/config/providers".into(), None),
        ("unknown route", "GET", "/nosuchroute".into(), None),
        ("DELETE /session/{id}", "DELETE", path(""), None),
        ("DELETE /session/{id}, again", "DELETE", path(""), None),
    ] {
        suite.ask(step, method, &path, body).await;
    }
}

/// What happens when the tool asks.
pub(super) async fn asking(suite: &mut Suite) {
    let address = suite.address();
    for reply in ["reject", "once"] {
        let answer = async |label: &str, event: &Json| {
            if label == "permission.asked" {
                let path = format!("/permission/{}/reply", event["properties"]["id"].as_str().unwrap());
                Suite::aside(address, "POST", &path, Some(&json!({ "reply": reply }).to_string())).await;
            }
        };
        suite
            .turn(&format!("a permission, {reply}"), "may I? [[tool=1 ask=1 deltas=2 pace=40]]", answer)
            .await;
    }
}
