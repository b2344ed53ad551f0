//! The people: they send messages and end sessions as planned, whatever happens to the workers.
//!
//! They act inside the backend's host, so no fault of the network keeps a planned message away.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use convex::Value;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::backend::{Backend, owner};
use crate::{
    convex::{CallError, Kind},
    oracles::Class,
    scenario::{EndSession, Message, Plan},
    world::recorder::{Recorder, now},
};

/// As whom they call.
const CALLER: &str = "people";

/// The people of one worker.
#[derive(Clone)]
pub struct People(Rc<Inner>);

struct Inner {
    backend: Backend,
    recorder: Recorder,
    plan: Plan,
    /// Ids of the sessions, by number.
    sessions: Vec<String>,
}

/// What a person does.
enum Act {
    Send(Message),
    End(EndSession),
}

impl People {
    /// The people who carry out `plan` in `sessions`.
    #[must_use]
    pub fn new(backend: Backend, recorder: Recorder, plan: Plan, sessions: Vec<String>) -> Self {
        Self(Rc::new(Inner { backend, recorder, plan, sessions }))
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
        let mut acts: Vec<_> = sends.chain(ends).collect();
        acts.sort_by_key(|(at, _)| *at);
        acts
    }

    async fn act(self, act: Act) {
        match act {
            Act::Send(Message { session, text, .. }) => {
                let args = [("session", self.session(session)), ("content", text.into())];
                self.call("chat:sendMessage", args).await;
            }
            Act::End(EndSession { session, .. }) => {
                // Pending turns are failed page by page.
                while let Some(Value::Object(page)) =
                    self.call("chat:endSession", [("session", self.session(session))]).await
                {
                    if page.get("isDone") != Some(&Value::Boolean(false)) {
                        break;
                    }
                }
            }
        }
    }

    fn session(&self, number: usize) -> Value {
        self.0.sessions[number].as_str().into()
    }

    /// Calls a function. A refusal because the session has ended is as it should be; any other is a finding.
    async fn call<const N: usize>(&self, path: &str, args: [(&str, Value); N]) -> Option<Value> {
        let args = Value::Object(args.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
        let called = self.0.backend.convex().call(Kind::Mutation, path, args, Some(owner()), CALLER).await;
        match called {
            Ok(value) => Some(value),
            Err(error) if is_session_ended(&error) => None,
            Err(error) => {
                let message = format!("a person's `{path}` was refused: {error}");
                self.0
                    .recorder
                    .with(|all| all.court.raise("people", Class::Safety, now(), message, &all.trace));
                None
            }
        }
    }
}

fn is_session_ended(error: &CallError) -> bool {
    let CallError::Failed(failure) = error else { return false };
    let Some(Value::Object(data)) = &failure.data else { return false };
    code(data) == Some("session_ended")
}

fn code(data: &BTreeMap<String, Value>) -> Option<&str> {
    match data.get("code")? {
        Value::String(code) => Some(code),
        _ => None,
    }
}
