//! Facts of the backend: what its functions cost, and what their commits changed.

use std::{cell::RefCell, collections::BTreeMap};

use convex::Value;

use crate::recorder::Recorder;
use fake_convex::{
    Observation, Outcome,
    store::{Document, Write},
};
use sim_model::trace::{Caller, Event, Name, RunningDigest, TurnState};

/// The names of callers that are workers begin with this.
const WORKER: &str = "worker-";

/// Records what happens at a backend.
pub struct BackendFacts(RefCell<Backend>);

impl BackendFacts {
    /// Records what happens at `host`.
    #[must_use]
    pub fn new(recorder: Recorder, host: Name) -> Self {
        Self(RefCell::new(Backend { recorder, host, workers: BTreeMap::new(), replies: BTreeMap::new() }))
    }

    /// Records what the backend says.
    pub fn observe(&self, observation: &Observation<'_>) {
        self.0.borrow_mut().observe(observation);
    }

    /// Tells of a worker from before the run: its document and its name.
    pub fn know_worker(&self, id: &str, name: &str, epoch: u64) {
        let backend = &mut *self.0.borrow_mut();
        let (id, name) = (backend.recorder.name(id), backend.recorder.name(name));
        backend.workers.insert(id, Worker { name, epoch });
    }

    /// Tells of a session from before the run.
    pub fn know_session(&self, session: &str, worker: &str, opencode: Option<&str>, title: &str) {
        let backend = &*self.0.borrow();
        let worker = backend.worker_named(worker);
        backend.record(backend.session_is(session, worker, opencode.unwrap_or_default(), title));
    }

    /// Tells of a turn from before the run that has not ended. `created` is Unix time in ms.
    pub fn know_stale_turn(
        &self,
        turn: &str,
        session: &str,
        worker: &str,
        created: f64,
        text: &str,
        claimed: bool,
    ) {
        let backend = &*self.0.borrow();
        let [turn, session, text] = [turn, session, text].map(|text| backend.recorder.name(text));
        let worker = backend.worker_named(worker);
        let change = claimed.then(|| Event::TurnChanged {
            turn: Name::clone(&turn),
            session: Name::clone(&session),
            worker: Name::clone(&worker),
            from: TurnState::Pending,
            to: TurnState::Claimed,
            epoch: Some(1),
            chunks: None,
            error: None,
        });
        backend.record(Event::Sent { turn, session, worker, created, text });
        change.into_iter().for_each(|change| backend.record(change));
    }
}

/// What has to be remembered to tell facts from commits.
struct Backend {
    recorder: Recorder,
    host: Name,
    /// By document id.
    workers: BTreeMap<Name, Worker>,
    /// Of turns that have a chunk and have not ended.
    replies: BTreeMap<Name, RunningDigest>,
}

struct Worker {
    name: Name,
    epoch: u64,
}

impl Backend {
    fn observe(&mut self, observation: &Observation<'_>) {
        match observation {
            Observation::Received { .. } => {}
            Observation::Executed { replayed: true, caller, path, .. } => {
                self.record(Event::Replayed {
                    function: self.recorder.name(path),
                    caller: self.caller(caller),
                });
            }
            Observation::Executed { caller, path, args, outcome, usage, attempts, rerun, .. } => {
                let function = self.recorder.name(path);
                let error = match outcome {
                    Outcome::Ok => None,
                    Outcome::ConvexError(text) | Outcome::Error(text) => Some(self.recorder.name(text)),
                };
                let (identity, epoch) = self.credentials(args);
                let is_ready = error.is_none() && *path == "workers:markConnected";
                self.record(Event::Executed {
                    function,
                    caller: self.caller(caller),
                    documents_read: usage.documents_read as u64,
                    bytes_read: usage.bytes_read as u64,
                    documents_written: usage.documents_written as u64,
                    bytes_written: usage.bytes_written as u64,
                    attempts: u64::from(*attempts),
                    rerun: *rerun,
                    identity,
                    epoch,
                    error,
                });
                if is_ready {
                    self.ready(caller);
                }
            }
            Observation::Committed { writes, .. } => self.committed(writes),
            Observation::Connected { caller, .. } => {
                self.record(Event::Connected { client: self.recorder.name(caller) });
            }
            Observation::Disconnected { caller, .. } => {
                self.record(Event::Disconnected { client: self.recorder.name(caller) });
            }
        }
    }

    fn record(&self, event: Event) {
        self.recorder.record(&self.host, event);
    }

    fn caller(&self, caller: &str) -> Caller {
        match caller {
            worker if worker.starts_with(WORKER) => Caller::Worker(self.recorder.name(worker)),
            "people" => Caller::Person,
            "scheduler" | "cron" => Caller::Scheduler,
            _ => Caller::Unknown,
        }
    }

    /// The worker and the epoch that the argument `who` names, if there is one.
    fn credentials(&self, args: &Value) -> (Option<Name>, Option<u64>) {
        let Value::Object(args) = args else { return (None, None) };
        let Some(Value::Object(who)) = args.get("who") else { return (None, None) };
        let identity = match who.get("workerId") {
            Some(Value::String(id)) => self.known_name(&id.replace("worker_", WORKER)),
            _ => None,
        };
        let epoch = match who.get("epoch") {
            Some(Value::Float64(epoch)) => Some(*epoch as u64),
            _ => None,
        };
        (identity, epoch)
    }

    /// The name of a worker of this world: what others call themselves may be of any length.
    fn known_name(&self, name: &str) -> Option<Name> {
        self.workers.values().find(|known| &*known.name == name).map(|known| Name::clone(&known.name))
    }

    fn ready(&self, caller: &str) {
        let worker = self.recorder.name(caller);
        let epoch = self.workers.values().find(|known| known.name == worker).map_or(0, |known| known.epoch);
        self.record(Event::Ready { worker, epoch });
    }

    /// A commit's writes come in the order of their ids. Facts come in the order of cause and effect: a turn's last
    /// chunk, for one, before its end. What other tenants have is nobody's here: their calls alone are facts.
    fn committed(&mut self, writes: &[Write]) {
        for write in of(writes, "workers") {
            self.worker(write);
        }
        for write in of(writes, "sessions") {
            self.session(write);
        }
        for write in of(writes, "turns").filter(|write| write.old.is_none()) {
            let mut said = of(writes, "messages").filter_map(|message| message.new.as_ref());
            let message = said.find(|message| text(message, "turn") == write.id.as_str());
            self.sent(write, message.map_or("", |message| text(message, "content")));
        }
        for write in of(writes, "chunks").filter(|write| write.old.is_none()) {
            self.chunk(write);
        }
        for write in of(writes, "turns").filter(|write| write.old.is_some()) {
            self.turn(write);
        }
    }

    /// Whether a session or a turn is of a worker of this world.
    fn is_known(&self, document: &Document) -> bool {
        self.workers.contains_key(text(document, "worker"))
    }

    fn worker(&mut self, write: &Write) {
        let Some(new) = &write.new else { return };
        if !self.workers.contains_key(write.id.as_str()) {
            return;
        }
        let id = self.recorder.name(write.id.as_str());
        let name = self.recorder.name(&text(new, "workerId").replace("worker_", WORKER));
        let (epoch, was) = (count(new, "epoch"), write.old.as_ref().map(|old| count(old, "epoch")));
        self.workers.insert(id, Worker { name: Name::clone(&name), epoch });
        let asked = |document: &Document| number(document, "connectRequestedAt");
        if write.old.as_ref().is_some_and(|old| asked(old) < asked(new)) {
            self.record(Event::ConnectAsked { worker: Name::clone(&name) });
        }
        let is_offline = text(new, "status") == "offline";
        if was != Some(epoch) {
            let worker = Name::clone(&name);
            self.record(Event::EpochBegan { worker, epoch, stale_before: number(new, "staleBefore") });
        }
        if is_offline && write.old.as_ref().is_some_and(|old| text(old, "status") == "online") {
            self.record(Event::Offline { worker: name });
        }
    }

    fn session(&self, write: &Write) {
        let Some(new) = write.new.as_ref().filter(|new| self.is_known(new)) else { return };
        let session = self.recorder.name(write.id.as_str());
        let before = |field| write.old.as_ref().map_or("", |old| text(old, field));
        let link = text(new, "opencodeSessionId");
        if write.old.is_some() && !link.is_empty() && link != before("opencodeSessionId") {
            let opencode_session = self.recorder.name(link);
            self.record(Event::SessionLinked { session: Name::clone(&session), opencode_session });
        }
        let is_same = |field| text(new, field) == before(field);
        if write.old.is_none() || !is_same("opencodeSessionId") || !is_same("title") {
            self.record(self.session_is(&session, self.worker_of(new), link, text(new, "title")));
        }
        if text(new, "state") == "ended" && before("state") == "active" {
            self.record(Event::PersonEnded { session });
        }
    }

    fn session_is(&self, session: &str, worker: Name, link: &str, title: &str) -> Event {
        let opencode_session = (!link.is_empty()).then(|| self.recorder.name(link));
        let (session, title) = (self.recorder.name(session), self.recorder.name(title));
        Event::SessionIs { session, worker, opencode_session, title }
    }

    fn sent(&self, write: &Write, content: &str) {
        let Some(new) = write.new.as_ref().filter(|new| self.is_known(new)) else { return };
        self.record(Event::Sent {
            turn: self.recorder.name(write.id.as_str()),
            session: self.recorder.name(text(new, "session")),
            worker: self.worker_of(new),
            created: new.creation_time,
            text: self.recorder.name(content),
        });
        if text(new, "state") != "pending" {
            self.change(write, TurnState::Pending, new);
        }
    }

    fn turn(&mut self, write: &Write) {
        let (Some(old), Some(new)) = (&write.old, &write.new) else { return };
        if !self.is_known(new) {
            return;
        }
        let from = state(old);
        if from != state(new) {
            self.change(write, from, new);
        }
        if state(new).has_ended() {
            self.replies.remove(write.id.as_str());
        }
    }

    fn change(&self, write: &Write, from: TurnState, new: &Document) {
        let error = match new.fields().get("error") {
            Some(Value::Object(error)) => match error.get("code") {
                Some(Value::String(code)) => Some(self.recorder.name(code)),
                _ => None,
            },
            _ => None,
        };
        self.record(Event::TurnChanged {
            turn: self.recorder.name(write.id.as_str()),
            session: self.recorder.name(text(new, "session")),
            worker: self.worker_of(new),
            from,
            to: state(new),
            epoch: new.fields().contains_key("epoch").then(|| count(new, "epoch")),
            chunks: new.fields().contains_key("chunks").then(|| count(new, "chunks")),
            error,
        });
    }

    fn chunk(&mut self, write: &Write) {
        let Some(new) = &write.new else { return };
        let (turn, text) = (self.recorder.name(text(new, "turn")), text(new, "text"));
        let reply = self.replies.entry(Name::clone(&turn)).or_default();
        reply.push(text);
        let total = reply.digest();
        self.record(Event::ChunkWritten {
            turn,
            sequence: count(new, "sequence"),
            bytes: text.len() as u64,
            total,
        });
    }

    fn worker_of(&self, turn: &Document) -> Name {
        self.worker_named(text(turn, "worker"))
    }

    fn worker_named(&self, id: &str) -> Name {
        self.workers.get(id).map_or_else(|| self.recorder.name(id), |worker| Name::clone(&worker.name))
    }
}

fn of<'a>(writes: &'a [Write], table: &'a str) -> impl Iterator<Item = &'a Write> {
    writes.iter().filter(move |write| &*write.table == table)
}

fn text<'a>(document: &'a Document, field: &str) -> &'a str {
    match document.fields().get(field) {
        Some(Value::String(text)) => text,
        _ => "",
    }
}

fn number(document: &Document, field: &str) -> f64 {
    match document.fields().get(field) {
        Some(Value::Float64(number)) => *number,
        _ => 0.0,
    }
}

/// A count is a whole number that is not negative; the schema knows only doubles.
fn count(document: &Document, field: &str) -> u64 {
    number(document, field) as u64
}

fn state(turn: &Document) -> TurnState {
    TurnState::parse(text(turn, "state")).expect("the schema allows no other state")
}
