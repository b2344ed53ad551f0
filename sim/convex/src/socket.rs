//! The WebSocket edge of a connection: sockets and timers around [`Connection`], which decides.

use std::{
    collections::{BTreeMap, VecDeque},
    future::{Future, pending},
    ops::ControlFlow,
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use convex::Value;
use convex_sync_types::{ClientMessage, ServerMessage};
use futures_util::{
    StreamExt,
    stream::{FuturesUnordered, SplitSink, SplitStream},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value as Json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, watch},
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use self::outbox::Outbox;
use super::{
    auth::Identity,
    call::{ActionRun, Call, Committed},
    deployment::{Break, Convex},
    error::MutationError,
    faults::{Faults, Point, Refusal},
    observation::Observation,
    subscriptions::{Subscription, take_invalid},
    sync_protocol::{Action, Connection, Event, Invocation, Mutation, Present, QueryRequest, QueryResult},
};

mod outbox;

/// How often the server pings.
const PING_EVERY: Duration = Duration::from_secs(5);
/// After this silence the server drops a client.
const INACTIVITY: Duration = Duration::from_secs(120);
/// After this long without a message the server sends one.
const QUIET: Duration = Duration::from_secs(15);
/// A mutation may take this long.
const MUTATION_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may take to take the close frame.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// What a client can do.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Client {
    /// Whether it understands `TransitionChunk` (npm 1.28.0 and later).
    pub(super) takes_chunks: bool,
}

type Running = Pin<Box<dyn Future<Output = Result<Committed, MutationError>>>>;
/// Bounded by the state machine.
type Acting = Pin<Box<dyn Future<Output = (u32, ActionRun)>>>;
type Computation = Pin<Box<dyn Future<Output = (u64, Vec<QueryResult>)>>>;

/// Something that woke the loop.
enum Wake {
    Inbound(Message),
    MutationDone(Result<Committed, MutationError>),
    ActionDone(u32, ActionRun),
    Invalidated,
    Computed(u64, Vec<QueryResult>),
    Written { transition: bool },
    Ping,
    Quiet,
    Expired,
    Lost,
}

struct Socket<S> {
    convex: Convex,
    caller: Rc<str>,
    client: Client,
    sink: SplitSink<WebSocketStream<S>, Message>,
    stream: SplitStream<WebSocketStream<S>>,
    connection: Connection,
    subscriptions: BTreeMap<u32, Subscription>,
    wake: Rc<Notify>,
    mutation: Option<Running>,
    actions: FuturesUnordered<Acting>,
    /// The path of the mutation that runs.
    running: Option<String>,
    computation: Option<Computation>,
    outbox: Outbox,
    closing: Option<Instant>,
    last_inbound: Instant,
    received: u64,
    /// Whether a fault has broken the connection.
    broken: bool,
    /// Whether the connection breaks when all is sent, and nothing more is computed.
    parting: bool,
    /// Whether the deployment restarted: then what is running is cut off too.
    restarted: bool,
}

/// Serves one WebSocket until it ends. What is running then still runs to its end, as in Convex.
pub(super) async fn serve<S>(convex: Convex, socket: WebSocketStream<S>, caller: Rc<str>, client: Client)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (sink, stream) = socket.split();
    let random = ChaCha8Rng::seed_from_u64(convex.draw());
    let connection = Connection::new(convex.0.options.sync, random);
    let mut socket = Socket {
        convex,
        caller,
        client,
        sink,
        stream,
        connection,
        subscriptions: BTreeMap::new(),
        wake: Rc::new(Notify::new()),
        mutation: None,
        actions: FuturesUnordered::new(),
        running: None,
        computation: None,
        outbox: Outbox::new(),
        closing: None,
        last_inbound: Instant::now(),
        received: 0,
        broken: false,
        parting: false,
        restarted: false,
    };
    socket.run().await;
    let Socket {
        convex,
        caller,
        connection,
        mutation,
        mut actions,
        received,
        outbox,
        sink,
        stream,
        subscriptions,
        restarted,
        ..
    } = socket;
    drop((sink, stream, subscriptions));
    (convex.0.options.observer)(&Observation::Disconnected {
        caller: &caller,
        session_id: connection.session(),
        bytes_received: received,
        bytes_sent: outbox.bytes,
    });
    if !restarted {
        let mutation = async {
            if let Some(mutation) = mutation {
                let _ = mutation.await;
            }
        };
        tokio::join!(mutation, async { while actions.next().await.is_some() {} });
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Socket<S> {
    async fn run(&mut self) {
        let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut disconnects = self.convex.0.disconnects.subscribe();
        loop {
            let wake = self.next(&mut pings, &mut disconnects).await;
            if self.last_inbound.elapsed() > INACTIVITY {
                self.close(Some((1000, "ClientDisconnected")));
            }
            if self.apply(wake).is_break() || self.is_closed() || self.is_broken() {
                return;
            }
        }
    }

    /// Whether the close frame has left, or the client took too long to take it.
    fn is_closed(&self) -> bool {
        let Some(since) = self.closing else { return false };
        self.outbox.is_done() || since.elapsed() > CLOSE_GRACE
    }

    /// Whether a fault has ended the connection, perhaps after all was sent.
    fn is_broken(&self) -> bool {
        self.broken || (self.parting && self.outbox.is_done())
    }

    async fn next(&mut self, pings: &mut Interval, disconnects: &mut watch::Receiver<Break>) -> Wake {
        let quiet = self.outbox.last + QUIET;
        let reading = self.closing.is_none() && !self.outbox.is_full();
        let expiry = self.connection.expires_at().map(|at| self.convex.until(at));
        tokio::select! {
            biased;
            _ = disconnects.changed() => {
                self.restarted = disconnects.borrow().restart;
                Wake::Lost
            }
            message = self.stream.next(), if reading => match message {
                Some(Ok(message)) => Wake::Inbound(message),
                Some(Err(_)) | None => Wake::Lost,
            },
            outcome = running(&mut self.mutation) => Wake::MutationDone(outcome),
            Some((id, run)) = self.actions.next(), if !self.actions.is_empty() => Wake::ActionDone(id, run),
            () = self.wake.notified() => Wake::Invalidated,
            (ts, results) = running(&mut self.computation) => Wake::Computed(ts, results),
            sent = self.outbox.write(&mut self.sink) => match sent {
                Ok(transition) => Wake::Written { transition },
                Err(_) => Wake::Lost,
            },
            _ = pings.tick() => Wake::Ping,
            () = sleep_until(quiet) => Wake::Quiet,
            () = after(expiry) => Wake::Expired,
        }
    }

    fn apply(&mut self, wake: Wake) -> ControlFlow<()> {
        match wake {
            Wake::Lost => return ControlFlow::Break(()),
            Wake::Inbound(message) => self.inbound(message),
            Wake::MutationDone(outcome) => {
                self.mutation = None;
                self.mutation_done(outcome);
            }
            Wake::ActionDone(request_id, run) => self.handle(Event::ActionDone { request_id, run }),
            Wake::Computed(ts, results) => {
                self.computation = None;
                self.handle(Event::Computed { ts, results });
            }
            Wake::Invalidated => self.handle(Event::Invalidated),
            Wake::Written { transition: true } => self.handle(Event::TransitionSent),
            Wake::Written { transition: false } => {}
            Wake::Ping => self.outbox.push(Message::Ping(Bytes::new())),
            Wake::Quiet => self.handle(Event::Quiet),
            Wake::Expired => self.handle(Event::IdentityExpired),
        }
        ControlFlow::Continue(())
    }

    fn inbound(&mut self, message: Message) {
        self.last_inbound = Instant::now();
        match message {
            Message::Text(text) => {
                self.received += text.len() as u64;
                let parsed = serde_json::from_str::<Json>(&text).map_err(|why| why.to_string());
                let parsed =
                    parsed.and_then(|json| ClientMessage::try_from(json).map_err(|why| why.to_string()));
                self.announce(&parsed);
                if let Some(refusal) = self.faults().refuses(&self.caller) {
                    return self.refuse(refusal);
                }
                self.handle(parsed.map_or_else(Event::Garbage, |message| Event::Message(Box::new(message))));
            }
            Message::Binary(_) => self.handle(Event::Binary),
            // The answers to these are queued by the WebSocket itself and leave with the next flush.
            Message::Ping(_) => self.outbox.flush(),
            Message::Close(_) => {
                self.outbox.flush();
                self.closing = Some(Instant::now());
            }
            Message::Pong(_) | Message::Frame(_) => {}
        }
    }

    fn faults(&self) -> Rc<dyn Faults> {
        self.convex.0.options.faults.clone()
    }

    fn refuse(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::TryAgainLater(reason) => self.close(Some((1013, reason))),
            Refusal::Identity(text) => {
                let (base_version, auth_update_attempted) = (Some(0), Some(false));
                let error_message = text.to_owned();
                self.send(ServerMessage::AuthError { error_message, base_version, auth_update_attempted });
                self.close(None);
            }
        }
    }

    fn mutation_done(&mut self, outcome: Result<Committed, MutationError>) {
        let path = self.running.take().unwrap_or_default();
        let is_committed = outcome.is_ok();
        if is_committed && self.faults().breaks(&self.caller, &path, Point::AfterCommit) {
            self.broken = true;
            return;
        }
        self.parting |= is_committed && self.faults().breaks(&self.caller, &path, Point::AfterAnswer);
        self.handle(Event::MutationDone(outcome));
    }

    /// Runs a mutation, unless something goes wrong before.
    fn start(&mut self, mutation: Mutation) {
        if self.faults().breaks(&self.caller, &mutation.path, Point::BeforeRun) {
            self.broken = true;
        } else if self.faults().is_overloaded(&self.caller) {
            self.close(Some((1013, "TooManyConcurrentRequests")));
        } else {
            self.running = Some(mutation.path.clone());
            self.mutation = Some(self.mutate(mutation));
        }
    }

    fn announce(&self, parsed: &Result<ClientMessage, String>) {
        let observe = &self.convex.0.options.observer;
        match parsed {
            Ok(ClientMessage::Connect { session_id, connection_count, .. }) => {
                observe(&Observation::Connected {
                    caller: &self.caller,
                    session_id: (*session_id).into(),
                    connection_count: *connection_count,
                });
            }
            Ok(ClientMessage::Mutation { udf_path, args, .. }) => {
                let path = String::from(udf_path.clone());
                observe(&Observation::Received { caller: &self.caller, path: &path, args: args.get() });
            }
            _ => {}
        }
    }

    fn handle(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let invalidated = take_invalid(&mut self.subscriptions);
            let present = Present { invalidated, ..self.convex.present() };
            for action in self.connection.handle(event, &present) {
                events.extend(self.perform(action));
            }
        }
    }

    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Send(message) => self.send(message),
            Action::Mutate(mutation) => self.start(mutation),
            Action::Act(action) => self.actions.push(self.act(action)),
            Action::Compute(_) if self.parting => {}
            Action::Compute(requests) => {
                let (ts, results) = self.compute(requests);
                if self.convex.0.options.execution_latency.is_zero() {
                    return Some(Event::Computed { ts, results });
                }
                let convex = self.convex.clone();
                self.computation = Some(Box::pin(async move {
                    convex.execution_latency().await;
                    (ts, results)
                }));
            }
            Action::Forget(id) => {
                self.subscriptions.remove(&id.get_id());
            }
            Action::Close(frame) => self.close(frame),
        }
        None
    }

    fn call(&self, path: String, args: Value, identity: Option<Identity>) -> Call {
        Call { path, args, identity, caller: self.caller.clone(), public: true }
    }

    fn mutate(&self, mutation: Mutation) -> Running {
        let Mutation { request_id, session, path, args, identity } = mutation;
        let call = self.call(path, args, identity);
        let convex = self.convex.clone();
        Box::pin(async move {
            let key = session.map(|session| (session, request_id));
            match timeout(MUTATION_TIMEOUT, convex.run_mutation(&call, key, None)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(MutationError::Conflict),
            }
        })
    }

    fn act(&self, action: Invocation) -> Acting {
        let Invocation { request_id, path, args, identity } = action;
        let call = self.call(path, args, identity);
        let convex = self.convex.clone();
        Box::pin(async move { (request_id, convex.run_action(&call).await) })
    }

    /// Runs queries at the present timestamp and watches what they read.
    fn compute(&mut self, requests: Vec<QueryRequest>) -> (u64, Vec<QueryResult>) {
        let ts = self.convex.present().last_ts;
        let results = requests.into_iter().map(|request| {
            let QueryRequest { id, path, args, journal, identity, rerun } = request;
            let run = self.convex.run_query(&self.call(path, args, identity), journal, rerun);
            assert_eq!(run.ts, ts, "nothing is committed between the queries of one Transition");
            let subscription = Subscription::new(&self.convex.0.subscriptions, run.reads, &self.wake);
            self.subscriptions.insert(id.get_id(), subscription);
            QueryResult { id, result: run.result, logs: run.logs, journal: run.journal }
        });
        (ts, results.collect())
    }

    fn send(&mut self, message: ServerMessage<Value>) {
        // Whether something goes wrong with a Transition is asked only when there is one: it may be drawn.
        let is_transition = matches!(message, ServerMessage::Transition { .. });
        let padding = if is_transition { self.faults().padding(&self.caller) } else { 0 };
        self.outbox.send(message, padding, self.client.takes_chunks);
    }

    fn close(&mut self, frame: Option<(u16, &'static str)>) {
        if self.closing.is_none() {
            self.closing = Some(Instant::now());
            let frame =
                frame.map(|(code, reason)| CloseFrame { code: CloseCode::from(code), reason: reason.into() });
            self.outbox.push(Message::Close(frame));
        }
    }
}

/// The result of what runs, if anything does. The caller clears the slot.
async fn running<T>(slot: &mut Option<Pin<Box<dyn Future<Output = T>>>>) -> T {
    match slot {
        Some(future) => future.await,
        None => pending().await,
    }
}

async fn after(wait: Option<Duration>) {
    match wait {
        Some(wait) => sleep(wait).await,
        None => pending().await,
    }
}
