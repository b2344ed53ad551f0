//! The workers' processes in a run: started, ended, looked at.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    ROUND, Run,
    ended::Ended,
    machine::{Machine, Running, exit},
};
use crate::{
    load::{order::LoadError, process::Worker},
    recorder::Recorder,
};
use sim_model::trace::{Event, Name, Phase};
use sim_oracles::Class;

/// How long workers may take to end when the run is over, besides their own grace.
const CLOSING: Duration = Duration::from_secs(30);
/// How long what a wrapper has started may go on when the wrapper is gone, besides the worker's own grace.
const LINGERING: Duration = Duration::from_secs(10);
/// How long workers may take to end when somebody wants the run to.
const HURRY: Duration = Duration::from_secs(3);
impl Run<'_> {
    pub(super) fn start(&mut self, index: usize) -> Result<(), LoadError> {
        self.end_strays();
        let machine = &mut self.machines[index];
        machine.starts += 1;
        let (worker, start) = (Name::clone(&machine.name), machine.starts);
        self.recorder.record(&machine.name, Event::WorkerStarted { worker, start });
        let worker = machine.launch.start().map_err(|source| {
            let command = machine.launch.command.first().map(|word| word.to_string_lossy().into_owned());
            LoadError::Start { command: command.unwrap_or_default(), source }
        })?;
        self.ledger.lock().spawned(&machine.name, self.recorder.now());
        machine.running = Some(Running { worker, asked: false, headless: None });
        Ok(())
    }

    pub(super) fn kill(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        if let Some(running) = machine.running.take() {
            running.worker.kill();
            tell_panic(&self.recorder, &machine.name, &running.worker);
            self.recorder.record(&machine.name, Event::Killed { worker: Name::clone(&machine.name) });
            machine.dying.push(running.worker);
            machine.exited(self.recorder.now());
        }
    }

    pub(super) fn ask_to_stop(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        if let Some(running) = &mut machine.running {
            running.asked = true;
            let worker = Name::clone(&machine.name);
            self.recorder.record(&machine.name, Event::StopAsked { worker });
            running.worker.ask_to_stop();
        }
    }

    /// Records who has ended by now.
    pub(super) fn notice_ends(&mut self) -> Result<(), LoadError> {
        let patience = self.load.order.scenario.settings.lifecycle.stop_grace + LINGERING;
        for machine in &mut self.machines {
            machine.dying.retain_mut(|worker| !matches!(worker.ended(), Ok(Some(_))));
            let Some(running) = &mut machine.running else { continue };
            let Some(status) = running.worker.ended()? else {
                if running.is_headless_for(patience) {
                    running.worker.kill();
                    let message = format!(
                        "{} has ended, but others of its group went on and were killed",
                        machine.name
                    );
                    self.recorder.raise("cleanup", Class::Safety, message);
                }
                continue;
            };
            let told_offline = self.ledger.lock().told_offline(&machine.name);
            let fault = running.fault(status, told_offline);
            tell_panic(&self.recorder, &machine.name, &running.worker);
            let worker = Name::clone(&machine.name);
            self.recorder.record(&machine.name, Event::Exited { worker, exit: exit(status, running.asked) });
            if let Some(fault) = fault {
                self.recorder.raise("lifecycle", Class::Safety, format!("{} {fault}", machine.name));
            }
            machine.running = None;
            machine.exited(self.recorder.now());
        }
        Ok(())
    }

    pub(super) fn sample(&self) {
        for machine in &self.machines {
            let Some(sample) = machine.running.as_ref().and_then(|running| running.worker.sample()) else {
                continue;
            };
            self.recorder.record(&machine.name, sample.event(&machine.name));
        }
    }

    /// Ends every worker, and sees that nothing is left of it.
    pub(super) async fn close(&mut self, ended: Ended) -> Result<(), LoadError> {
        self.sample();
        self.recorder.record(&self.name, Event::PhaseBegan { phase: Phase::Closing });
        (0..self.machines.len()).for_each(|index| self.ask_to_stop(index));
        let grace = self.load.order.scenario.settings.lifecycle.stop_grace + CLOSING;
        let patience = if ended == Ended::Interrupted { HURRY } else { grace };
        let limit = Instant::now() + patience;
        while self.machines.iter().any(Machine::is_alive) && Instant::now() < limit {
            sleep(ROUND).await;
            self.notice_ends()?;
        }
        for index in 0..self.machines.len() {
            if self.machines[index].running.is_some() {
                if ended == Ended::Complete {
                    let message = format!(
                        "{} has not ended {patience:?} after it was asked to",
                        self.machines[index].name
                    );
                    self.recorder.raise("lifecycle", Class::Liveness, message);
                }
                self.kill(index);
            }
        }
        self.check_all_exits().await;
        Ok(())
    }
}

fn tell_panic(recorder: &Recorder, name: &Name, worker: &Worker) {
    if let Some(told) = worker.panic() {
        let message = recorder.name(&told);
        recorder.record(name, Event::Panicked { worker: Name::clone(name), message });
    }
}
