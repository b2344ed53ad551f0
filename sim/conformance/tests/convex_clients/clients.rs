//! The clients behind one face: Convex's npm client, its Rust client, and the worker's own.

use std::{cell::RefCell, collections::BTreeMap, net::SocketAddr, process::Stdio, rc::Rc, time::Duration};

use convex::{ConvexClient, FunctionResult, Value};
use futures_util::StreamExt;
use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    task::{AbortHandle, spawn_local},
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;
use worker::{convex as ours, env::system::SystemEnv, error::CallError};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a function gave: its value, or the code of the `ConvexError` if it was one.
pub(crate) type Answer = Result<Value, Option<String>>;
pub(crate) type Args = BTreeMap<String, Value>;

/// All answers of one query, oldest first.
pub(crate) type Seen = Rc<RefCell<Vec<Answer>>>;

pub(crate) fn args<const N: usize>(pairs: [(&str, Value); N]) -> Args {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Waits until a query's newest answer is as expected.
pub(crate) async fn until(seen: &Seen, what: &str, expected: impl Fn(&Answer) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !seen.borrow().last().is_some_and(&expected) {
        assert!(Instant::now() < end, "{what}: {:?}", seen.borrow());
        sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) trait Client {
    /// Whether it can sign in, call actions and end a subscription by itself.
    const IS_COMPLETE: bool = true;
    async fn connect(address: SocketAddr) -> Self;
    async fn call(&mut self, op: &'static str, path: &'static str, args: Args) -> Answer;
    async fn subscribe(&mut self, path: &'static str, args: Args) -> Seen;
    async fn unsubscribe(&mut self, seen: &Seen);
    async fn sign_in(&mut self, token: Option<String>);
}

/// `js/client.mjs`.
pub(crate) struct Npm {
    _child: Child,
    stdin: ChildStdin,
    answers: Rc<RefCell<Vec<Seen>>>,
}

impl Npm {
    async fn say(&mut self, line: Json) {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn begin(&mut self, op: &str, path: &str, args: Args) -> Seen {
        let seen = Seen::default();
        let id = self.answers.borrow().len();
        self.answers.borrow_mut().push(seen.clone());
        self.say(json!({ "op": op, "id": id, "path": path, "args": Json::from(Value::Object(args)) })).await;
        seen
    }
}

fn answer_of(line: &Json) -> Answer {
    match line.get("value") {
        Some(value) => Ok(Value::try_from(value.clone()).unwrap()),
        None => Err(line["code"].as_str().map(str::to_owned)),
    }
}

impl Client for Npm {
    async fn connect(address: SocketAddr) -> Self {
        let mut node = Command::from(conformance::tools::node().expect("it was there a moment ago"));
        node.arg("js/client.mjs").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = node.spawn().unwrap();
        let answers = Rc::<RefCell<Vec<Seen>>>::default();
        let (lines, sink) = (BufReader::new(child.stdout.take().unwrap()).lines(), answers.clone());
        spawn_local(async move {
            let mut lines = lines;
            while let Ok(Some(line)) = lines.next_line().await {
                let line: Json = serde_json::from_str(&line).unwrap();
                let id = usize::try_from(line["id"].as_u64().unwrap()).unwrap();
                sink.borrow()[id].borrow_mut().push(answer_of(&line));
            }
        });
        let mut client = Self { stdin: child.stdin.take().unwrap(), _child: child, answers };
        client.say(json!({ "op": "connect", "url": format!("http://{address}") })).await;
        client
    }

    async fn call(&mut self, op: &'static str, path: &'static str, args: Args) -> Answer {
        let seen = self.begin(op, path, args).await;
        until(&seen, path, |_| true).await;
        seen.borrow_mut().pop().unwrap()
    }

    async fn subscribe(&mut self, path: &'static str, args: Args) -> Seen {
        self.begin("subscribe", path, args).await
    }

    async fn unsubscribe(&mut self, seen: &Seen) {
        let id = self.answers.borrow().iter().position(|known| Rc::ptr_eq(known, seen)).unwrap();
        self.say(json!({ "op": "unsubscribe", "id": id })).await;
    }

    async fn sign_in(&mut self, token: Option<String>) {
        self.say(json!({ "op": "auth", "token": token })).await;
    }
}

/// Subscriptions that a task follows.
#[derive(Default)]
struct Followed(Vec<(Seen, AbortHandle)>);

impl Followed {
    fn follow(&mut self, follow: impl Future<Output = ()> + 'static, seen: &Seen) {
        self.0.push((seen.clone(), spawn_local(follow).abort_handle()));
    }

    fn end(&mut self, seen: &Seen) {
        self.0.iter().filter(|(known, _)| Rc::ptr_eq(known, seen)).for_each(|(_, task)| task.abort());
    }
}

/// The official Rust client.
pub(crate) struct Official {
    pub(crate) client: ConvexClient,
    followed: Followed,
}

fn official_answer(result: FunctionResult) -> Answer {
    match result {
        FunctionResult::Value(value) => Ok(value),
        FunctionResult::ErrorMessage(_) => Err(None),
        FunctionResult::ConvexError(error) => Err(match error.data {
            Value::Object(data) => data.get("code").map(|code| match code {
                Value::String(code) => code.clone(),
                other => format!("{other:?}"),
            }),
            _ => None,
        }),
    }
}

impl Client for Official {
    async fn connect(address: SocketAddr) -> Self {
        let client = ConvexClient::new(&format!("http://{address}")).await.unwrap();
        Self { client, followed: Followed::default() }
    }

    async fn call(&mut self, op: &'static str, path: &'static str, args: Args) -> Answer {
        official_answer(match op {
            "action" => self.client.action(path, args).await.unwrap(),
            _ => self.client.mutation(path, args).await.unwrap(),
        })
    }

    async fn subscribe(&mut self, path: &'static str, args: Args) -> Seen {
        let mut subscription = self.client.subscribe(path, args).await.unwrap();
        let seen = Seen::default();
        let sink = seen.clone();
        let follow = async move {
            // It tells at every Transition, whether the answer changed or not.
            while let Some(result) = subscription.next().await.map(official_answer) {
                let is_new = sink.borrow().last() != Some(&result);
                if is_new {
                    sink.borrow_mut().push(result);
                }
            }
        };
        self.followed.follow(follow, &seen);
        seen
    }

    async fn unsubscribe(&mut self, seen: &Seen) {
        self.followed.end(seen);
    }

    async fn sign_in(&mut self, token: Option<String>) {
        self.client.set_auth(token).await;
    }
}

/// The worker's client.
pub(crate) struct Ours {
    client: ours::ConvexClient,
    followed: Followed,
    _task: AbortOnDropHandle<()>,
}

fn our_answer(result: Result<Value, CallError>) -> Answer {
    result.map_err(|error| match error {
        CallError::Refused { code, .. } => Some(code),
        _ => None,
    })
}

impl Client for Ours {
    const IS_COMPLETE: bool = false;

    async fn connect(address: SocketAddr) -> Self {
        let (client, task) =
            ours::ConvexClient::start(&SystemEnv, format!("http://{address}").parse().unwrap());
        Self { client, followed: Followed::default(), _task: task }
    }

    async fn call(&mut self, _: &'static str, path: &'static str, args: Args) -> Answer {
        our_answer(self.client.mutation(path, args).await)
    }

    async fn subscribe(&mut self, path: &'static str, args: Args) -> Seen {
        let mut subscription = self.client.subscribe(path, args);
        let seen = Seen::default();
        let sink = seen.clone();
        let follow = async move {
            loop {
                let next = our_answer(subscription.next().await);
                sink.borrow_mut().push(next);
            }
        };
        self.followed.follow(follow, &seen);
        seen
    }

    async fn unsubscribe(&mut self, seen: &Seen) {
        self.followed.end(seen);
    }

    async fn sign_in(&mut self, _: Option<String>) {
        unreachable!("the worker proves itself by its arguments")
    }
}
