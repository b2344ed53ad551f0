//! The real functions of `worker/convex`, from registration to a reply.

use super::*;

mod deletion;
mod enrolment;
mod limits;
mod liveness;
mod migrations;
mod permissions;
mod sessions;
mod turns;
mod workers;

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef";

fn who(machine: &Value, epoch: Option<f64>) -> Value {
    let mut who = BTreeMap::from([
        ("machineId".to_owned(), machine.clone()),
        ("workerId".to_owned(), "w".into()),
        ("secret".to_owned(), SECRET.into()),
    ]);
    who.extend(epoch.map(|epoch| ("epoch".to_owned(), epoch.into())));
    Value::Object(who)
}

/// One approved worker with one session, in a deployment that others may share.
struct World {
    convex: Convex,
    log: Log,
    ada: Identity,
    machine: Value,
    session: Value,
}

impl World {
    async fn new(convex: Convex, log: Log, person: &str) -> Self {
        let mut world = Self {
            convex,
            log,
            ada: Identity::new("https://issuer", person),
            machine: Value::Null,
            session: Value::Null,
        };
        world.machine = world.person("workers:createMachine", object([("name", "laptop".into())])).await;
        world.enrol(15.0).await;
        let registered = world.register().await;
        let worker = field(&registered, "worker");
        world.person("workers:approve", object([("worker", worker.clone())])).await;
        world.session = world.person("chat:startSession", object([("worker", worker)])).await;
        world
    }

    async fn call(&self, path: &str, args: Value, identity: Option<Identity>) -> Result<Value, CallError> {
        self.convex.call(Kind::Mutation, path, args, identity, "test").await
    }

    async fn person(&self, path: &str, args: Value) -> Value {
        self.call(path, args, Some(self.ada.clone())).await.unwrap()
    }

    /// Lets workers register for so many minutes.
    async fn enrol(&self, minutes: f64) {
        let args = object([("machine", self.machine.clone()), ("minutes", minutes.into())]);
        self.person("workers:openEnrolment", args).await;
    }

    async fn register(&self) -> Value {
        let args = object([("who", who(&self.machine, None)), ("acceptUnclaimedWithinMs", 0.0.into())]);
        self.call("workers:register", args, None).await.unwrap()
    }

    async fn worker<const N: usize>(
        &self,
        path: &str,
        fields: [(&str, Value); N],
    ) -> Result<Value, CallError> {
        let Value::Object(mut args) = object(fields) else { unreachable!() };
        args.insert("who".into(), who(&self.machine, Some(1.0)));
        self.call(path, Value::Object(args), None).await
    }

    /// The worker's document.
    fn worker_id(&self) -> Value {
        let is_ours = |worker: &Value| field(worker, "machineId") == self.machine;
        self.convex.table("workers").iter().find(|worker| is_ours(worker)).map(|it| field(it, "_id")).unwrap()
    }

    /// Calls an internal function, as an operator or the scheduler would.
    async fn operator(&self, path: &str, args: Value) -> Value {
        self.convex.call_as_cron(path, args).await.unwrap()
    }

    /// Sets limits of the person; the others are the usual ones.
    async fn limit<const N: usize>(&self, limits: [(&str, Value); N]) {
        let Value::Object(mut args) = object(limits) else { unreachable!() };
        args.insert("ownerId".into(), self.ada.token_identifier().into());
        self.operator("limits:set", Value::Object(args)).await;
    }

    /// Lets the person send faster than people may.
    async fn hurry(&self) {
        self.limit([("messagesPerMinute", Value::Null)]).await;
    }

    /// Sends a message; returns its turn.
    async fn send(&self) -> Value {
        self.say("hello").await.unwrap()
    }

    async fn say(&self, content: &str) -> Result<Value, CallError> {
        let args = object([("session", self.session.clone()), ("content", content.into())]);
        self.call("chat:sendMessage", args, Some(self.ada.clone())).await
    }

    async fn query(&self, path: &str, args: Value) -> Result<Value, CallError> {
        self.convex.call(Kind::Query, path, args, Some(self.ada.clone()), "test").await
    }

    /// Sends a message and claims its turn.
    async fn turn(&self) -> Value {
        let turn = self.send().await;
        let claimed = self.worker("chat:claim", [("turn", turn.clone())]).await.unwrap();
        assert_eq!(field(&claimed, "status"), "claimed".into());
        turn
    }
}

/// Runs scheduled functions and crons until the test ends.
fn run_scheduler(convex: &Convex) {
    let convex = convex.clone();
    tokio::task::spawn_local(async move { convex.run_scheduler().await });
}

/// Runs a test on a deployment with one worker.
fn check(test: impl AsyncFnOnce(World)) {
    check_many(1, async |mut worlds| test(worlds.remove(0)).await);
}

/// Runs a test on a deployment with many workers, each of another person.
fn check_many(count: usize, test: impl AsyncFnOnce(Vec<World>)) {
    simulate(|| async {
        let (convex, log) = deploy_map(&real_sources(), Duration::ZERO, SyncOptions::default());
        let mut worlds = Vec::new();
        for n in 0..count {
            let person = if n == 0 { "ada".to_owned() } else { format!("ada-{n}") };
            worlds.push(World::new(convex.clone(), log.clone(), &person).await);
        }
        test(worlds).await;
    });
}

fn array(value: Value) -> Vec<Value> {
    let Value::Array(items) = value else { panic!("no array: {value:?}") };
    items
}

/// The code with which a call was refused.
fn code(refused: Result<Value, CallError>) -> Value {
    match refused {
        Err(CallError::Failed(failure)) => field(&failure.data.unwrap(), "code"),
        other => panic!("not refused: {other:?}"),
    }
}

fn chunk(turn: &Value, sequence: f64, text: &str) -> [(&'static str, Value); 3] {
    [("turn", turn.clone()), ("sequence", sequence.into()), ("text", text.into())]
}
