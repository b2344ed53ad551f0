//! Another tenant of the same backend, who means harm: everything that it does, everybody who is signed in may do.
//!
//! It draws nothing and waits for nobody: what is refused for its speed it tries again, all else it takes as it comes. The
//! workers that it makes vanish at one moment, each with one of the longest messages claimed and others behind it.

use std::{collections::BTreeMap, time::Duration};

use convex::Value;
use futures_util::future::join_all;
use tokio::time::sleep;

use crate::hosts::backend::{Backend, MACHINE, worker_id};
use fake_convex::{CallError, Identity, Kind};
use sim_model::scenario::Hostile;

/// As whom it calls: nobody that anything is expected of.
const CALLER: &str = "stranger";
/// How many there are of what it tries: more machines than a person may have, more workers than may
/// wait for approval on one of them.
const MACHINES: usize = 60;
const JUNK: usize = 30;
/// Characters (and bytes) of a text that fits a document and is far too long.
const OVERSIZED: usize = 900_000;
/// Characters of the longest message that is taken, of three bytes each.
const LONGEST: usize = 200_000;
/// Pause before what was refused for its speed is tried again, and for how long that goes on.
const PAUSE: Duration = Duration::from_secs(5);
const TRIES: u32 = 60;

/// The tenant.
#[derive(Clone)]
pub struct Tenant {
    backend: Backend,
    plan: Hostile,
}

/// One of its workers, with a session.
struct Worker {
    id: Value,
    session: Value,
    /// What its calls begin with.
    who: Value,
}

type Args = BTreeMap<String, Value>;

fn args<const N: usize>(args: [(&str, Value); N]) -> Args {
    args.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl Tenant {
    /// Who carries out `plan`.
    #[must_use]
    pub fn new(backend: Backend, plan: Hostile) -> Self {
        Self { backend, plan }
    }

    /// Does everything that is planned; nothing, if it has no workers.
    pub async fn live(self) {
        let workers = *self.plan.workers.get_ref();
        if workers == 0 {
            return;
        }
        sleep(self.plan.at.get_ref().0).await;
        let Some(machine) = self.person("workers:createMachine", args([("name", "theirs".into())])).await
        else {
            return;
        };
        self.register_junk(&machine).await;
        let mut made = Vec::new();
        for number in 1..=workers {
            made.extend(self.make(&machine, &format!("worker_theirs_{number}")).await);
        }
        let Some(first) = made.first() else { return };
        self.say_too_much(first).await;
        self.fill_up(&made).await;
        // Their last beats are of one moment, so that all that they left is to be ended at one moment, too.
        let beat =
            |worker: &Worker| self.call("workers:heartbeat", args([("who", worker.who.clone())]), None);
        join_all(made.iter().map(beat)).await;
        // The backlog of one chat is ended by hand.
        self.person("chat:endSession", args([("session", first.session.clone())])).await;
        for _ in 0..MACHINES {
            self.person("workers:createMachine", args([("name", "one more".into())])).await;
        }
    }

    /// Workers that nobody invited, on the machine of the others and on its own; names that are taken, and too long.
    async fn register_junk(&self, machine: &Value) {
        self.register(MACHINE.into(), "worker_junk", "a secret").await;
        self.register(MACHINE.into(), &worker_id(0), "a secret").await;
        self.register(machine.clone(), "worker_junk", "a secret").await;
        let opened = args([("machine", machine.clone()), ("minutes", 15.0.into())]);
        self.person("workers:openEnrolment", opened).await;
        self.register(machine.clone(), &"j".repeat(OVERSIZED), "a secret").await;
        for number in 0..JUNK {
            self.register(machine.clone(), &format!("worker_junk_{number}"), "a secret").await;
        }
    }

    async fn register(&self, machine: Value, worker: &str, secret: &str) -> Option<Value> {
        let who = args([("machineId", machine), ("workerId", worker.into()), ("secret", secret.into())]);
        let all = args([("who", Value::Object(who)), ("acceptUnclaimedWithinMs", 0.0.into())]);
        self.call("workers:register", all, None).await
    }

    /// A worker that has claimed one of the longest messages.
    async fn make(&self, machine: &Value, name: &str) -> Option<Worker> {
        let invited = args([("machine", machine.clone()), ("workerId", name.into())]);
        let secret = text(&self.person("workers:invite", invited).await?, "secret")?;
        let registration = self.register(machine.clone(), name, &secret).await?;
        let (id, epoch) = (field(&registration, "worker")?, field(&registration, "epoch")?);
        let who = Value::Object(args([
            ("machineId", machine.clone()),
            ("workerId", name.into()),
            ("secret", secret.into()),
            ("epoch", epoch),
        ]));
        self.call("workers:markConnected", args([("who", who.clone())]), None).await;
        let session = self.person("chat:startSession", args([("worker", id.clone())])).await?;
        let turn = self.send(&session, "長".repeat(LONGEST)).await?;
        self.call("chat:claim", args([("who", who.clone()), ("turn", turn)]), None).await;
        Some(Worker { id, session, who })
    }

    /// Texts of a whole document where a name, a title or a model is due.
    async fn say_too_much(&self, Worker { id: worker, session, .. }: &Worker) {
        let long = || Value::from("x".repeat(OVERSIZED));
        let named = args([("name", long())]);
        self.person("workers:createMachine", named).await;
        let titled = args([("worker", worker.clone()), ("title", long())]);
        self.person("chat:startSession", titled).await;
        let modelled = args([("worker", worker.clone()), ("model", long())]);
        self.person("chat:startSession", modelled).await;
        let sent = args([("session", session.clone()), ("content", "x".into()), ("model", long())]);
        self.person("chat:sendMessage", sent).await;
        self.person("chat:sendMessage", args([("session", session.clone()), ("content", long())])).await;
    }

    /// Short messages behind each long one, as fast as they are taken.
    async fn fill_up(&self, workers: &[Worker]) {
        for number in 0..self.plan.backlog {
            for worker in workers {
                self.send(&worker.session, format!("{number}")).await;
            }
        }
    }

    /// Sends a message, as soon as it is taken.
    async fn send(&self, session: &Value, content: String) -> Option<Value> {
        self.person("chat:sendMessage", args([("session", session.clone()), ("content", content.into())]))
            .await
    }

    async fn person(&self, path: &str, args: Args) -> Option<Value> {
        self.call(path, args, Some(Identity::new("https://people.example", "stranger"))).await
    }

    /// Calls a function. A refusal is what is to be expected here.
    async fn call(&self, path: &str, args: Args, identity: Option<Identity>) -> Option<Value> {
        for _ in 0..TRIES {
            let all = Value::Object(args.clone());
            match self.backend.convex().call(Kind::Mutation, path, all, identity.clone(), CALLER).await {
                Ok(value) => return Some(value),
                Err(error) if is_too_fast(&error) => sleep(PAUSE).await,
                Err(_) => return None,
            }
        }
        None
    }
}

fn is_too_fast(error: &CallError) -> bool {
    let CallError::Failed(failure) = error else { return matches!(error, CallError::Conflict) };
    let code = failure.data.as_ref().and_then(|data| text(data, "code"));
    code.as_deref() == Some("too_many_messages")
}

fn field(object: &Value, name: &str) -> Option<Value> {
    match object {
        Value::Object(fields) => fields.get(name).cloned(),
        _ => None,
    }
}

fn text(object: &Value, name: &str) -> Option<String> {
    match field(object, name)? {
        Value::String(text) => Some(text),
        _ => None,
    }
}
