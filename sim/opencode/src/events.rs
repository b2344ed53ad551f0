//! The event stream: each event is serialised once, and all subscribers share the bytes.

use std::{
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior, Sleep, interval_at},
};

use super::{
    faults,
    observation::Observation,
    state::ServerState,
    wire::{Info, Part, Session},
};

/// A heartbeat comes every 10 s (measured: 10.01, 20.01, …).
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The properties of `message.part.delta`, the only event that is sent in large numbers.
#[derive(Serialize)]
pub(super) struct Delta<'a> {
    #[serde(rename = "sessionID")]
    pub(super) session: &'a str,
    #[serde(rename = "messageID")]
    pub(super) message: &'a str,
    #[serde(rename = "partID")]
    pub(super) part: &'a str,
    pub(super) field: &'static str,
    pub(super) delta: &'a str,
}

#[derive(Serialize)]
struct WithInfo<'a, T> {
    #[serde(rename = "sessionID")]
    session: &'a str,
    info: &'a T,
}

#[derive(Serialize)]
struct WithPart<'a> {
    #[serde(rename = "sessionID")]
    session: &'a str,
    part: &'a Part,
    time: u64,
}

/// Everything that the server publishes.
impl ServerState {
    /// Publishes one event. The id is drawn also when nobody listens, so that a listener changes nothing.
    pub(super) fn emit(&self, kind: &str, properties: &impl Serialize) {
        let id = self.event_id();
        if self.bus.len() == 0 || self.faults().loses_event(kind) {
            return;
        }
        if self.bus.send(&frame(&id, kind, properties)) {
            let what = "a reader that is 65,536 events behind; it was cut off";
            self.machine.observe(&Observation::Refused { method: "GET", route: "/event", what });
        }
    }

    pub(super) fn emit_session(&self, kind: &str, info: &Session) {
        self.emit(kind, &WithInfo { session: &info.id, info });
    }

    pub(super) fn emit_message(&self, session: &str, info: &Info) {
        self.emit("message.updated", &WithInfo { session, info });
    }

    pub(super) fn emit_part(&self, part: &Part) {
        let time = self.machine.now();
        self.emit("message.part.updated", &WithPart { session: &part.session_id, part, time });
    }

    pub(super) fn emit_status(&self, session: &str, status: &str) {
        self.emit("session.status", &json!({ "sessionID": session, "status": { "type": status } }));
    }

    /// `session.status` idle and `session.idle` always come together.
    pub(super) fn emit_idle(&self, session: &str) {
        if self.faults().loses_idle() {
            return;
        }
        self.emit_status(session, "idle");
        self.emit("session.idle", &json!({ "sessionID": session }));
    }

    pub(super) fn emit_error(&self, session: &str, error: &Value) {
        self.emit("session.error", &json!({ "sessionID": session, "error": error }));
    }

    fn event_id(&self) -> String {
        self.machine.store.borrow_mut().ids.ascending("evt", self.machine.now())
    }

    /// A new stream: `server.connected` first, then what happens from now on. A stream for another directory
    /// gets nothing but heartbeats.
    pub(super) fn event_stream(self: &Rc<Self>, own_directory: bool) -> EventStream {
        let start = tokio::time::Instant::now() + HEARTBEAT;
        let mut heartbeat = interval_at(start, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let greeting = Some(frame(&self.event_id(), "server.connected", &json!({})));
        let subscription = own_directory.then(|| self.bus.subscribe());
        self.streams.set(self.streams.get() + 1);
        self.machine.observe(&Observation::EventStreamOpened { open: self.streams.get() });
        EventStream { server: Rc::downgrade(self), greeting, subscription, heartbeat, thaw: None }
    }
}

fn frame(id: &str, kind: &str, properties: &impl Serialize) -> Bytes {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(b"data: {\"id\":\"");
    bytes.extend_from_slice(id.as_bytes());
    bytes.extend_from_slice(b"\",\"type\":\"");
    bytes.extend_from_slice(kind.as_bytes());
    bytes.extend_from_slice(b"\",\"properties\":");
    serde_json::to_writer(&mut bytes, properties).expect("our own types serialise into memory");
    bytes.extend_from_slice(b"}\n\n");
    bytes.into()
}

/// The body of one `GET /event`.
pub(super) struct EventStream {
    server: Weak<ServerState>,
    greeting: Option<Bytes>,
    subscription: Option<(u64, mpsc::Receiver<Bytes>)>,
    heartbeat: Interval,
    /// While the process stands still.
    thaw: Option<Pin<Box<Sleep>>>,
}

impl EventStream {
    /// The next bytes; nothing when the server ended or cut this reader off.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(server) = self.server.upgrade() else { return Poll::Ready(None) };
        if self.stands_still(&server, context) {
            return Poll::Pending;
        }
        if let Some(greeting) = self.greeting.take() {
            return Poll::Ready(Some(greeting));
        }
        if let Some((_, events)) = &mut self.subscription
            && let Poll::Ready(event) = events.poll_recv(context)
        {
            return Poll::Ready(event);
        }
        self.heartbeat
            .poll_tick(context)
            .map(|_| Some(frame(&server.event_id(), "server.heartbeat", &json!({}))))
    }

    /// Whether the process stands still; then the stream is polled again a little later.
    fn stands_still(&mut self, server: &ServerState, context: &mut Context<'_>) -> bool {
        while server.faults().hangs() {
            let thaw = self.thaw.get_or_insert_with(|| Box::pin(faults::thaw()));
            if thaw.as_mut().poll(context).is_pending() {
                return true;
            }
            self.thaw = None;
        }
        self.thaw = None;
        false
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        let Some(server) = self.server.upgrade() else { return };
        if let Some((key, _)) = &self.subscription {
            server.bus.unsubscribe(*key);
        }
        server.streams.set(server.streams.get() - 1);
        server.machine.observe(&Observation::EventStreamClosed { open: server.streams.get() });
    }
}
