use proptest::prelude::*;

use super::*;

fn refusal(code: &str) -> CallError {
    CallError::Refused { path: "chat:claim", code: code.into(), message: "no".into() }
}

fn registered(approval: Approval) -> Event {
    Event::Registered { epoch: 3.0, approval }
}

/// Applies the events and returns the last phase and all actions.
fn live(events: impl IntoIterator<Item = Event>) -> (Phase, Vec<Action>) {
    let mut life = Lifecycle::default();
    let actions = events.into_iter().flat_map(|event| life.apply(event)).collect();
    (life.phase(), actions)
}

fn until_ready() -> Vec<Event> {
    vec![
        Event::Start,
        registered(Approval::Approved),
        Event::PageExpired { is_done: false },
        Event::PageExpired { is_done: true },
        Event::Connected,
    ]
}

#[test]
fn an_approved_worker_expires_page_by_page_before_it_opens_its_window() {
    let (phase, actions) = live(until_ready());
    assert_eq!(phase, Phase::Ready);
    let expected = [
        Action::Register,
        Action::Adopt { epoch: 3.0 },
        Action::ExpirePage,
        Action::ExpirePage,
        Action::MarkConnected,
        Action::OpenWindow,
    ];
    assert_eq!(actions, expected);
}

#[test]
fn a_worker_that_waits_for_approval_goes_on_when_it_is_approved() {
    let (phase, actions) = live([
        Event::Start,
        registered(Approval::Pending),
        Event::ApprovalSeen(Approval::Pending),
        Event::ApprovalSeen(Approval::Approved),
    ]);
    assert_eq!(phase, Phase::Connecting);
    assert_eq!(actions[2..], [Action::WatchApproval, Action::ExpirePage]);
}

#[test]
fn a_worker_that_is_revoked_while_it_waits_for_approval_ends() {
    let (phase, actions) =
        live([Event::Start, registered(Approval::Pending), Event::ApprovalSeen(Approval::Revoked)]);
    assert_eq!(phase, Phase::Stopping);
    assert_eq!(actions.last(), Some(&Action::Drain { patiently: false }));
}

#[test]
fn what_fails_whenever_the_window_opens_is_tried_again_ever_more_slowly_until_a_heartbeat() {
    let again = || {
        let failed = Event::Failed(CallError::Failed { path: "chat:claim", message: "boom".into() });
        [failed, Event::Recovered, Event::PageExpired { is_done: true }, Event::Connected]
    };
    let events = until_ready().into_iter().chain(again()).chain(again()).chain([Event::Beat]).chain(again());
    let (_, actions) = live(events);
    let attempts: Vec<u32> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Pause { attempt } => Some(*attempt),
            _ => None,
        })
        .collect();
    assert_eq!(attempts, [0, 1, 0]);
}

#[test]
fn a_superseded_worker_stops_and_does_not_touch_the_new_ones_status() {
    let mut events = until_ready();
    events.extend([Event::Failed(refusal("superseded")), Event::Drained, Event::Closed]);
    let (phase, actions) = live(events);
    assert_eq!(phase, Phase::Stopped);
    assert!(actions.contains(&Action::Close { set_offline: false }));
    assert_eq!(actions.last(), Some(&Action::Exit(Exit::Superseded)));
}

#[test]
fn a_wrong_secret_ends_the_worker_instead_of_being_tried_again() {
    let (phase, actions) =
        live([Event::Start, Event::Failed(refusal("unauthorized")), Event::Drained, Event::Closed]);
    assert_eq!(phase, Phase::Stopped);
    assert_eq!(actions.last(), Some(&Action::Exit(Exit::Refused(refusal("unauthorized")))));
}

#[test]
fn other_failures_are_tried_again_with_the_same_epoch_and_longer_pauses() {
    let failure = || Event::Failed(CallError::Failed { path: "chat:expireStale", message: "boom".into() });
    let (phase, actions) =
        live([Event::Start, registered(Approval::Approved), failure(), Event::Recovered, failure()]);
    assert_eq!(phase, Phase::Recovering);
    assert!(
        actions.contains(&Action::Pause { attempt: 0 }) && actions.contains(&Action::Pause { attempt: 1 })
    );
    assert_eq!(actions.iter().filter(|action| **action == Action::Register).count(), 1);
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Start),
        Just(registered(Approval::Approved)),
        Just(registered(Approval::Pending)),
        Just(Event::ApprovalSeen(Approval::Approved)),
        Just(Event::ApprovalSeen(Approval::Revoked)),
        Just(Event::Beat),
        any::<bool>().prop_map(|is_done| Event::PageExpired { is_done }),
        Just(Event::Connected),
        Just(Event::Failed(refusal("superseded"))),
        Just(Event::Failed(refusal("not_approved"))),
        Just(Event::Failed(refusal("something"))),
        Just(Event::Recovered),
        Just(Event::StopRequested),
        Just(Event::Drained),
        Just(Event::Closed),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_a_window_is_open_only_between_connected_and_its_end(
        events in prop::collection::vec(any_event(), 0..60),
    ) {
        let mut life = Lifecycle::default();
        let mut exited = false;
        for event in events {
            let actions = life.apply(event);
            prop_assert!(!exited || actions.is_empty(), "something was done after the exit");
            let opens = actions.contains(&Action::OpenWindow);
            prop_assert!(!opens || life.phase() == Phase::Ready);
            exited |= actions.iter().any(|action| matches!(action, Action::Exit(_)));
            prop_assert_eq!(exited, life.phase() == Phase::Stopped);
        }
    }

    #[test]
    fn from_anywhere_a_stop_leads_to_the_end(events in prop::collection::vec(any_event(), 0..60)) {
        let mut life = Lifecycle::default();
        for event in events {
            life.apply(event);
        }
        for event in [Event::StopRequested, Event::Drained, Event::Closed] {
            life.apply(event);
        }
        prop_assert_eq!(life.phase(), Phase::Stopped);
    }
}
