//! One worker, wired: the only place where its parts meet. The same function runs in production and in simulation.

mod calls;
mod models;
mod recovery;
mod stopping;
mod turns;

use std::{
    collections::BTreeMap,
    panic::resume_unwind,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::{
    calls::{Call, next_approval, next_event},
    models::Publishing,
    stopping::{Patience, patience_over},
    turns::{Running, TurnEnd},
};
use crate::{
    config::Config,
    convex::{
        Backend, ConvexClient, Window,
        api::{ApprovalWatch, SessionId, TurnId, WindowWatch},
    },
    env::Env,
    error::CallError,
    lifecycle::state::{Action, Event, Exit, Lifecycle},
    opencode::Server,
    sync::{self, Sync},
    telemetry::Status,
    turns::{driver::Shared, inbox::Inbox},
};

/// The main loop comes round at least this often, if only to show that it is alive.
pub const PULSE: Duration = Duration::from_secs(5);

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
    /// A turn that could not be claimed has waited long enough.
    ClaimAgain(TurnId),
    /// A heartbeat was answered.
    Beat(Result<(), CallError>),
    /// The turns that still run have used up their grace period, or the time after it.
    PatienceOver,
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
    /// At most one call of the lifecycle at a time, and one publication of the models.
    calls: FuturesUnordered<Call>,
    /// Turns that could not be claimed and wait for another try: at most one for each row of the window at a time.
    claims: FuturesUnordered<BoxFuture<'static, TurnId>>,
    window: Option<WindowWatch>,
    /// With the moment at which it is opened anew.
    approval: Option<(ApprovalWatch, Instant)>,
    /// The next beat; none follows one that failed.
    heart: Option<BoxFuture<'static, Result<(), CallError>>>,
    models: Publishing,
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
            claims: FuturesUnordered::new(),
            window: None,
            approval: None,
            heart: None,
            models: Publishing::default(),
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
            Some(turn) = self.claims.next() => Input::ClaimAgain(turn),
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
            Input::ClaimAgain(turn) => {
                self.claim_again(&turn);
                Vec::new()
            }
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
                // The next window shows them anew.
                self.claims.clear();
                self.inbox.window_closed();
            }
            Action::Pause { attempt } => self.pause(attempt),
            Action::Drain { patiently } => self.drain(patiently),
            Action::Close { set_offline } => self.close(set_offline),
            Action::Exit(_) => unreachable!("an exit ends the loop before it is performed"),
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
