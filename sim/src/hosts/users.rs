//! The people: they send messages and end sessions as planned, whatever happens to the workers.
//!
//! They act inside the backend's host, so no fault of the network keeps a planned message away.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use convex::Value;
use rand::Rng;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    hosts::backend::{Backend, owner, worker_id},
    recorder::Recorder,
};
use fake_convex::{CallError, Kind};
use sim_model::{
    scenario::{Permissions, Scenario},
    seed::Seed,
    units::Share,
    workload_plan::{ConnectRequest, EndSession, Message, WorkloadPlan},
};
use sim_oracles::Class;

/// As whom they call.
const CALLER: &str = "people";

/// The people of one worker.
#[derive(Clone)]
pub struct People(Rc<Inner>);

struct Inner {
    backend: Backend,
    recorder: Recorder,
    plan: WorkloadPlan,
    /// Ids of the sessions, by number.
    sessions: Vec<String>,
    /// What they say to permission questions; `None` if none can come.
    answers: Option<Answers>,
    choices: Choices,
}

/// What people say to permission questions.
pub struct Answers {
    /// How they decide.
    pub habits: Permissions,
    /// What the decisions are drawn from.
    pub seed: Seed,
}

impl Answers {
    /// Those of `scenario`, if anything asks in it.
    #[must_use]
    pub fn of(scenario: &Scenario, seed: Seed) -> Option<Self> {
        let habits = scenario.workload.permissions.clone();
        let replies = &scenario.replies;
        (replies.asks.0 > 0.0 || replies.asks_in_child.0 > 0.0).then_some(Self { habits, seed })
    }
}

/// Which models people choose.
#[derive(Debug, Clone, Copy)]
pub struct Choices {
    /// How often one that OpenCode does not have.
    pub unknown: Share,
    /// What the choices are drawn from.
    pub seed: Seed,
}

/// A model that OpenCode does not have.
const UNKNOWN: &str = "nowhere/nothing";

impl Choices {
    /// Those of `scenario`.
    #[must_use]
    pub fn of(scenario: &Scenario, seed: Seed) -> Self {
        Self { unknown: scenario.workload.unknown_models, seed }
    }
}

impl Inner {
    fn chooses_unknown_model(&self, text: &str) -> bool {
        let Choices { unknown, seed } = self.choices;
        unknown.0 > 0.0 && seed.stream(&format!("model/{text}")).random_bool(unknown.0)
    }
}

/// How often people look for permission questions.
const LOOK: Duration = Duration::from_secs(1);

/// What a person does.
enum Act {
    Send(Message),
    End(EndSession),
    Connect(ConnectRequest),
}

impl People {
    /// The people who carry out `plan` in `sessions`.
    #[must_use]
    pub fn new(
        backend: Backend,
        recorder: Recorder,
        plan: WorkloadPlan,
        sessions: Vec<String>,
        answers: Option<Answers>,
        choices: Choices,
    ) -> Self {
        Self(Rc::new(Inner { backend, recorder, plan, sessions, answers, choices }))
    }

    /// Answers permission questions as they come, for ever; never, if none can come.
    pub async fn answer_questions(self) {
        let mut seen = BTreeSet::new();
        let mut calls = JoinSet::new();
        while let Some(answers) = &self.0.answers {
            tokio::select! {
                () = sleep(LOOK) => {}
                Some(_) = calls.join_next() => continue,
            }
            let open: BTreeMap<String, String> = self.open_questions().await.into_iter().collect();
            seen.retain(|id| open.contains_key(id));
            for (id, about) in open {
                if seen.insert(id.clone())
                    && let Some((after, allow)) = answers.decide(&about)
                {
                    calls.spawn_local(self.clone().answer(id, after, allow));
                }
            }
        }
    }

    async fn answer(self, question: String, after: Duration, allow: bool) {
        sleep(after).await;
        let args = [("question", question.into()), ("allow", allow.into())];
        self.call("permissions:answer", args).await;
    }

    /// Ids of the open questions, and what each is about.
    async fn open_questions(&self) -> Vec<(String, String)> {
        let args = Value::Object(BTreeMap::new());
        let listed =
            self.0.backend.convex().call(Kind::Query, "permissions:list", args, Some(owner()), CALLER);
        let Ok(Value::Array(questions)) = listed.await else { return Vec::new() };
        let about = |question| match question {
            Value::Object(fields) => match (fields.get("_id"), fields.get("patterns")) {
                (Some(Value::String(id)), Some(about)) => Some((id.clone(), format!("{about:?}"))),
                _ => None,
            },
            _ => None,
        };
        questions.into_iter().filter_map(about).collect()
    }

    /// Does everything that is planned. A slow call delays nobody else's.
    pub async fn live(self) {
        let start = Instant::now();
        let mut calls = JoinSet::new();
        for (at, act) in self.acts() {
            let mut due = std::pin::pin!(sleep_until(start + at));
            loop {
                tokio::select! {
                    biased;
                    () = &mut due => break,
                    Some(_) = calls.join_next() => {}
                }
            }
            calls.spawn_local(self.clone().act(act));
        }
        while calls.join_next().await.is_some() {}
    }

    fn acts(&self) -> Vec<(Duration, Act)> {
        let plan = &self.0.plan;
        let sends = plan.messages.iter().map(|message| (message.at, Act::Send(message.clone())));
        let ends = plan.ends.iter().map(|end| (end.at, Act::End(*end)));
        let connects = plan.connects.iter().map(|request| (request.at, Act::Connect(*request)));
        let mut acts: Vec<_> = sends.chain(ends).chain(connects).collect();
        acts.sort_by_key(|(at, _)| *at);
        acts
    }

    async fn act(self, act: Act) {
        match act {
            Act::Send(Message { session, text, .. }) => {
                let model = self.0.chooses_unknown_model(&text);
                let (session, content) = (("session", self.session(session)), ("content", text.into()));
                match model {
                    true => {
                        self.call("chat:sendMessage", [session, content, ("model", UNKNOWN.into())]).await
                    }
                    false => self.call("chat:sendMessage", [session, content]).await,
                };
                if self.0.backend.wastes_calls() {
                    self.waste_a_call().await;
                }
            }
            Act::End(EndSession { session, .. }) => {
                self.call("chat:endSession", [("session", self.session(session))]).await;
            }
            Act::Connect(ConnectRequest { worker, .. }) => {
                if let Some(worker) = self.worker(&worker_id(worker)).await {
                    self.call("workers:requestConnect", [("worker", worker)]).await;
                }
            }
        }
    }

    /// A call that looks like the worker's and serves nobody ([`sim_model::plant::Plant::ExtraCall`]).
    async fn waste_a_call(&self) {
        let (args, convex) = (Value::Object(BTreeMap::new()), self.0.backend.convex());
        let _ = convex.call(Kind::Query, "permissions:list", args, Some(owner()), "worker-1").await;
    }

    /// The worker of this name, among those of the owner.
    async fn worker(&self, name: &str) -> Option<Value> {
        let args = Value::Object(BTreeMap::new());
        let listed = self.0.backend.convex().call(Kind::Query, "workers:list", args, Some(owner()), CALLER);
        let Ok(Value::Array(workers)) = listed.await else { return None };
        workers.into_iter().find_map(|worker| match worker {
            Value::Object(fields) if fields.get("workerId") == Some(&name.into()) => {
                fields.get("_id").cloned()
            }
            _ => None,
        })
    }

    fn session(&self, number: usize) -> Value {
        self.0.sessions[number].as_str().into()
    }

    /// Calls a function. A refusal because the session, or a question's time, has ended, or because the worker is
    /// away, is as it should be; any other is a finding.
    async fn call<const N: usize>(&self, path: &str, args: [(&str, Value); N]) -> Option<Value> {
        let args = Value::Object(args.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
        let called = self.0.backend.convex().call(Kind::Mutation, path, args, Some(owner()), CALLER).await;
        match called {
            Ok(value) => Some(value),
            Err(error) if is_too_late(&error, path) => None,
            Err(error) => {
                let message = format!("a person's `{path}` was refused: {error}");
                self.0.recorder.raise("people", Class::Safety, message);
                None
            }
        }
    }
}

impl Answers {
    /// When to answer what; `None` to leave it alone.
    fn decide(&self, about: &str) -> Option<(Duration, bool)> {
        let mut random = self.seed.stream(&format!("permission/{about}"));
        let ignored = random.random_bool(self.habits.ignored.0);
        let allowed = random.random_bool(self.habits.allowed.0);
        let after = self.habits.after.draw(&mut random);
        (!ignored).then_some((after, allowed))
    }
}

fn is_too_late(error: &CallError, path: &str) -> bool {
    let CallError::Failed(failure) = error else { return false };
    let Some(Value::Object(data)) = &failure.data else { return false };
    match code(data) {
        Some("session_ended") => true,
        Some("not_found") => path == "permissions:answer",
        // A worker that is away.
        Some("offline") => path == "workers:requestConnect",
        _ => false,
    }
}

fn code(data: &BTreeMap<String, Value>) -> Option<&str> {
    match data.get("code")? {
        Value::String(code) => Some(code),
        _ => None,
    }
}
