//! Decides when workers end and start again. Pure: it is told the time and how the workers are, and says what to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    scenario::{Ending, PlannedRestart, Trigger},
    trace::{Event, Fact, Name, TurnState},
};

/// What is to be done to a worker, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// End it at once.
    Kill(usize),
    /// Ask it to end.
    Stop(usize),
    /// Start it.
    Start(usize),
}

/// How a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Whether its process runs.
    pub up: bool,
    /// Whether a reply of it is stored in part and has not ended.
    pub in_mid_reply: bool,
}

/// Carries out the restarts of a scenario.
#[derive(Debug)]
pub struct Conductor {
    waiting: Vec<PlannedRestart>,
    /// By worker: how it goes on after its end.
    away: BTreeMap<usize, Away>,
}

#[derive(Debug, Clone, Copy)]
enum Away {
    /// Asked to stop; once it is gone, it stays away for so long.
    Stopping(Duration),
    /// It starts at this moment.
    Until(Duration),
}

impl Conductor {
    /// Carries out `restarts`.
    #[must_use]
    pub fn new(restarts: Vec<PlannedRestart>) -> Self {
        Self { waiting: restarts, away: BTreeMap::new() }
    }

    /// What is to be done at `now`. To be called at every step.
    pub fn act(&mut self, now: Duration, condition: impl Fn(usize) -> Condition) -> Vec<Action> {
        let mut actions = Vec::new();
        let away = std::mem::take(&mut self.away);
        for (worker, away) in away {
            match away {
                Away::Until(moment) if now >= moment => actions.push(Action::Start(worker)),
                Away::Stopping(pause) if !condition(worker).up => {
                    self.away.insert(worker, Away::Until(now + pause));
                }
                Away::Until(_) | Away::Stopping(_) => {
                    self.away.insert(worker, away);
                }
            }
        }
        self.end_some(now, condition, &mut actions);
        actions
    }

    fn end_some(&mut self, now: Duration, condition: impl Fn(usize) -> Condition, actions: &mut Vec<Action>) {
        let Self { waiting, away } = self;
        waiting.retain(|restart| {
            let Condition { up, in_mid_reply } = condition(restart.worker);
            let triggered = restart.when == Trigger::Time || in_mid_reply;
            if now < restart.at || !up || !triggered || away.contains_key(&restart.worker) {
                return true;
            }
            let (action, then) = match restart.kind {
                Ending::Kill => (Action::Kill(restart.worker), Away::Until(now + restart.down_for)),
                Ending::Stop => (Action::Stop(restart.worker), Away::Stopping(restart.down_for)),
            };
            actions.push(action);
            away.insert(restart.worker, then);
            false
        });
    }

    /// Ends no one any more; who is away still comes back. Returns how many planned ends never came.
    pub fn heal(&mut self) -> usize {
        std::mem::take(&mut self.waiting).len()
    }

    /// Whether someone is away and will come back.
    #[must_use]
    pub fn is_someone_away(&self) -> bool {
        !self.away.is_empty()
    }
}

/// Knows which replies are in the middle, from facts.
#[derive(Debug, Default)]
pub struct Replies {
    claimed: BTreeMap<Name, Name>,
    begun: BTreeMap<Name, BTreeSet<Name>>,
}

impl Replies {
    /// Follows a fact.
    pub fn observe(&mut self, fact: &Fact) {
        match &fact.event {
            Event::TurnChanged { turn, worker, to: TurnState::Claimed, .. } => {
                self.claimed.insert(Name::clone(turn), Name::clone(worker));
            }
            Event::TurnChanged { turn, .. } => {
                if let Some(begun) = self.claimed.remove(turn).and_then(|worker| self.begun.get_mut(&worker))
                {
                    begun.remove(turn);
                }
            }
            Event::ChunkWritten { turn, .. } => {
                if let Some(worker) = self.claimed.get(turn) {
                    self.begun.entry(Name::clone(worker)).or_default().insert(Name::clone(turn));
                }
            }
            _ => {}
        }
    }

    /// Whether a reply of `worker` is stored in part and has not ended.
    #[must_use]
    pub fn is_in_middle(&self, worker: &str) -> bool {
        self.begun.get(worker).is_some_and(|begun| !begun.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Condition = Condition { up: true, in_mid_reply: false };
    const TALKING: Condition = Condition { up: true, in_mid_reply: true };
    const DOWN: Condition = Condition { up: false, in_mid_reply: false };

    fn restart(at: u64, kind: Ending, when: Trigger) -> PlannedRestart {
        let (at, down_for) = (Duration::from_secs(at), Duration::from_secs(2));
        PlannedRestart { worker: 0, at, kind, when, down_for }
    }

    /// What the conductor does at each second, given how the worker is then.
    #[track_caller]
    fn check(restarts: &[PlannedRestart], seconds: &[(u64, Condition, &[Action])]) {
        let mut conductor = Conductor::new(restarts.to_vec());
        for (second, condition, expected) in seconds {
            let actions = conductor.act(Duration::from_secs(*second), |_| *condition);
            assert_eq!(actions, *expected, "at {second} s");
        }
    }

    #[test]
    fn a_killed_worker_comes_back_after_its_time() {
        check(
            &[restart(5, Ending::Kill, Trigger::Time)],
            &[
                (4, UP, &[]),
                (5, UP, &[Action::Kill(0)]),
                (6, DOWN, &[]),
                (7, DOWN, &[Action::Start(0)]),
                (8, UP, &[]),
            ],
        );
    }

    #[test]
    fn a_stopped_worker_is_away_from_when_it_is_gone() {
        check(
            &[restart(5, Ending::Stop, Trigger::Time)],
            &[
                (5, UP, &[Action::Stop(0)]),
                (9, UP, &[]),
                (10, DOWN, &[]),
                (11, DOWN, &[]),
                (12, DOWN, &[Action::Start(0)]),
            ],
        );
    }

    #[test]
    fn a_kill_in_mid_reply_waits_for_one() {
        let kill = restart(5, Ending::Kill, Trigger::InMidReply);
        check(&[kill], &[(4, TALKING, &[]), (6, UP, &[]), (8, TALKING, &[Action::Kill(0)])]);
    }

    #[test]
    fn an_end_waits_until_the_worker_is_back_from_the_one_before() {
        let kill = |at| restart(at, Ending::Kill, Trigger::Time);
        check(
            &[kill(5), kill(6)],
            &[
                (5, UP, &[Action::Kill(0)]),
                (6, DOWN, &[]),
                (7, DOWN, &[Action::Start(0)]),
                (8, UP, &[Action::Kill(0)]),
            ],
        );
    }

    #[test]
    fn after_healing_nobody_ends_and_everybody_comes_back() {
        let mut conductor = Conductor::new(vec![
            restart(5, Ending::Kill, Trigger::Time),
            restart(9, Ending::Kill, Trigger::Time),
        ]);
        assert_eq!(conductor.act(Duration::from_secs(5), |_| UP), [Action::Kill(0)]);
        assert_eq!(conductor.heal(), 1);
        assert!(conductor.is_someone_away());
        assert_eq!(conductor.act(Duration::from_secs(9), |_| DOWN), [Action::Start(0)]);
        assert!(!conductor.is_someone_away());
    }
}
