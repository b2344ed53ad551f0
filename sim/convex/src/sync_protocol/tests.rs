//! The state machine against the official client's, without a network.

use std::{rc::Rc, time::Duration};

use ::convex::base_client::{BaseConvexClient, FunctionResult, SubscriberId};
use convex_sync_types::{QuerySetModification, SessionId};
use proptest::prelude::*;
use rand::SeedableRng;
use tokio::sync::{Notify, oneshot};

use super::*;
use crate::{
    Convex,
    executor::Call,
    subscriptions::{Subscription, take_invalid},
    tests::{START, deploy, field, fixture::*, simulate},
};

enum Todo {
    Mutate(Mutation),
    Deliver(u64, Vec<QueryResult>),
}

/// A client and its connection, with everything between them in the test's hands.
struct Link {
    convex: Convex,
    client: BaseConvexClient,
    session: Uuid,
    connects: u32,
    connection: Connection,
    subscriptions: BTreeMap<u32, Subscription>,
    wake: Rc<Notify>,
    to_client: VecDeque<ServerMessage<Value>>,
    /// What the connection asked for and nobody has done yet.
    todo: VecDeque<Todo>,
    closed: Option<Option<(u16, &'static str)>>,
    /// Everything that the client was sent, in short.
    log: Vec<String>,
    /// What `items:names` answers at each timestamp at which something was committed.
    history: BTreeMap<u64, Vec<Value>>,
    /// The timestamp that the client has been brought to.
    shown: u64,
}

impl Link {
    async fn new(convex: Convex, sync: SyncOptions) -> Self {
        let mut link = Self {
            convex,
            client: BaseConvexClient::new(),
            session: Uuid::from_u128(7),
            connects: 0,
            connection: Connection::new(sync, ChaCha8Rng::seed_from_u64(1)),
            subscriptions: BTreeMap::new(),
            wake: Rc::default(),
            to_client: VecDeque::new(),
            todo: VecDeque::new(),
            closed: None,
            log: Vec::new(),
            history: BTreeMap::from([(0, Vec::new())]),
            shown: 0,
        };
        link.connect(sync).await;
        link
    }

    /// Opens a new connection in place of the old one, as a transport with a constant session does.
    async fn connect(&mut self, sync: SyncOptions) {
        self.connection = Connection::new(sync, ChaCha8Rng::seed_from_u64(u64::from(self.connects)));
        self.subscriptions.clear();
        self.to_client.clear();
        self.todo.clear();
        self.closed = None;
        self.message(ClientMessage::Connect {
            session_id: SessionId::new(self.session),
            connection_count: self.connects,
            last_close_reason: "test".into(),
            max_observed_timestamp: self.client.max_observed_timestamp(),
            client_ts: Some(START / 1_000_000),
        });
        if self.connects > 0 {
            self.client.resend_ongoing_queries_mutations().await;
        }
        self.connects += 1;
    }

    fn message(&mut self, message: ClientMessage) {
        let json = serde_json::Value::try_from(message).unwrap();
        self.event(said(ClientMessage::try_from(json).unwrap()));
    }

    fn event(&mut self, event: Event) {
        let invalidated = take_invalid(&mut self.subscriptions);
        let actions = self.connection.handle(event, &Present { invalidated, ..self.convex.present() });
        for action in actions {
            match action {
                Action::Send(message) => self.to_client.push_back(message),
                Action::Close(frame) => self.closed = Some(frame),
                Action::Forget(id) => drop(self.subscriptions.remove(&id.get_id())),
                Action::Mutate(mutation) => self.todo.push_back(Todo::Mutate(mutation)),
                Action::Compute(requests) => {
                    let (ts, results) = self.compute(requests);
                    self.todo.push_back(Todo::Deliver(ts, results));
                }
            }
        }
    }

    /// Hands the client's next message to the server.
    fn send_one(&mut self) -> bool {
        let message = self.client.pop_next_message();
        message.map(|message| self.message(message)).is_some()
    }

    /// Hands the server's next message to the client. That a request was answered already is no error (facts §0.6).
    fn receive_one(&mut self) -> bool {
        let Some(message) = self.to_client.pop_front() else { return false };
        let is_transition = matches!(message, ServerMessage::Transition { .. });
        if let ServerMessage::Transition { end_version, .. } = &message {
            self.shown = end_version.ts.into();
        }
        self.log.push(short(&message));
        match self.client.receive_message(message) {
            Ok(_) => {}
            Err(why) if why == "Invalid request id from server" => {}
            Err(why) => panic!("{why}; {:?}", self.log),
        }
        if is_transition {
            self.event(Event::TransitionSent);
        }
        true
    }

    /// Does the next thing that the connection asked for.
    async fn work_one(&mut self) -> bool {
        match self.todo.pop_front() {
            None => return false,
            Some(Todo::Mutate(mutation)) => {
                let outcome = self.execute(mutation).await;
                let names = self.convex.table("items").iter().map(|item| field(item, "name")).collect();
                self.history.insert(self.convex.present().last_ts, names);
                self.event(Event::MutationDone(outcome));
            }
            Some(Todo::Deliver(ts, results)) => self.event(Event::Computed { ts, results }),
        }
        true
    }

    async fn execute(&self, mutation: Mutation) -> Result<Committed, MutationError> {
        let Mutation { request_id, session, path, args, identity } = mutation;
        let call = Call { path, args, identity, caller: "test".into(), public: true };
        self.convex.run_mutation(&call, session.map(|session| (session, request_id)), None).await
    }

    fn compute(&mut self, requests: Vec<QueryRequest>) -> (u64, Vec<QueryResult>) {
        let results =
            requests.into_iter().map(|QueryRequest { id, path, args, journal, identity, rerun }| {
                let call = Call { path, args, identity, caller: "test".into(), public: true };
                let run = self.convex.run_query(&call, journal, rerun);
                let subscription = Subscription::new(&self.convex.0.subscriptions, run.reads, &self.wake);
                self.subscriptions.insert(id.get_id(), subscription);
                QueryResult { id, result: run.result, logs: run.logs, journal: run.journal }
            });
        let results = results.collect();
        (self.convex.present().last_ts, results)
    }

    fn notice_invalidations(&mut self) -> bool {
        let any = self.subscriptions.values().any(Subscription::is_invalid);
        if any {
            self.event(Event::Invalidated);
        }
        any
    }

    async fn settle(&mut self) {
        while self.send_one() || self.work_one().await || self.notice_invalidations() || self.receive_one() {}
    }

    fn subscribe(&mut self, path: &str) -> SubscriberId {
        self.client.subscribe(path.parse().unwrap(), BTreeMap::new())
    }

    fn add(&mut self, name: &str) -> oneshot::Receiver<FunctionResult> {
        self.client.mutation("items:add".parse().unwrap(), item(name, 1.0, None))
    }

    fn latest(&self, subscriber: &SubscriberId) -> Option<Value> {
        match self.client.latest_results().get(subscriber) {
            Some(FunctionResult::Value(value)) => Some(value.clone()),
            _ => None,
        }
    }

    fn take_log(&mut self) -> String {
        std::mem::take(&mut self.log).join("\n")
    }
}

fn said(message: ClientMessage) -> Event {
    Event::Message(Box::new(message))
}

/// A message in one line; timestamps are left out.
fn short(message: &ServerMessage<Value>) -> String {
    match message {
        ServerMessage::Transition { start_version, end_version, modifications, .. } => {
            let moved = if start_version.ts == end_version.ts { "same ts" } else { "later ts" };
            let set = (start_version.query_set, end_version.query_set);
            let modified: Vec<_> = modifications.iter().map(modified).collect();
            format!("Transition {}→{} {moved} {}", set.0, set.1, modified.join(" "))
        }
        ServerMessage::MutationResponse { request_id, result, .. } => {
            format!("MutationResponse {request_id} {}", if result.is_ok() { "ok" } else { "failed" })
        }
        other => serde_json::Value::from(other.clone()).to_string(),
    }
}

fn modified(modification: &StateModification<Value>) -> String {
    match modification {
        StateModification::QueryUpdated { query_id, value, .. } => format!("{query_id}={value:?}"),
        StateModification::QueryFailed { query_id, .. } => format!("{query_id} failed"),
        StateModification::QueryRemoved { query_id } => format!("{query_id} removed"),
    }
}

/// The usual order of messages, always.
const USUAL: SyncOptions = SyncOptions { stale_transition: 0.0, early_transition: 0.0 };

fn check<F: Future<Output = ()>>(sync: SyncOptions, test: impl FnOnce(Link) -> F) {
    simulate(|| async {
        let (convex, _) = deploy(FIXTURE, Duration::ZERO, sync);
        test(Link::new(convex, sync).await).await;
    });
}

#[test]
fn a_mutation_is_answered_and_then_followed_by_the_transition_that_shows_it() {
    check(USUAL, |mut link| async move {
        link.subscribe("items:count");
        link.settle().await;
        let answer = link.add("a");
        link.settle().await;
        assert!(matches!(answer.await, Ok(FunctionResult::Value(_))));
        insta::assert_snapshot!(link.take_log(), @r"
        Transition 0→1 later ts 0=Float64(0.0)
        MutationResponse 0 ok
        Transition 1→1 later ts 0=Float64(1.0)
        ");
    });
}

#[test]
fn the_transition_may_come_before_the_response() {
    check(SyncOptions { early_transition: 1.0, ..USUAL }, |mut link| async move {
        link.subscribe("items:count");
        link.settle().await;
        let answer = link.add("a");
        link.settle().await;
        assert!(matches!(answer.await, Ok(FunctionResult::Value(_))));
        insta::assert_snapshot!(link.take_log(), @r"
        Transition 0→1 later ts 0=Float64(0.0)
        Transition 1→1 later ts 0=Float64(1.0)
        MutationResponse 0 ok
        Transition 1→1 same ts
        ");
    });
}

#[test]
fn a_stale_transition_may_follow_the_response() {
    check(SyncOptions { stale_transition: 1.0, ..USUAL }, |mut link| async move {
        link.subscribe("items:count");
        link.settle().await;
        link.add("a");
        link.settle().await;
        insta::assert_snapshot!(link.take_log(), @r"
        Transition 0→1 later ts 0=Float64(0.0)
        MutationResponse 0 ok
        Transition 1→1 same ts 
        Transition 1→1 later ts 0=Float64(1.0)
        ");
    });
}

#[test]
fn a_query_whose_result_is_the_same_is_left_out_and_a_removed_one_is_named() {
    check(USUAL, |mut link| async move {
        link.subscribe("items:count");
        let tags = link.subscribe("items:missing");
        let names = link.subscribe("items:names");
        link.settle().await;
        link.client.unsubscribe(names);
        link.settle().await;
        link.client.mutation("items:refuse".parse().unwrap(), BTreeMap::new());
        link.settle().await;
        link.client.unsubscribe(tags);
        link.settle().await;
        insta::assert_snapshot!(link.take_log(), @r"
        Transition 0→1 later ts 0=Float64(0.0)
        Transition 1→3 same ts 1 failed 2=Array([])
        Transition 3→4 same ts 2 removed
        MutationResponse 0 failed
        Transition 4→4 same ts 
        Transition 4→5 same ts 1 removed
        ");
    });
}

#[test]
fn a_resent_mutation_is_answered_from_the_record_with_its_first_timestamp() {
    check(USUAL, |mut link| async move {
        let answer = link.add("a");
        assert!(link.send_one() && link.work_one().await, "the mutation is committed");
        let ts_of = |link: &Link| match link.to_client.front() {
            Some(ServerMessage::MutationResponse { ts: Some(ts), result: Ok(id), .. }) => (*ts, id.clone()),
            other => panic!("no response: {other:?}"),
        };
        let first = ts_of(&link);
        tokio::time::sleep(Duration::from_secs(60)).await;
        link.convex.seed(|seeder| seeder.insert("items", item("other", 0.0, None), 1.0)).unwrap();
        link.connect(USUAL).await;
        while link
            .to_client
            .front()
            .is_none_or(|message| !matches!(message, ServerMessage::MutationResponse { .. }))
        {
            link.to_client.pop_front();
            assert!(link.send_one() || link.work_one().await);
        }
        assert_eq!(ts_of(&link), first);
        assert_eq!(link.convex.table("items").len(), 2);
        drop(answer);
    });
}

#[test]
fn protocol_errors_close_as_the_table_says() {
    let closed = |event: fn(&Link) -> Event| {
        let mut seen = (Vec::new(), None);
        check(USUAL, |mut link| {
            let seen = &mut seen;
            async move {
                link.subscribe("items:count");
                link.settle().await;
                link.take_log();
                let event = event(&link);
                link.event(event);
                *seen = (link.to_client.iter().map(short).collect(), link.closed);
            }
        });
        format!("{} {:?}", seen.0.join(" "), seen.1)
    };
    insta::assert_snapshot!(closed(|_| said(ClientMessage::ModifyQuerySet { base_version: 5, new_version: 6, modifications: vec![] })), @r#"{"type":"FatalError","error":"Base version 5 passed up doesn't match the current version 1"} Some(None)"#);
    insta::assert_snapshot!(closed(|_| said(ClientMessage::ModifyQuerySet { base_version: 1, new_version: 1, modifications: vec![] })), @r#" Some(Some((1011, "InternalServerError")))"#);
    insta::assert_snapshot!(closed(|_| said(ClientMessage::ModifyQuerySet { base_version: 1, new_version: 2, modifications: vec![QuerySetModification::Remove { query_id: QueryId::new(9) }] })), @r#" Some(Some((1011, "InternalServerError")))"#);
    insta::assert_snapshot!(closed(|_| Event::Garbage("expected value".into())), @r#"{"type":"FatalError","error":"Received Invalid JSON on websocket: expected value"} Some(None)"#);
    insta::assert_snapshot!(closed(|_| Event::Binary), @r#" Some(Some((1011, "InternalServerError")))"#);
    insta::assert_snapshot!(closed(|_| said(ClientMessage::Authenticate { base_version: 0, token: AuthenticationToken::User("jwt".into()) })), @r#"{"type":"AuthError","error":"Could not parse as JWT: a token has three parts separated by dots","baseVersion":0,"authUpdateAttempted":true} Some(None)"#);
    insta::assert_snapshot!(closed(|_| Event::IdentityExpired), @r#"{"type":"AuthError","error":"Token expired","baseVersion":0,"authUpdateAttempted":false} Some(None)"#);
    insta::assert_snapshot!(closed(|link| {
        let ahead = Some(Timestamp::try_from(link.convex.present().last_ts + 1).unwrap());
        let session_id = SessionId::new(Uuid::nil());
        said(ClientMessage::Connect { session_id, connection_count: 0, last_close_reason: String::new(), max_observed_timestamp: ahead, client_ts: None })
    }), @r#" Some(Some((1011, "InternalServerError")))"#);
}

#[test]
fn a_conflict_at_every_attempt_closes_the_whole_socket() {
    check(USUAL, |mut link| async move {
        drop(link.add("a"));
        assert!(link.send_one());
        link.event(Event::MutationDone(Err(MutationError::Conflict)));
        assert_eq!(link.closed, Some(Some((1013, "OptimisticConcurrencyControlFailure"))));
    });
}

#[test]
fn too_many_waiting_mutations_close_the_socket() {
    check(USUAL, |mut link| async move {
        for _ in 0..=limits::QUEUED_MUTATIONS {
            drop(link.add("a"));
            link.send_one();
        }
        assert_eq!(link.closed, None, "one runs, the queue is full");
        drop(link.add("a"));
        link.send_one();
        assert_eq!(link.closed, Some(Some((1013, "TooManyConcurrentMutations"))));
    });
}

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Add,
    Subscribe,
    Send,
    Work,
    Receive,
    Notice,
    /// Cuts the connection. If a mutation waits to be run, it may still be: its answer is lost.
    Disconnect {
        commit_first: bool,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Add),
        1 => Just(Step::Subscribe),
        6 => Just(Step::Send),
        6 => Just(Step::Work),
        6 => Just(Step::Receive),
        3 => Just(Step::Notice),
        1 => any::<bool>().prop_map(|commit_first| Step::Disconnect { commit_first }),
    ]
}

async fn replay(steps: Vec<Step>) {
    let sync = SyncOptions { stale_transition: 0.3, early_transition: 0.3 };
    let (convex, _) = deploy(FIXTURE, Duration::ZERO, sync);
    let mut link = Link::new(convex, sync).await;
    let (count, names) = (link.subscribe("items:count"), link.subscribe("items:names"));
    let (mut added, mut answers) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Add => {
                let name = format!("item {}", added.len());
                answers.push(link.add(&name));
                added.push(Value::String(name));
            }
            Step::Subscribe => drop(link.subscribe("items:byTag")),
            Step::Send => drop(link.send_one()),
            Step::Work => drop(link.work_one().await),
            Step::Receive => drop(link.receive_one()),
            Step::Notice => drop(link.notice_invalidations()),
            Step::Disconnect { commit_first } => {
                if commit_first && matches!(link.todo.front(), Some(Todo::Mutate(_))) {
                    link.work_one().await;
                }
                link.connect(sync).await;
            }
        }
        check_snapshot(&link, &count, &names);
    }
    link.settle().await;
    check_snapshot(&link, &count, &names);
    assert_eq!(link.closed, None);
    assert_eq!(
        link.latest(&names),
        Some(Value::Array(added)),
        "each mutation ran once, in order; {:?}",
        link.log
    );
    for answer in answers {
        assert!(matches!(answer.await, Ok(FunctionResult::Value(_))), "every mutation is answered");
    }
}

/// Two queries over the same documents never disagree: they come from one snapshot. And what they show is what there
/// was at the timestamp that the last Transition named, not earlier and not later.
fn check_snapshot(link: &Link, count: &SubscriberId, names: &SubscriberId) {
    let was = link.history.range(..=link.shown).next_back().map(|(_, names)| Value::Array(names.clone()));
    if let Some(shown) = link.latest(names) {
        assert_eq!(Some(shown), was, "at {}; {:?}", link.shown, link.log);
    }
    if let (Some(Value::Float64(count)), Some(Value::Array(names))) = (link.latest(count), link.latest(names))
    {
        assert_eq!(count as usize, names.len(), "{:?}", link.log);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_any_disconnects_each_mutation_ran_once_and_every_transition_is_a_snapshot(
        steps in prop::collection::vec(any_step(), 0..60),
    ) {
        simulate(|| replay(steps));
    }
}
