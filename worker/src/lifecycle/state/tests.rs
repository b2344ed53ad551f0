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

/// How to come to each phase.
fn ways() -> Vec<Vec<Event>> {
    let failed = || Event::Failed(refusal("something"));
    let stopping = || [until_ready(), vec![Event::StopRequested]].concat();
    vec![
        vec![],
        vec![Event::Start],
        vec![Event::Start, registered(Approval::Pending)],
        vec![Event::Start, registered(Approval::Approved)],
        until_ready(),
        vec![Event::Start, failed()],
        [until_ready(), vec![failed()]].concat(),
        stopping(),
        [stopping(), vec![Event::Drained, Event::Closed]].concat(),
    ]
}

/// Every event, by what distinguishes it.
fn events() -> Vec<(&'static str, Event)> {
    vec![
        ("start", Event::Start),
        ("registered, approved", registered(Approval::Approved)),
        ("registered, pending", registered(Approval::Pending)),
        ("approval seen: approved", Event::ApprovalSeen(Approval::Approved)),
        ("approval seen: pending", Event::ApprovalSeen(Approval::Pending)),
        ("approval seen: revoked", Event::ApprovalSeen(Approval::Revoked)),
        ("page expired", Event::PageExpired { is_done: false }),
        ("last page expired", Event::PageExpired { is_done: true }),
        ("connected", Event::Connected),
        ("beat", Event::Beat),
        ("failed", Event::Failed(refusal("something"))),
        ("superseded", Event::Failed(refusal("superseded"))),
        ("unauthorized", Event::Failed(refusal("unauthorized"))),
        ("revoked", Event::Failed(refusal("revoked"))),
        ("not approved", Event::Failed(refusal("not_approved"))),
        ("recovered", Event::Recovered),
        ("stop requested", Event::StopRequested),
        ("drained", Event::Drained),
        ("closed", Event::Closed),
    ]
}

#[test]
fn the_table_says_what_every_event_does_in_every_phase() {
    let mut table = String::new();
    for way in ways() {
        let before = live(way.clone());
        let registered = if before.1.iter().any(|action| matches!(action, Action::Adopt { .. })) {
            ", registered"
        } else {
            ""
        };
        table += &format!("{:?}{registered}\n", before.0);
        for (name, event) in events() {
            let (phase, actions) = live(way.iter().cloned().chain([event]));
            let actions = &actions[before.1.len()..];
            if phase != before.0 || !actions.is_empty() {
                table += &format!("  {name}: {phase:?} {actions:?}\n");
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_refusal_is_final_in_every_phase() {
    for way in ways() {
        for code in ["superseded", "unauthorized", "revoked"] {
            let (phase, _) = live(way.iter().cloned().chain([Event::Failed(refusal(code))]));
            assert!(matches!(phase, Phase::Stopping | Phase::Stopped), "{code} after {way:?}: {phase:?}");
        }
    }
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
    fn after_a_refusal_nothing_is_tried_again(
        before in prop::collection::vec(any_event(), 0..30),
        code in prop::sample::select(vec!["superseded", "unauthorized", "revoked"]),
        after in prop::collection::vec(any_event(), 0..30),
    ) {
        let mut life = Lifecycle::default();
        before.into_iter().for_each(|event| drop(life.apply(event)));
        life.apply(Event::Failed(refusal(code)));
        for event in after {
            for action in life.apply(event) {
                let is_end = matches!(action, Action::CloseWindow | Action::Close { .. } | Action::Exit(_));
                prop_assert!(is_end, "{action:?}");
            }
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
