//! The owner of the OpenCode server: starts it at the first need, hands out leases, stops it when nobody needs it.
//!
//! One task owns the process. What it decides stands in [`supervisor`](super::supervisor); here it is carried out.

mod start;

use std::{future::pending, mem, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
    time::{Sleep, sleep, timeout},
};
use tracing::{info, warn};

use self::start::{RunningServer, Start, StartFailure, seed};
use super::{
    generation::Generation,
    lease::{Lease, ServerWatch},
    registry::TapEvent,
    stats::ServerStats,
    supervisor::{Action, Input, Refusal, Supervisor, backoff},
};
use crate::{
    config::OpencodeSettings,
    env::{Env, ServerProcess},
};

/// Requests to the owner that wait at once; more callers wait for room.
const COMMAND_QUEUE: usize = 64;
/// How long an idle server may take to end by itself.
const IDLE_STOP_GRACE: Duration = Duration::from_secs(5);
/// How long a stopped server's connections may take to unwind.
const UNWIND: Duration = Duration::from_secs(1);

/// Why there is no OpenCode server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// It does not start.
    #[error("the OpenCode server did not start (attempts: {attempts}): {reason}")]
    Unavailable {
        /// Starts tried.
        attempts: u32,
        /// Why the last one failed.
        reason: String,
    },
    /// The worker is stopping.
    #[error("the OpenCode server is not started any more: the worker is stopping")]
    Closed,
}

/// The OpenCode server of one worker. Cheap to clone. When the last clone is dropped, the process is killed;
/// [`Server::shutdown`] ends it properly.
#[derive(Clone)]
pub struct Server {
    commands: mpsc::Sender<Command>,
    current: watch::Receiver<Option<Arc<Generation>>>,
    _owner: Arc<Owned>,
}

struct Owned(AbortHandle);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Granted = oneshot::Sender<Result<Lease, ServerError>>;

enum Command {
    Acquire(Granted),
    Shutdown { grace: Duration, done: oneshot::Sender<()> },
}

impl Server {
    /// Makes the owner. Starts nothing: the process starts at the first [`Server::acquire`].
    ///
    /// `tap` receives what happens to sessions as such (bounded by its own capacity; what does not fit becomes a gap).
    pub fn new<E: Env>(
        env: E,
        directory: PathBuf,
        settings: OpencodeSettings,
        stats: Arc<ServerStats>,
        tap: Option<mpsc::Sender<TapEvent>>,
    ) -> Self {
        let (commands, receiver) = mpsc::channel(COMMAND_QUEUE);
        let (current, follow) = watch::channel(None);
        let owner = Owner {
            supervisor: Supervisor::new(u32::try_from(settings.start_attempts).unwrap_or(u32::MAX)),
            start: Arc::new(Start { env: env.clone(), directory, settings, stats, tap }),
            commands: receiver,
            waiting: Vec::new(),
            process: Process::None,
            current,
            timer: None,
            starts: 0,
            grace: IDLE_STOP_GRACE,
            done: Vec::new(),
        };
        let task = env.spawn(owner.run());
        Self { commands, current: follow, _owner: Arc::new(Owned(task.abort_handle())) }
    }

    /// The running server; starts it if none runs. All who wait share one start. Waits while a stopping server ends
    /// and while a crashed one backs off. Safe to cancel.
    pub async fn acquire(&self) -> Result<Lease, ServerError> {
        let (granted, answer) = oneshot::channel();
        self.commands.send(Command::Acquire(granted)).await.map_err(|_| ServerError::Closed)?;
        answer.await.unwrap_or(Err(ServerError::Closed))
    }

    /// Follows which server runs, without a part in whether one does.
    pub fn watch(&self) -> ServerWatch {
        ServerWatch::new(self.current.clone())
    }

    /// Ends the server for good: it may take `grace` to end by itself. Returns when the process is gone.
    pub async fn shutdown(&self, grace: Duration) {
        let (done, gone) = oneshot::channel();
        if self.commands.send(Command::Shutdown { grace, done }).await.is_ok() {
            let _ = gone.await;
        }
    }
}

struct Owner<E: Env> {
    supervisor: Supervisor,
    start: Arc<Start<E>>,
    commands: mpsc::Receiver<Command>,
    /// Bounded by the turns that run: each waits for at most one lease.
    waiting: Vec<Granted>,
    process: Process<E::Server>,
    /// The generation that was handed out, for those who wait for a lease and for those who look on.
    current: watch::Sender<Option<Arc<Generation>>>,
    timer: Option<Pin<Box<Sleep>>>,
    starts: u64,
    grace: Duration,
    done: Vec<oneshot::Sender<()>>,
}

/// What the process is doing.
enum Process<P> {
    None,
    Starting(BoxFuture<'static, Result<RunningServer<P>, StartFailure>>),
    Running(Box<RunningServer<P>>),
    Stopping(BoxFuture<'static, ()>),
}

impl<P: ServerProcess> Process<P> {
    /// Waits for what it comes to. Safe to cancel: a step that is not over goes on at the next call.
    async fn next(&mut self) -> Input {
        match self {
            Self::None => pending().await,
            Self::Starting(start) => match start.await {
                Ok(running) => {
                    *self = Self::Running(Box::new(running));
                    Input::Started
                }
                Err(StartFailure { reason, hopeless }) => {
                    *self = Self::None;
                    Input::StartFailed { reason, hopeless }
                }
            },
            Self::Running(running) => {
                let input = running.next().await;
                if matches!(input, Input::Exited { .. }) {
                    // Dropping the process kills what is left of its group.
                    *self = Self::None;
                }
                input
            }
            Self::Stopping(stop) => {
                stop.await;
                *self = Self::None;
                Input::Stopped
            }
        }
    }
}

impl<E: Env> Owner<E> {
    async fn run(mut self) {
        while !self.supervisor.is_closed() {
            let input = self.next_input().await;
            self.note(&input);
            for action in self.supervisor.apply(input) {
                self.perform(action);
            }
        }
        for done in self.done.drain(..) {
            let _ = done.send(());
        }
    }

    async fn next_input(&mut self) -> Input {
        tokio::select! {
            biased;
            input = self.process.next() => input,
            Some(command) = self.commands.recv() => match command {
                Command::Acquire(granted) => {
                    self.waiting.retain(|waiter| !waiter.is_closed());
                    self.waiting.push(granted);
                    Input::Acquire
                }
                Command::Shutdown { grace, done } => {
                    self.grace = grace;
                    self.done.push(done);
                    Input::Shutdown
                }
            },
            () = elapsed(&mut self.timer) => {
                self.timer = None;
                Input::Timer
            }
        }
    }

    fn note(&self, input: &Input) {
        let stats = &self.start.stats;
        match input {
            Input::Started => info!(generation = self.starts, "the OpenCode server runs"),
            Input::StartFailed { reason, .. } => {
                stats.start_failed();
                warn!(generation = self.starts, reason, "the OpenCode server did not start");
            }
            Input::Exited { reason, .. } | Input::Wedged { reason, .. } => {
                stats.lost();
                warn!(generation = self.starts, reason, "the OpenCode server is lost");
            }
            _ => {}
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Start => self.begin_start(),
            Action::Grant => self.grant(),
            Action::Refuse(refusal) => self.refuse(&refusal),
            Action::Lose(reason) => self.lose(&reason),
            Action::Stop { gently } => self.begin_stop(gently),
            Action::ArmIdle => self.arm(self.start.settings.idle_stop),
            Action::ArmBackoff { failures } => self.arm(backoff(failures, seed(&self.start.env))),
            Action::Disarm => self.timer = None,
            // Drops a start that is under way, which kills what it launched.
            Action::Finish => self.process = Process::None,
        }
    }

    fn begin_start(&mut self) {
        self.starts += 1;
        self.start.stats.start_tried();
        self.process = Process::Starting(Box::pin(self.start.clone().run(self.starts)));
    }

    fn grant(&mut self) {
        let Process::Running(running) = &self.process else { unreachable!("granted without a server") };
        let generation = running.generation.clone();
        self.start.stats.runs(generation.number);
        for waiter in self.waiting.drain(..) {
            // Who gave up meanwhile drops the lease at once.
            let _ = waiter.send(Ok(Lease::new(generation.clone())));
        }
        self.current.send_replace(Some(generation));
    }

    fn refuse(&mut self, refusal: &Refusal) {
        let error = match refusal {
            Refusal::Failed { attempts, reason } => {
                ServerError::Unavailable { attempts: *attempts, reason: reason.clone() }
            }
            Refusal::Closed => ServerError::Closed,
        };
        for waiter in self.waiting.drain(..) {
            let _ = waiter.send(Err(error.clone()));
        }
    }

    fn lose(&mut self, reason: &str) {
        self.start.stats.runs(0);
        if let Some(generation) = self.current.send_replace(None) {
            generation.lose(reason);
        }
    }

    fn begin_stop(&mut self, gently: bool) {
        let Process::Running(running) = mem::replace(&mut self.process, Process::None) else {
            unreachable!("stopped without a server")
        };
        let grace = if gently { self.grace } else { Duration::ZERO };
        self.process = Process::Stopping(Box::pin(async move {
            let RunningServer { process, generation, .. } = *running;
            process.stop(grace).await;
            // Aborted tasks end at their next step; none of them waits for anything.
            let _ = timeout(UNWIND, generation.client.closed()).await;
        }));
    }

    fn arm(&mut self, pause: Duration) {
        self.timer = Some(Box::pin(sleep(pause)));
    }
}

async fn elapsed(timer: &mut Option<Pin<Box<Sleep>>>) {
    match timer {
        Some(timer) => timer.await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
