//! Keeps Convex's sessions like OpenCode's: titles, deletions, and sessions that were made in OpenCode itself.
//!
//! ```text
//!  event stream ─► tap ─► state ──► Apply ─► plan ─► Convex        (one call at a time)
//!                           ▲ │
//!      turns: creating, ────┘ ├──► List   a page of what OpenCode used since the last gap
//!             created, linked └──► Scrub  a page of what Convex has, compared one by one
//! ```
//! What is to be done next is decided by [`state`], what has to change by [`plan`]; `apply` does it. Nothing starts a
//! server for this, nothing keeps one running, and what does not change costs no call.

mod apply;
mod convex_cache;
mod cursor;
pub(crate) mod plan;
mod shared;
pub(crate) mod state;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep_until},
};

use self::{
    apply::StepError,
    shared::Shared,
    state::{State, Step},
};
use crate::{
    config::SyncSettings,
    convex::Backend,
    opencode::{Client, OpencodeSessionId, ServerWatch, TapEvent},
    telemetry::{Status, SyncResult},
};

/// Session events that wait; what does not fit becomes a gap.
pub(crate) const TAP: usize = 32;

/// What turns tell the sync. Cheap to clone; does nothing if sync is off.
#[derive(Clone)]
pub(crate) struct SyncHandle(Option<Arc<Shared>>);

impl SyncHandle {
    /// Knows nothing yet. Off if the settings say so.
    pub(crate) fn new(settings: SyncSettings, status: Arc<Status>) -> Self {
        let state = Mutex::new(State::new(settings.clone()));
        let shared = Shared { state, told: Notify::new(), epoch: Instant::now(), settings, status };
        Self(shared.settings.enabled.then(|| Arc::new(shared)))
    }

    /// Returns true if there is anything to run.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A session is about to be created for a chat. While the result lives, a session that appears may be this one
    /// and is not taken for one that somebody made in OpenCode.
    pub(crate) fn creating(&self) -> Creation {
        Creation(self.0.as_ref().map(|shared| (shared.clone(), shared.look(State::creating))))
    }

    /// Convex says that it has this session, with this title.
    pub(crate) fn linked(&self, id: &OpencodeSessionId, title: &str) {
        if let Some(shared) = &self.0 {
            shared.look(|state| state.linked(id, title));
        }
    }

    /// Returns what Convex should note before this process ends (OpenCode's clock, ms).
    pub(crate) fn unsaved(&self) -> Option<u64> {
        self.0.as_ref()?.look(State::unsaved)
    }

    /// Works whenever there is a backend to talk to. Never ends; drop it to stop it: nothing is lost that is not found
    /// again.
    pub(crate) async fn run(
        self,
        tap: mpsc::Receiver<TapEvent>,
        mut server: ServerWatch,
        mut backends: watch::Receiver<Option<Backend>>,
    ) {
        let Some(shared) = self.0 else { return };
        let work = async {
            loop {
                let backend = backends.borrow_and_update().clone();
                tokio::select! {
                    changed = backends.changed() => if changed.is_err() { return },
                    () = Box::pin(work_with(&shared, backend, &mut server)) => {}
                }
            }
        };
        // The tap is drained whatever the work waits for.
        tokio::select! {
            () = drain(&shared, tap) => {}
            () = work => {}
        }
    }
}

async fn drain(shared: &Shared, mut tap: mpsc::Receiver<TapEvent>) {
    while let Some(event) = tap.recv().await {
        let now = shared.now();
        shared.change(|state| state.take(event, now));
    }
    // No server will ever say anything.
    std::future::pending().await
}

/// Works until the backend refuses this incarnation; then another one has to be waited for.
async fn work_with(shared: &Shared, backend: Option<Backend>, server: &mut ServerWatch) {
    if let Some(backend) = backend {
        while work(shared, &backend, server).await {}
    }
    std::future::pending().await
}

/// One step. False if this incarnation of the worker may not go on.
async fn work(shared: &Shared, backend: &Backend, server: &mut ServerWatch) -> bool {
    let client = server.client();
    let now = shared.now();
    let step = shared.look(|state| state.next(client.is_some(), now));
    let batch = match &step {
        Step::Apply(batch) => Some(batch.clone()),
        _ => None,
    };
    let Err(error) = perform(shared, backend, client, server, step).await else { return true };
    tracing::warn!(%error, "sync: a step failed");
    shared.status.sync.add(SyncResult { errors: 1, ..SyncResult::default() });
    let now = shared.now();
    shared.look(|state| state.failed(batch.as_ref(), now));
    !matches!(error, StepError::Convex(error) if error.concerns_worker())
}

async fn perform(
    shared: &Shared,
    backend: &Backend,
    client: Option<Client>,
    server: &mut ServerWatch,
    step: Step,
) -> Result<(), StepError> {
    match (step, client) {
        (Step::Apply(batch), _) => Box::pin(apply::apply(shared, backend, &batch)).await?,
        (Step::Load, _) => {
            let moment = Box::pin(backend.last_sync_timestamp()).await?;
            shared.look(|state| state.loaded(moment));
        }
        (Step::Save(moment), _) => {
            Box::pin(backend.update_last_sync_timestamp(moment)).await?;
            let now = shared.now();
            shared.look(|state| state.saved(moment, now));
        }
        // Boxed: while it waits, which is nearly always, it holds no room for reading.
        (Step::List(page), Some(client)) => Box::pin(apply::list(shared, backend, &client, page)).await?,
        (Step::Scrub(after), Some(client)) => Box::pin(apply::scrub(shared, backend, &client, after)).await?,
        (Step::List(_) | Step::Scrub(_), None) => unreachable!("only a running server is read"),
        (Step::Wait(until), _) => wait(shared, server, until).await,
    }
    Ok(())
}

async fn wait(shared: &Shared, server: &mut ServerWatch, until: Option<Duration>) {
    tokio::select! {
        () = shared.told.notified() => {}
        () = server.changed() => {}
        () = sleep_until(shared.epoch + until.unwrap_or_default()), if until.is_some() => {}
    }
}

/// A creation under way; see [`SyncHandle::creating`]. Dropping it says that nothing is known to have come of it: should
/// OpenCode have made a session all the same, it becomes a chat of its own.
pub(crate) struct Creation(Option<(Arc<Shared>, u64)>);

impl Creation {
    /// The session was created, and Convex has the link, which led to `lost` before: a session that OpenCode did not
    /// know any more.
    pub(crate) fn linked(mut self, id: &OpencodeSessionId, title: &str, lost: Option<&OpencodeSessionId>) {
        if let Some((shared, number)) = self.0.take() {
            shared.change(|state| {
                state.created(number, Some((id, title)));
                if let Some(lost) = lost {
                    state.replaced(lost);
                }
            });
        }
    }
}

impl Drop for Creation {
    fn drop(&mut self) {
        if let Some((shared, number)) = self.0.take() {
            shared.change(|state| state.created(number, None));
        }
    }
}
