//! Decides when faults begin and end. Pure: it is told the time and how the workers are, and says what to do.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    fault::{kind::FaultKind, schema::Trigger},
    fault_plan::PlannedFault,
};

/// What is to be done. Workers go by their number, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The fault of this number begins; what lasts takes effect.
    Begin(usize),
    /// The fault of this number is over; what lasted is taken back.
    End(usize),
    /// End a worker at once.
    Kill(usize),
    /// Ask a worker to end.
    Stop(usize),
    /// Start a worker.
    Start(usize),
    /// Let the worker's process stand still, and start a second one.
    Freeze(usize),
    /// Let the process that stands still go on.
    Thaw(usize),
}

/// How a worker is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Condition {
    /// Whether its process runs.
    pub up: bool,
    /// Whether it has said that it is ready.
    pub ready: bool,
    /// Whether an OpenCode server runs on its machine.
    pub serving: bool,
    /// Whether one of its turns is where the fault waits for it.
    pub triggered: bool,
}

/// Carries out the faults of a plan.
#[derive(Debug, Default)]
pub struct Conductor {
    faults: Vec<PlannedFault>,
    /// Of each fault.
    states: Vec<State>,
    /// Workers whose process is in the middle of a fault: the next one waits.
    busy: BTreeSet<usize>,
    workers: usize,
    healed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    /// Takes effect until this moment.
    On(Duration),
    /// This worker is the next of several to be stopped, once it is up.
    Next(usize),
    /// This worker was asked to stop and is not gone.
    Leaving(usize),
    /// This worker is gone and starts at this moment.
    Away(usize, Duration),
    /// This worker was started again, as one of several.
    Returning(usize),
    Over,
}

impl Conductor {
    /// Carries out `faults` on so many workers.
    #[must_use]
    pub fn new(faults: Vec<PlannedFault>, workers: usize) -> Self {
        let states = vec![State::Waiting; faults.len()];
        Self { faults, states, busy: BTreeSet::new(), workers, healed: false }
    }

    /// What is to be done at `now`. To be called at every step.
    pub fn act(&mut self, now: Duration, condition: impl Fn(usize, Trigger) -> Condition) -> Vec<Action> {
        let mut actions = Vec::new();
        for begin in [false, true] {
            // What ends comes first, so that one fault can follow another at the same moment.
            for number in 0..self.faults.len() {
                if (self.states[number] == State::Waiting) == begin {
                    self.advance(number, now, &condition, &mut actions);
                }
            }
        }
        actions
    }

    fn advance(
        &mut self,
        number: usize,
        now: Duration,
        condition: &impl Fn(usize, Trigger) -> Condition,
        actions: &mut Vec<Action>,
    ) {
        let (kind, lasts, owner) = {
            let fault = &self.faults[number];
            (fault.kind, fault.lasts, fault.worker)
        };
        self.states[number] = match self.states[number] {
            State::Waiting if self.may_begin(number, now, condition) => self.begin(number, now, actions),
            State::On(until) if now >= until => {
                if kind == FaultKind::Zombie {
                    if !self.healed && !condition(owner, Trigger::Time).ready {
                        return;
                    }
                    actions.push(Action::Thaw(owner));
                }
                if kind.is_of_process() {
                    self.busy.remove(&owner);
                }
                actions.push(Action::End(number));
                State::Over
            }
            State::Next(_) if self.healed => self.roll(number, self.workers, actions),
            State::Next(worker) if condition(worker, Trigger::Time).up && self.busy.insert(worker) => {
                actions.push(Action::Stop(worker));
                State::Leaving(worker)
            }
            State::Leaving(worker) if !condition(worker, Trigger::Time).up => {
                State::Away(worker, now + lasts)
            }
            State::Away(worker, moment) if now >= moment => {
                actions.push(Action::Start(worker));
                if kind == FaultKind::RollingRestart {
                    State::Returning(worker)
                } else {
                    self.busy.remove(&worker);
                    actions.push(Action::End(number));
                    State::Over
                }
            }
            State::Returning(worker) if self.healed || condition(worker, Trigger::Time).ready => {
                self.busy.remove(&worker);
                self.roll(number, worker + 1, actions)
            }
            state => state,
        };
    }

    fn may_begin(
        &self,
        number: usize,
        now: Duration,
        condition: &impl Fn(usize, Trigger) -> Condition,
    ) -> bool {
        let fault = &self.faults[number];
        if self.healed || now < fault.at {
            return false;
        }
        let is = condition(fault.worker, fault.when);
        let free = match fault.kind {
            FaultKind::RollingRestart => self.busy.is_empty(),
            // A process that stands still before it has registered is no zombie: later it would be the newest.
            FaultKind::Zombie => is.ready && !self.busy.contains(&fault.worker),
            kind if kind.is_of_process() => is.up && !self.busy.contains(&fault.worker),
            kind => !kind.needs_server() || is.serving,
        };
        free && (fault.when == Trigger::Time || is.triggered)
    }

    fn begin(&mut self, number: usize, now: Duration, actions: &mut Vec<Action>) -> State {
        let fault = &self.faults[number];
        let (worker, until) = (fault.worker, now + fault.lasts);
        actions.push(Action::Begin(number));
        if fault.kind.is_of_process() && fault.kind != FaultKind::RollingRestart {
            self.busy.insert(worker);
        }
        match fault.kind {
            FaultKind::Kill => {
                actions.push(Action::Kill(worker));
                State::Away(worker, until)
            }
            FaultKind::Stop => {
                actions.push(Action::Stop(worker));
                State::Leaving(worker)
            }
            // It stays busy: nothing else happens to a process that never comes back.
            FaultKind::Leave => {
                actions.extend([Action::Stop(worker), Action::End(number)]);
                State::Over
            }
            FaultKind::RollingRestart => self.roll(number, 0, actions),
            FaultKind::Zombie => {
                actions.push(Action::Freeze(worker));
                State::On(until)
            }
            kind if kind.is_momentary() => {
                actions.push(Action::End(number));
                State::Over
            }
            _ => State::On(until),
        }
    }

    /// Goes on with the next worker of a rolling restart.
    fn roll(&self, number: usize, worker: usize, actions: &mut Vec<Action>) -> State {
        if worker == self.workers || self.healed {
            actions.push(Action::End(number));
            return State::Over;
        }
        State::Next(worker)
    }

    /// Begins nothing any more and ends what takes effect, at the next step; who is away still comes back. Returns how
    /// many faults never came.
    pub fn heal(&mut self) -> usize {
        self.healed = true;
        let mut never = 0;
        for state in &mut self.states {
            match *state {
                State::Waiting => {
                    *state = State::Over;
                    never += 1;
                }
                State::On(_) => *state = State::On(Duration::ZERO),
                State::Away(worker, _) => *state = State::Away(worker, Duration::ZERO),
                State::Next(_) | State::Leaving(_) | State::Returning(_) | State::Over => {}
            }
        }
        never
    }

    /// The faults that have begun and are not over, by number.
    pub fn unfinished(&self) -> impl Iterator<Item = usize> {
        let going = |state: &State| !matches!(state, State::Waiting | State::Over);
        (0..self.states.len()).filter(move |number| going(&self.states[*number]))
    }

    /// The fault of this number.
    #[must_use]
    pub fn fault(&self, number: usize) -> &PlannedFault {
        &self.faults[number]
    }
}

#[cfg(test)]
mod tests {
    use super::{Action::*, *};

    const UP: Condition = Condition { up: true, ready: true, serving: true, triggered: false };
    const READY_TO_DIE: Condition = Condition { triggered: true, ..UP };
    const DOWN: Condition = Condition { up: false, ready: false, serving: false, triggered: false };
    const STARTING: Condition = Condition { up: true, ..DOWN };

    fn fault(kind: FaultKind, at: u64) -> PlannedFault {
        let lasts = Duration::from_secs(if kind.is_momentary() { 0 } else { 2 });
        PlannedFault { lasts, ..PlannedFault::new(kind, 0, Duration::from_secs(at)) }
    }

    /// What the conductor does at each second, given how all workers are then.
    #[track_caller]
    fn check(faults: &[PlannedFault], seconds: &[(u64, Condition, &[Action])]) -> Conductor {
        let mut conductor = Conductor::new(faults.to_vec(), 2);
        for (second, condition, expected) in seconds {
            let actions = conductor.act(Duration::from_secs(*second), |_, _| *condition);
            assert_eq!(actions, *expected, "at {second} s");
        }
        conductor
    }

    #[test]
    fn a_killed_worker_comes_back_after_its_time() {
        let steps: [(u64, Condition, &[Action]); 5] = [
            (4, UP, &[]),
            (5, UP, &[Begin(0), Kill(0)]),
            (6, DOWN, &[]),
            (7, DOWN, &[Start(0), End(0)]),
            (8, UP, &[]),
        ];
        check(&[fault(FaultKind::Kill, 5)], &steps);
    }

    #[test]
    fn a_stopped_worker_is_away_from_when_it_is_gone() {
        let steps: [(u64, Condition, &[Action]); 5] = [
            (5, UP, &[Begin(0), Stop(0)]),
            (9, UP, &[]),
            (10, DOWN, &[]),
            (11, DOWN, &[]),
            (12, DOWN, &[Start(0), End(0)]),
        ];
        check(&[fault(FaultKind::Stop, 5)], &steps);
    }

    #[test]
    fn a_worker_that_leaves_never_comes_back() {
        let steps: [(u64, Condition, &[Action]); 3] =
            [(5, UP, &[Begin(0), Stop(0), End(0)]), (6, UP, &[]), (60, DOWN, &[])];
        check(&[fault(FaultKind::Leave, 5), fault(FaultKind::Kill, 6)], &steps);
    }

    #[test]
    fn a_kill_at_a_step_of_a_turn_waits_for_one() {
        let kill = PlannedFault { when: Trigger::InMidReply, ..fault(FaultKind::Kill, 5) };
        check(&[kill], &[(4, READY_TO_DIE, &[]), (6, UP, &[]), (8, READY_TO_DIE, &[Begin(0), Kill(0)])]);
    }

    #[test]
    fn an_end_waits_until_the_worker_is_back_from_the_one_before() {
        let steps: [(u64, Condition, &[Action]); 4] = [
            (5, UP, &[Begin(0), Kill(0)]),
            (6, DOWN, &[]),
            (7, DOWN, &[Start(0), End(0)]),
            (8, UP, &[Begin(1), Kill(0)]),
        ];
        check(&[fault(FaultKind::Kill, 5), fault(FaultKind::Kill, 6)], &steps);
    }

    #[test]
    fn a_rolling_restart_takes_the_next_worker_when_the_one_before_is_ready() {
        let steps: [(u64, Condition, &[Action]); 11] = [
            (5, UP, &[Begin(0)]),
            (6, UP, &[Stop(0)]),
            (7, DOWN, &[]),
            (9, DOWN, &[Start(0)]),
            (10, STARTING, &[]),
            (11, UP, &[]),
            (12, UP, &[Stop(1)]),
            (13, DOWN, &[]),
            (15, DOWN, &[Start(1)]),
            (16, STARTING, &[]),
            (17, UP, &[End(0)]),
        ];
        check(&[fault(FaultKind::RollingRestart, 5)], &steps);
    }

    #[test]
    fn a_zombie_wakes_when_its_successor_is_ready() {
        let steps: [(u64, Condition, &[Action]); 3] =
            [(5, UP, &[Begin(0), Freeze(0)]), (8, STARTING, &[]), (9, UP, &[Thaw(0), End(0)])];
        check(&[fault(FaultKind::Zombie, 5)], &steps);
    }

    #[test]
    fn a_machine_that_sleeps_is_not_stopped_before_it_wakes() {
        let steps: [(u64, Condition, &[Action]); 3] =
            [(5, UP, &[Begin(0)]), (6, UP, &[]), (7, UP, &[End(0), Begin(1), Kill(0)])];
        check(&[fault(FaultKind::Suspend, 5), fault(FaultKind::Kill, 6)], &steps);
    }

    #[test]
    fn what_lasts_begins_and_ends() {
        let steps: [(u64, Condition, &[Action]); 3] =
            [(5, UP, &[Begin(0)]), (6, UP, &[]), (7, UP, &[End(0)])];
        check(&[fault(FaultKind::Partition, 5)], &steps);
    }

    #[test]
    fn what_strikes_a_server_waits_for_one() {
        let steps: [(u64, Condition, &[Action]); 2] = [(5, DOWN, &[]), (6, UP, &[Begin(0), End(0)])];
        check(&[fault(FaultKind::OpencodeCrash, 5)], &steps);
    }

    #[test]
    fn after_healing_nothing_begins_and_everything_ends() {
        for kind in FaultKind::all() {
            let faults = [
                PlannedFault { lasts: Duration::from_secs(99), ..fault(kind, 5) },
                fault(FaultKind::Kill, 9),
            ];
            let mut conductor = check(&faults, &[]);
            let begun = conductor.act(Duration::from_secs(5), |_, _| UP);
            assert_eq!(begun[0], Begin(0), "{kind}");
            assert_eq!(conductor.heal(), 1);
            let mut healed = Vec::new();
            for (second, condition) in [(9, DOWN), (10, DOWN), (120, DOWN), (121, STARTING)] {
                healed.extend(conductor.act(Duration::from_secs(second), |_, _| condition));
            }
            assert_eq!(begun.contains(&End(0)), kind.is_momentary());
            assert!(kind.is_momentary() || healed.contains(&End(0)), "{kind}: {healed:?}");
            assert_eq!(conductor.unfinished().count(), 0, "{kind}");
        }
    }
}
