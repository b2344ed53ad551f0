//! The backend's host: a deployment with its history, that answers whoever connects.

use std::{collections::BTreeMap, path::Path, rc::Rc, time::Duration};

use convex::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    engine::determinism::{EPOCH, elapsed},
    error::RunError,
    faults::{Active, hooks::OnConvex},
    hosts::legacy,
    observe::BackendFacts,
    recorder::Recorder,
};
use fake_convex::{Clock, Convex, Observer, Options, SyncOptions, auth::Identity, sources};
use fake_opencode::{OpenCode, Place};
use sim_model::{
    BACKEND_SOURCES,
    order::Order,
    plant::Plant,
    scenario::{Scenario, WorkerKind},
    trace::{Digest, Event, Name, RunningDigest},
    workload_plan::WorkloadPlan,
};

/// Its name in the network.
pub const HOST: &str = "convex";
/// Where it listens.
pub const PORT: u16 = 3210;
/// The machine that all workers of a world are on, as the backend knows it.
pub(super) const MACHINE: &str = "machine_simulated";
/// The functions of protocol 1.
const OLD_SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/convex/fixtures/functions-1");
/// How long a function takes.
pub(crate) const EXECUTION: Duration = Duration::from_millis(2);
/// The history begins so many milliseconds before the run.
const PAST: f64 = 30.0 * 24.0 * 3_600_000.0;

/// A deployment and what is known about it.
#[derive(Clone)]
pub struct Backend {
    convex: Convex,
    facts: Rc<BackendFacts>,
    name: Name,
    clock: Clock,
    wasteful: bool,
    /// The functions are those of protocol 1.
    is_old: bool,
}

/// What a deployment has around it, in simulation or in real time.
#[derive(Clone)]
pub struct BackendSetup {
    /// Its wall clock.
    pub clock: Clock,
    /// How long a function takes.
    pub execution: Duration,
    /// Who is told what happens, after it has become facts.
    pub also: Observer,
}

impl BackendSetup {
    fn simulated() -> Self {
        let clock = || u64::try_from((EPOCH + elapsed()).as_nanos()).expect("simulations end before 2554");
        Self { clock: Rc::new(clock), execution: EXECUTION, also: Rc::new(|_| {}) }
    }
}

/// Where the OpenCode sessions from before a run are written.
pub trait Disk {
    /// Adds a session that was made at `created_ms` (Unix ms). Returns its id.
    fn seed_session(&self, title: &str, created_ms: u64, place: Place) -> String;
}

impl Disk for OpenCode {
    fn seed_session(&self, title: &str, created_ms: u64, place: Place) -> String {
        Self::seed_session(self, title, created_ms, place)
    }
}

/// The person who owns everything in a world.
#[must_use]
pub fn owner() -> Identity {
    Identity::new("https://people.example", "owner")
}

/// The token of worker number `index`: fixed, so that the same worker is known to every run.
#[must_use]
pub fn token(index: usize) -> String {
    format!("{MACHINE}:{}:{}", worker_id(index), secret(index))
}

/// What a worker is called on its machine.
pub(super) fn worker_id(index: usize) -> String {
    format!("worker_{}", index + 1)
}

fn secret(index: usize) -> String {
    format!("not-a-secret-of-simulated-worker-{:04}", index + 1)
}

impl Backend {
    /// Loads the functions into an empty deployment.
    ///
    /// # Errors
    /// If they cannot be read or do not load.
    pub fn load(order: &Order, recorder: &Recorder, active: &Active) -> Result<Self, RunError> {
        Self::load_into(BackendSetup::simulated(), order, recorder, active)
    }

    /// The same, in other surroundings.
    ///
    /// # Errors
    /// If they cannot be read or do not load.
    pub fn load_into(
        BackendSetup { clock, execution, also }: BackendSetup,
        order: &Order,
        recorder: &Recorder,
        active: &Active,
    ) -> Result<Self, RunError> {
        let name = recorder.name(HOST);
        let is_old = order.plants.contains(&Plant::OldFunctions);
        let directory = if is_old { OLD_SOURCES } else { BACKEND_SOURCES };
        let mut sources = sources::read_directory(Path::new(directory))
            .map_err(|error| RunError::Backend(format!("{directory}: {error}")))?;
        order.plants.iter().for_each(|plant| plant.plant_in_sources(&mut sources));
        if order.scenario.kind == WorkerKind::Legacy {
            let (path, text) = legacy::SOURCE;
            sources.insert(path.to_owned(), text.to_owned());
        }
        recorder.record(&name, Event::Loaded { sources: digest(&sources) });
        let facts = Rc::new(BackendFacts::new(recorder.clone(), Name::clone(&name)));
        let observer = Rc::clone(&facts);
        let options = Options {
            seed: order.seed.derive("convex"),
            clock: Rc::clone(&clock),
            execution_latency: execution,
            sync: SyncOptions::default(),
            observer: Rc::new(move |observation| {
                observer.observe(observation);
                also(observation);
            }),
            faults: OnConvex::new(active.clone()),
        };
        let convex = Convex::load(&sources, options).map_err(|error| RunError::Backend(error.to_string()))?;
        let wasteful = order.plants.contains(&Plant::ExtraCall);
        Ok(Self { convex, facts, name, clock, wasteful, is_old })
    }

    /// The deployment.
    #[must_use]
    pub fn convex(&self) -> &Convex {
        &self.convex
    }

    /// Whether each message costs one call more than it needs ([`Plant::ExtraCall`]).
    #[must_use]
    pub fn wastes_calls(&self) -> bool {
        self.wasteful
    }

    /// Gives worker number `index` its history, here and in OpenCode. Returns the ids of its sessions.
    #[must_use]
    pub fn seed(
        &self,
        index: usize,
        scenario: &Scenario,
        plan: &WorkloadPlan,
        machine: &dyn Disk,
    ) -> Vec<String> {
        self.convex.seed(|seeder| {
            let mut insert = |table: &str, created: f64, fields: BTreeMap<String, Value>| {
                seeder
                    .insert(table, fields, created)
                    .unwrap_or_else(|error| panic!("seeding `{table}`: {error}"))
            };
            let now = ((self.clock)() / 1_000_000) as f64;
            let mut history = History { backend: self, insert: &mut insert, clock: now - PAST };
            history.worker(index, scenario, plan, machine)
        })
    }

    /// The host's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }
}

/// Writes what was before the run, in order of time.
struct History<'a, I> {
    backend: &'a Backend,
    insert: &'a mut I,
    /// Unix time in ms of what was written last.
    clock: f64,
}

impl<I: FnMut(&str, f64, BTreeMap<String, Value>) -> String> History<'_, I> {
    fn write<const N: usize>(&mut self, table: &str, fields: [(&str, Value); N]) -> String {
        self.clock += 1.0;
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        (self.insert)(table, self.clock, fields)
    }

    fn worker(
        &mut self,
        index: usize,
        scenario: &Scenario,
        plan: &WorkloadPlan,
        machine: &dyn Disk,
    ) -> Vec<String> {
        let owner = Value::from(owner().token_identifier());
        if index == 0 {
            let fields =
                [("machineId", MACHINE.into()), ("ownerId", owner.clone()), ("name", "simulated".into())];
            self.write("machines", fields);
            // One person stands for all the people of a world, who send more than one may. Once there were no limits.
            if !self.backend.is_old {
                let limits = BTreeMap::from([("messagesPerMinute".to_owned(), Value::Null)]);
                self.write("owners", [("ownerId", owner.clone()), ("limits", Value::Object(limits))]);
            }
        }
        let worker = self.write(
            "workers",
            [
                ("machineId", MACHINE.into()),
                ("workerId", worker_id(index).into()),
                ("ownerId", owner.clone()),
                ("secretHash", hash(&secret(index)).into()),
                ("approval", "approved".into()),
                ("status", "offline".into()),
                ("epoch", 1.0.into()),
                ("staleBefore", self.clock.into()),
            ],
        );
        self.backend.facts.know_worker(&worker, &format!("worker-{}", index + 1), 1);
        let sessions: Vec<_> =
            (0..plan.in_opencode.len()).map(|n| self.session(n, &worker, &owner, plan, machine)).collect();
        for n in 0..scenario.population.only_in_opencode {
            machine.seed_session(&format!("only here {n}"), self.clock as u64, Place::Here);
        }
        for n in 0..scenario.population.in_other_directories {
            machine.seed_session(&format!("elsewhere {n}"), self.clock as u64, Place::Elsewhere);
        }
        for session in &sessions {
            (0..scenario.population.old_messages_per_session)
                .for_each(|n| self.old_turn(n, session, &worker));
        }
        self.stale(index, &worker, &sessions, plan);
        sessions
    }

    /// A session that OpenCode does not know has no link, or one to a session that is lost.
    fn session(
        &mut self,
        n: usize,
        worker: &str,
        owner: &Value,
        plan: &WorkloadPlan,
        machine: &dyn Disk,
    ) -> String {
        let kind = if plan.imported[n] { "imported" } else { "session" };
        let (title, clock) = (format!("{kind} {n}"), self.clock as u64);
        let link = match (plan.imported[n], plan.in_opencode[n], n % 2) {
            (true, ..) => Some(machine.seed_session(&title, clock, Place::Elsewhere)),
            (_, true, _) => Some(machine.seed_session(&title, clock, Place::Here)),
            (_, false, 0) => None,
            (_, false, _) => Some(format!("ses_lost{n:018}")),
        };
        self.clock += 1.0;
        let mut fields = BTreeMap::from([
            ("worker".to_owned(), worker.into()),
            ("ownerId".to_owned(), owner.clone()),
            ("title".to_owned(), title.as_str().into()),
            ("state".to_owned(), "active".into()),
        ]);
        fields.extend(link.as_deref().map(|link| ("opencodeSessionId".to_owned(), link.into())));
        let session = (self.insert)("sessions", self.clock, fields);
        self.backend.facts.know_session(&session, worker, link.as_deref(), &title);
        session
    }

    fn old_turn(&mut self, n: u64, session: &str, worker: &str) {
        let turn = self.write(
            "turns",
            [
                ("session", session.into()),
                ("worker", worker.into()),
                ("content", format!("old message {n}").into()),
                ("state", "completed".into()),
                ("epoch", 1.0.into()),
                ("endedAt", self.clock.into()),
                ("chunks", 1.0.into()),
            ],
        );
        let text = "An answer from long ago. ".repeat(8);
        self.write("chunks", [("turn", turn.into()), ("sequence", 0.0.into()), ("text", text.into())]);
    }

    /// What the end of an earlier process left behind: turns that it had claimed, and turns that nobody had.
    fn stale(&mut self, index: usize, worker: &str, sessions: &[String], plan: &WorkloadPlan) {
        for &n in &plan.stale_claimed {
            self.stale_turn(&format!("claimed before {index}.{n}"), worker, &sessions[n], true);
        }
        let mut ready: BTreeMap<usize, (String, f64)> = BTreeMap::new();
        for (count, &n) in plan.stale_pending.iter().enumerate() {
            let turn =
                self.stale_turn(&format!("unclaimed before {index}.{count}"), worker, &sessions[n], false);
            ready.entry(n).or_insert((turn, self.clock));
        }
        for (n, (turn, since)) in ready {
            if plan.stale_claimed.contains(&n) {
                continue;
            }
            let session = sessions[n].as_str().into();
            let fields = [
                ("worker", worker.into()),
                ("session", session),
                ("turn", turn.into()),
                ("since", since.into()),
            ];
            self.write("readySessions", fields);
        }
    }

    fn stale_turn(&mut self, text: &str, worker: &str, session: &str, claimed: bool) -> String {
        self.clock += 1.0;
        let mut fields = BTreeMap::from([
            ("session".to_owned(), session.into()),
            ("worker".to_owned(), worker.into()),
            ("content".to_owned(), text.into()),
            ("state".to_owned(), if claimed { "claimed" } else { "pending" }.into()),
        ]);
        if claimed {
            fields.insert("epoch".to_owned(), 1.0.into());
        }
        let turn = (self.insert)("turns", self.clock, fields);
        self.backend.facts.know_stale_turn(&turn, session, worker, self.clock, text, claimed);
        turn
    }
}

/// The digest of all files with their names, in the order of the names.
fn digest(sources: &BTreeMap<String, String>) -> Digest {
    let mut digest = RunningDigest::default();
    sources.iter().flat_map(|(path, text)| [path, "\0", text, "\0"]).for_each(|part| digest.push(part));
    digest.digest()
}

/// As the backend's `hashSecret`.
fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret))
}
