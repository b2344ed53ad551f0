//! Decides which turns to start. Window in, turns to start and to stop out; no async, no clock.

use std::collections::{BTreeMap, BTreeSet};

use crate::convex::api::{ReadySession, SessionId, TurnId, Window};

/// What the worker has to do about its turns.
#[derive(Debug, Clone, PartialEq)]
pub enum InboxAction {
    /// Claim this session's head turn and run it.
    Start(ReadySession),
    /// A person ended the session: stop the turn.
    Cancel(TurnId),
}

/// Which turns run and which are next. Bounded by the window and by the number of turns that run at once.
#[derive(Debug)]
pub struct Inbox {
    max_concurrent: usize,
    window: Window,
    running: BTreeMap<SessionId, TurnId>,
    /// Turns of the current window that were started already: a window that is a moment behind must not start
    /// them again.
    started: BTreeSet<TurnId>,
    cancelled: BTreeSet<TurnId>,
    /// Turns of the current window that could not be claimed, and how often in a row.
    failed: BTreeMap<TurnId, u32>,
    closed: bool,
}

impl Inbox {
    /// Runs at most `max_concurrent` turns, over all sessions.
    pub fn new(max_concurrent: usize) -> Self {
        assert!(max_concurrent > 0, "an inbox that starts nothing");
        Self {
            max_concurrent,
            window: Window::default(),
            running: BTreeMap::new(),
            started: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            failed: BTreeMap::new(),
            closed: false,
        }
    }

    /// The window changed.
    pub fn window_changed(&mut self, window: Window) -> Vec<InboxAction> {
        self.started.retain(|turn| window.ready.iter().any(|row| row.turn == *turn));
        self.cancelled.retain(|turn| window.cancelled.contains(turn));
        self.failed.retain(|turn, _| window.ready.iter().any(|row| row.turn == *turn));
        self.window = window;
        let mut actions = self.cancellations();
        actions.extend(self.starts());
        actions
    }

    /// Nobody watches the window any more: what it showed may be over. Nor are the turns remembered that were
    /// started from it: the next window is newer than everything that has ended by now, so a turn that it still
    /// shows was not claimed and must be tried again.
    pub fn window_closed(&mut self) {
        self.window = Window::default();
        self.started.clear();
        self.failed.clear();
    }

    /// The claim of this turn failed, and it has ended with that. How often that has happened before, in this window:
    /// after a pause it may be tried again ([`Inbox::try_again`]).
    pub fn claim_failed(&mut self, turn: &str) -> u32 {
        let failures = self.failed.entry(turn.to_owned()).or_default();
        *failures += 1;
        *failures - 1
    }

    /// A turn that could not be claimed may be tried again, if the window still shows it.
    pub fn try_again(&mut self, turn: &str) -> Vec<InboxAction> {
        self.started.remove(turn);
        self.starts()
    }

    /// A turn has ended, however it went: its place is free.
    pub fn ended(&mut self, session: &str) -> Vec<InboxAction> {
        let turn = self.running.remove(session);
        assert!(turn.is_some(), "a turn ended that was not running");
        self.starts()
    }

    /// Starts nothing from now on.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Returns true if it was closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns how many turns run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    fn cancellations(&mut self) -> Vec<InboxAction> {
        let asked = self.window.cancelled.iter();
        let running: Vec<TurnId> =
            asked.filter(|turn| self.running.values().any(|r| r == *turn)).cloned().collect();
        running
            .into_iter()
            .filter(|turn| self.cancelled.insert(turn.clone()))
            .map(InboxAction::Cancel)
            .collect()
    }

    fn starts(&mut self) -> Vec<InboxAction> {
        let mut actions = Vec::new();
        for row in &self.window.ready {
            if self.closed || self.running.len() >= self.max_concurrent {
                break;
            }
            if self.running.contains_key(&row.session) || self.started.contains(&row.turn) {
                continue;
            }
            self.running.insert(row.session.clone(), row.turn.clone());
            self.started.insert(row.turn.clone());
            actions.push(InboxAction::Start(row.clone()));
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(session: &str, turn: &str) -> ReadySession {
        ReadySession { session: session.into(), turn: turn.into() }
    }

    fn window(rows: &[(&str, &str)]) -> Window {
        Window {
            ready: rows.iter().map(|(s, t)| row(s, t)).collect(),
            cancelled: vec![],
            ..Window::default()
        }
    }

    #[test]
    fn the_oldest_ready_sessions_start_up_to_the_limit() {
        let mut inbox = Inbox::new(2);
        let actions = inbox.window_changed(window(&[("a", "1"), ("b", "2"), ("c", "3")]));
        assert_eq!(actions, [InboxAction::Start(row("a", "1")), InboxAction::Start(row("b", "2"))]);
        assert_eq!(inbox.ended("a"), [InboxAction::Start(row("c", "3"))]);
    }

    #[test]
    fn a_window_that_lags_behind_does_not_start_a_turn_again() {
        let mut inbox = Inbox::new(2);
        inbox.window_changed(window(&[("a", "1")]));
        assert_eq!(inbox.ended("a"), []);
        assert_eq!(inbox.window_changed(window(&[("a", "1")])), []);
        assert_eq!(inbox.window_changed(window(&[("a", "2")])), [InboxAction::Start(row("a", "2"))]);
    }

    #[test]
    fn a_turn_whose_claim_failed_is_tried_again_when_the_window_is_opened_anew() {
        let mut inbox = Inbox::new(1);
        inbox.window_changed(window(&[("a", "1"), ("b", "2")]));
        inbox.window_closed();
        assert_eq!(inbox.ended("a"), [], "nothing is started from a window that is closed");
        assert_eq!(inbox.window_changed(window(&[("a", "1")])), [InboxAction::Start(row("a", "1"))]);
    }

    #[test]
    fn a_turn_that_cannot_be_claimed_is_tried_again_when_it_is_said_and_delays_nobody() {
        let mut inbox = Inbox::new(1);
        inbox.window_changed(window(&[("a", "1"), ("b", "2"), ("c", "3")]));
        assert_eq!(inbox.claim_failed("1"), 0);
        assert_eq!(inbox.ended("a"), [InboxAction::Start(row("b", "2"))]);
        assert_eq!(inbox.try_again("1"), [], "there is no place free");
        assert_eq!(inbox.ended("b"), [InboxAction::Start(row("a", "1"))], "and it is the oldest");
        assert_eq!(inbox.claim_failed("1"), 1);
        assert_eq!(inbox.ended("a"), [InboxAction::Start(row("c", "3"))]);
        inbox.window_changed(window(&[("c", "3")]));
        assert_eq!(inbox.try_again("1"), [], "it is not shown any more");
        assert_eq!(inbox.claim_failed("1"), 0, "nor is it remembered");
    }

    #[test]
    fn a_running_turn_is_cancelled_once() {
        let mut inbox = Inbox::new(2);
        inbox.window_changed(window(&[("a", "1")]));
        let cancelled =
            Window { ready: vec![], cancelled: vec!["1".into(), "other".into()], ..Window::default() };
        assert_eq!(inbox.window_changed(cancelled.clone()), [InboxAction::Cancel("1".into())]);
        assert_eq!(inbox.window_changed(cancelled), []);
    }

    #[test]
    fn a_closed_inbox_starts_nothing() {
        let mut inbox = Inbox::new(2);
        inbox.close();
        assert_eq!(inbox.window_changed(window(&[("a", "1")])), []);
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit_and_never_two_turns_of_a_session(
            steps in prop::collection::vec((any::<bool>(), prop::collection::vec((0_u8..6, 0_u8..30), 0..8)), 1..60),
        ) {
            let mut inbox = Inbox::new(3);
            let mut running: BTreeSet<SessionId> = BTreeSet::new();
            for (end, rows) in steps {
                let actions = match running.pop_first() {
                    Some(session) if end => inbox.ended(&session),
                    first => {
                        running.extend(first);
                        let ready = rows.iter().map(|(s, t)| row(&s.to_string(), &format!("{s}-{t}"))).collect();
                        inbox.window_changed(Window { ready, cancelled: vec![], ..Window::default() })
                    }
                };
                for action in actions {
                    let InboxAction::Start(row) = action else { continue };
                    prop_assert!(running.insert(row.session), "a second turn of a session");
                }
                prop_assert!(running.len() <= 3);
                prop_assert_eq!(running.len(), inbox.running());
            }
        }
    }
}
