//! The function calls of the main job, without network, worker, trace and oracles: a deployment is called directly.

use std::{cell::Cell, path::Path, rc::Rc, time::Duration};

use convex::Value;
use fake_convex::{Convex, Identity, Kind, NoFaults, Options, SyncOptions, sources};
use sim_model::BACKEND_SOURCES;
use sim_report::Report;
use tokio::runtime;

use crate::SEED;

/// 2026-01-01, in nanoseconds; each reading of the clock is a millisecond later.
const START: u64 = 1_767_225_600_000_000_000;
/// About as many bytes as a chunk has.
const CHUNK: &str = "A reply is written in chunks, each of which holds what the model said since the last. \
    A chunk of the main job has some one hundred and fifty bytes.";

/// How often which function is called.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    /// Turns: each is sent, claimed and completed.
    pub turns: u64,
    /// Chunks of each turn.
    pub chunks: u64,
    /// Runs of the window's query for each turn.
    pub windows: u64,
}

impl Mix {
    /// The mix of a run: the four functions that are 97 of 100 calls.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let runs = |path: &str| report.figures.functions.get(path).map_or(0, |one| one.calls + one.reruns);
        let turns = runs("chat:sendMessage").max(1);
        Self {
            turns,
            chunks: runs("chat:writeChunk").div_ceil(turns),
            windows: runs("chat:subscribeToWorkerMessages").div_ceil(turns),
        }
    }

    /// How many calls that is.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.turns * (3 + self.chunks + self.windows)
    }
}

/// A deployment with an approved worker and some sessions.
pub struct Backend {
    runtime: runtime::Runtime,
    convex: Convex,
    credentials: Value,
    sessions: Vec<Value>,
}

impl Backend {
    /// Deploys the functions and opens `sessions` sessions.
    ///
    /// # Panics
    /// If the functions do not do what the main job relies on.
    #[must_use]
    pub fn new(sessions: u64) -> Self {
        let now = Cell::new(START);
        let clock = move || now.replace(now.get() + 1_000_000);
        let options = Options {
            seed: SEED.0,
            clock: Rc::new(clock),
            execution_latency: Duration::ZERO,
            sync: SyncOptions::default(),
            observer: Rc::new(|_| {}),
            faults: Rc::new(NoFaults),
        };
        let sources = sources::read_directory(Path::new(BACKEND_SOURCES)).expect("the functions are there");
        let convex = Convex::load(&sources, options).expect("the functions load");
        let runtime = runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
        let mut backend = Self { runtime, convex, credentials: Value::Null, sessions: Vec::new() };
        let worker = backend.enrol();
        backend.sessions = (0..sessions.max(1))
            .map(|_| backend.mutate("chat:startSession", [("worker", worker.clone())]))
            .collect();
        backend
    }

    fn call<const N: usize>(&self, kind: Kind, path: &str, args: [(&str, Value); N]) -> Value {
        let person = Some(Identity::new("https://people.example", "owner"));
        let called = self.convex.call(kind, path, object(args), person, "bench");
        self.runtime.block_on(called).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn mutate<const N: usize>(&self, path: &str, args: [(&str, Value); N]) -> Value {
        self.call(Kind::Mutation, path, args)
    }

    /// Registers and approves a worker; returns its id.
    fn enrol(&mut self) -> Value {
        let machine = self.mutate("workers:createMachine", [("name", "bench".into())]);
        self.mutate("workers:openEnrolment", [("machine", machine.clone()), ("minutes", 15.0.into())]);
        let owner = Identity::new("https://people.example", "owner");
        let limits = [("ownerId", owner.token_identifier().into()), ("messagesPerMinute", Value::Null)];
        let lifted = self.convex.call_as_cron("limits:set", object(limits));
        self.runtime.block_on(lifted).unwrap_or_else(|error| panic!("limits:set: {error}"));
        let secret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let who = [("machineId", machine), ("workerId", "worker_1".into()), ("secret", secret.into())];
        let registration = [("who", object(who.clone())), ("acceptUnclaimedWithinMs", 1e9.into())];
        let registered = self.mutate("workers:register", registration);
        let worker = field(&registered, "worker");
        self.mutate("workers:approve", [("worker", worker.clone())]);
        let mut credentials = object(who);
        if let Value::Object(fields) = &mut credentials {
            fields.insert("epoch".into(), field(&registered, "epoch"));
        }
        self.credentials = credentials;
        worker
    }

    /// Makes all calls of `mix`.
    ///
    /// # Panics
    /// If a call fails.
    pub fn run(&self, mix: Mix) {
        let sessions = self.sessions.iter().cycle();
        (0..mix.turns).zip(sessions).for_each(|(_, session)| self.turn(session, mix));
    }

    /// What the worker's subscription runs, with nothing to show.
    ///
    /// # Panics
    /// If the call fails.
    #[must_use]
    pub fn window(&self) -> Value {
        let who = ("who", self.credentials.clone());
        self.call(Kind::Query, "chat:subscribeToWorkerMessages", [who, ("limit", 32.0.into())])
    }

    fn turn(&self, session: &Value, mix: Mix) {
        let message = [("session", session.clone()), ("content", "What does this test check?".into())];
        let turn = self.mutate("chat:sendMessage", message);
        let who = || ("who", self.credentials.clone());
        (0..mix.windows).for_each(|_| drop(self.window()));
        let claimed = self.mutate("chat:claim", [who(), ("turn", turn.clone())]);
        assert_eq!(field(&claimed, "status"), "claimed".into());
        for sequence in 0..mix.chunks {
            self.mutate(
                "chat:writeChunk",
                [who(), ("turn", turn.clone()), at(sequence), ("text", CHUNK.into())],
            );
        }
        self.mutate("chat:completeMessage", [who(), ("turn", turn), at(mix.chunks), ("text", "".into())]);
    }
}

fn at(sequence: u64) -> (&'static str, Value) {
    ("sequence", (sequence as f64).into())
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn field(value: &Value, name: &str) -> Value {
    match value {
        Value::Object(fields) => fields.get(name).cloned().unwrap_or(Value::Null),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_called() {
        Backend::new(2).run(Mix { turns: 5, chunks: 3, windows: 1 });
    }
}
