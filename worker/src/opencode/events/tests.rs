use proptest::prelude::*;

use super::*;
use crate::{arbitrary, opencode::types::Role};

fn session(id: &str) -> Option<OpencodeSessionId> {
    Some(OpencodeSessionId::new(id).unwrap())
}

/// Shapes as recorded from OpenCode 1.18.33, shortened.
fn check(
    kind: &str,
    properties: &str,
    expected_session: Option<OpencodeSessionId>,
    expected: impl Fn(&EventKind) -> bool,
) {
    let data = format!(r#"{{"id":"evt_1","type":"{kind}","properties":{properties}}}"#);
    let event = parse(&data).unwrap_or_else(|error| panic!("{error} in {data}"));
    assert_eq!(event.session, expected_session, "for {data}");
    assert!(expected(&event.kind), "{:?} for {data}", event.kind);
}

#[test]
fn a_delta_says_what_to_append_to_which_part() {
    let properties = r#"{"sessionID":"ses_1","messageID":"msg_1","partID":"prt_1","field":"text","delta":"a \"b\"\n\u00e4"}"#;
    let expected = Delta {
        message: "msg_1".into(),
        part: "prt_1".into(),
        field: "text".into(),
        delta: "a \"b\"\nä".into(),
    };
    check("message.part.delta", properties, session("ses_1"), |kind| {
        *kind == EventKind::Delta(expected.clone())
    });
}

#[test]
fn an_aborted_message_is_completed_and_says_so() {
    let properties = r#"{"sessionID":"ses_1","info":{"id":"msg_2","parentID":"msg_1","role":"assistant","cost":0,
        "path":{"cwd":"/p","root":"/p"},"time":{"created":1795431715706,"completed":1795431717415},"sessionID":"ses_1",
        "error":{"name":"MessageAbortedError","data":{"message":"Aborted"}}}}"#;
    check("message.updated", properties, session("ses_1"), |kind| {
        let EventKind::Message(info) = kind else { return false };
        let error = info.error.as_ref().unwrap();
        info.role == Role::Assistant
            && info.parent.as_deref() == Some("msg_1")
            && info.completed == Some(1_795_431_717_415)
            && error.is_abort()
            && info.finish.is_none()
    });
}

#[test]
fn a_provider_s_error_keeps_its_status_and_drops_the_headers() {
    let properties = r#"{"sessionID":"ses_1","error":{"name":"APIError","data":{"message":"fake failure",
        "statusCode":400,"isRetryable":false,"responseHeaders":{"server":"x"},"responseBody":"{}"}}}"#;
    check(
        "session.error",
        properties,
        session("ses_1"),
        |kind| matches!(kind, EventKind::Error(e) if e.status == Some(400) && e.message == "fake failure" && !e.retryable),
    );
    check("session.error", "{}", None, |kind| matches!(kind, EventKind::Error(_)));
}

#[test]
fn sessions_come_with_their_titles() {
    let info =
        r#"{"id":"ses_1","slug":"x","title":"Fake","time":{"created":1,"updated":2},"version":"1.18.33"}"#;
    let properties = format!(r#"{{"sessionID":"ses_1","info":{info}}}"#);
    let titled = |s: &Session| s.title == "Fake" && s.parent.is_none();
    check(
        "session.created",
        &properties,
        session("ses_1"),
        |k| matches!(k, EventKind::SessionCreated(s) if titled(s)),
    );
    check(
        "session.updated",
        &properties,
        session("ses_1"),
        |k| matches!(k, EventKind::SessionUpdated(s) if titled(s)),
    );
    check(
        "session.deleted",
        &properties,
        session("ses_1"),
        |k| matches!(k, EventKind::SessionDeleted(s) if titled(s)),
    );
}

#[test]
fn work_begins_and_ends() {
    let busy = r#"{"sessionID":"ses_1","status":{"type":"busy"}}"#;
    check("session.status", busy, session("ses_1"), |k| *k == EventKind::Status(SessionStatus::Busy));
    check("session.idle", r#"{"sessionID":"ses_1"}"#, session("ses_1"), |k| *k == EventKind::Idle);
}

#[test]
fn questions_name_themselves() {
    let permission = r#"{"id":"per_1","sessionID":"ses_1","permission":"bash","patterns":["ls"],"metadata":{},"always":[]}"#;
    check(
        "permission.asked",
        permission,
        session("ses_1"),
        |kind| matches!(kind, EventKind::PermissionAsked(p) if p.id == "per_1" && p.permission == "bash"),
    );
    let question = r#"{"id":"que_1","sessionID":"ses_1","questions":[]}"#;
    check(
        "question.asked",
        question,
        session("ses_1"),
        |k| matches!(k, EventKind::QuestionAsked { id } if id == "que_1"),
    );
}

#[test]
fn what_the_worker_does_not_act_on_is_not_read() {
    check("plugin.added", r#"{"id":"alibaba"}"#, None, |k| *k == EventKind::Other);
    check("session.diff", r#"{"sessionID":5}"#, None, |k| *k == EventKind::Other);
    check("server.connected", "{}", None, |k| *k == EventKind::Connected);
    check("server.heartbeat", "{}", None, |k| *k == EventKind::Heartbeat);
    assert_eq!(parse(r#"{"type":"catalog.updated"}"#).unwrap().kind, EventKind::Other);
}

#[test]
fn a_broken_event_is_an_error_that_names_its_type() {
    let error = |data: &str| parse(data).unwrap_err().to_string();
    assert!(error("{").starts_with("cannot read an event of type `?`"));
    assert!(error(r#"{"type":"session.idle","properties":{"sessionID":7}}"#).contains("`session.idle`"));
    assert!(error(r#"{"type":"message.part.delta"}"#).contains("`message.part.delta`"));
}

proptest! {
    #[test]
    fn no_event_whatever_it_holds_makes_the_worker_panic(
        kind in "(message\\.part\\.(delta|updated)|message\\.updated|session\\.(status|error|created|idle)|permission\\.asked)",
        inner in r#"(\{"?[a-z]*"?:?|\[|"|\\u[0-9a-d]{4}|[0-9eE.+-]{1,30}|,|\}|null){0,12}"#,
    ) {
        let whole = format!(r#"{{"type":"{kind}","properties":{{"sessionID":"ses_1","info":{inner},"part":{inner}}}}}"#);
        let _ = parse(&whole);
        let _ = parse(&inner);
    }
}

const EVENTS: [&str; 6] = [
    r#"{"type":"message.part.delta","properties":{"sessionID":"ses_1","messageID":"msg_1","partID":"prt_1","field":"text","delta":"a"}}"#,
    r#"{"type":"message.part.updated","properties":{"part":{"id":"prt_1","sessionID":"ses_1","messageID":"msg_1","type":"text","text":"\ud83d\ude00 a\n"}}}"#,
    r#"{"type":"message.updated","properties":{"info":{"id":"msg_2","parentID":"msg_1","role":"assistant","sessionID":"ses_1","time":{"created":1}}}}"#,
    r#"{"type":"session.status","properties":{"sessionID":"ses_1","status":{"type":"retry","attempt":1,"message":"m","next":2}}}"#,
    r#"{"type":"session.error","properties":{"sessionID":"ses_1","error":{"name":"APIError","data":{"message":"m"}}}}"#,
    r#"{"type":"permission.asked","properties":{"id":"per_1","sessionID":"ses_1","permission":"bash","patterns":["ls"],"metadata":{"command":"ls"},"tool":{"messageID":"msg_1","callID":"c"}}}"#,
];

proptest! {
    #[test]
    fn whatever_comes_as_an_event_is_read_or_refused(text in arbitrary::text(&EVENTS)) {
        if let Err(error) = parse(text) {
            prop_assert!(error.to_string().contains("cannot read an event"));
        }
    }
}
