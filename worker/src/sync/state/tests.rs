mod model;

use super::{
    next::next_page,
    results::{MAX_FAILURES, RETRY_MAX},
    *,
};
use crate::opencode::{Event, EventKind, Session, TapEvent, types::SessionTime};

fn id(number: usize) -> OpencodeSessionId {
    OpencodeSessionId::new(&format!("ses_{number:03}")).unwrap()
}

fn session(number: usize, title: &str, updated: u64) -> Session {
    Session { id: id(number), title: title.into(), parent: None, time: SessionTime { created: 0, updated } }
}

fn event(kind: EventKind) -> TapEvent {
    TapEvent::Session(Box::new(Event { session: None, kind }))
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A state that has loaded and listed, so that only events are left.
fn listed_state() -> State {
    let mut state = State::new(SyncSettings::default());
    assert_eq!(state.next(true, secs(0)), Step::Load);
    state.loaded(0);
    let Step::List(page) = state.next(true, secs(0)) else { panic!() };
    state.listed(page, 0, None, None, secs(0));
    state
}

fn plan_of(state: &mut State, now: Duration) -> Option<SyncPlan> {
    match state.next(true, now) {
        Step::Apply(batch) => Some(batch.plan),
        _ => None,
    }
}

#[test]
fn nothing_is_read_while_no_server_runs() {
    let mut state = State::new(SyncSettings::default());
    assert_eq!(state.next(false, secs(0)), Step::Wait(None));
    state.take(TapEvent::Gap, secs(1));
    assert_eq!(state.next(false, secs(1_000_000)), Step::Wait(None));
}

#[test]
fn many_titles_of_one_session_become_one_call() {
    let mut state = listed_state();
    for (number, title) in ["a", "b", "c"].iter().enumerate() {
        state.take(
            event(EventKind::SessionUpdated(session(1, title, 5))),
            Duration::from_millis(number as u64),
        );
    }
    assert_eq!(plan_of(&mut state, secs(1)), None);
    let plan = plan_of(&mut state, secs(2)).unwrap();
    assert_eq!(plan.new_sessions, [crate::convex::api::TitledSession { id: id(1), title: "c".into() }]);
}

/// Convex has session 1 as `a`; these events call for nothing.
fn check_costs_nothing<const N: usize>(events: [EventKind; N]) {
    let mut state = listed_state();
    state.linked(&id(1), "a");
    events.into_iter().for_each(|kind| state.take(event(kind), secs(1)));
    assert_eq!(plan_of(&mut state, secs(9)), None);
}

#[test]
fn an_update_that_changes_no_title_costs_nothing() {
    check_costs_nothing([EventKind::SessionUpdated(session(1, "a", 5))]);
}

#[test]
fn a_rename_that_is_taken_back_in_time_costs_nothing() {
    check_costs_nothing(["b", "a"].map(|title| EventKind::SessionUpdated(session(1, title, 5))));
}

#[test]
fn a_child_session_is_nobody_s_chat() {
    let child = Session { parent: Some(id(1)), ..session(2, "task", 5) };
    check_costs_nothing([EventKind::SessionCreated(child.clone()), EventKind::SessionDeleted(child)]);
}

#[test]
fn a_lost_session_that_a_turn_replaces_is_not_deleted_any_more() {
    let mut state = listed_state();
    let in_convex = InOpencode::titled("a").agreed();
    let stamp = state.stamp();
    state.compare(&id(1), InOpencode::Gone, in_convex, stamp, secs(1));
    state.replaced(&id(1));
    assert_eq!(plan_of(&mut state, secs(9)), None, "what waited is taken out");
    state.compare(&id(1), InOpencode::Gone, in_convex, stamp, secs(9));
    assert_eq!(plan_of(&mut state, secs(99)), None, "what was read before is not believed");
}

#[test]
fn a_session_in_use_is_still_known_after_a_listing_of_thousands() {
    let mut state = listed_state();
    let titled = InOpencode::titled("a").agreed();
    let stamp = state.stamp();
    let list = |numbers: std::ops::Range<usize>, state: &mut State| {
        numbers.for_each(|number| state.remember(&id(number), titled, stamp));
    };
    list(1..10_001, &mut state);
    let last = id(10_000);
    state.linked(&last, "a");
    list(10_001..20_000, &mut state);
    assert_eq!(state.in_convex(&last), titled);
}

#[test]
fn a_session_that_is_being_created_for_a_chat_is_not_taken_for_a_new_one() {
    let mut state = listed_state();
    let creation = state.creating();
    state.take(event(EventKind::SessionCreated(session(1, "ours", 5))), secs(1));
    assert_eq!(plan_of(&mut state, secs(60)), None);
    state.created(creation, Some((&id(1), "ours")));
    assert_eq!(plan_of(&mut state, secs(60)), None);
}

#[test]
fn a_stranger_s_session_waits_only_for_creations_that_were_under_way_before_it() {
    let mut state = listed_state();
    let before = state.creating();
    state.take(event(EventKind::SessionCreated(session(1, "theirs", 5))), secs(1));
    let _after = state.creating();
    assert_eq!(plan_of(&mut state, secs(60)), None);
    state.created(before, Some((&id(2), "ours")));
    assert_eq!(plan_of(&mut state, secs(60)).unwrap().new_sessions[0].title, "theirs");
}

#[test]
fn what_was_read_before_an_event_does_not_undo_it() {
    let mut state = listed_state();
    let stamp = state.stamp();
    state.take(event(EventKind::SessionUpdated(session(1, "new", 5))), secs(1));
    let convex = InOpencode::titled("older").agreed();
    state.compare(&id(1), InOpencode::titled("old"), convex, stamp, secs(1));
    assert_eq!(plan_of(&mut state, secs(9)).unwrap().new_sessions[0].title, "new");
}

#[test]
fn a_full_queue_falls_back_to_a_listing_and_a_scrub() {
    let mut state = listed_state();
    for number in 0..=QUEUE {
        state.take(event(EventKind::SessionCreated(session(number, "x", 5))), secs(1));
    }
    assert_eq!((state.queue.len(), state.listing, state.scrub.passes), (0, Listing::Due, 1));
}

#[test]
fn a_session_that_waited_over_a_gap_is_made_a_chat_only_if_it_is_still_there() {
    let mut state = listed_state();
    let creation = state.creating();
    state.take(event(EventKind::SessionCreated(session(1, "theirs", 5))), secs(1));
    state.take(TapEvent::Gap, secs(2));
    state.created(creation, Some((&id(2), "ours")));
    let Step::List(page) = state.next(true, secs(9)) else { panic!("what waited may be gone") };
    state.listed(page, 0, None, None, secs(9));
    assert_eq!(plan_of(&mut state, secs(9)), None);
}

#[test]
fn a_page_of_sessions_of_one_moment_does_not_end_the_listing() {
    let page = Page { since: 0, cursor: None, limit: 50 };
    let second = next_page(page, 7, 50);
    assert_eq!(second, Page { cursor: Some(8), ..page });
    let third = next_page(second, 7, 50);
    assert_eq!(third, Page { cursor: Some(8), limit: 100, ..page });
    assert_eq!(next_page(third, 3, 50), Page { cursor: Some(4), ..page });
}

#[test]
fn a_batch_that_fails_again_and_again_is_given_up_until_the_next_scrub() {
    let mut state = listed_state();
    state.take(event(EventKind::SessionCreated(session(1, "x", 5))), secs(1));
    let mut now = secs(9);
    for _ in 0..MAX_FAILURES {
        let Step::Apply(batch) = state.next(true, now) else { panic!() };
        state.failed(Some(&batch), now);
        assert!(!matches!(state.next(true, now), Step::Apply(_)), "no repetition without a pause");
        now += RETRY_MAX;
    }
    assert_eq!((state.queue.len(), state.scrub.passes), (0, 1));
}

#[test]
fn what_another_process_made_is_listed_although_others_were_heard_of_after_it() {
    let mut state = listed_state();
    state.take(event(EventKind::SessionUpdated(session(1, "a", 90_000))), secs(1));
    let Step::Apply(batch) = state.next(true, secs(5)) else { panic!() };
    state.applied(&batch, secs(5));
    // Made at 50 s of OpenCode's clock, without an event.
    let Step::List(page) = state.next(true, secs(60)) else { panic!() };
    assert!(page.since <= 50_000, "{page:?}");
    state.listed(page, 2, Some(90_000), Some(50_000), secs(60));
    assert_eq!(state.unsaved(), Some(90_000));
}

#[test]
fn a_scrub_that_left_something_out_comes_again_soon_and_then_ever_later() {
    let mut state = State::new(SyncSettings::default());
    let mut pauses = Vec::new();
    for leaves_out in [true, true, true, false, true] {
        if leaves_out {
            state.left_out();
        }
        state.scrubbed(None, Duration::ZERO);
        pauses.push(state.scrub.next.as_secs());
    }
    assert_eq!(pauses, [10, 20, 40, 3_600, 10]);
}
