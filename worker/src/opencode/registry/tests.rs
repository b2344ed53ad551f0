use super::*;
use crate::opencode::types::{Session, SessionStatus, SessionTime};

fn id(text: &str) -> OpencodeSessionId {
    OpencodeSessionId::new(text).unwrap()
}

fn event(session: &str, kind: EventKind) -> Event {
    Event { session: Some(id(session)), kind }
}

fn created(child: &str, parent: &str) -> Event {
    let info = format!(r#"{{"id":"{child}","parentID":"{parent}","time":{{"created":1,"updated":1}}}}"#);
    event(child, EventKind::SessionCreated(serde_json::from_str(&info).unwrap()))
}

#[tokio::test(start_paused = true)]
async fn each_receiver_gets_its_own_session_s_events_in_order() {
    let registry = Arc::new(Registry::default());
    let (mut one, mut two) = (registry.subscribe(&id("ses_1")), registry.subscribe(&id("ses_2")));
    registry.deliver(event("ses_1", EventKind::Status(SessionStatus::Busy))).await;
    registry.deliver(event("ses_2", EventKind::Idle)).await;
    registry.deliver(event("ses_1", EventKind::Idle)).await;
    registry.gap().await;
    assert_eq!(one.recv().await, SessionEvent::Event(event("ses_1", EventKind::Status(SessionStatus::Busy))));
    assert_eq!(one.recv().await, SessionEvent::Event(event("ses_1", EventKind::Idle)));
    assert_eq!(one.recv().await, SessionEvent::Gap);
    assert_eq!(two.recv().await, SessionEvent::Event(event("ses_2", EventKind::Idle)));
}

#[tokio::test(start_paused = true)]
async fn a_lost_server_is_told_after_what_came_before_and_for_ever() {
    let registry = Arc::new(Registry::default());
    let mut receiver = registry.subscribe(&id("ses_1"));
    registry.deliver(event("ses_1", EventKind::Idle)).await;
    registry.lose("crashed");
    registry.lose("later");
    assert_eq!(receiver.recv().await, SessionEvent::Event(event("ses_1", EventKind::Idle)));
    let lost = SessionEvent::ServerLost { reason: "crashed".into() };
    assert_eq!(receiver.recv().await, lost);
    assert_eq!(receiver.recv().await, lost);
    assert_eq!(registry.subscribe(&id("ses_9")).recv().await, lost, "who comes too late learns it at once");
}

#[tokio::test(start_paused = true)]
async fn a_full_receiver_makes_the_stream_wait_and_a_dropped_one_frees_it() {
    let registry = Arc::new(Registry::default());
    let mut receiver = registry.subscribe(&id("ses_1"));
    for _ in 0..RECEIVER_QUEUE {
        registry.deliver(event("ses_1", EventKind::Heartbeat)).await;
    }
    let one_more = registry.deliver(event("ses_1", EventKind::Idle));
    tokio::pin!(one_more);
    assert!(futures_util::poll!(&mut one_more).is_pending());
    receiver.recv().await;
    assert!(futures_util::poll!(&mut one_more).is_ready());

    let blocked = registry.deliver(event("ses_1", EventKind::Idle));
    tokio::pin!(blocked);
    assert!(futures_util::poll!(&mut blocked).is_pending());
    drop(receiver);
    assert!(futures_util::poll!(&mut blocked).is_ready());
    assert!(registry.state().receivers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_child_session_s_questions_reach_the_turn_that_made_it() {
    let registry = Arc::new(Registry::default());
    let mut receiver = registry.subscribe(&id("ses_root"));
    registry.deliver(created("ses_other", "ses_unknown")).await;
    registry.deliver(created("ses_child", "ses_root")).await;
    registry.deliver(created("ses_grandchild", "ses_child")).await;
    let question = event("ses_grandchild", EventKind::QuestionAsked { id: "que_1".into() });
    registry.deliver(question.clone()).await;
    assert!(matches!(receiver.recv().await, SessionEvent::Child(e) if e.session == Some(id("ses_child"))));
    assert!(
        matches!(receiver.recv().await, SessionEvent::Child(e) if e.session == Some(id("ses_grandchild")))
    );
    assert_eq!(receiver.recv().await, SessionEvent::Child(question));
    drop(receiver);
    assert!(registry.state().children.is_empty(), "no child outlives its listener");
}

fn deleted(session: &str) -> Event {
    let time = SessionTime { created: 0, updated: 0 };
    let info = Session { id: id(session), title: String::new(), parent: None, time };
    event(session, EventKind::SessionDeleted(info))
}

#[test]
fn the_tap_turns_what_does_not_fit_into_one_gap() {
    let (sender, mut tapped) = mpsc::channel(2);
    let mut tap = Tap::new(Some(sender));
    tap.gap();
    tap.offer(&event("ses_1", EventKind::Idle));
    tap.offer(&deleted("ses_1"));
    tap.offer(&deleted("ses_2"));
    tap.offer(&deleted("ses_3"));
    assert_eq!(tapped.try_recv().unwrap(), TapEvent::Gap);
    assert_eq!(tapped.try_recv().unwrap(), TapEvent::Session(deleted("ses_1").into()));
    tap.offer(&deleted("ses_4"));
    assert_eq!(tapped.try_recv().unwrap(), TapEvent::Gap);
    assert_eq!(tapped.try_recv().unwrap(), TapEvent::Session(deleted("ses_4").into()));
    assert!(tapped.try_recv().is_err());
}
