//! The task that owns the connection: it reconnects, sends and receives, for as long as the worker runs.

use std::time::Duration;

use backon::BackoffBuilder;
use convex::{FunctionResult, Value};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;
use uuid::{Builder, Uuid};

use super::{
    protocol::{Latest, Protocol, outcome},
    transport::{Socket, TransportError},
    values::Args,
};
use crate::{
    backoff::exponential,
    config::ConvexUrl,
    env::{Env, moment::Moment},
    error::CallError,
};

/// Calls that wait to be handed to the connection's task.
const QUEUE: usize = 64;
/// First pause before reconnecting; doubles up to [`BACKOFF_MAX`], with jitter. It is short again after a connection that
/// made progress, not after one that was merely open for long: a server that accepts and closes (an
/// optimistic-concurrency storm, say), or never gets an answer through, is met with growing pauses.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// After a sleep of this length a connection is not trusted: its other end has heard nothing meanwhile, and what lies
/// between may have forgotten it.
const SLEPT: Duration = Duration::from_secs(10);
/// How often the clocks are compared; before that, whoever asks something has it done.
const LOOK: Duration = Duration::from_secs(5);

enum Command {
    Mutate { path: &'static str, args: Args, reply: oneshot::Sender<oneshot::Receiver<FunctionResult>> },
    Subscribe { path: &'static str, args: Args, latest: watch::Sender<Latest> },
}

/// A handle to the connection's task. Cheap to clone.
#[derive(Clone)]
pub struct ConvexClient {
    commands: mpsc::Sender<Command>,
}

/// The latest result of a query. Dropping it ends the subscription.
pub struct Subscription {
    path: &'static str,
    commands: mpsc::Sender<Command>,
    /// Not handed over yet.
    subscribe: Option<Command>,
    latest: watch::Receiver<Latest>,
}

impl ConvexClient {
    /// Starts the connection's task; it ends when the returned handle is dropped.
    pub fn start<E: Env>(env: &E, url: ConvexUrl) -> (Self, AbortOnDropHandle<()>) {
        if url.is_clear_text() {
            tracing::warn!(host = %url.address, "the worker's secret travels in clear text (`convex.allow_plain_http`)");
        }
        let (commands, queue) = mpsc::channel(QUEUE);
        let protocol = Protocol::new(new_session_id(env));
        let driver =
            Driver { env: env.clone(), url, queue, protocol, begun: Instant::now(), progressed: false };
        (Self { commands }, AbortOnDropHandle::new(env.spawn(driver.run())))
    }

    /// Runs a mutation exactly once, however often the connection breaks meanwhile. Waits as long as it takes.
    pub async fn mutation(&self, path: &'static str, args: Args) -> Result<Value, CallError> {
        let (reply, answer) = oneshot::channel();
        let closed = CallError::Closed { path };
        self.commands.send(Command::Mutate { path, args, reply }).await.map_err(|_| closed.clone())?;
        let result = answer.await.map_err(|_| closed.clone())?.await.map_err(|_| closed)?;
        outcome(path, result)
    }

    /// Subscribes to a query: from the first call of [`Subscription::next`] on.
    pub fn subscribe(&self, path: &'static str, args: Args) -> Subscription {
        let (sender, latest) = watch::channel(None);
        let subscribe = Command::Subscribe { path, args, latest: sender };
        Subscription { path, commands: self.commands.clone(), subscribe: Some(subscribe), latest }
    }
}

impl Subscription {
    /// Waits for a result that was not returned before. Safe to drop and call again.
    pub async fn next(&mut self) -> Result<Value, CallError> {
        let closed = CallError::Closed { path: self.path };
        if self.subscribe.is_some() {
            let permit = self.commands.reserve().await.map_err(|_| closed.clone())?;
            if let Some(subscribe) = self.subscribe.take() {
                permit.send(subscribe);
            }
        }
        loop {
            self.latest.changed().await.map_err(|_| closed.clone())?;
            if let Some(result) = self.latest.borrow_and_update().clone() {
                return result;
            }
        }
    }
}

/// The backend stores results under this id, so no other client may ever use it.
fn new_session_id(env: &impl Env) -> Uuid {
    let mut bytes = [0; 16];
    env.random(&mut bytes);
    Builder::from_random_bytes(bytes).into_uuid()
}

struct Driver<E> {
    env: E,
    url: ConvexUrl,
    queue: mpsc::Receiver<Command>,
    protocol: Protocol,
    /// What the protocol's durations count from.
    begun: Instant,
    /// Whether the current connection has brought anything forward.
    progressed: bool,
}

impl<E: Env> Driver<E> {
    /// Ends when every [`ConvexClient`] is gone.
    async fn run(mut self) {
        let mut pauses = self.backoff();
        loop {
            let Err(error) = self.connection().await else { return };
            let reason = error.to_string();
            if std::mem::take(&mut self.progressed) {
                pauses = self.backoff();
            }
            let pause = pauses.next().expect("the backoff has no end");
            tracing::warn!(%reason, pause_ms = pause.as_millis() as u64, "Convex connection lost");
            self.protocol.disconnected(reason);
            sleep(pause).await;
        }
    }

    /// One connection, from its opening to its end. `Ok` means that nobody needs it any more.
    async fn connection(&mut self) -> Result<(), TransportError> {
        let mut socket = Socket::open(&self.env, &self.url).await?;
        let frames = self.protocol.connected(self.env.now(), self.begun.elapsed()).await;
        frames.into_iter().try_for_each(|frame| socket.send(frame))?;
        tracing::debug!(url = %self.url.address, "Convex connected");
        let mut looked = Moment::now(&self.env);
        loop {
            let gives_up = self.gives_up_at(&socket);
            tokio::select! {
                () = sleep(LOOK) => {}
                frame = socket.next() => if let Some(frame) = frame? {
                    let received = self.protocol.receive(&frame, self.begun.elapsed());
                    self.progressed |= received.map_err(TransportError::Closed)?;
                },
                // While the line is full, what is to be sent waits in the bounded queue.
                command = self.queue.recv(), if !socket.is_sending() => match command {
                    Some(command) => self.accept(command),
                    None => return Ok(()),
                },
                () = sleep_until(gives_up.unwrap_or(self.begun)), if gives_up.is_some() => {
                    if self.gives_up_at(&socket).is_some_and(|moment| moment <= Instant::now()) {
                        return Err(TransportError::Unanswered);
                    }
                }
            }
            if looked.slept_since(&self.env) >= SLEPT {
                return Err(TransportError::Slept);
            }
            looked = Moment::now(&self.env);
            self.protocol.drop_abandoned();
            self.protocol
                .outgoing(self.begun.elapsed())
                .into_iter()
                .try_for_each(|frame| socket.send(frame))?;
        }
    }

    fn gives_up_at(&self, socket: &Socket) -> Option<Instant> {
        let under_way = socket.in_midst_of_message().map(|moment| moment - self.begun);
        self.protocol.gives_up_at(under_way).map(|moment| self.begun + moment)
    }

    /// A caller that is gone by now loses nothing: a mutation that was asked for still runs.
    fn accept(&mut self, command: Command) {
        match command {
            Command::Mutate { path, args, reply } => {
                let _ = reply.send(self.protocol.mutate(path, args));
            }
            Command::Subscribe { path, args, latest } => self.protocol.subscribe(path, args, latest),
        }
    }

    fn backoff(&self) -> backon::ExponentialBackoff {
        exponential(&self.env, BACKOFF_MIN, BACKOFF_MAX).build()
    }
}

#[cfg(test)]
mod tests;
