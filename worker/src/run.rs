//! One worker, wired: the only place where its parts meet. The same function runs in production and in simulation.

use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use backon::BackoffBuilder;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    backoff::exponential,
    config::Config,
    convex::{
        Backend, ConvexClient, ReadySession, Window,
        api::{Approval, ApprovalWatch, SessionId, TurnId, WindowWatch},
    },
    env::Env,
    error::CallError,
    lifecycle::{
        heartbeat::next_pause,
        state::{Action, Event, Exit, Lifecycle},
    },
    opencode::Server,
    session::creator::Gate,
    sync::{self, Sync, plan::fingerprint},
    telemetry::Status,
    turns::{
        driver::{self, Control, Shared},
        inbox::{self, Inbox},
    },
};

/// A subscription to the approval that says nothing for this long is opened anew: that asks, whatever became of it.
const APPROVAL_POLL: Duration = Duration::from_secs(30);
/// First pause after a failure; doubles up to `lifecycle.recovery_cap`, jitter included.
const RECOVERY_MIN: Duration = Duration::from_secs(1);
/// How long turns may take to end after their grace period: an abort, and the last writes.
const LAST_WRITES: Duration = Duration::from_secs(10);
/// How long the goodbye to the backend may take.
const GOODBYE: Duration = Duration::from_secs(3);
/// The main loop comes round at least this often, if only to show that it is alive.
pub const PULSE: Duration = Duration::from_secs(5);
/// How long OpenCode may take to end by itself.
const SERVER_GRACE: Duration = Duration::from_secs(5);

/// How a worker is asked to end.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Take no more turns; let those that run end within the grace period.
    pub gracefully: CancellationToken,
    /// Do not wait for turns.
    pub now: CancellationToken,
}

/// Runs one worker until it is asked to stop or may not work any more.
pub async fn run<E: Env>(env: E, config: Config, stop: Stop, status: Arc<Status>) -> Exit {
    let (client, mut connection) = ConvexClient::start(&env, config.convex_url.clone());
    let backend = Backend::new(client, config.token.clone());
    let mut worker = Worker::new(env, config, backend, stop, status);
    let mut actions = worker.apply(Event::Start);
    loop {
        for action in actions {
            if let Action::Exit(exit) = action {
                return exit;
            }
            worker.perform(action);
        }
        worker.status.beat();
        // Nothing is lost when the wait is cut short: it is one select, and all that it waits for may be dropped.
        let input = tokio::select! {
            biased;
            // It lives as long as its client, so only a panic ends it, and nobody can go on without it.
            Err(panic) = &mut connection => resume_unwind(panic.into_panic()),
            input = timeout(PULSE, worker.next_input()) => input,
        };
        actions = input.map_or_else(|_| Vec::new(), |input| worker.handle(input));
    }
}

/// Everything that can happen to a worker.
enum Input {
    Lifecycle(Event),
    Window(Window),
    /// The subscription to the approval has said nothing for long.
    ApprovalSilent,
    TurnEnded(SessionId, TurnEnd),
    /// A heartbeat was answered.
    Beat(Result<(), CallError>),
    /// The turns that still run have used up their grace period, or the time after it.
    PatienceOver,
}

/// What a turn came to, or the panic that ended its task: a runtime keeps that to itself, and a turn that nobody
/// ends would keep its place for ever.
type TurnEnd = Result<Result<(), CallError>, Box<dyn Any + Send>>;

/// A call whose end concerns the worker's life, or nobody.
type Call = BoxFuture<'static, Option<Event>>;

struct Running {
    turn: TurnId,
    cancel: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

/// How long the turns that run may still take.
#[derive(Clone, Copy)]
enum Patience {
    Unlimited,
    Grace { until: Instant },
    LastWrites { until: Instant },
}

struct Worker<E: Env> {
    env: E,
    config: Config,
    stop: Stop,
    status: Arc<Status>,
    backend: Backend,
    server: Server,
    lifecycle: Lifecycle,
    inbox: Inbox,
    shared: Option<Arc<Shared<E>>>,
    /// At most `turns.max_concurrent`.
    turns: BTreeMap<SessionId, Running>,
    stop_turns: CancellationToken,
    patience: Patience,
    ended: mpsc::Receiver<(SessionId, TurnEnd)>,
    report_end: mpsc::Sender<(SessionId, TurnEnd)>,
    /// At most one call of the lifecycle at a time, and once per start the publication of the models.
    calls: FuturesUnordered<Call>,
    window: Option<WindowWatch>,
    /// With the moment at which it is opened anew.
    approval: Option<(ApprovalWatch, Instant)>,
    /// The next beat; none follows one that failed.
    heart: Option<BoxFuture<'static, Result<(), CallError>>>,
    models_published: bool,
    /// The request to connect that was answered last.
    connect_request: Option<f64>,
    /// What registration said of the models that were published last.
    models_digest: Arc<Mutex<Option<String>>>,
    sync: Sync,
    /// Whom the sync may call: nobody while the worker is not ready.
    sync_with: watch::Sender<Option<Backend>>,
    _sync_task: AbortOnDropHandle<()>,
}

impl<E: Env> Worker<E> {
    fn new(env: E, config: Config, backend: Backend, stop: Stop, status: Arc<Status>) -> Self {
        let settings = &config.settings;
        let (report_end, ended) = mpsc::channel(settings.turns.max_concurrent.max(1));
        let sync = Sync::new(settings.sync.clone(), status.clone());
        let (tap, tapped) = mpsc::channel(sync::TAP);
        let server = Server::new(
            env.clone(),
            config.directory.clone(),
            settings.opencode.clone(),
            status.server.clone(),
            sync.is_on().then_some(tap),
        );
        let (sync_with, backends) = watch::channel(None);
        let sync_task = env.spawn(sync.clone().run(tapped, server.look_on(), backends));
        Self {
            inbox: Inbox::new(settings.turns.max_concurrent.max(1)),
            env,
            config,
            stop,
            status,
            backend,
            server,
            lifecycle: Lifecycle::default(),
            shared: None,
            turns: BTreeMap::new(),
            stop_turns: CancellationToken::new(),
            patience: Patience::Unlimited,
            ended,
            report_end,
            calls: FuturesUnordered::new(),
            window: None,
            approval: None,
            heart: None,
            models_published: false,
            connect_request: None,
            models_digest: Arc::default(),
            sync,
            sync_with,
            _sync_task: AbortOnDropHandle::new(sync_task),
        }
    }

    /// Waits for whatever comes next.
    async fn next_input(&mut self) -> Input {
        let stopping = self.inbox.is_closed();
        tokio::select! {
            () = self.stop.gracefully.cancelled(), if !stopping => Input::Lifecycle(Event::StopRequested),
            () = self.stop.now.cancelled(), if matches!(self.patience, Patience::Grace { .. }) => Input::PatienceOver,
            () = patience_over(self.patience) => Input::PatienceOver,
            Some(event) = next_event(&mut self.calls) => Input::Lifecycle(event),
            Some((session, result)) = self.ended.recv() => Input::TurnEnded(session, result),
            result = or_pending(self.heart.as_mut()) => Input::Beat(result),
            window = async { or_pending(self.window.as_mut().map(|w| Box::pin(w.next()))).await } => match window {
                Ok(window) => Input::Window(window),
                Err(error) => Input::Lifecycle(Event::Failed(error)),
            },
            approval = async { or_pending(self.approval.as_mut().map(|a| Box::pin(next_approval(a)))).await } => {
                match approval {
                    Some(approval) => Input::Lifecycle(approval.map_or_else(Event::Failed, Event::ApprovalSeen)),
                    None => Input::ApprovalSilent,
                }
            }
        }
    }

    fn handle(&mut self, input: Input) -> Vec<Action> {
        match input {
            Input::Lifecycle(event) => self.apply(event),
            Input::ApprovalSilent => {
                self.watch_approval();
                Vec::new()
            }
            Input::Window(window) => {
                self.connect(window.connect_requested_at);
                let actions = self.inbox.window_changed(window);
                self.perform_all(actions);
                Vec::new()
            }
            Input::TurnEnded(session, Ok(result)) => self.turn_ended(&session, result),
            Input::TurnEnded(_, Err(panic)) => resume_unwind(panic),
            Input::Beat(result) => self.beaten(result),
            Input::PatienceOver => self.lose_patience(),
        }
    }

    fn apply(&mut self, event: Event) -> Vec<Action> {
        if let Event::Failed(error) = &event {
            tracing::warn!(%error, phase = ?self.lifecycle.phase(), "a call failed");
        }
        let before = self.lifecycle.phase();
        let actions = self.lifecycle.apply(event);
        let after = self.lifecycle.phase();
        if before != after {
            tracing::info!(from = ?before, to = ?after, "phase");
            self.status.set_phase(after);
        }
        actions
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Register => self.register(),
            Action::Adopt { epoch } => self.adopt(epoch),
            Action::WatchApproval => self.watch_approval(),
            Action::ExpirePage => self.expire_page(),
            Action::MarkConnected => {
                self.approval = None;
                self.call(|backend| async move { backend.mark_connected().await.map(|()| Event::Connected) });
            }
            Action::OpenWindow => self.open_window(),
            Action::CloseWindow => {
                self.window = None;
                self.sync_with.send_replace(None);
                self.heart = None;
                self.inbox.window_closed();
            }
            Action::Pause { attempt } => self.pause(attempt),
            Action::Drain { patiently } => self.drain(patiently),
            Action::Close { set_offline } => self.close(set_offline),
            Action::Exit(_) => unreachable!("an exit ends the loop before it is performed"),
        }
    }

    /// Starts a call; its failure is an event too.
    fn call<F>(&self, call: impl FnOnce(Backend) -> F)
    where
        F: Future<Output = Result<Event, CallError>> + Send + 'static,
    {
        let call = call(self.backend.clone());
        self.calls.push(Box::pin(async move { Some(call.await.unwrap_or_else(Event::Failed)) }));
    }

    fn register(&self) {
        let within = self.config.settings.turns.accept_unclaimed_within;
        let within = u64::try_from(within.as_millis()).unwrap_or(u64::MAX).min(1 << 50);
        let digest = self.models_digest.clone();
        self.call(move |backend| async move {
            let registration = backend.register(within).await?;
            *digest.lock().unwrap_or_else(PoisonError::into_inner) = registration.models_digest;
            Ok(Event::Registered { epoch: registration.epoch, approval: registration.approval })
        });
    }

    fn adopt(&mut self, epoch: f64) {
        self.backend = self.backend.with_epoch(epoch);
        let settings = self.config.settings.clone();
        let sessions = &settings.sessions;
        self.shared = Some(Arc::new(Shared {
            env: self.env.clone(),
            backend: self.backend.clone(),
            server: self.server.clone(),
            gate: Gate::new(sessions.creates_in_flight.max(1), sessions.creates_per_second.max(1)),
            cache: Shared::<E>::new_cache(&settings),
            sync: self.sync.clone(),
            status: self.status.clone(),
            settings,
        }));
    }

    fn watch_approval(&mut self) {
        self.approval = Some((self.backend.watch_approval(), Instant::now() + APPROVAL_POLL));
    }

    fn expire_page(&self) {
        let limit = self.config.settings.turns.expire_page;
        let status = self.status.clone();
        let running = self.turns.values().map(|running| running.turn.clone()).collect();
        self.call(move |backend| async move {
            let page = backend.expire_stale(limit, running).await?;
            status.add_expired(page.expired);
            Ok(Event::PageExpired { is_done: page.is_done })
        });
    }

    fn open_window(&mut self) {
        self.window = Some(self.backend.watch_window(self.config.settings.turns.window));
        self.heart = Some(self.next_beat());
        self.sync_with.send_replace(Some(self.backend.clone()));
    }

    /// One beat. One that waits for a connection delays the next instead of piling up.
    fn next_beat(&self) -> BoxFuture<'static, Result<(), CallError>> {
        let mut random = [0; 4];
        self.env.random(&mut random);
        let pause = next_pause(self.config.settings.lifecycle.heartbeat, u32::from_le_bytes(random));
        let backend = self.backend.clone();
        Box::pin(async move {
            sleep(pause).await;
            backend.heartbeat().await
        })
    }

    fn beaten(&mut self, result: Result<(), CallError>) -> Vec<Action> {
        self.heart = result.is_ok().then(|| self.next_beat());
        self.apply(result.map_or_else(Event::Failed, |()| Event::Beat))
    }

    fn pause(&self, attempt: u32) {
        let pause = recovery_pause(&self.env, self.config.settings.lifecycle.recovery_cap, attempt);
        self.calls.push(Box::pin(async move {
            sleep(pause).await;
            Some(Event::Recovered)
        }));
    }

    fn perform_all(&mut self, actions: Vec<inbox::Action>) {
        for action in actions {
            match action {
                inbox::Action::Start(row) => self.start_turn(row),
                inbox::Action::Cancel(turn) => {
                    self.turns
                        .values()
                        .filter(|running| running.turn == turn)
                        .for_each(|r| r.cancel.cancel());
                }
            }
        }
        self.status.set_turns_running(self.inbox.running());
    }

    fn start_turn(&mut self, row: ReadySession) {
        let shared = self.shared.clone().expect("the window opens after registration");
        let report = self.report_end.clone();
        let control = Control { cancel: CancellationToken::new(), stop: self.stop_turns.clone() };
        let cancel = control.cancel.clone();
        let (session, turn) = (row.session.clone(), row.turn.clone());
        let task = self.env.spawn(async move {
            let result = AssertUnwindSafe(driver::run(&*shared, &row, &control)).catch_unwind().await;
            // The receiver lives as long as the worker.
            let _ = report.send((row.session, result)).await;
        });
        self.turns.insert(session, Running { turn, cancel, _task: AbortOnDropHandle::new(task) });
    }

    fn turn_ended(&mut self, session: &str, result: Result<(), CallError>) -> Vec<Action> {
        if self.turns.remove(session).is_none() {
            return Vec::new();
        }
        let actions = self.inbox.ended(session);
        self.perform_all(actions);
        self.publish_models();
        let mut actions = match result {
            Ok(()) => Vec::new(),
            Err(error) => self.apply(Event::Failed(error)),
        };
        actions.extend(self.drained());
        actions
    }

    /// A person wants to work with this worker: OpenCode is started before the first message, and its models are
    /// published. Without a turn it is stopped again for being idle.
    fn connect(&mut self, requested_at: Option<f64>) {
        if requested_at.is_none() || requested_at == self.connect_request || self.inbox.is_closed() {
            return;
        }
        self.connect_request = requested_at;
        let publish = !std::mem::replace(&mut self.models_published, true);
        let known = self.known_models();
        let (server, backend) = (self.server.clone(), self.backend.clone());
        self.calls.push(Box::pin(async move {
            let result = match publish {
                true => publish_models(&server, &backend, known).await,
                false => server.acquire().await.map(drop).map_err(Into::into),
            };
            if let Err(error) = result {
                tracing::warn!(%error, "the request to connect cannot be met");
            }
            None
        }));
    }

    /// The digest of the models that the backend has, as far as registration told.
    fn known_models(&self) -> Option<String> {
        self.models_digest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Once per start, when a turn has shown that the server runs.
    fn publish_models(&mut self) {
        if self.models_published || self.inbox.is_closed() || self.status.server.generation() == 0 {
            return;
        }
        self.models_published = true;
        let (server, backend) = (self.server.clone(), self.backend.clone());
        let known = self.known_models();
        self.calls.push(Box::pin(async move {
            let result = publish_models(&server, &backend, known).await;
            if let Err(error) = result {
                tracing::warn!(%error, "the models are not published");
            }
            None
        }));
    }

    fn drain(&mut self, patiently: bool) {
        self.inbox.close();
        let until = Instant::now() + self.config.settings.lifecycle.stop_grace;
        self.patience = Patience::Grace { until };
        if !patiently {
            // Nothing that they write would be accepted.
            self.turns.clear();
        }
        if self.turns.is_empty() {
            self.calls.push(Box::pin(std::future::ready(Some(Event::Drained))));
        }
    }

    fn drained(&mut self) -> Vec<Action> {
        let is_drained = self.inbox.is_closed() && self.turns.is_empty();
        if is_drained { self.apply(Event::Drained) } else { Vec::new() }
    }

    fn lose_patience(&mut self) -> Vec<Action> {
        match self.patience {
            Patience::Unlimited => Vec::new(),
            Patience::Grace { .. } => {
                self.stop_turns.cancel();
                self.patience = Patience::LastWrites { until: Instant::now() + LAST_WRITES };
                Vec::new()
            }
            Patience::LastWrites { .. } => {
                tracing::warn!(
                    turns = self.turns.len(),
                    "turns did not end in time; the next start expires them"
                );
                self.patience = Patience::Unlimited;
                self.turns.clear();
                self.drained()
            }
        }
    }

    fn close(&mut self, set_offline: bool) {
        self.patience = Patience::Unlimited;
        let (server, backend) = (self.server.clone(), self.backend.clone());
        let synced_until = self.sync.unsaved();
        self.calls.push(Box::pin(async move {
            if set_offline {
                if let Some(moment) = synced_until {
                    let noted = timeout(GOODBYE, backend.update_last_sync_timestamp(moment)).await;
                    tracing::debug!(?noted, "noted up to when Convex is synced");
                }
                match timeout(GOODBYE, backend.set_offline()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!(%error, "cannot say goodbye"),
                    Err(_) => tracing::warn!("the goodbye took too long"),
                }
            }
            server.shutdown(SERVER_GRACE).await;
            Some(Event::Closed)
        }));
    }
}

/// Lists the models and publishes them, unless they are those that the backend has. Until the next start people choose
/// from that list, also while no server runs.
async fn publish_models(server: &Server, backend: &Backend, known: Option<String>) -> anyhow::Result<()> {
    let lease = server.acquire().await?;
    let models = lease.client().models().await?;
    drop(lease);
    let models: Vec<_> = models.iter().map(ToString::to_string).collect();
    let digest = format!("{:016x}", fingerprint(&models.join("\n")));
    if known.as_deref() == Some(&*digest) {
        return Ok(());
    }
    Ok(backend.update_models(models, digest).await?)
}

/// What the approval is, or `None` when its subscription is to be opened anew.
async fn next_approval((watch, until): &mut (ApprovalWatch, Instant)) -> Option<Result<Approval, CallError>> {
    timeout_at(*until, watch.next()).await.ok()
}

/// The pause before recovery number `attempt`: half of it is fixed and the other half random, so that a fleet does not
/// come back at once, and all of it is at most `cap`.
fn recovery_pause(env: &impl Env, cap: Duration, attempt: u32) -> Duration {
    let mut pauses = exponential(env, RECOVERY_MIN.min(cap / 2), cap / 2).build();
    pauses.nth(attempt.min(32) as usize).expect("the backoff has no end")
}

async fn patience_over(patience: Patience) {
    match patience {
        Patience::Unlimited => std::future::pending().await,
        Patience::Grace { until } | Patience::LastWrites { until } => sleep_until(until).await,
    }
}

/// The next event among the calls; `None` (which a select ignores) if there are no calls or one ended without.
async fn next_event(calls: &mut FuturesUnordered<Call>) -> Option<Event> {
    loop {
        match calls.next().await {
            Some(Some(event)) => return Some(event),
            Some(None) => {}
            None => return None,
        }
    }
}

/// The future's output, or never.
async fn or_pending<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
