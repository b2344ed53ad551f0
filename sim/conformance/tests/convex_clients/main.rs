//! Convex's own clients and the worker's against the fake Convex on loopback: one suite for all.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod clients;
mod recorded;

use std::{cell::RefCell, net::SocketAddr, path::Path, rc::Rc, time::Duration};

use conformance::{
    tap::{Cut, Tap},
    tools,
};
use convex::Value;
use fake_convex::{Convex, Identity, Kind, NoFaults, Observation, Options, SyncOptions, sources};
use tokio::{
    net::TcpListener,
    task::{LocalSet, spawn_local},
};
use worker::env::{Env as _, system::SystemEnv};

use self::clients::{Answer, Client, Npm, Official, Ours, args, until};

/// A backend on loopback behind a tap.
struct World {
    convex: Convex,
    backend: SocketAddr,
    tap: Tap,
    /// The mutations that ran, by what they inserted.
    ran: Rc<RefCell<Vec<String>>>,
}

impl World {
    async fn new(seed: u64, sync: SyncOptions) -> Self {
        Self::with_latency(seed, sync, Duration::from_millis(2)).await
    }

    /// A backend that takes this long for each function.
    async fn with_latency(seed: u64, sync: SyncOptions, execution_latency: Duration) -> Self {
        let files = sources::read_directory(&Path::new(tools::DIRECTORY).join("convex")).unwrap();
        let ran = Rc::<RefCell<Vec<String>>>::default();
        let inserted = ran.clone();
        let observer = move |observation: &Observation<'_>| {
            let Observation::Committed { writes, .. } = observation else { return };
            inserted.borrow_mut().extend(
                writes.iter().map(|write| name_of(write.new.as_deref().map(|document| &document.value))),
            );
        };
        let options = Options {
            seed,
            clock: Rc::new(|| SystemEnv.now() * 1_000_000),
            execution_latency,
            sync,
            observer: Rc::new(observer),
            faults: Rc::new(NoFaults),
        };
        let convex = Convex::load(&files, options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = listener.local_addr().unwrap();
        let served = convex.clone();
        spawn_local(async move { served.serve(listener).await });
        Self { convex, backend, tap: Tap::start(backend).await.unwrap(), ran }
    }

    /// Adds an item as somebody else.
    async fn add(&self, name: &str, n: f64) {
        let item = Value::Object(args([("name", name.into()), ("n", n.into())]));
        self.convex.call(Kind::Mutation, "items:add", item, None, "somebody").await.unwrap();
    }

    fn times(&self, name: &str) -> usize {
        self.ran.borrow().iter().filter(|ran| *ran == name).count()
    }

    /// How many messages of this type the backend has sent.
    fn sent(&self, kind: &str) -> usize {
        self.tap.said().iter().filter(|said| !said.by_client && said.message["type"] == kind).count()
    }
}

fn name_of(document: Option<&Value>) -> String {
    match document {
        Some(Value::Object(fields)) => match fields.get("name") {
            Some(Value::String(name)) => name.clone(),
            _ => String::new(),
        },
        _ => String::new(),
    }
}

fn run(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async { test().await });
}

/// All orders that the protocol allows, often.
const MIXED: SyncOptions = SyncOptions { stale_transition: 0.3, early_transition: 0.3 };
const PLAIN: SyncOptions = SyncOptions { stale_transition: 0.0, early_transition: 0.0 };

fn strings(names: &[&str]) -> Value {
    Value::Array(names.iter().map(|name| (*name).into()).collect())
}

fn is(expected: Value) -> impl Fn(&Answer) -> bool {
    move |answer| answer.as_ref() == Ok(&expected)
}

fn field<'a>(answer: &'a Answer, name: &str) -> Option<&'a Value> {
    match answer {
        Ok(Value::Object(fields)) => fields.get(name),
        _ => None,
    }
}

/// The points of a mutation at which connections are cut.
const CUTS: [Cut; 3] = [Cut::BeforeRun, Cut::BeforeAnswer, Cut::BeforeTransition];

/// What every client is put through. `runs`: how often a mutation runs whose connection is cut at each of [`CUTS`].
async fn suite<C: Client>(seed: u64, runs: [usize; 3]) {
    let world = World::new(seed, MIXED).await;
    let mut client = C::connect(world.tap.address).await;
    subscriptions_and_errors(&world, &mut client).await;
    pages(&world, &mut client).await;
    large(&mut client).await;
    if C::IS_COMPLETE {
        identities(&world, &mut client).await;
        actions(&world, &mut client).await;
    }
    cuts(&world, &mut client, runs).await;
}

async fn subscriptions_and_errors(world: &World, client: &mut impl Client) {
    let names = client.subscribe("items:names", args([])).await;
    let first = client.subscribe("items:first", args([])).await;
    until(&names, "empty", is(strings(&[]))).await;
    until(&first, "error data", |answer| *answer == Err(Some("empty".into()))).await;
    let item = |name: &str, n: f64| args([("name", name.into()), ("n", n.into())]);
    assert_eq!(client.call("mutation", "items:add", item("b", 2.0)).await, Ok("b".into()));
    until(&names, "own write", is(strings(&["b"]))).await;
    until(&first, "no error any more", is("b".into())).await;
    world.add("a", 1.0).await;
    until(&names, "another's write", is(strings(&["a", "b"]))).await;
    assert_eq!(client.call("mutation", "items:refuse", args([])).await, Err(Some("no".into())));
    assert_eq!(client.call("mutation", "items:boom", args([])).await, Err(None));
    assert_eq!(client.call("mutation", "items:nosuch", args([])).await, Err(None));
    let wrong = args([("name", 1.0.into()), ("n", "x".into())]);
    assert_eq!(client.call("mutation", "items:add", wrong).await, Err(None));
    assert_eq!(names.borrow().last(), Some(&Ok(strings(&["a", "b"]))), "what failed left nothing");
    let seen: Vec<_> = names.borrow().iter().cloned().collect();
    assert!(seen.windows(2).all(|pair| pair[0] != pair[1]), "no answer comes twice: {seen:?}");
    client.unsubscribe(&first).await;
}

async fn pages(world: &World, client: &mut impl Client) {
    let options = |cursor: Value| {
        args([("paginationOpts", Value::Object(args([("numItems", 2.0.into()), ("cursor", cursor)])))])
    };
    world.add("c", 3.0).await;
    let first = client.subscribe("items:page", options(Value::Null)).await;
    until(&first, "first page", |answer| field(answer, "page") == Some(&strings(&["a", "b"]))).await;
    let cursor = field(&first.borrow()[0], "continueCursor").unwrap().clone();
    let second = client.subscribe("items:page", options(cursor)).await;
    until(&second, "second page", |answer| field(answer, "page") == Some(&strings(&["c"]))).await;
    world.add("ab", 1.5).await;
    let grown = strings(&["a", "ab", "b"]);
    until(&first, "the page keeps its end", |answer| field(answer, "page") == Some(&grown)).await;
    client.unsubscribe(&second).await;
    client.unsubscribe(&first).await;
}

/// More than one chunk of 5 MB, less than the 16 MiB frame of the official Rust client.
const LARGE: usize = 11_000_000;

async fn large(client: &mut impl Client) {
    let seen = client.subscribe("items:large", args([("bytes", (LARGE as f64).into())])).await;
    let whole = Value::String("é".repeat(LARGE / 2));
    until(&seen, "a large answer", |answer| field(answer, "text") == Some(&whole)).await;
    client.unsubscribe(&seen).await;
}

async fn identities(world: &World, client: &mut impl Client) {
    let who = client.subscribe("items:who", args([])).await;
    until(&who, "nobody", is("nobody".into())).await;
    let ada = Identity { expires_at: Some(4_000_000_000), ..Identity::new("https://people.example", "ada") };
    client.sign_in(Some(ada.to_token())).await;
    until(&who, "signed in", is("ada".into())).await;
    world.convex.disconnect_all();
    world.add("while they are away", 9.0).await;
    let names = client.subscribe("items:names", args([])).await;
    until(&names, "connected again", |answer| answer.is_ok()).await;
    until(&who, "still signed in", is("ada".into())).await;
    client.sign_in(None).await;
    until(&who, "signed out", is("nobody".into())).await;
}

async fn actions(world: &World, client: &mut impl Client) {
    let names = client.subscribe("items:names", args([])).await;
    until(&names, "names", |answer| answer.is_ok()).await;
    let item = args([("name", "acted".into()), ("n", 50.0.into())]);
    let before = names.borrow().last().unwrap().clone();
    let after = client.call("action", "items:addByAction", item).await;
    assert_ne!(after, before, "it sees what it wrote");
    until(&names, "what an action wrote", |answer| *answer == after).await;
    assert_eq!(world.times("acted"), 1);
    assert_eq!(client.call("action", "items:refuseByAction", args([])).await, Err(Some("no".into())));
    assert_eq!(client.call("action", "items:nosuch", args([])).await, Err(None));
    assert_eq!(client.call("action", "items:add", args([])).await, Err(None), "this is a mutation");
    assert_eq!(client.call("action", "items:whoByAction", args([])).await, Ok("nobody".into()));
}

/// Cuts the connection while the answer of an action is under way. `runs`: how often it runs.
async fn cut_action<C: Client>(expected: &Answer, runs: usize) {
    let world = World::new(1, PLAIN).await;
    let mut client = C::connect(world.tap.address).await;
    world.tap.cut(&[Cut::BeforeActionAnswer]);
    let item = args([("name", "acted".into()), ("n", 1.0.into())]);
    assert_eq!(&client.call("action", "items:addByAction", item).await, expected);
    assert_eq!((world.tap.cuts_left(), world.times("acted")), (0, runs));
}

async fn cuts(world: &World, client: &mut impl Client, runs: [usize; 3]) {
    let names = client.subscribe("items:names", args([])).await;
    until(&names, "names", |answer| answer.is_ok()).await;
    for (cut, runs) in CUTS.into_iter().zip(runs) {
        let name = format!("{cut:?}");
        world.tap.cut(&[cut]);
        let item = args([("name", name.as_str().into()), ("n", 100.0.into())]);
        assert_eq!(client.call("mutation", "items:add", item).await, Ok(name.as_str().into()));
        let shown = |answer: &Answer| matches!(answer, Ok(Value::Array(names)) if names.iter().filter(|one| **one == Value::from(name.as_str())).count() == runs);
        until(&names, &name, shown).await;
        assert_eq!((world.tap.cuts_left(), world.times(&name)), (0, runs), "{name}");
    }
}

#[test]
fn convexs_npm_client_passes() {
    if tools::node().is_none() {
        return;
    }
    run(async || {
        suite::<Npm>(1, [1, 1, 1]).await;
        suite::<Npm>(2, [1, 1, 1]).await;
    });
}

#[test]
fn convexs_npm_client_gets_large_transitions_in_chunks_and_calls_over_http() {
    if tools::node().is_none() {
        return;
    }
    run(async || {
        let world = World::new(1, PLAIN).await;
        let mut client = Npm::connect(world.tap.address).await;
        large(&mut client).await;
        assert_eq!(world.sent("TransitionChunk"), 3);
        let mut client = Npm::connect(world.backend).await;
        let item = args([("name", "over http".into()), ("n", 1.0.into())]);
        assert_eq!(client.call("httpMutation", "items:add", item).await, Ok("over http".into()));
        assert_eq!(client.call("httpQuery", "items:names", args([])).await, Ok(strings(&["over http"])));
        assert_eq!(client.call("httpMutation", "items:refuse", args([])).await, Err(Some("no".into())));
        let item = args([("name", "by an action".into()), ("n", 2.0.into())]);
        let both = strings(&["over http", "by an action"]);
        assert_eq!(client.call("httpAction", "items:addByAction", item).await, Ok(both));
        assert_eq!(client.call("httpAction", "items:refuseByAction", args([])).await, Err(Some("no".into())));
        let ada = Identity::new("https://people.example", "ada");
        client.sign_in(Some(ada.to_token())).await;
        assert_eq!(client.call("httpQuery", "items:who", args([])).await, Ok("ada".into()));
    });
}

/// Its users are told that nobody knows what became of an action whose answer was lost.
#[test]
fn convexs_npm_client_gives_up_an_action_whose_answer_is_lost() {
    if tools::node().is_none() {
        return;
    }
    run(async || cut_action::<Npm>(&Err(None), 1).await);
}

#[test]
fn convexs_rust_client_runs_an_action_again_whose_answer_is_lost() {
    run(async || cut_action::<Official>(&Ok(strings(&["acted", "acted"])), 2).await);
}

/// It takes a new session id at each connection, so the backend cannot tell that a mutation was resent.
#[test]
fn convexs_rust_client_passes_but_runs_mutations_twice() {
    run(async || suite::<Official>(1, [1, 2, 2]).await);
}

#[test]
fn our_client_passes_and_runs_each_mutation_once() {
    run(async || {
        for seed in 1..=4 {
            suite::<Ours>(seed, [1, 1, 1]).await;
        }
    });
}
