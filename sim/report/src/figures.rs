//! Counts what a run did. All of it is exact: the same run gives the same numbers.

mod times;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use times::{Distribution, Latency};
use times::{Latencies, Rate, Times};

use sim_model::{
    Label,
    fault::FaultKind,
    trace::{Caller, Event, Fact, Micros, Name, TurnState},
};

/// Collects figures from facts.
pub struct Figures {
    turns: BTreeMap<Label, u64>,
    open: BTreeMap<Name, Times>,
    by_text: BTreeMap<Name, Name>,
    scheduled: BTreeMap<Name, Micros>,
    sent: u64,
    ended: u64,
    given_up: u64,
    chunks: u64,
    latencies: Latencies,
    creates: Rate,
    functions: BTreeMap<Name, FunctionFigures>,
    worker_calls: u64,
    peak_heap: BTreeMap<Name, i64>,
    wire: BTreeMap<String, WireFigures>,
    up: i64,
    counts: Counts,
    faults: BTreeMap<FaultKind, FaultFigures>,
}

/// What all workers exchanged with servers of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct WireFigures {
    /// Bytes to these servers.
    pub sent: u64,
    /// Bytes from them.
    pub received: u64,
}

/// How often faults of one kind came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct FaultFigures {
    /// Faults that began.
    pub begun: u64,
    /// Opportunities that they struck: requests, mutations, events, sessions.
    pub struck: u64,
}

/// Simple counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Counts {
    /// Workers killed.
    pub kills: u64,
    /// Workers asked to stop.
    pub stops: u64,
    /// Starts of worker processes.
    pub worker_starts: u64,
    /// Starts of OpenCode servers.
    pub server_starts: u64,
    /// Event streams opened.
    pub event_streams: u64,
    /// WebSockets opened.
    pub connections: u64,
    /// Prompts accepted by OpenCode.
    pub prompts: u64,
    /// Sessions linked with an OpenCode session.
    pub links: u64,
    /// The most OpenCode sessions that one worker remembered.
    pub cached_sessions: u64,
}

/// What one backend function cost over the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct FunctionFigures {
    /// Runs by request.
    pub calls: u64,
    /// Runs because the data of a subscription changed.
    pub reruns: u64,
    /// Runs that ended with an error.
    pub errors: u64,
    /// Attempts thrown away because of conflicts.
    pub conflicts: u64,
    /// Documents read.
    pub documents_read: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Documents written.
    pub documents_written: u64,
    /// Bytes written.
    pub bytes_written: u64,
}

/// The figures of a finished run.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
pub struct Summary {
    /// Turns by how they ended (or `open`).
    pub turns: BTreeMap<Label, u64>,
    /// Chunks stored.
    pub chunks: u64,
    /// Latencies by stage.
    pub latencies: Vec<Latency>,
    /// OpenCode sessions created.
    pub creates: u64,
    /// The most being created at once at one server.
    pub creates_at_once: u64,
    /// The most begun within any one second, all servers together.
    pub creates_per_second: usize,
    /// Backend functions by name.
    pub functions: BTreeMap<Name, FunctionFigures>,
    /// Calls and reruns for workers, for each turn that ended.
    pub worker_calls_per_turn: f64,
    /// The most heap that each worker held, in bytes.
    pub peak_heap: BTreeMap<Name, i64>,
    /// Bytes on the wire, `convex` and `opencode`; empty in real time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub wire: BTreeMap<String, WireFigures>,
    /// Simple counts.
    #[serde(flatten)]
    pub counts: Counts,
    /// Faults by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub faults: BTreeMap<FaultKind, FaultFigures>,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            turns: BTreeMap::new(),
            open: BTreeMap::new(),
            by_text: BTreeMap::new(),
            scheduled: BTreeMap::new(),
            sent: 0,
            ended: 0,
            given_up: 0,
            chunks: 0,
            latencies: Latencies::new(),
            creates: Rate::default(),
            functions: BTreeMap::new(),
            worker_calls: 0,
            peak_heap: BTreeMap::new(),
            wire: BTreeMap::new(),
            up: 0,
            counts: Counts::default(),
            faults: BTreeMap::new(),
        }
    }
}

impl Figures {
    /// Tells when the message `text` should be sent. Its latencies count from then, however late the backend takes it:
    /// in real time, one that is slow must not hide how long people wait (coordinated omission). And they count whether
    /// the turn is completed or not, until it has ended: a worker that fails what is slow must not look fast.
    pub fn schedule(&mut self, text: Name, at: Micros) {
        self.scheduled.insert(text, at);
    }

    /// Nothing more is sent, whatever was scheduled.
    pub fn silence(&mut self) {
        self.scheduled.clear();
    }

    /// The run is over, at `at`: who was to be answered until then, and was not, has waited so long.
    pub fn end(&mut self, at: Micros) {
        let unsent = std::mem::take(&mut self.scheduled).into_values().filter(|due| *due < at);
        let unsent = unsent.map(|due| Times {
            sent: due,
            scheduled: true,
            claimed: None,
            prompted: None,
            first_chunk: None,
        });
        let open = std::mem::take(&mut self.open).into_iter();
        let (waiting, rest): (Vec<_>, Vec<_>) = open.partition(|(_, times)| times.scheduled);
        self.open = rest.into_iter().collect();
        for times in unsent.chain(waiting.iter().map(|(_, times)| *times)).collect::<Vec<_>>() {
            self.given_up += 1;
            self.latencies.given_up(&times, at);
        }
        self.open.extend(waiting);
    }

    /// How many of the latencies are of messages that were never answered in full.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Counts a fact.
    pub fn observe(&mut self, fact: &Fact) {
        match &fact.event {
            Event::Sent { turn, text, .. } => self.sent(fact.at, turn, text),
            Event::TurnChanged { turn, to, .. } => self.changed(fact.at, turn, *to),
            Event::Prompted { text, .. } => self.prompted(fact.at, text),
            Event::ChunkWritten { turn, .. } => {
                self.chunks += 1;
                if let Some(times) = self.open.get_mut(turn) {
                    times.first_chunk.get_or_insert(fact.at);
                }
            }
            Event::CreateStarted { in_flight } => self.creates.add(fact.at, *in_flight),
            Event::Executed { .. } => self.executed(&fact.event),
            Event::Heap { worker, peak, .. } => {
                let most = self.peak_heap.entry(Name::clone(worker)).or_default();
                *most = (*most).max(*peak);
            }
            Event::Transferred { peer, sent, received, .. } => {
                let kind = peer.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-');
                let wire = self.wire.entry(kind.to_owned()).or_default();
                wire.sent += sent;
                wire.received += received;
            }
            other => self.count(other),
        }
    }

    fn count(&mut self, event: &Event) {
        let counts = &mut self.counts;
        match event {
            Event::WorkerStarted { .. } => {
                counts.worker_starts += 1;
                self.up += 1;
            }
            Event::Killed { .. } => {
                counts.kills += 1;
                self.up -= 1;
            }
            Event::Exited { .. } | Event::ZombieExited { .. } => self.up -= 1,
            Event::FaultBegan { kind, .. } => self.faults.entry(*kind).or_default().begun += 1,
            Event::FaultStruck { kind, .. } => self.faults.entry(*kind).or_default().struck += 1,
            Event::StopAsked { .. } => counts.stops += 1,
            Event::ServerStarted => counts.server_starts += 1,
            Event::EventStreamOpened => counts.event_streams += 1,
            Event::Connected { .. } => counts.connections += 1,
            Event::SessionLinked { .. } => counts.links += 1,
            Event::Cache { sessions, .. } => counts.cached_sessions = counts.cached_sessions.max(*sessions),
            _ => {}
        }
    }

    fn sent(&mut self, at: Micros, turn: &Name, text: &Name) {
        self.sent += 1;
        self.by_text.insert(Name::clone(text), Name::clone(turn));
        let due = self.scheduled.remove(text);
        let (sent, scheduled) = (due.unwrap_or(at), due.is_some());
        let times = Times { sent, scheduled, claimed: None, prompted: None, first_chunk: None };
        self.open.insert(Name::clone(turn), times);
    }

    fn prompted(&mut self, at: Micros, text: &Name) {
        self.counts.prompts += 1;
        if let Some(times) = self.by_text.get(text).and_then(|turn| self.open.get_mut(turn)) {
            times.prompted.get_or_insert(at);
        }
    }

    fn changed(&mut self, at: Micros, turn: &Name, to: TurnState) {
        if to == TurnState::Claimed
            && let Some(times) = self.open.get_mut(turn)
        {
            times.claimed = Some(at);
        }
        let outcome = match to {
            TurnState::Completed => "completed",
            TurnState::Failed => "failed",
            TurnState::Expired => "expired",
            TurnState::Pending | TurnState::Claimed => return,
        };
        *self.turns.entry(outcome.into()).or_default() += 1;
        self.ended += 1;
        let Some(times) = self.open.remove(turn) else { return };
        if to == TurnState::Completed {
            self.latencies.completed(&times, at);
        } else if times.scheduled {
            self.given_up += 1;
            self.latencies.given_up(&times, at);
        }
    }

    fn executed(&mut self, event: &Event) {
        let Event::Executed { function, caller, attempts, rerun, error, .. } = event else { return };
        let Event::Executed { documents_read, bytes_read, documents_written, bytes_written, .. } = event
        else {
            return;
        };
        let figures = self.functions.entry(Name::clone(function)).or_default();
        figures.calls += u64::from(!rerun);
        figures.reruns += u64::from(*rerun);
        figures.errors += u64::from(error.is_some());
        figures.conflicts += attempts.saturating_sub(1);
        figures.documents_read += documents_read;
        figures.bytes_read += bytes_read;
        figures.documents_written += documents_written;
        figures.bytes_written += bytes_written;
        self.worker_calls += u64::from(matches!(caller, Caller::Worker(_)));
    }

    /// Turns sent and turns ended so far, and workers that are up.
    #[must_use]
    pub fn progress(&self) -> (u64, u64, u64) {
        (self.sent, self.ended, u64::try_from(self.up).unwrap_or(0))
    }

    /// How long completed turns took, from the message to the last chunk.
    #[must_use]
    pub fn distribution(&self) -> Distribution {
        Distribution::of(&self.latencies.sent_to_completed)
    }

    /// The figures as they are now.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let mut turns = self.turns.clone();
        if !self.open.is_empty() {
            turns.insert("open".into(), self.open.len() as u64);
        }
        let per_turn = self.worker_calls as f64 / self.ended.max(1) as f64;
        Summary {
            turns,
            chunks: self.chunks,
            latencies: self.latencies.summary(),
            creates: self.creates.count,
            creates_at_once: self.creates.most_at_once,
            creates_per_second: self.creates.most_per_second,
            functions: self.functions.clone(),
            worker_calls_per_turn: per_turn,
            peak_heap: self.peak_heap.clone(),
            wire: self.wire.clone(),
            counts: self.counts,
            faults: self.faults.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from(text)
    }

    fn figures(events: impl IntoIterator<Item = (Micros, Event)>) -> Summary {
        let mut figures = Figures::default();
        for (at, event) in events {
            figures.observe(&Fact { at, host: name("somewhere"), event });
        }
        figures.summary()
    }

    fn changed(from: TurnState, to: TurnState) -> Event {
        let (turn, session, worker) = (name("t1"), name("s1"), name("worker-1"));
        Event::TurnChanged { turn, session, worker, from, to, epoch: None, chunks: None, error: None }
    }

    #[test]
    fn the_stages_of_a_turn_are_measured() {
        let text = name("hello");
        let (turn, session, worker) = (name("t1"), name("s1"), name("worker-1"));
        let summary = figures([
            (1000, Event::Sent { turn, session, worker, created: 0.0, text: text.clone() }),
            (3000, changed(TurnState::Pending, TurnState::Claimed)),
            (7000, Event::Prompted { opencode_session: name("ses_1"), message: name("msg_1"), text }),
            (9000, changed(TurnState::Claimed, TurnState::Completed)),
        ]);
        let stages: Vec<_> =
            summary.latencies.iter().map(|stage| (stage.stage.clone(), stage.count, stage.max)).collect();
        let expected = [
            ("sent → claimed", 1, 2.0),
            ("claimed → prompted", 1, 4.0),
            ("prompted → first chunk", 0, 0.0),
            ("first chunk → completed", 0, 0.0),
            ("sent → completed", 1, 8.003),
        ];
        let round = |value: f64| (value * 10.0).round() / 10.0;
        for ((stage, count, max), expected) in stages.into_iter().zip(expected) {
            assert_eq!((&*stage, count, round(max)), (expected.0, expected.1, round(expected.2)));
        }
        assert_eq!(summary.turns, BTreeMap::from([("completed".into(), 1)]));
    }

    #[test]
    fn a_message_that_is_taken_late_has_waited_since_it_was_due() {
        let mut figures = Figures::default();
        figures.schedule(name("hello"), 1000);
        let (turn, session, worker) = (name("t1"), name("s1"), name("worker-1"));
        let sent = Event::Sent { turn, session, worker, created: 0.0, text: name("hello") };
        let ended = [
            changed(TurnState::Pending, TurnState::Claimed),
            changed(TurnState::Claimed, TurnState::Completed),
        ];
        for (at, event) in [501_000, 502_000, 601_000].into_iter().zip([sent].into_iter().chain(ended)) {
            figures.observe(&Fact { at, host: name("convex"), event });
        }
        let whole = figures.summary().latencies.pop().unwrap();
        assert_eq!((&*whole.stage, whole.max.round()), ("sent → completed", 600.0));
    }

    #[test]
    fn in_real_time_a_turn_that_fails_or_hangs_counts_as_long_as_it_was_waited_for() {
        let sent = |turn: &str, text: &str| Event::Sent {
            turn: name(turn),
            session: name("s1"),
            worker: name("worker-1"),
            created: 0.0,
            text: name(text),
        };
        let mut figures = Figures::default();
        for (text, due) in
            [("fails", 0), ("hangs", 10_000), ("is never taken", 20_000), ("comes too late", 900_000)]
        {
            figures.schedule(name(text), due);
        }
        let facts = [
            // From before the run: it counts for nobody.
            (0, sent("t0", "stale")),
            (1_000, sent("t1", "fails")),
            (10_000, sent("t2", "hangs")),
            (50_000, changed(TurnState::Pending, TurnState::Claimed)),
            (400_000, changed(TurnState::Claimed, TurnState::Failed)),
        ];
        for (at, event) in facts {
            figures.observe(&Fact { at, host: name("convex"), event });
        }
        figures.end(510_000);
        let summary = figures.summary();
        let stage = |wanted: &str| {
            let stage = summary.latencies.iter().find(|stage| stage.stage == wanted).unwrap();
            (stage.count, stage.max.round())
        };
        assert_eq!(figures.given_up(), 3);
        assert_eq!(stage("sent → completed"), (3, 500.0));
        // One was claimed after 50 ms; two have been waiting for it until the end.
        assert_eq!(stage("sent → claimed"), (3, 500.0));
        assert_eq!(stage("claimed → prompted"), (1, 350.0));
        assert_eq!(stage("prompted → first chunk").0, 0);
        assert_eq!(summary.turns, BTreeMap::from([("failed".into(), 1), ("open".into(), 2)]));
    }

    #[test]
    fn the_bytes_of_all_workers_are_added_by_the_kind_of_server() {
        let transferred = |worker, peer, sent| {
            (0, Event::Transferred { worker: name(worker), peer: name(peer), sent, received: 1 })
        };
        let summary = figures([
            transferred("worker-1", "convex", 5),
            transferred("worker-2", "convex", 7),
            transferred("worker-2", "opencode-2", 11),
        ]);
        let expected = [("convex", 12, 2), ("opencode", 11, 1)];
        let expected = expected.map(|(kind, sent, received)| (kind.into(), WireFigures { sent, received }));
        assert_eq!(summary.wire, BTreeMap::from(expected));
    }

    #[test]
    fn the_rate_of_creations_is_that_of_the_busiest_second() {
        let create = |at| (at, Event::CreateStarted { in_flight: 2 });
        let summary = figures([0, 900_000, 1_000_000, 1_800_000, 5_000_000].map(create));
        assert_eq!((summary.creates, summary.creates_per_second, summary.creates_at_once), (5, 3, 2));
    }
}
