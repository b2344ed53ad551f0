use proptest::prelude::*;

use super::*;

fn refusal(code: &str) -> CallError {
    CallError::Refused { path: "chat:claim", code: code.into(), message: "no".into() }
}

fn registered(approval: Approval) -> LifecycleEvent {
    LifecycleEvent::Registered { epoch: 3.0, approval }
}

/// Applies the events and returns the last phase and all actions.
fn live(events: impl IntoIterator<Item = LifecycleEvent>) -> (Phase, Vec<LifecycleAction>) {
    let mut life = Lifecycle::default();
    let actions = events.into_iter().flat_map(|event| life.apply(event)).collect();
    (life.phase(), actions)
}

fn until_ready() -> Vec<LifecycleEvent> {
    vec![
        LifecycleEvent::Start,
        registered(Approval::Approved),
        LifecycleEvent::PageExpired { is_done: false },
        LifecycleEvent::PageExpired { is_done: true },
        LifecycleEvent::Connected,
    ]
}

#[test]
fn an_approved_worker_expires_page_by_page_before_it_opens_its_window() {
    let (phase, actions) = live(until_ready());
    assert_eq!(phase, Phase::Ready);
    let expected = [
        LifecycleAction::Register,
        LifecycleAction::Adopt { epoch: 3.0 },
        LifecycleAction::ExpirePage,
        LifecycleAction::ExpirePage,
        LifecycleAction::MarkConnected,
        LifecycleAction::OpenWindow,
    ];
    assert_eq!(actions, expected);
}

#[test]
fn a_worker_that_waits_for_approval_goes_on_when_it_is_approved() {
    let (phase, actions) = live([
        LifecycleEvent::Start,
        registered(Approval::Pending),
        LifecycleEvent::ApprovalSeen(Approval::Pending),
        LifecycleEvent::ApprovalSeen(Approval::Approved),
    ]);
    assert_eq!(phase, Phase::Connecting);
    assert_eq!(actions[2..], [LifecycleAction::WatchApproval, LifecycleAction::ExpirePage]);
}

#[test]
fn a_worker_that_is_revoked_while_it_waits_for_approval_ends() {
    let (phase, actions) = live([
        LifecycleEvent::Start,
        registered(Approval::Pending),
        LifecycleEvent::ApprovalSeen(Approval::Revoked),
    ]);
    assert_eq!(phase, Phase::Stopping);
    assert_eq!(actions.last(), Some(&LifecycleAction::Drain { patiently: false }));
}

#[test]
fn what_fails_whenever_the_window_opens_is_tried_again_ever_more_slowly_until_a_heartbeat() {
    let again = || {
        let failed = LifecycleEvent::Failed(CallError::Failed { path: "chat:claim", message: "boom".into() });
        [
            failed,
            LifecycleEvent::Recovered,
            LifecycleEvent::PageExpired { is_done: true },
            LifecycleEvent::Connected,
        ]
    };
    let events =
        until_ready().into_iter().chain(again()).chain(again()).chain([LifecycleEvent::Beat]).chain(again());
    let (_, actions) = live(events);
    let attempts: Vec<u32> = actions
        .iter()
        .filter_map(|action| match action {
            LifecycleAction::Pause { attempt } => Some(*attempt),
            _ => None,
        })
        .collect();
    assert_eq!(attempts, [0, 1, 0]);
}

#[test]
fn a_superseded_worker_stops_and_does_not_touch_the_new_ones_status() {
    let mut events = until_ready();
    events.extend([
        LifecycleEvent::Failed(refusal("superseded")),
        LifecycleEvent::Drained,
        LifecycleEvent::Closed,
    ]);
    let (phase, actions) = live(events);
    assert_eq!(phase, Phase::Stopped);
    assert!(actions.contains(&LifecycleAction::Close { set_offline: false }));
    assert_eq!(actions.last(), Some(&LifecycleAction::Exit(Exit::Superseded)));
}

#[test]
fn a_wrong_secret_ends_the_worker_instead_of_being_tried_again() {
    let (phase, actions) = live([
        LifecycleEvent::Start,
        LifecycleEvent::Failed(refusal("unauthorized")),
        LifecycleEvent::Drained,
        LifecycleEvent::Closed,
    ]);
    assert_eq!(phase, Phase::Stopped);
    assert_eq!(actions.last(), Some(&LifecycleAction::Exit(Exit::Refused(refusal("unauthorized")))));
}

#[test]
fn who_has_to_be_invited_or_updated_first_is_not_tried_again() {
    for code in ["not_invited", "worker_too_old", "functions_too_old"] {
        let (_, actions) = live([
            LifecycleEvent::Start,
            LifecycleEvent::Failed(refusal(code)),
            LifecycleEvent::Drained,
            LifecycleEvent::Closed,
        ]);
        assert_eq!(actions.last(), Some(&LifecycleAction::Exit(Exit::Refused(refusal(code)))));
    }
}

#[test]
fn other_failures_are_tried_again_with_the_same_epoch_and_longer_pauses() {
    let failure =
        || LifecycleEvent::Failed(CallError::Failed { path: "chat:expireStale", message: "boom".into() });
    let (phase, actions) = live([
        LifecycleEvent::Start,
        registered(Approval::Approved),
        failure(),
        LifecycleEvent::Recovered,
        failure(),
    ]);
    assert_eq!(phase, Phase::Recovering);
    assert!(
        actions.contains(&LifecycleAction::Pause { attempt: 0 })
            && actions.contains(&LifecycleAction::Pause { attempt: 1 })
    );
    assert_eq!(actions.iter().filter(|action| **action == LifecycleAction::Register).count(), 1);
}

/// How to come to each phase.
fn ways() -> Vec<Vec<LifecycleEvent>> {
    let failed = || LifecycleEvent::Failed(refusal("something"));
    let stopping = || [until_ready(), vec![LifecycleEvent::StopRequested]].concat();
    vec![
        vec![],
        vec![LifecycleEvent::Start],
        vec![LifecycleEvent::Start, registered(Approval::Pending)],
        vec![LifecycleEvent::Start, registered(Approval::Approved)],
        until_ready(),
        vec![LifecycleEvent::Start, failed()],
        [until_ready(), vec![failed()]].concat(),
        stopping(),
        [stopping(), vec![LifecycleEvent::Drained, LifecycleEvent::Closed]].concat(),
    ]
}

/// Every event, by what distinguishes it.
fn events() -> Vec<(&'static str, LifecycleEvent)> {
    vec![
        ("start", LifecycleEvent::Start),
        ("registered, approved", registered(Approval::Approved)),
        ("registered, pending", registered(Approval::Pending)),
        ("approval seen: approved", LifecycleEvent::ApprovalSeen(Approval::Approved)),
        ("approval seen: pending", LifecycleEvent::ApprovalSeen(Approval::Pending)),
        ("approval seen: revoked", LifecycleEvent::ApprovalSeen(Approval::Revoked)),
        ("page expired", LifecycleEvent::PageExpired { is_done: false }),
        ("last page expired", LifecycleEvent::PageExpired { is_done: true }),
        ("connected", LifecycleEvent::Connected),
        ("beat", LifecycleEvent::Beat),
        ("failed", LifecycleEvent::Failed(refusal("something"))),
        ("superseded", LifecycleEvent::Failed(refusal("superseded"))),
        ("unauthorized", LifecycleEvent::Failed(refusal("unauthorized"))),
        ("revoked", LifecycleEvent::Failed(refusal("revoked"))),
        ("not approved", LifecycleEvent::Failed(refusal("not_approved"))),
        ("recovered", LifecycleEvent::Recovered),
        ("stop requested", LifecycleEvent::StopRequested),
        ("drained", LifecycleEvent::Drained),
        ("closed", LifecycleEvent::Closed),
    ]
}

#[test]
fn the_table_says_what_every_event_does_in_every_phase() {
    let mut table = String::new();
    for way in ways() {
        let before = live(way.clone());
        let registered = if before.1.iter().any(|action| matches!(action, LifecycleAction::Adopt { .. })) {
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
            let (phase, _) = live(way.iter().cloned().chain([LifecycleEvent::Failed(refusal(code))]));
            assert!(matches!(phase, Phase::Stopping | Phase::Stopped), "{code} after {way:?}: {phase:?}");
        }
    }
}

fn any_event() -> impl Strategy<Value = LifecycleEvent> {
    prop_oneof![
        Just(LifecycleEvent::Start),
        Just(registered(Approval::Approved)),
        Just(registered(Approval::Pending)),
        Just(LifecycleEvent::ApprovalSeen(Approval::Approved)),
        Just(LifecycleEvent::ApprovalSeen(Approval::Revoked)),
        Just(LifecycleEvent::Beat),
        any::<bool>().prop_map(|is_done| LifecycleEvent::PageExpired { is_done }),
        Just(LifecycleEvent::Connected),
        Just(LifecycleEvent::Failed(refusal("superseded"))),
        Just(LifecycleEvent::Failed(refusal("not_approved"))),
        Just(LifecycleEvent::Failed(refusal("something"))),
        Just(LifecycleEvent::Recovered),
        Just(LifecycleEvent::StopRequested),
        Just(LifecycleEvent::Drained),
        Just(LifecycleEvent::Closed),
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
            let opens = actions.contains(&LifecycleAction::OpenWindow);
            prop_assert!(!opens || life.phase() == Phase::Ready);
            exited |= actions.iter().any(|action| matches!(action, LifecycleAction::Exit(_)));
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
        life.apply(LifecycleEvent::Failed(refusal(code)));
        for event in after {
            for action in life.apply(event) {
                let is_end = matches!(action, LifecycleAction::CloseWindow | LifecycleAction::Close { .. } | LifecycleAction::Exit(_));
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
        for event in [LifecycleEvent::StopRequested, LifecycleEvent::Drained, LifecycleEvent::Closed] {
            life.apply(event);
        }
        prop_assert_eq!(life.phase(), Phase::Stopped);
    }
}
