//! Who gets which event: one receiver per turn, and a tap for what concerns sessions as such.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use super::{
    events::{Event, EventKind},
    id::OpencodeSessionId,
};

/// Events that wait for one turn. When they are full the stream waits, so a turn must always drain its receiver.
pub(crate) const RECEIVER_QUEUE: usize = 256;
/// Child sessions (of tools that start agents) that are remembered at once.
const MAX_CHILDREN: usize = 1_000;

/// What a turn receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// An event of the session.
    Event(Event),
    /// An event of a session that the session's turn started: a sign of life, and its questions need an answer.
    Child(Event),
    /// The stream was interrupted and is open again. What happened in between is lost: read the session again.
    Gap,
    /// This generation of the server has ended. Comes after all that was received before; nothing follows.
    ServerLost {
        /// Why, for people.
        reason: String,
    },
}

/// What the tap receives, for the titles and the existence of sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TapEvent {
    /// [`EventKind::SessionCreated`], [`EventKind::SessionUpdated`] or [`EventKind::SessionDeleted`].
    Session(Box<Event>),
    /// Something may have been missed: a server was started, its stream was interrupted, or the tap was full.
    Gap,
}

/// Receives one session's events. Dropping it ends the registration.
#[derive(Debug)]
pub struct EventReceiver {
    events: mpsc::Receiver<Boxed>,
    key: Key,
    registry: Arc<Registry>,
}

impl EventReceiver {
    /// The next event. After [`SessionEvent::ServerLost`] it answers the same again. Safe to cancel.
    pub async fn recv(&mut self) -> SessionEvent {
        match self.events.recv().await {
            Some(event) => *event,
            None => SessionEvent::ServerLost { reason: self.registry.lost_reason() },
        }
    }
}

impl Drop for EventReceiver {
    fn drop(&mut self) {
        self.registry.remove(&self.key);
    }
}

type Key = (OpencodeSessionId, u64);

/// The receivers of one generation. Bounded by the turns that run.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    receivers: BTreeMap<Key, mpsc::Sender<Boxed>>,
    /// Child → the session with a receiver that it works for.
    children: BTreeMap<OpencodeSessionId, OpencodeSessionId>,
    lost: Option<String>,
}

/// A queue has room for 32 events as soon as it exists, one queue for each turn: boxes keep an empty one small.
type Boxed = Box<SessionEvent>;

/// A receiver that was full, and what it waits for.
type Waiting = (mpsc::Sender<Boxed>, Boxed);

impl Registry {
    /// Registers a receiver for a session. If the generation has ended, it answers `ServerLost`.
    pub(crate) fn subscribe(self: &Arc<Self>, session: &OpencodeSessionId) -> EventReceiver {
        let (sender, events) = mpsc::channel(RECEIVER_QUEUE);
        let mut state = self.state();
        state.next += 1;
        let key = (session.clone(), state.next);
        if state.lost.is_none() {
            state.receivers.insert(key.clone(), sender);
        }
        EventReceiver { events, key, registry: self.clone() }
    }

    /// Hands an event to whom it concerns; waits for those that are full.
    pub(crate) async fn deliver(&self, event: Event) {
        for (sender, event) in self.offer(event) {
            // A receiver that went away meanwhile is no fault.
            let _ = sender.send(event).await;
        }
    }

    /// Tells every receiver that events were missed.
    pub(crate) async fn gap(&self) {
        let all: Vec<_> = self.state().receivers.values().cloned().collect();
        for sender in all {
            let _ = sender.send(Box::new(SessionEvent::Gap)).await;
        }
    }

    /// Ends the generation: receivers get what was delivered, then `ServerLost`.
    pub(crate) fn lose(&self, reason: &str) {
        let mut state = self.state();
        state.lost.get_or_insert_with(|| reason.to_owned());
        state.receivers.clear();
        state.children.clear();
    }

    fn offer(&self, event: Event) -> Vec<Waiting> {
        let mut state = self.state();
        state.note_child(&event);
        let Some(session) = &event.session else { return Vec::new() };
        match state.children.get(session).cloned() {
            Some(root) => state.offer_to(&root, SessionEvent::Child(event)),
            None => state.offer_to(&session.clone(), SessionEvent::Event(event)),
        }
    }

    /// The session with a receiver that this one is, or works for, as far as events have shown.
    pub(crate) fn root_of(&self, session: &OpencodeSessionId) -> Option<OpencodeSessionId> {
        let state = self.state();
        if state.has_receiver(session) { Some(session.clone()) } else { state.children.get(session).cloned() }
    }

    /// Remembers a child that no event has shown.
    pub(crate) fn adopt(&self, child: &OpencodeSessionId, root: &OpencodeSessionId) {
        self.state().adopt(child, root);
    }

    fn remove(&self, key: &Key) {
        let mut state = self.state();
        state.receivers.remove(key);
        if !state.has_receiver(&key.0) {
            state.children.retain(|_, root| *root != key.0);
        }
    }

    fn lost_reason(&self) -> String {
        self.state().lost.clone().unwrap_or_else(|| "the OpenCode server has ended".into())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn receivers_of(&self, session: &OpencodeSessionId) -> impl Iterator<Item = &mpsc::Sender<Boxed>> {
        self.receivers.range((session.clone(), 0)..=(session.clone(), u64::MAX)).map(|(_, sender)| sender)
    }

    fn has_receiver(&self, session: &OpencodeSessionId) -> bool {
        self.receivers_of(session).next().is_some()
    }

    /// An event may hold megabytes, so it is copied only if several receivers want it.
    fn offer_to(&self, session: &OpencodeSessionId, event: SessionEvent) -> Vec<Waiting> {
        let offer = |sender: &mpsc::Sender<Boxed>, event| match sender.try_send(Box::new(event)) {
            Err(mpsc::error::TrySendError::Full(event)) => Some((sender.clone(), event)),
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
        };
        let mut receivers: Vec<_> = self.receivers_of(session).collect();
        let Some(last) = receivers.pop() else { return Vec::new() };
        let waiting: Vec<_> =
            receivers.into_iter().filter_map(|sender| offer(sender, event.clone())).collect();
        waiting.into_iter().chain(offer(last, event)).collect()
    }

    /// Remembers the children of sessions that somebody listens to, so that their questions find a listener.
    fn note_child(&mut self, event: &Event) {
        let (EventKind::SessionCreated(info) | EventKind::SessionUpdated(info)) = &event.kind else { return };
        let Some(parent) = &info.parent else { return };
        let root = self.children.get(parent).unwrap_or(parent).clone();
        self.adopt(&info.id, &root);
    }

    fn adopt(&mut self, child: &OpencodeSessionId, root: &OpencodeSessionId) {
        if self.children.len() < MAX_CHILDREN && self.has_receiver(root) && !self.has_receiver(child) {
            self.children.insert(child.clone(), root.clone());
        }
    }
}

/// The sending end of the tap. It never waits: what does not fit becomes a gap.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tap {
    sender: Option<mpsc::Sender<TapEvent>>,
    missed: bool,
}

impl Tap {
    pub(crate) fn new(sender: Option<mpsc::Sender<TapEvent>>) -> Self {
        Self { sender, missed: false }
    }

    /// Offers an event, if it is of the tap's kinds.
    pub(crate) fn offer(&mut self, event: &Event) {
        use EventKind::{SessionCreated, SessionDeleted, SessionUpdated};
        if matches!(event.kind, SessionCreated(_) | SessionUpdated(_) | SessionDeleted(_)) && self.catch_up()
        {
            self.send(TapEvent::Session(Box::new(event.clone())));
        }
    }

    /// Says that events were missed.
    pub(crate) fn gap(&mut self) {
        self.missed = true;
        self.catch_up();
    }

    /// Returns true if nothing is missing.
    fn catch_up(&mut self) -> bool {
        if std::mem::take(&mut self.missed) {
            self.send(TapEvent::Gap);
        }
        !self.missed
    }

    fn send(&mut self, event: TapEvent) {
        if let Some(sender) = &self.sender {
            self.missed = matches!(sender.try_send(event), Err(mpsc::error::TrySendError::Full(_)));
        }
    }
}

#[cfg(test)]
mod tests;
