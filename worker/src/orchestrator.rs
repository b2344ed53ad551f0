//! Many workers in one process, each by itself: what one does, or what becomes of it, does not touch the others.
//!
//! [`state`] decides which run; here that is carried out. [`threads`] gives each a thread and a runtime of its own.

pub mod state;
pub mod threads;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use self::state::{Action, Ended, Event, Wanted, Workers};
use crate::{config::Config, lifecycle::state::Exit, run::Stop, telemetry::Status};

/// The first pause after a crash; doubles up to [`REST_MAX`].
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);

/// How one worker is started: what it returns resolves when the worker has ended, and never panics.
pub type Launch = dyn Fn(&str, Config, Stop, Arc<Status>) -> BoxFuture<'static, Ended> + Send + Sync;

/// The numbers of all workers, by name. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Roster(Arc<Mutex<BTreeMap<String, Arc<Status>>>>);

impl Roster {
    /// All of them, at this moment.
    pub fn all(&self) -> BTreeMap<String, Arc<Status>> {
        self.names().clone()
    }

    /// The numbers of one; they outlive its restarts.
    fn of(&self, name: &str) -> Arc<Status> {
        self.names().entry(name.to_owned()).or_default().clone()
    }

    /// The names of those that hang.
    pub fn hanging(&self) -> BTreeSet<String> {
        self.names().iter().filter(|(_, status)| status.hangs()).map(|(name, _)| name.clone()).collect()
    }

    fn forget(&self, name: &str) {
        self.names().remove(name);
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Status>>> {
        // Nothing here panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the workers of `wanted` until they are asked to stop, or until none of them may work any more. Each set that
/// `reloads` brings takes the place of the one before. Returns why workers that were given up may not work.
pub async fn run(
    launch: &Launch,
    wanted: Wanted,
    mut reloads: mpsc::Receiver<Wanted>,
    stop: Stop,
    roster: Roster,
) -> Vec<(String, Exit)> {
    let mut orchestrator =
        Orchestrator { launch, roster, stop, stops: BTreeMap::new(), events: FuturesUnordered::new() };
    let mut workers = Workers::default();
    let mut event = Event::Wanted(wanted);
    let mut asked = false;
    let watched = orchestrator.roster.clone();
    let mut watched = pin!(watch::watch(&watched));
    loop {
        orchestrator.note(&event);
        for action in workers.apply(event) {
            orchestrator.perform(action);
        }
        if workers.are_over() {
            return workers.given_up().map(|(name, exit)| (name.to_owned(), exit.clone())).collect();
        }
        event = tokio::select! {
            Some(event) = orchestrator.events.next() => event,
            Some(wanted) = reloads.recv() => Event::Wanted(wanted),
            () = orchestrator.stop.gracefully.cancelled(), if !asked => {
                asked = true;
                Event::Stop
            }
            never = &mut watched => match never {},
        };
    }
}

struct Orchestrator<'a> {
    launch: &'a Launch,
    roster: Roster,
    /// How all are asked to end.
    stop: Stop,
    /// How each is asked to end.
    stops: BTreeMap<String, Stop>,
    /// One for each worker that runs or rests.
    events: FuturesUnordered<BoxFuture<'static, Event>>,
}

impl Orchestrator<'_> {
    fn note(&self, event: &Event) {
        if let Event::Ended { name, .. } = event {
            // After a panic nobody else says so.
            self.roster.of(name).ended();
        }
        match event {
            Event::Ended { name, ended: Ended::Crashed(reason), .. } => {
                tracing::error!(worker = name, reason, "a worker crashed; the others go on");
            }
            Event::Ended { name, ended: Ended::Exit(exit), .. } => {
                tracing::info!(worker = name, ?exit, "a worker ended");
            }
            Event::Wanted(wanted) => tracing::info!(workers = wanted.len(), "the workers that are to run"),
            Event::Rested { .. } | Event::Stop => {}
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Start { name, config } => self.start(name, *config),
            Action::Stop { name } => {
                if let Some(stop) = self.stops.get(&name) {
                    stop.gracefully.cancel();
                }
            }
            Action::Pause { name, attempt } => {
                self.roster.of(&name).restarts.fetch_add(1, Ordering::Relaxed);
                let pause = REST_MIN.saturating_mul(1 << attempt.min(10)).min(REST_MAX);
                tracing::info!(
                    worker = name,
                    pause_ms = pause.as_millis() as u64,
                    "starts again after a pause"
                );
                self.events.push(Box::pin(async move {
                    sleep(pause).await;
                    Event::Rested { name }
                }));
            }
            Action::Forget { name } => {
                self.stops.remove(&name);
                self.roster.forget(&name);
            }
        }
    }

    fn start(&mut self, name: String, config: Config) {
        // Whoever does not want to wait for turns does not want to wait for anybody's.
        let stop = Stop { gracefully: Default::default(), now: self.stop.now.child_token() };
        self.stops.insert(name.clone(), stop.clone());
        let begun = Instant::now();
        let ended = (self.launch)(&name, config, stop, self.roster.of(&name));
        self.events.push(Box::pin(async move {
            let ended = ended.await;
            Event::Ended { name, ended, lasted: begun.elapsed() }
        }));
    }
}

#[cfg(test)]
mod tests;
