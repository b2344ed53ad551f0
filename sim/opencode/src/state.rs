//! What a machine keeps, and what the requests, runs and streams of one server process share. The modules around it say
//! what happens to it.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::{Rc, Weak},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    bus::Bus,
    faults::{self, Faults},
    observation::Observation,
    options::{Latencies, Options},
    sessions::Store,
    wire::{Message, PermissionRequest, Session},
};

/// What outlives a server: the disk, and which servers there are.
pub(super) struct Machine {
    pub(super) options: Options,
    pub(super) store: RefCell<Store>,
    pub(super) generations: Cell<u64>,
    /// Of servers that run; more than one only while an old process of the owner still lives.
    pub(super) servers: RefCell<Vec<Weak<ServerState>>>,
    /// The server that was started last.
    pub(super) server: RefCell<Weak<ServerState>>,
}

impl Machine {
    pub(super) fn now(&self) -> u64 {
        (self.options.clock)()
    }

    pub(super) fn observe(&self, observation: &Observation<'_>) {
        (self.options.observer)(observation);
    }

    /// A session was made or renamed. Children are not told of.
    pub(super) fn observe_session(&self, session: &Session) {
        let Session { id, title, parent_id, .. } = session;
        match parent_id {
            Some(_) => {}
            None if self.is_here(session) => self.observe(&Observation::SessionStands { session: id, title }),
            None => self.observe(&Observation::ForeignSessionStands { session: id, title }),
        }
    }

    pub(super) fn observe_deleted(&self, session: &Session) {
        if session.parent_id.is_none() && self.is_here(session) {
            self.observe(&Observation::SessionDeleted { session: &session.id });
        }
    }

    /// Returns true if the session is of the directory that the servers are started in.
    pub(super) fn is_here(&self, session: &Session) -> bool {
        session.directory == self.options.directory
    }
}

/// What requests, runs and streams of one process share.
pub(super) struct ServerState {
    pub(super) machine: Rc<Machine>,
    pub(super) generation: u64,
    pub(super) password: Option<String>,
    pub(super) ready_at: Instant,
    pub(super) bus: Bus,
    /// Open event streams, also those of other directories.
    pub(super) streams: Cell<usize>,
    /// Busy sessions.
    pub(super) runs: RefCell<BTreeMap<String, Run>>,
    /// Permission questions that nobody has answered yet; at most one per run.
    pub(super) permissions: RefCell<BTreeMap<String, PendingPermission>>,
    /// Whether a prompt has been answered: the first one costs more.
    pub(super) warm: Cell<bool>,
    pub(super) creating: Cell<usize>,
    pub(super) create_free_at: Cell<Instant>,
    pub(super) stopped: CancellationToken,
}

/// Who waits for the end of a run.
pub(super) enum Waiter {
    /// `POST /message`.
    Caller(oneshot::Sender<RunEnd>),
    /// `POST /prompt_async`: its failures are published a second time.
    Nobody,
}

/// The last assistant message, or nothing when there is none: the model is unknown, or the session is gone.
pub(super) type RunEnd = Option<Message>;

/// A busy session.
pub(super) struct Run {
    pub(super) abort: Rc<Notify>,
    pub(super) waiters: Vec<Waiter>,
    /// Whether a prompt came since the run began or was aborted.
    pub(super) fresh: bool,
    /// Already reported idle, while the last part is still to come.
    pub(super) settling: bool,
    /// What `GET /session/status` shows.
    pub(super) status: Value,
}

impl Run {
    /// Whether `GET /session/status` shows the session.
    pub(super) fn is_busy(&self) -> bool {
        !self.settling
    }
}

/// A question that waits for its answer.
pub(super) struct PendingPermission {
    pub(super) request: PermissionRequest,
    pub(super) answer: oneshot::Sender<bool>,
}

impl ServerState {
    pub(super) fn latencies(&self) -> &Latencies {
        &self.machine.options.latencies
    }

    /// Starts work that outlives the request that asked for it, and dies with the server.
    pub(super) fn spawn(self: &Rc<Self>, work: impl Future<Output = ()> + 'static) -> JoinHandle<()> {
        let stopped = self.stopped.clone();
        tokio::task::spawn_local(async move {
            tokio::select! {
                biased;
                () = stopped.cancelled() => {}
                () = work => {}
            }
        })
    }

    /// Waits for the turn of one creation: they are served one after the other.
    pub(super) async fn create_turn(&self) {
        let free_at = self.create_free_at.get().max(Instant::now()) + self.latencies().create;
        self.create_free_at.set(free_at);
        if free_at > Instant::now() {
            tokio::time::sleep_until(free_at).await;
        }
    }

    /// Asked what goes wrong.
    pub(super) fn faults(&self) -> &Rc<dyn Faults> {
        &self.machine.options.faults
    }

    /// Waits while the process stands still.
    pub(super) async fn while_it_hangs(&self) {
        while self.faults().hangs() {
            faults::thaw().await;
        }
    }
}

/// Sleeps, unless the time is nothing.
pub(super) async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
