//! Sees that a worker that has ended has left nothing: no OpenCode, no process, no connection.
//!
//! Its OpenCode dies with it, but the kernel, and the thread that serves in its place, take a moment. So it is checked
//! [`EXIT_GRACE`] after the end, or when the run is over. What is found then is ended.

use std::time::Duration;

use sim_model::trace::{Event, Micros, Name};
use sim_oracles::Class;
use tokio::time::{Instant, sleep};

use super::{
    Run,
    machine::{Machine, WorkerExit},
};
use crate::load::{process, stand_in::COMMAND};

/// How long a worker's OpenCode may outlive it.
const EXIT_GRACE: Duration = Duration::from_secs(2);
/// Between two looks at what is left when the run is over.
const LOOK: Duration = Duration::from_millis(50);

impl Run<'_> {
    /// Checks the exits that are [`EXIT_GRACE`] ago.
    pub(super) fn check_due_exits(&mut self) {
        let grace = Micros::try_from(EXIT_GRACE.as_micros()).expect("some seconds");
        let now = self.recorder.now();
        self.check_exits(|exit| exit.at + grace <= now);
    }

    fn check_exits(&mut self, is_due: impl Fn(&WorkerExit) -> bool) {
        for index in 0..self.machines.len() {
            let exits = std::mem::take(&mut self.machines[index].exits);
            let (due, rest): (Vec<_>, Vec<_>) = exits.into_iter().partition(&is_due);
            self.machines[index].exits = rest;
            due.iter().for_each(|exit| self.check_exit(index, exit));
        }
    }

    fn check_exit(&self, index: usize, exit: &WorkerExit) {
        let machine = &self.machines[index];
        let (name, orphans) = (&machine.name, self.fakes.attached(index, exit.at));
        self.ledger.lock().orphans(name, orphans);
        if machine.running.is_none() {
            // The oracle knows of its servers and streams.
            let sockets = self.ledger.lock().sockets(name);
            self.recorder.record(name, Event::Left { worker: Name::clone(name), bytes: 0, sockets });
        } else if orphans > 0 {
            let message = format!("{orphans} OpenCode processes have outlived {name}");
            self.recorder.raise("cleanup", Class::Safety, message);
        }
    }

    /// When no worker runs: ends the processes that left the group of their worker and outlived it, and reports them.
    /// An OpenCode that did is counted where its worker's exit is checked.
    pub(super) fn end_strays(&self) {
        if self.machines.iter().any(Machine::is_alive) {
            return;
        }
        let strays = process::strays();
        let mut reported = strays.iter().filter(|stray| !stray.command.contains(COMMAND));
        if let Some(first) = reported.next() {
            let (count, command) = (reported.count() + 1, &first.command);
            let message = format!("{count} processes have outlived their worker, the first is `{command}`");
            self.recorder.raise("cleanup", Class::Safety, message);
        }
        strays.iter().for_each(process::Stray::kill);
    }

    /// When all workers have ended: waits until nothing is left of them, checks, and ends what is left.
    pub(super) async fn check_all_exits(&mut self) {
        let limit = Instant::now() + EXIT_GRACE;
        let is_attached =
            |run: &Self| (0..run.machines.len()).any(|index| run.fakes.attached(index, Micros::MAX) > 0);
        while (is_attached(self) || !process::strays().is_empty()) && Instant::now() < limit {
            sleep(LOOK).await;
        }
        self.check_exits(|_| true);
        self.end_strays();
    }
}
