//! The parts of one worker, and what it waits for.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use futures_util::{future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::publishing::Publishing;
use crate::{
    config::Config,
    convex::{
        Backend,
        api::{ApprovalWatch, SessionId, TurnId, WindowWatch},
    },
    env::Env,
    error::CallError,
    lifecycle::{
        heartbeat::Pace,
        state::{Lifecycle, LifecycleEvent},
    },
    opencode::Server,
    sync::{self, SyncHandle},
    telemetry::Status,
    turns::{driver::TurnContext, inbox::Inbox},
};

/// How a worker is asked to end.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Take no more turns; let those that run end within the grace period.
    pub gracefully: CancellationToken,
    /// Do not wait for turns.
    pub now: CancellationToken,
}

/// One worker: its parts, and what it waits for.
pub(super) struct Worker<E: Env> {
    pub(super) env: E,
    pub(super) config: Config,
    pub(super) stop: Stop,
    pub(super) status: Arc<Status>,
    pub(super) backend: Backend,
    pub(super) server: Server,
    pub(super) lifecycle: Lifecycle,
    pub(super) inbox: Inbox,
    pub(super) shared: Option<Arc<TurnContext<E>>>,
    /// At most `turns.max_concurrent`.
    pub(super) turns: BTreeMap<SessionId, RunningTurn>,
    pub(super) stop_turns: CancellationToken,
    pub(super) patience: Patience,
    pub(super) ended: mpsc::Receiver<(SessionId, TurnEnd)>,
    pub(super) report_end: mpsc::Sender<(SessionId, TurnEnd)>,
    /// At most one call of the lifecycle at a time, and one publication of the models.
    pub(super) calls: FuturesUnordered<Call>,
    /// Turns that could not be claimed and wait for another try: at most one for each row of the window at a time.
    pub(super) claims: FuturesUnordered<BoxFuture<'static, TurnId>>,
    pub(super) window: Option<WindowWatch>,
    /// With the moment at which it is opened anew.
    pub(super) approval: Option<(ApprovalWatch, Instant)>,
    /// What the heart does next; nothing follows a beat that failed.
    pub(super) heart: Option<BoxFuture<'static, Pulse>>,
    /// What the backend was told of it.
    pub(super) pace: Pace,
    pub(super) models: Publishing,
    /// The request to connect that was answered last.
    pub(super) connect_request: Option<f64>,
    /// When it was.
    pub(super) asked_to_connect: Option<Instant>,
    /// What registration said of the models that were published last.
    pub(super) models_digest: Arc<Mutex<Option<String>>>,
    pub(super) sync: SyncHandle,
    /// Whom the sync may call: nobody while the worker is not ready.
    pub(super) sync_with: watch::Sender<Option<Backend>>,
    _sync_task: AbortOnDropHandle<()>,
}

/// What the heart does.
pub(super) enum Pulse {
    /// The next beat is due.
    Due,
    /// A beat was answered.
    Answered(Result<(), CallError>),
}

/// A call whose end concerns the worker's life, or nobody.
pub(super) type Call = BoxFuture<'static, Option<LifecycleEvent>>;

/// What a turn came to, or the panic that ended its task: a runtime keeps that to itself, and a turn that nobody
/// ends would keep its place for ever.
pub(super) type TurnEnd = Result<Result<(), CallError>, Box<dyn Any + Send>>;

/// A turn that runs.
pub(super) struct RunningTurn {
    pub(super) turn: TurnId,
    pub(super) cancel: CancellationToken,
    pub(super) _task: AbortOnDropHandle<()>,
}

/// How long the turns that run may still take.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    Unlimited,
    Grace { until: Instant },
    LastWrites { until: Instant },
}

impl<E: Env> Worker<E> {
    pub(super) fn new(env: E, config: Config, backend: Backend, stop: Stop, status: Arc<Status>) -> Self {
        let settings = &config.settings;
        let (report_end, ended) = mpsc::channel(settings.turns.max_concurrent.max(1));
        let sync = SyncHandle::new(settings.sync.clone(), status.clone());
        let (tap, tapped) = mpsc::channel(sync::TAP);
        let server = Server::new(
            env.clone(),
            config.directory.clone(),
            settings.opencode.clone(),
            status.server.clone(),
            sync.is_on().then_some(tap),
        );
        let (sync_with, backends) = watch::channel(None);
        let sync_task = env.spawn(sync.clone().run(tapped, server.watch(), backends));
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
            pace: Pace::Idle,
            models: Publishing::default(),
            connect_request: None,
            asked_to_connect: None,
            models_digest: Arc::default(),
            sync,
            sync_with,
            _sync_task: AbortOnDropHandle::new(sync_task),
        }
    }
}
