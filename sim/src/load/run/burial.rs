//! Sees that a worker that is gone has left nothing: no OpenCode, no process, no connection.
//!
//! Its OpenCode dies with it, but the kernel, and the thread that serves in its place, take a moment. So it is judged
//! [`MOURNING`] after the end, or when the run is over. What is found then is ended.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::load::{
    remains::{Marked, marked},
    run::{Run, machine::Death},
};
use sim_model::trace::{Event, Micros, Name};
use sim_oracles::Class;

/// How long a worker's OpenCode may outlive it.
const MOURNING: Duration = Duration::from_secs(2);
/// Between two looks at what is left when the run is over.
const LOOK: Duration = Duration::from_millis(50);

impl Run<'_> {
    /// Before a worker starts anew: what has escaped from the group of an earlier start must not work beside it. That
    /// start's OpenCode is not meant: it may have been killed just now.
    pub(super) fn end_escaped(&self, index: usize) {
        let escaped = self.escaped(index, u64::MAX);
        self.blame(index, &escaped);
        escaped.iter().for_each(Marked::kill);
        self.reap();
    }

    /// Processes of the starts up to `start` that have left their group, OpenCode aside.
    fn escaped(&self, index: usize, start: u64) -> Vec<Marked> {
        let machine = &self.machines[index];
        let is_dying = |one: &Marked| machine.leaders().any(|leader| one.group == Some(leader));
        let all = marked(machine.root()).into_iter();
        all.filter(|one| one.start <= start && !one.stands_in && !is_dying(one)).collect()
    }

    fn blame(&self, index: usize, escaped: &[Marked]) {
        let Some(first) = escaped.first() else { return };
        let (name, count, command) = (&self.machines[index].name, escaped.len(), &first.command);
        self.ledger.lock().escaped(name, count);
        let message = format!("{count} processes of {name} have outlived it, the first is `{command}`");
        self.recorder.raise("cleanup", Class::Safety, message);
    }

    /// Judges the ends that are [`MOURNING`] ago.
    pub(super) fn mourn(&mut self) {
        let mourning = Micros::try_from(MOURNING.as_micros()).expect("some seconds");
        let now = self.recorder.now();
        let ripe = |death: &Death| death.at + mourning <= now;
        self.judge_those(ripe);
    }

    fn judge_those(&mut self, ripe: impl Fn(&Death) -> bool) {
        for index in 0..self.machines.len() {
            let deaths = std::mem::take(&mut self.machines[index].deaths);
            let (judged, rest): (Vec<_>, Vec<_>) = deaths.into_iter().partition(&ripe);
            self.machines[index].deaths = rest;
            judged.iter().for_each(|death| self.judge(index, death));
            if !judged.is_empty() {
                self.reap();
            }
        }
    }

    fn judge(&self, index: usize, death: &Death) {
        let machine = &self.machines[index];
        let (name, orphans) = (&machine.name, self.fakes.attached(index, death.at));
        self.ledger.lock().orphans(name, orphans);
        self.blame(index, &self.escaped(index, death.start));
        if machine.running.is_none() {
            // The oracle knows of its servers and streams.
            let sockets = self.ledger.lock().sockets(name);
            self.recorder.record(name, Event::Left { worker: Name::clone(name), bytes: 0, sockets });
        } else if orphans > 0 {
            let message = format!("{orphans} OpenCode processes have outlived {name}");
            self.recorder.raise("cleanup", Class::Safety, message);
        }
        let all = marked(machine.root()).into_iter();
        all.filter(|one| one.start <= death.start).for_each(|one| one.kill());
    }

    /// When all workers have ended: waits until nothing is left of them, judges, and ends what is left.
    pub(super) async fn bury(&mut self) {
        let limit = Instant::now() + MOURNING;
        let is_left = |run: &Self| {
            let is_left = |(index, machine): (usize, &crate::load::run::machine::Machine)| {
                run.fakes.attached(index, Micros::MAX) > 0 || !marked(machine.root()).is_empty()
            };
            run.machines.iter().enumerate().any(is_left)
        };
        while is_left(self) && Instant::now() < limit {
            sleep(LOOK).await;
        }
        self.judge_those(|_| true);
        self.reap();
    }
}
