//! **lifecycle**: a worker lives as its table of phases says, shows that it lives, and ends when it is asked to.
//!
//! - Its phase changes along the arrows of `worker/src/lifecycle/state.rs`. Phases are seen every 100 ms, so several
//!   arrows may lie between two looks; what no path allows is forbidden: leaving `Stopped`, going from `Stopping`
//!   anywhere but to `Stopped`, going back to `Uninitialized`, and registering again once an epoch was adopted.
//! - It claims no turn before it has reported, in its current epoch, that it is ready.
//! - Heartbeats come one interval after the other, each up to a tenth early: never further apart than the interval and
//!   the slowest way there and back, which is that of a busy worker while a turn is claimed and that of an idle one else;
//!   never twice in a row closer than nine tenths of the shorter one: one beat comes early when an idle worker becomes
//!   busy. The distance is judged while the worker is steady (ready, connected, not asked to stop): a network that holds its
//!   messages back is not its fault.
//! - It ends only when it is asked to; or when a newer epoch of the same worker has begun, as superseded. It is gone
//!   within the bound for closing (raised by the run, which knows when its time is over).
//! - When it ends as asked, was steady until it was asked, and nothing has disturbed it since, the backend knows: it is
//!   offline before it is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    oracle::{Findings, Oracle},
    steady::Steady,
};
use sim_model::{
    fault::FaultKind,
    scenario::Scenario,
    trace::{Caller, Event, Exit, Fact, Micros, Name, TurnState},
};

/// A beat comes up to a tenth of the interval early.
const EARLIEST: u64 = 9;

/// See the file's comment.
pub(super) struct Lifecycle {
    /// The intervals of a busy worker and of an idle one.
    busy: Micros,
    idle: Micros,
    /// The slowest way to the backend and back.
    slack: Micros,
    steady: Steady,
    workers: BTreeMap<Name, Life>,
    epochs: BTreeMap<Name, u64>,
}

/// One start of a worker.
#[derive(Default)]
struct Life {
    phase: Option<Name>,
    /// The worker, and its epoch, that its calls name. Two processes may have the same token.
    identity: Option<(Name, u64)>,
    /// The same of the start before: its calls may still be on their way, or it is a zombie.
    before: Option<(Name, u64)>,
    ready: bool,
    online: bool,
    /// Whether it was asked to stop, and has been steady until then and undisturbed since.
    asked: Option<bool>,
    beat: Option<Beat>,
    /// The turns that it has claimed and not ended.
    turns: BTreeSet<Name>,
    /// Since when it has some.
    busy_since: Option<Micros>,
}

/// The last beat.
#[derive(Default)]
struct Beat {
    at: Micros,
    /// It came early.
    is_early: bool,
    /// That the next one is late was told already.
    is_told: bool,
}

impl Lifecycle {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self {
            busy: micros(scenario.settings.heartbeat.busy),
            idle: micros(scenario.settings.heartbeat.idle),
            slack: micros(scenario.network_spread() * 2),
            steady: Steady::default(),
            workers: BTreeMap::new(),
            epochs: BTreeMap::new(),
        }
    }

    fn life(&mut self, worker: &Name) -> &mut Life {
        self.workers.entry(Name::clone(worker)).or_default()
    }

    /// Something makes it hard for these workers to say goodbye.
    fn disturbed(&mut self, is_concerned: impl Fn(&Name) -> bool) {
        let concerned = self.workers.iter_mut().filter(|(worker, _)| is_concerned(worker));
        concerned.filter_map(|(_, life)| life.asked.as_mut()).for_each(|steady| *steady = false);
    }

    fn entered(&mut self, worker: &Name, phase: &Name, verdict: &mut Findings) {
        let life = self.life(worker);
        let adopted = life.identity.is_some();
        if let Some(before) = life.phase.replace(Name::clone(phase))
            && !is_path(&before, phase, adopted)
        {
            verdict.violation(format!("{worker} went from {before} to {phase}"), &[worker]);
        }
    }

    fn called(
        &mut self,
        at: Micros,
        worker: &Name,
        function: &str,
        identity: Option<(Name, u64)>,
        verdict: &mut Findings,
    ) {
        let steady = self.steady.since(worker);
        let earliest = self.busy.min(self.idle) / 10 * EARLIEST;
        let life = self.life(worker);
        if identity.is_some() && identity == life.before {
            // Not this start's life; what it may still do is for `fencing` to judge.
            return;
        }
        life.identity = identity.or(life.identity.take());
        match function {
            "workers:markConnected" => {
                (life.ready, life.online) = (true, true);
                life.beat = Some(Beat { at, ..Beat::default() });
            }
            "workers:heartbeat" => {
                life.online = true;
                let before = life.beat.take().unwrap_or_default();
                let distance = at.saturating_sub(before.at);
                let is_early = steady.is_some_and(|since| since <= before.at) && distance < earliest;
                if is_early && before.is_early {
                    let message = format!("{worker} beat again after {distance} µs, before {earliest} µs");
                    verdict.violation(message, &[worker]);
                }
                life.beat = Some(Beat { at, is_early, is_told: false });
            }
            "chat:claim" if !life.ready => {
                verdict.violation(format!("{worker} claimed a turn before it was ready"), &[worker]);
            }
            _ => {}
        }
    }

    /// A look at a worker that runs: is a beat missing?
    fn listen(&mut self, at: Micros, worker: &Name, verdict: &mut Findings) {
        let Some(steady) = self.steady.since(worker) else { return };
        let (busy, idle, slack) = (self.busy, self.idle, self.slack);
        let life = self.life(worker);
        let Some(beat) = &mut life.beat else { return };
        let since = steady.max(beat.at);
        let is_late = at.saturating_sub(since) > idle + slack
            || life
                .busy_since
                .is_some_and(|busy_since| at.saturating_sub(since.max(busy_since)) > busy + slack);
        if is_late && !std::mem::replace(&mut beat.is_told, true) {
            let message = format!(
                "{worker} is ready and connected, and has not beaten for {} µs",
                at.saturating_sub(beat.at)
            );
            verdict.violation(message, &[worker]);
        }
    }

    fn turn_changed(&mut self, at: Micros, worker: &Name, turn: &Name, to: TurnState) {
        let life = self.life(worker);
        if to == TurnState::Claimed {
            life.turns.insert(Name::clone(turn));
            life.busy_since.get_or_insert(at);
        } else if life.turns.remove(turn) && life.turns.is_empty() {
            life.busy_since = None;
        }
    }

    fn exited(&mut self, worker: &Name, exit: &Exit, verdict: &mut Findings) {
        let Self { epochs, workers, .. } = self;
        let life = workers.entry(Name::clone(worker)).or_default();
        let is_superseded =
            life.identity.as_ref().is_some_and(|(name, epoch)| epochs.get(name) > Some(epoch));
        match (exit, life.asked) {
            (Exit::Stopped, Some(was_steady)) => {
                if was_steady && life.online {
                    verdict
                        .violation(format!("{worker} stopped without saying that it is offline"), &[worker]);
                }
            }
            (Exit::Failed(_), _) if is_superseded => {}
            _ => verdict.violation(format!("{worker} ended by itself: {exit:?}"), &[worker]),
        }
    }
}

/// Whether a path of one or more arrows leads from one phase to another. `adopted`: it has an epoch already.
fn is_path(from: &str, to: &str, adopted: bool) -> bool {
    match (from, to) {
        ("Stopped", _) | (_, "Uninitialized") => false,
        ("Stopping", _) => to == "Stopped",
        (_, "Registering") => !adopted,
        _ => true,
    }
}

impl Oracle for Lifecycle {
    fn id(&self) -> &'static str {
        "lifecycle"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Findings) {
        if let Event::StopAsked { worker } = &fact.event {
            let is_steady = self.steady.since(worker).is_some_and(|since| since <= fact.at);
            self.life(worker).asked = Some(is_steady);
        }
        self.steady.observe(fact);
        match &fact.event {
            Event::WorkerStarted { worker, .. } => {
                let before = self.workers.remove(worker).and_then(|life| life.identity);
                self.workers.insert(Name::clone(worker), Life { before, ..Life::default() });
            }
            Event::EpochBegan { worker, epoch, .. } => {
                self.epochs.insert(Name::clone(worker), *epoch);
            }
            Event::TurnChanged { turn, worker, to, .. } => self.turn_changed(fact.at, worker, turn, *to),
            Event::Offline { worker } => self.life(worker).online = false,
            Event::Disconnected { client } => self.disturbed(|worker| worker == client),
            Event::FaultBegan { kind, worker, .. } if kind.hampers_backend() => {
                self.disturbed(|of| *kind == FaultKind::ConvexRestart || of == worker);
            }
            Event::Lifecycle { worker, state } => self.entered(worker, state, verdict),
            Event::Executed {
                function,
                caller: Caller::Worker(worker),
                identity,
                epoch,
                error: None,
                ..
            } => {
                self.called(fact.at, worker, function, identity.clone().zip(*epoch), verdict);
            }
            Event::Heap { worker, .. } => self.listen(fact.at, worker, verdict),
            Event::Exited { worker, exit } => self.exited(worker, exit, verdict),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Call, at, claimed, completed, epoch, judge, name, started};

    fn worker() -> Name {
        name("worker-1")
    }

    fn phase(state: &str) -> Event {
        Event::Lifecycle { worker: worker(), state: name(state) }
    }

    fn call(function: &'static str) -> Event {
        Call { function, epoch: Some(1), ..Call::default() }.event()
    }

    fn exited(exit: Exit) -> Event {
        Event::Exited { worker: worker(), exit }
    }

    fn stop_asked() -> Event {
        Event::StopAsked { worker: worker() }
    }

    fn look() -> Event {
        Event::Heap { worker: worker(), live: 1, peak: 1 }
    }

    /// A worker that is steady at 1 s.
    fn steady() -> Vec<(f64, Event)> {
        vec![
            (0.0, started(1)),
            (0.1, Event::Connected { client: worker() }),
            (0.2, epoch(1, 0.0)),
            (0.9, phase("Ready")),
            (1.0, call("workers:markConnected")),
        ]
    }

    #[track_caller]
    fn check(facts: Vec<(f64, Event)>, expected: &[&str]) {
        let scenario = Scenario::parse("a.toml", "a", "duration = '1min'").unwrap();
        let facts = facts.into_iter().map(|(second, event)| (at(second), event));
        assert_eq!(judge(Lifecycle::new(&scenario), facts), expected);
    }

    #[track_caller]
    fn check_after_steady(then: Vec<(f64, Event)>, expected: &[&str]) {
        check([steady(), then].concat(), expected);
    }

    #[test]
    fn a_life_along_the_table_is_fine() {
        let phases =
            ["Registering", "Ready", "Recovering", "Connecting", "WaitingApproval", "Stopping", "Stopped"];
        let life = phases.map(|state| (0.5, phase(state))).to_vec();
        check([vec![(0.0, started(1))], life].concat(), &[]);
    }

    #[test]
    fn what_no_path_allows_is_seen() {
        check(vec![(0.0, phase("Stopped")), (0.1, phase("Ready"))], &["worker-1 went from Stopped to Ready"]);
        check(
            vec![(0.0, phase("Stopping")), (0.1, phase("Ready"))],
            &["worker-1 went from Stopping to Ready"],
        );
        check_after_steady(vec![(2.0, phase("Registering"))], &["worker-1 went from Ready to Registering"]);
    }

    #[test]
    fn a_claim_before_it_is_ready_is_seen() {
        check(
            vec![(0.0, started(1)), (0.1, call("chat:claim"))],
            &["worker-1 claimed a turn before it was ready"],
        );
        check_after_steady(vec![(2.0, call("chat:claim"))], &[]);
    }

    #[test]
    fn beats_keep_the_interval_of_their_pace() {
        check_after_steady(vec![(30.9, call("workers:heartbeat")), (60.9, look())], &[]);
        check_after_steady(
            vec![(31.2, look()), (31.3, look())],
            &["worker-1 is ready and connected, and has not beaten for 30200000 µs"],
        );
        let busy = vec![(2.0, claimed("t1")), (2.1, call("workers:heartbeat"))];
        check_after_steady([busy.clone(), vec![(7.0, look())]].concat(), &[]);
        check_after_steady(
            [busy.clone(), vec![(7.3, look())]].concat(),
            &["worker-1 is ready and connected, and has not beaten for 5200000 µs"],
        );
        check_after_steady([busy, vec![(6.0, completed("t1", 1)), (30.0, look())]].concat(), &[]);
        check_after_steady(
            vec![(2.0, claimed("t1")), (7.3, look())],
            &["worker-1 is ready and connected, and has not beaten for 6300000 µs"],
        );
    }

    #[test]
    fn only_one_beat_comes_early_when_a_worker_becomes_busy() {
        let beat = || call("workers:heartbeat");
        check_after_steady(vec![(2.0, beat()), (6.6, beat()), (6.7, beat())], &[]);
        check_after_steady(
            vec![(2.0, beat()), (2.1, beat())],
            &["worker-1 beat again after 100000 µs, before 4500000 µs"],
        );
    }

    #[test]
    fn silence_of_a_worker_that_was_cut_off_is_not_its_fault() {
        check_after_steady(vec![(2.0, Event::Disconnected { client: worker() }), (9.0, look())], &[]);
    }

    #[test]
    fn it_ends_only_when_asked_and_says_that_it_is_offline() {
        let offline = Event::Offline { worker: worker() };
        check_after_steady(vec![(2.0, stop_asked()), (2.1, offline), (2.2, exited(Exit::Stopped))], &[]);
        check_after_steady(
            vec![(2.0, stop_asked()), (2.2, exited(Exit::Stopped))],
            &["worker-1 stopped without saying that it is offline"],
        );
        check_after_steady(vec![(2.0, exited(Exit::Stopped))], &["worker-1 ended by itself: Stopped"]);
        let cut = |worker| Event::FaultBegan { fault: 0, kind: FaultKind::Partition, worker: name(worker) };
        check_after_steady(
            vec![(2.0, stop_asked()), (2.1, cut("worker-1")), (2.2, exited(Exit::Stopped))],
            &[],
        );
        check_after_steady(
            vec![(2.0, stop_asked()), (2.1, cut("worker-2")), (2.2, exited(Exit::Stopped))],
            &["worker-1 stopped without saying that it is offline"],
        );
    }

    #[test]
    fn a_superseded_worker_may_end() {
        let failed = || exited(Exit::Failed("Superseded".into()));
        check_after_steady(vec![(2.0, epoch(2, 0.0)), (2.1, failed())], &[]);
        check_after_steady(vec![(2.1, failed())], &["worker-1 ended by itself: Failed(\"Superseded\")"]);
    }
}
