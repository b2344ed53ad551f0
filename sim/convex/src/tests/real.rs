//! The real functions of `worker/convex`, from registration to a reply.

use std::collections::BTreeSet;

use super::*;

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

/// A deployment with one approved worker and one session.
struct World {
    convex: Convex,
    ada: Identity,
    machine: Value,
    session: Value,
}

impl World {
    async fn new(convex: Convex) -> Self {
        let mut world = Self {
            convex,
            ada: Identity::new("https://issuer", "ada"),
            machine: Value::Null,
            session: Value::Null,
        };
        world.machine = world.person("workers:createMachine", object([("name", "laptop".into())])).await;
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

    async fn turn(&self) -> Value {
        let args = object([("session", self.session.clone()), ("content", "hello".into())]);
        let turn = self.person("chat:sendMessage", args).await;
        let claimed = self.worker("chat:claim", [("turn", turn.clone())]).await.unwrap();
        assert_eq!(field(&claimed, "status"), "claimed".into());
        turn
    }
}

fn chunk(turn: &Value, sequence: f64, text: &str) -> [(&'static str, Value); 3] {
    [("turn", turn.clone()), ("sequence", sequence.into()), ("text", text.into())]
}

#[test]
fn a_turn_goes_from_pending_to_completed() {
    simulate(|| async {
        let (convex, log) = deploy_map(&real_sources(), Duration::ZERO, SyncOptions::default());
        let world = World::new(convex).await;
        let turn = world.turn().await;
        world.worker("chat:writeChunk", chunk(&turn, 0.0, "hi ")).await.unwrap();
        let done = world.worker("chat:completeMessage", chunk(&turn, 1.0, "there")).await.unwrap();
        assert_eq!(field(&done, "status"), "completed".into());
        let turns = world.convex.table("turns");
        assert_eq!((field(&turns[0], "state"), field(&turns[0], "chunks")), ("completed".into(), 2.0.into()));
        assert!(world.convex.table("readySessions").is_empty());
        insta::assert_snapshot!(log.borrow().join("\n"), @r"
        mutation workers:createMachine Ok 0/1 x1
        mutation workers:register Ok 1/1 x1
        mutation workers:approve Ok 2/1 x1
        mutation chat:startSession Ok 1/1 x1
        mutation chat:sendMessage Ok 2/2 x1
        mutation chat:claim Ok 6/2 x1
        mutation chat:writeChunk Ok 2/1 x1
        mutation chat:completeMessage Ok 5/2 x1
        ");
    });
}

#[test]
fn a_superseded_epoch_is_refused_with_its_code() {
    simulate(|| async {
        let (convex, log) = deploy_map(&real_sources(), Duration::ZERO, SyncOptions::default());
        let world = World::new(convex).await;
        world.register().await;
        let Err(CallError::Failed(failure)) = world.worker("workers:heartbeat", []).await else { panic!() };
        assert_eq!(field(&failure.data.unwrap(), "code"), "superseded".into());
        let last = log.borrow().last().cloned().unwrap();
        assert_eq!(last, r#"mutation workers:heartbeat ConvexError("superseded") 1/0 x1"#);
    });
}

#[test]
fn the_cron_marks_a_lost_worker_offline() {
    simulate(|| async {
        let (convex, _) = deploy_map(&real_sources(), Duration::ZERO, SyncOptions::default());
        let world = World::new(convex).await;
        world.worker("workers:markConnected", []).await.unwrap();
        let status = || field(&world.convex.table("workers")[0], "status");
        assert_eq!(status(), "online".into());
        let scheduler = world.convex.clone();
        let task = tokio::task::spawn_local(async move { scheduler.run_scheduler().await });
        tokio::time::sleep(Duration::from_secs(29)).await;
        assert_eq!(status(), "online".into());
        tokio::time::sleep(Duration::from_secs(32)).await;
        assert_eq!(status(), "offline".into());
        task.abort();
    });
}

#[test]
fn all_of_many_workers_that_are_lost_at_once_go_offline() {
    simulate(|| async {
        let (convex, _) = deploy_map(&real_sources(), Duration::ZERO, SyncOptions::default());
        for _ in 0..120 {
            World::new(convex.clone()).await.worker("workers:markConnected", []).await.unwrap();
        }
        let scheduler = convex.clone();
        let task = tokio::task::spawn_local(async move { scheduler.run_scheduler().await });
        tokio::time::sleep(Duration::from_secs(61)).await;
        let online = |worker: &&Value| field(worker, "status") == "online".into();
        assert_eq!(convex.table("workers").iter().filter(online).count(), 0);
        task.abort();
    });
}

#[test]
fn an_expired_turn_says_what_became_of_it() {
    simulate(|| async {
        let (convex, _) = deploy_map(&real_sources(), Duration::ZERO, SyncOptions::default());
        let world = World::new(convex).await;
        let check = |n: usize, expected: &str| {
            let message = field(&field(&world.convex.table("turns")[n], "error"), "message");
            assert_eq!(message, format!("{expected} Send it again if you still need an answer.").into());
        };
        let expire = async |epoch: f64| {
            let who = who(&world.machine, Some(epoch));
            let args = [("who", who), ("limit", 9.0.into()), ("running", Value::Array(vec![]))];
            world.call("chat:expireStale", object(args), None).await.unwrap();
        };
        world.turn().await;
        expire(1.0).await;
        world.turn().await;
        let args = object([("session", world.session.clone()), ("content", "hello".into())]);
        world.person("chat:sendMessage", args).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.register().await;
        expire(2.0).await;
        check(0, "The worker could not store its answer to this message.");
        check(1, "The worker was started anew while it was answering this message.");
        check(2, "The worker was started anew while this message was waiting.");
    });
}

/// Every function of the worker's but registration, with arguments that would do.
const WORKER_FUNCTIONS: [&str; 4] =
    ["workers:heartbeat", "workers:markConnected", "workers:setOffline", "workerModels:updateModels"];

/// The code with which all of them refuse these credentials.
async fn refusals(world: &World, who: Value) -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for path in WORKER_FUNCTIONS {
        let mut args = BTreeMap::from([("who".to_owned(), who.clone())]);
        if path == "workerModels:updateModels" {
            args.insert("models".to_owned(), Value::Array(vec![]));
            args.insert("digest".to_owned(), "d".into());
        }
        let Err(CallError::Failed(failure)) = world.call(path, Value::Object(args), None).await else {
            panic!("{path} did not refuse");
        };
        let Value::String(code) = field(&failure.data.unwrap(), "code") else { panic!() };
        codes.insert(code);
    }
    codes
}

#[test]
fn whoever_only_knows_a_workers_id_can_do_nothing_in_its_name() {
    simulate(|| async {
        let (convex, _) = deploy_map(&real_sources(), Duration::ZERO, SyncOptions::default());
        let world = World::new(convex).await;
        let mut guess = who(&world.machine, Some(1.0));
        if let Value::Object(fields) = &mut guess {
            fields.insert("secret".to_owned(), "another-secret-0123456789abcdef01234567".into());
        }
        assert_eq!(refusals(&world, guess).await, BTreeSet::from(["unauthorized".to_owned()]));
        let worker = field(&world.convex.table("workers")[0], "_id");
        world.person("workers:revoke", object([("worker", worker)])).await;
        let revoked = refusals(&world, who(&world.machine, Some(1.0))).await;
        assert_eq!(revoked, BTreeSet::from(["revoked".to_owned()]));
    });
}

/// Asks, and says what `permissions:list` shows.
async fn ask(world: &World, turn: &Value, request: &str) -> Result<Value, CallError> {
    let patterns = Value::Array(vec!["rm -r build".into()]);
    let fields = [
        ("turn", turn.clone()),
        ("request", request.into()),
        ("permission", "bash".into()),
        ("patterns", patterns),
        ("timeoutMs", 60_000.0.into()),
    ];
    world.worker("permissions:ask", fields).await
}

#[test]
fn a_permission_question_is_shown_answered_and_gone_with_its_turn() {
    simulate(|| async {
        let (convex, _) = deploy_map(&real_sources(), Duration::ZERO, SyncOptions::default());
        let world = World::new(convex).await;
        let turn = world.turn().await;
        for _ in 0..2 {
            ask(&world, &turn, "per_1").await.unwrap();
        }
        ask(&world, &turn, "per_2").await.unwrap();
        let listed = async |who: &Identity| {
            let list =
                world.convex.call(Kind::Query, "permissions:list", object([]), Some(who.clone()), "test");
            let Value::Array(questions) = list.await.unwrap() else { panic!() };
            questions
        };
        let questions = listed(&world.ada).await;
        assert_eq!(questions.len(), 2, "asking twice changes nothing");
        let eve = Identity::new("https://issuer", "eve");
        assert_eq!(listed(&eve).await, [], "a stranger sees nothing");
        let answer = || object([("question", field(&questions[0], "_id")), ("allow", true.into())]);
        assert!(world.call("permissions:answer", answer(), Some(eve)).await.is_err(), "a stranger decides");
        world.person("permissions:answer", answer()).await;
        assert_eq!(listed(&world.ada).await.len(), 1);
        let args = object([("who", who(&world.machine, Some(1.0))), ("turn", turn.clone())]);
        let answers =
            world.convex.call(Kind::Query, "permissions:subscribeToAnswers", args, None, "test").await;
        let expected = object([("request", "per_1".into()), ("allow", true.into())]);
        assert_eq!(answers.unwrap(), Value::Array(vec![expected]));
        world
            .worker("permissions:withdraw", [("turn", turn.clone()), ("request", "per_1".into())])
            .await
            .unwrap();
        world.worker("chat:completeMessage", chunk(&turn, 0.0, "done")).await.unwrap();
        assert!(world.convex.table("permissionQuestions").is_empty());
    });
}

#[test]
fn a_turn_has_sixteen_open_permission_questions_at_most() {
    simulate(|| async {
        let (convex, _) = deploy_map(&real_sources(), Duration::ZERO, SyncOptions::default());
        let world = World::new(convex).await;
        let turn = world.turn().await;
        for n in 0..16 {
            ask(&world, &turn, &format!("per_{n}")).await.unwrap();
        }
        let Err(CallError::Failed(failure)) = ask(&world, &turn, "per_16").await else { panic!() };
        assert_eq!(field(&failure.data.unwrap(), "code"), "too_many_questions".into());
    });
}

#[test]
fn a_worker_that_was_taken_for_lost_is_online_again_with_its_next_heartbeat() {
    simulate(|| async {
        let (convex, _) = deploy_map(&real_sources(), Duration::ZERO, SyncOptions::default());
        let world = World::new(convex).await;
        world.worker("workers:markConnected", []).await.unwrap();
        let status = || field(&world.convex.table("workers")[0], "status");
        let scheduler = world.convex.clone();
        let task = tokio::task::spawn_local(async move { scheduler.run_scheduler().await });
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!(status(), "offline".into());
        world.worker("workers:heartbeat", []).await.unwrap();
        assert_eq!(status(), "online".into());
        task.abort();
    });
}

#[test]
fn a_turn_of_a_session_that_was_ended_is_never_claimed() {
    simulate(|| async {
        let (convex, _) = deploy_map(&real_sources(), Duration::ZERO, SyncOptions::default());
        let world = World::new(convex).await;
        let send = || object([("session", world.session.clone()), ("content", "hello".into())]);
        for _ in 0..103 {
            world.person("chat:sendMessage", send()).await;
        }
        let page = world.person("chat:endSession", object([("session", world.session.clone())])).await;
        assert_eq!(field(&page, "isDone"), false.into());
        for left in (0..3).rev() {
            let head = field(&world.convex.table("readySessions")[0], "turn");
            let claimed = world.worker("chat:claim", [("turn", head)]).await.unwrap();
            assert_eq!(field(&claimed, "status"), "gone".into());
            let pending = |turn: &&Value| field(turn, "state") == "pending".into();
            assert_eq!(world.convex.table("turns").iter().filter(pending).count(), left);
        }
        assert!(world.convex.table("readySessions").is_empty());
    });
}

#[test]
fn what_is_claimed_but_does_not_run_is_expired_and_what_runs_is_not() {
    simulate(|| async {
        let (convex, _) = deploy_map(&real_sources(), Duration::ZERO, SyncOptions::default());
        let world = World::new(convex).await;
        let turn = world.turn().await;
        let running = |turns: Vec<Value>| [("limit", 1.0.into()), ("running", Value::Array(turns))];
        world.worker("chat:expireStale", running(vec![turn.clone()])).await.unwrap();
        let state = || field(&world.convex.table("turns")[0], "state");
        assert_eq!(state(), "claimed".into());
        world.worker("chat:expireStale", running(vec![])).await.unwrap();
        assert_eq!(state(), "expired".into());
    });
}

#[test]
fn the_largest_page_of_stale_turns_stays_within_the_limits_of_a_transaction() {
    simulate(|| async {
        let (convex, _) = deploy_map(&real_sources(), Duration::ZERO, SyncOptions::default());
        let world = World::new(convex).await;
        let send = || object([("session", world.session.clone()), ("content", "hello".into())]);
        for _ in 0..1_000 {
            world.person("chat:sendMessage", send()).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.register().await;
        let all = object([
            ("who", who(&world.machine, Some(2.0))),
            ("limit", 1_000.0.into()),
            ("running", Value::Array(vec![])),
        ]);
        let page = world.call("chat:expireStale", all, None).await.unwrap();
        assert_eq!(field(&page, "isDone"), false.into());
    });
}

#[test]
fn the_turns_of_many_workers_that_went_at_once_are_all_expired() {
    simulate(|| async {
        let (convex, _) = deploy_map(&real_sources(), Duration::ZERO, SyncOptions::default());
        for _ in 0..30 {
            let world = World::new(convex.clone()).await;
            for _ in 0..49 {
                let args = object([("session", world.session.clone()), ("content", "hello".into())]);
                world.person("chat:sendMessage", args).await;
            }
            world.worker("workers:markConnected", []).await.unwrap();
        }
        let scheduler = convex.clone();
        let task = tokio::task::spawn_local(async move { scheduler.run_scheduler().await });
        tokio::time::sleep(Duration::from_secs(16 * 60)).await;
        let is_expired = |turn: &Value| field(turn, "state") == "expired".into();
        assert_eq!(convex.table("turns").iter().filter(|turn| is_expired(turn)).count(), 30 * 49);
        assert!(convex.table("workerHeartbeats").is_empty());
        task.abort();
    });
}

/// Not a test of speed: it prints what a call costs here, so that a slow-down is seen.
#[test]
#[ignore = "measures"]
fn what_a_call_costs() {
    simulate(|| async {
        let (convex, _) = deploy_map(&real_sources(), Duration::ZERO, SyncOptions::default());
        let world = World::new(convex).await;
        let turn = world.turn().await;
        #[allow(clippy::disallowed_methods, reason = "measures real time")]
        let began = std::time::Instant::now();
        let calls = 5_000;
        for sequence in 0..calls {
            world
                .worker("chat:writeChunk", chunk(&turn, f64::from(sequence), "some text of a reply"))
                .await
                .unwrap();
        }
        println!("writeChunk: {:.1} µs", began.elapsed().as_micros() as f64 / f64::from(calls));
        #[allow(clippy::disallowed_methods, reason = "measures real time")]
        let began = std::time::Instant::now();
        for _ in 0..calls {
            let args = object([("who", who(&world.machine, Some(1.0))), ("limit", 50.0.into())]);
            world
                .convex
                .call(Kind::Query, "chat:subscribeToWorkerMessages", args, None, "test")
                .await
                .unwrap();
        }
        println!("window: {:.1} µs", began.elapsed().as_micros() as f64 / f64::from(calls));
    });
}

fn plan(new: &[(&str, &str)], renamed: &[(&str, &str)], deleted: &[&str]) -> [(&'static str, Value); 3] {
    let named = |sessions: &[(&str, &str)]| {
        let one = |(id, title): &(&str, &str)| {
            object([("opencodeSessionId", Value::from(*id)), ("title", Value::from(*title))])
        };
        Value::Array(sessions.iter().map(one).collect())
    };
    let deleted = Value::Array(deleted.iter().map(|id| Value::from(*id)).collect());
    [("newSessions", named(new)), ("nameUpdates", named(renamed)), ("deletions", deleted)]
}

/// `created`, `renamed` and `deleted` of what a plan came to.
fn counts(result: &Value) -> [Value; 3] {
    ["created", "renamed", "deleted"].map(|name| field(result, name))
}

#[test]
fn a_session_found_in_opencode_becomes_one_chat_however_often_it_is_found() {
    simulate(|| async {
        let (convex, _) = deploy_map(&real_sources(), Duration::ZERO, SyncOptions::default());
        let world = World::new(convex).await;
        let found = || world.worker("sync:applyPlan", plan(&[("ses_1", "one"), ("ses_2", "two")], &[], &[]));
        assert_eq!(counts(&found().await.unwrap()), [2.0.into(), 0.0.into(), 0.0.into()]);
        assert_eq!(counts(&found().await.unwrap()), [0.0.into(), 0.0.into(), 0.0.into()]);
        let fields = [("opencodeSessionId", "ses_1".into()), ("title", "one".into())];
        let chat = world.worker("sync:createSyncedSession", fields).await.unwrap();
        let chats = world.convex.table("sessions");
        assert_eq!((chats.len(), field(&chats[1], "_id")), (3, chat));
        let again = world.worker("sync:applyPlan", plan(&[("ses_1", "uno")], &[("ses_2", "due")], &[])).await;
        assert_eq!(counts(&again.unwrap()), [0.0.into(), 2.0.into(), 0.0.into()]);
    });
}

#[test]
fn a_chat_outlives_its_opencode_session_and_gets_a_new_one() {
    simulate(|| async {
        let (convex, _) = deploy_map(&real_sources(), Duration::ZERO, SyncOptions::default());
        let world = World::new(convex).await;
        let link = |id: &str| [("session", world.session.clone()), ("opencodeSessionId", Value::from(id))];
        world.worker("chat:sessionReady", link("ses_1")).await.unwrap();
        let delete =
            || world.worker("sync:markSessionDeletedInOpencode", [("opencodeSessionId", "ses_1".into())]);
        assert_eq!(delete().await.unwrap(), true.into());
        assert_eq!(delete().await.unwrap(), false.into());
        let chat = || world.convex.table("sessions").remove(0);
        assert_eq!(
            (field(&chat(), "deletedInOpencode"), field(&chat(), "state")),
            (true.into(), "active".into())
        );
        world.worker("chat:sessionReady", link("ses_2")).await.unwrap();
        let Value::Object(chat) = chat() else { panic!() };
        assert_eq!(chat.get("opencodeSessionId"), Some(&"ses_2".into()));
        assert_eq!(chat.get("deletedInOpencode"), None);
    });
}

#[test]
fn one_opencode_session_never_belongs_to_two_chats() {
    simulate(|| async {
        let (convex, _) = deploy_map(&real_sources(), Duration::ZERO, SyncOptions::default());
        let world = World::new(convex).await;
        world.worker("sync:applyPlan", plan(&[("ses_1", "found first")], &[], &[])).await.unwrap();
        let link = [("session", world.session.clone()), ("opencodeSessionId", "ses_1".into())];
        world.worker("chat:sessionReady", link).await.unwrap();
        let links = world.convex.table("sessions");
        let links: Vec<_> = links
            .iter()
            .map(|chat| match chat {
                Value::Object(fields) => fields.get("opencodeSessionId").cloned(),
                _ => None,
            })
            .collect();
        assert_eq!(links, [Some("ses_1".into()), None]);
    });
}

#[test]
fn a_batch_that_is_too_large_is_refused_and_the_moment_of_the_sync_never_goes_back() {
    simulate(|| async {
        let (convex, _) = deploy_map(&real_sources(), Duration::ZERO, SyncOptions::default());
        let world = World::new(convex).await;
        let ids: Vec<_> = (0..101).map(|n| format!("ses_{n}")).collect();
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        let Err(CallError::Failed(failure)) = world.worker("sync:applyPlan", plan(&[], &[], &ids)).await
        else {
            panic!()
        };
        assert_eq!(field(&failure.data.unwrap(), "code"), "too_many".into());
        for moment in [5.0, 9.0, 7.0] {
            world.worker("sync:updateLastSyncTimestamp", [("timestamp", moment.into())]).await.unwrap();
        }
        assert_eq!(field(&world.convex.table("syncStates")[0], "syncedUntil"), 9.0.into());
    });
}
