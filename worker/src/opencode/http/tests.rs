use super::*;
use crate::{
    env::{
        Launch,
        testing::{Answer, TestEnv, TestServer},
    },
    opencode::types::{PartKind, Role, SessionStatus},
};

const PASSWORD: &str = "pass-word-secret";
const SESSION: &str = r#"{"id":"ses_1","slug":"gentle","title":"My title","cost":0,"version":"1.18.33",
    "time":{"created":1795428256210,"updated":1795428256211}}"#;

async fn launched(env: &TestEnv) -> (TestServer, Client) {
    let launch = Launch {
        binary: "opencode".into(),
        directory: "/project".into(),
        data_directory: None,
        password: PASSWORD.to_owned().into(),
        startup_timeout: Duration::from_secs(30),
    };
    let server = env.launch(launch).await.unwrap();
    let address = crate::env::ServerProcess::address(&server);
    let client = Client::new(
        env.clone(),
        address,
        "/project".as_ref(),
        &PASSWORD.to_owned().into(),
        Duration::from_secs(30),
    );
    (server, client)
}

fn id() -> OpencodeSessionId {
    OpencodeSessionId::new("ses_1").unwrap()
}

fn model() -> ModelRef {
    "fake/m1".parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn requests_go_over_the_wire_in_the_recorded_shapes() {
    let env = TestEnv::new();
    env.answer("POST /session", Answer::json(200, SESSION));
    env.answer("POST /session/ses_1/prompt_async", Answer::Body(204, "", Bytes::new()));
    env.answer("POST /session/ses_1/abort", Answer::json(200, "true"));
    env.answer("POST /permission/per_1/reply", Answer::json(200, "true"));
    env.answer("POST /question/que_1/reject", Answer::json(200, "true"));
    let (_server, client) = launched(&env).await;
    let session = client.create_session("My title", Some(&model())).await.unwrap();
    assert_eq!(
        (session.id, session.title.as_str(), session.time.updated),
        (id(), "My title", 1_795_428_256_211)
    );
    client.prompt_async(&id(), "msg_1", "hi \"you\"", Some(&model())).await.unwrap();
    client.abort(&id()).await.unwrap();
    client.reply_permission("per_1", PermissionReply::Reject).await.unwrap();
    client.reject_question("que_1").await.unwrap();
    insta::assert_snapshot!(env.world().requests.join("\n"), @r#"
    POST /session {"title":"My title","model":{"providerID":"fake","id":"m1"}}
    POST /session/ses_1/prompt_async {"messageID":"msg_1","model":{"providerID":"fake","modelID":"m1"},"parts":[{"type":"text","text":"hi \"you\""}]}
    POST /session/ses_1/abort
    POST /permission/per_1/reply {"reply":"reject"}
    POST /question/que_1/reject
    "#);
}

#[tokio::test(start_paused = true)]
async fn answers_are_typed() {
    let env = TestEnv::new();
    let messages = r#"[{"info":{"id":"msg_1","sessionID":"ses_1","role":"user","time":{"created":1}},
        "parts":[{"id":"prt_1","messageID":"msg_1","sessionID":"ses_1","type":"text","text":"hello"}]}]"#;
    env.answer("GET /session/ses_1/message", Answer::json(200, messages));
    env.answer("GET /session/status", Answer::json(200, r#"{"ses_1":{"type":"busy"}}"#));
    let (_server, client) = launched(&env).await;
    let messages = client.messages(&id(), 2).await.unwrap();
    assert_eq!(messages[0].info.role, Role::User);
    assert!(
        matches!(&messages[0].parts[0].kind, PartKind::Text { text, ended: true, .. } if text == "hello")
    );
    assert_eq!(client.statuses().await.unwrap().get("ses_1"), Some(&SessionStatus::Busy));
    assert_eq!(client.health().await.unwrap().major(), Some(1));
    assert_eq!(env.world().requests[0], "GET /session/ses_1/message?limit=2");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_route_answers_a_web_page_and_is_recognised() {
    let env = TestEnv::new();
    let (_server, client) = launched(&env).await;
    assert_eq!(client.session(&id()).await, Err(ApiError::NoSuchRoute { operation: "read the session" }));
    env.answer(
        "GET /event",
        Answer::Body(200, "text/html;charset=utf-8", Bytes::from_static(b"<!doctype html>")),
    );
    let error = client.open_events().await.unwrap_err();
    assert_eq!(error, ApiError::NoSuchRoute { operation: "open the event stream" });
}

#[tokio::test(start_paused = true)]
async fn a_missing_session_is_not_found() {
    let env = TestEnv::new();
    let body = r#"{"name":"NotFoundError","data":{"message":"Session not found: ses_1"}}"#;
    env.answer("GET /session/ses_1", Answer::json(404, body));
    let (_server, client) = launched(&env).await;
    assert!(client.session(&id()).await.unwrap_err().is_not_found());
}

/// A session as OpenCode shows it, with `directory` among its fields.
fn session_with(directory: &str) -> String {
    SESSION.replace(r#""slug":"gentle","#, directory)
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_not_for_sure_of_the_directory_is_elsewhere() {
    let env = TestEnv::new();
    let (_server, client) = launched(&env).await;
    for (directory, expect) in [
        (r#""directory":"/project","#, false),
        (r#""directory":"/project-2","#, true),
        (r#""directory":"/project/below","#, true),
        ("", true),
    ] {
        env.answer("GET /session/ses_1", Answer::json(200, session_with(directory)));
        assert_eq!(client.is_elsewhere(&id()).await, Ok(expect), "{directory}");
    }
    env.answer("GET /session/ses_1", Answer::json(404, "{}"));
    assert_eq!(client.is_elsewhere(&id()).await, Ok(false), "the prompt will say so");
    env.answer("GET /session/ses_1", Answer::json(500, "{}"));
    assert!(client.is_elsewhere(&id()).await.is_err(), "nobody knows");
}

#[tokio::test(start_paused = true)]
async fn only_the_directory_s_own_sessions_are_listed() {
    let env = TestEnv::new();
    env.answer("GET /experimental/session", Answer::json(200, "[]"));
    let (_server, client) = launched(&env).await;
    client.changed_sessions(7, Some(9), 50).await.unwrap();
    let expect =
        "GET /experimental/session?directory=%2Fproject&roots=true&archived=true&start=7&limit=50&cursor=9";
    assert_eq!(env.world().requests, [expect]);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_shape_says_what_came_but_never_a_provider_s_key() {
    let env = TestEnv::new();
    env.answer("GET /session/ses_1", Answer::json(200, r#"{"data":[]}"#));
    let keys = r#"{"providers":[{"id":"p","options":{"apiKey":"sk-secret"},"models":"sk-secret"}]}"#;
    env.answer("GET /config/providers", Answer::json(200, keys));
    let (_server, client) = launched(&env).await;
    insta::assert_snapshot!(client.session(&id()).await.unwrap_err(), @"cannot read the session: unexpected answer: missing field `id` at line 1 column 11; it began with: {\"data\":[]}");
    let error = client.models().await.unwrap_err();
    insta::assert_snapshot!(error, @"cannot list the models: unexpected answer: wrong shape at line 1 column 77; it began with: [withheld: may hold keys]");
    assert!(!format!("{error:?}").contains("sk-secret"));
    env.answer("GET /config/providers", Answer::json(500, keys));
    assert!(!format!("{:?}", client.models().await.unwrap_err()).contains("sk-secret"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_accepts_and_never_answers_costs_one_timeout() {
    let env = TestEnv::new();
    env.answer("POST /session", Answer::Silence);
    let (_server, client) = launched(&env).await;
    let begun = tokio::time::Instant::now();
    let error = client.create_session("t", None).await.unwrap_err();
    assert!(matches!(error, ApiError::Timeout { .. }) && error.may_have_happened(), "{error}");
    assert_eq!(begun.elapsed(), Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_request_cut_off_is_never_sent_twice() {
    let env = TestEnv::new();
    env.answer("GET /session/status", Answer::json(200, "{}"));
    env.answer("POST /session/ses_1/prompt_async", Answer::Cut);
    let (_server, client) = launched(&env).await;
    client.statuses().await.unwrap(); // leaves a connection in the pool, which is when clients retry by themselves
    let error = client.prompt_async(&id(), "msg_1", "hi", None).await.unwrap_err();
    assert!(matches!(error, ApiError::Interrupted { .. }) && error.may_have_happened(), "{error}");
    assert_eq!(env.world().requests.iter().filter(|line| line.contains("prompt_async")).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_gone_is_unreachable_and_nothing_was_sent() {
    let env = TestEnv::new();
    let (server, client) = launched(&env).await;
    drop(server);
    let error = client.create_session("t", None).await.unwrap_err();
    assert!(matches!(error, ApiError::Unreachable { .. }) && !error.may_have_happened(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_endless_answer_is_cut_off_at_its_bound() {
    let env = TestEnv::new();
    env.answer("GET /session/ses_1", Answer::json(200, vec![b' '; MAX_ANSWER + 1]));
    let (_server, client) = launched(&env).await;
    let error = client.session(&id()).await.unwrap_err();
    assert!(error.to_string().contains("longer than 8388608 bytes"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_wrong_password_is_told_and_never_shown() {
    let env = TestEnv::new();
    let (server, _client) = launched(&env).await;
    let address = crate::env::ServerProcess::address(&server);
    let wrong = Client::new(
        env.clone(),
        address,
        "/project".as_ref(),
        &"other-secret".to_owned().into(),
        Duration::from_secs(30),
    );
    let error = wrong.health().await.unwrap_err();
    assert!(matches!(error, ApiError::Unauthorized { .. }));
    assert!(!format!("{error} {error:?}").contains("secret"));
}

#[tokio::test(start_paused = true)]
async fn a_closed_client_ends_its_tasks_and_refuses_calls() {
    let env = TestEnv::new();
    let (_server, client) = launched(&env).await;
    client.health().await.unwrap();
    let busy = client.clone();
    env.answer("GET /session/status", Answer::Silence);
    let (answer, ()) = tokio::join!(busy.statuses(), async {
        tokio::task::yield_now().await;
        client.close();
    });
    assert!(answer.is_err());
    client.closed().await;
    assert!(matches!(client.health().await.unwrap_err(), ApiError::Unreachable { .. }));
}

#[tokio::test(start_paused = true)]
async fn an_identifier_that_could_change_the_path_is_refused_before_it_is_sent() {
    let env = TestEnv::new();
    let (_server, client) = launched(&env).await;
    let error = client.reply_permission("per_1/../../x", PermissionReply::Once).await.unwrap_err();
    assert!(matches!(error, ApiError::BadRequest { .. }), "{error}");
    assert!(client.reject_question("ses_1").await.is_err());
    assert!(env.world().requests.is_empty());
}
