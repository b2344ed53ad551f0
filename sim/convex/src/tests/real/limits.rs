//! What may come from outside, and how much of it one person may have.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// The code and the message with which a call was refused.
fn refusal(refused: Result<Value, CallError>) -> String {
    let Err(CallError::Failed(failure)) = refused else { panic!("not refused: {refused:?}") };
    let data = failure.data.expect("a ConvexError");
    let [Value::String(code), Value::String(message)] = ["code", "message"].map(|name| field(&data, name))
    else {
        panic!("{data:?}")
    };
    format!("{code}: {message}")
}

#[test]
fn a_text_that_is_too_long_is_refused_before_anything_is_stored() {
    check(async |world| {
        let long = || Value::from("x".repeat(900_000));
        let (session, worker) = (|| world.session.clone(), || world.worker_id());
        let turn = world.turn().await;
        let ada = || Some(world.ada.clone());
        let rows =
            || ["machines", "workers", "sessions", "turns"].map(|table| world.convex.table(table).len());
        let before = rows();
        let stranger =
            object([("machineId", world.machine.clone()), ("workerId", long()), ("secret", SECRET.into())]);
        let register = object([("who", stranger), ("acceptUnclaimedWithinMs", 0.0.into())]);
        let message = object([("session", session()), ("content", "x".into()), ("model", long())]);
        let titled = object([("opencodeSessionId", long()), ("title", "x".into())]);
        let no = || Value::Array(vec![]);
        let plan = [("newSessions", Value::Array(vec![titled])), ("nameUpdates", no()), ("deletions", no())];
        let error = object([("code", long()), ("message", "x".into())]);
        let refusals = [
            world.call("workers:createMachine", object([("name", long())]), ada()).await,
            world.call("workers:register", register, None).await,
            world.call("chat:startSession", object([("worker", worker()), ("title", long())]), ada()).await,
            world.call("chat:startSession", object([("worker", worker()), ("model", long())]), ada()).await,
            world.call("chat:sendMessage", message, ada()).await,
            world.worker("chat:sessionReady", [("session", session()), ("opencodeSessionId", long())]).await,
            world.worker("chat:failMessage", [("turn", turn), ("error", error)]).await,
            world.worker("sync:applyPlan", plan).await,
        ];
        insta::assert_snapshot!(refusals.map(refusal).join("\n"), @r"
        too_long: `name` has 900000 characters; 200 are allowed.
        too_long: `workerId` has 900000 characters; 150 are allowed.
        too_long: `title` has 900000 characters; 300 are allowed.
        too_long: `model` has 900000 characters; 200 are allowed.
        too_long: `model` has 900000 characters; 200 are allowed.
        too_long: `opencodeSessionId` has 900000 characters; 150 are allowed.
        too_long: `error.code` has 900000 characters; 100 are allowed.
        too_long: `opencodeSessionId` has 900000 characters; 150 are allowed.
        ");
        assert_eq!(rows(), before);
    });
}

#[test]
fn titles_of_opencode_are_cut_between_characters_and_stop_no_other() {
    check(async |world| {
        let long = format!("a{}", "🦀".repeat(400));
        let titled =
            |id: &str, title: &str| object([("opencodeSessionId", id.into()), ("title", title.into())]);
        let new = Value::Array(vec![titled("ses_long", &long), titled("ses_innocent", "innocent")]);
        let no = || Value::Array(vec![]);
        let plan = [("newSessions", new), ("nameUpdates", no()), ("deletions", no())];
        world.worker("sync:applyPlan", plan).await.unwrap();
        let titles: Vec<_> =
            world.convex.table("sessions")[1..].iter().map(|it| field(it, "title")).collect();
        assert_eq!(titles, [format!("a{}", "🦀".repeat(299)).into(), "innocent".into()]);
    });
}

#[test]
fn half_a_character_is_refused_by_name() {
    simulate(|| async {
        let mut sources = real_sources();
        let probe = r#"
            import { query } from "./_generated/server.js";
            import { checkText } from "./lib/limits.js";
            export const half = query({ args: {}, handler: async () => checkText("title", "a\ud83e") });
            export const whole = query({ args: {}, handler: async () => checkText("title", "a\ud83e\udd80") });
        "#;
        sources.insert("probe.ts".into(), probe.into());
        let (convex, _) = deploy_map(&sources, Duration::ZERO, SyncOptions::default());
        let ask = |path| convex.call(Kind::Query, path, object([]), None, "test");
        insta::assert_snapshot!(refusal(ask("probe:half").await), @"malformed_text: `title` holds half a character (a lone surrogate); it must be whole.");
        ask("probe:whole").await.unwrap();
    });
}

#[test]
fn each_limit_of_a_person_holds_says_so_and_can_be_changed() {
    check(async |world| {
        let ada = || Some(world.ada.clone());
        world
            .limit([
                ("machines", 2.0.into()),
                ("workers", 2.0.into()),
                ("sessions", 3.0.into()),
                ("pendingTurns", 2.0.into()),
            ])
            .await;
        let machine = || world.call("workers:createMachine", object([("name", "m".into())]), ada());
        machine().await.unwrap();
        let register = async |name: &str| {
            let who = object([
                ("machineId", world.machine.clone()),
                ("workerId", name.into()),
                ("secret", SECRET.into()),
            ]);
            world
                .call(
                    "workers:register",
                    object([("who", who), ("acceptUnclaimedWithinMs", 0.0.into())]),
                    None,
                )
                .await
        };
        register("second").await.unwrap();
        let start = || world.call("chat:startSession", object([("worker", world.worker_id())]), ada());
        start().await.unwrap();
        let adopt = async |id: &str| {
            let titled = object([("opencodeSessionId", id.into()), ("title", id.into())]);
            let no = || Value::Array(vec![]);
            let plan =
                [("newSessions", Value::Array(vec![titled])), ("nameUpdates", no()), ("deletions", no())];
            let result = world.worker("sync:applyPlan", plan).await.unwrap();
            (field(&result, "created"), field(&result, "skipped"))
        };
        assert_eq!(adopt("ses_1").await, (1.0.into(), 0.0.into()));
        assert_eq!(adopt("ses_2").await, (0.0.into(), 1.0.into()), "skipped, and the batch goes on");
        assert_eq!(adopt("ses_1").await, (0.0.into(), 0.0.into()));
        world.send().await;
        world.send().await;
        let refusals = [machine().await, register("third").await, start().await, world.say("hello").await];
        insta::assert_snapshot!(refusals.map(refusal).join("\n"), @r"
        limit_reached: At most 2 machines are allowed. Delete one that you do not need, or ask the operator for more.
        limit_reached: At most 2 workers are allowed. Delete one that you do not need, or ask the operator for more.
        limit_reached: At most 3 sessions are allowed. Delete some that you do not need, or ask the operator for more.
        limit_reached: At most 2 messages that wait for an answer are allowed. Wait until some are answered, or end their sessions, or ask the operator for more.
        ");
        world.limit([("pendingTurns", Value::Null)]).await;
        world.send().await;
        machine().await.unwrap();
    });
}

#[test]
fn a_person_sends_so_many_messages_a_minute_and_keeps_nobody_else_from_it() {
    check_many(2, async |worlds| {
        let [fast, slow] = &worlds[..] else { unreachable!() };
        for _ in 0..120 {
            fast.send().await;
        }
        insta::assert_snapshot!(refusal(fast.say("hello").await), @"too_many_messages: At most 120 messages a minute are taken. Try again in 60 s.");
        slow.send().await;
        tokio::time::sleep(Duration::from_secs(61)).await;
        fast.send().await;
    });
}

#[test]
fn an_operator_cannot_set_what_is_no_limit_or_limit_nobody() {
    check(async |world| {
        let set = |owner: &str, what: &str, limit: f64| {
            let args = object([("ownerId", owner.into()), (what, limit.into())]);
            let convex = world.convex.clone();
            async move { refusal(convex.call_as_cron("limits:set", args).await) }
        };
        let ada = world.ada.token_identifier();
        let refusals = [
            set(&ada, "sessions", -1.0).await,
            set(&ada, "sessions", 0.5).await,
            set(&ada, "workers", 1_001.0).await,
            set("nobody", "sessions", 1.0).await,
        ];
        insta::assert_snapshot!(refusals.join("\n"), @r"
        not_a_limit: `sessions` is a whole number that is not negative, not -1.
        not_a_limit: `sessions` is a whole number that is not negative, not 0.5.
        not_a_limit: `workers` is at most 1000: as many as a list shows.
        not_found: Nobody called `nobody` has a machine here.
        ");
    });
}

/// What is there, counted anew.
pub(super) fn recounted(world: &World) -> BTreeMap<String, Value> {
    let owner = Value::from(world.ada.token_identifier());
    let of = |table: &str| world.convex.table(table).into_iter().filter(|row| field(row, "ownerId") == owner);
    let ids = |table: &str| of(table).map(|row| field(&row, "_id")).collect::<Vec<_>>();
    let (workers, sessions) = (ids("workers"), ids("sessions"));
    // What is deleted counts until it is removed, and has an owner no more: its session or its worker may have one.
    let is_pending = |turn: &Value| {
        let is_theirs =
            workers.contains(&field(turn, "worker")) || sessions.contains(&field(turn, "session"));
        is_theirs && field(turn, "state") == "pending".into()
    };
    let turns = world.convex.table("turns");
    let counts = [
        ("machines", of("machines").count()),
        ("workers", workers.len()),
        ("sessions", sessions.len()),
        ("pendingTurns", turns.iter().filter(|turn| is_pending(turn)).count()),
    ];
    counts.into_iter().map(|(name, count)| (name.to_owned(), (count as f64).into())).collect()
}

/// What the person's row says.
pub(super) fn counted(world: &World) -> BTreeMap<String, Value> {
    let owner = Value::from(world.ada.token_identifier());
    let row = world.convex.table("owners").into_iter().find(|row| field(row, "ownerId") == owner).unwrap();
    let Value::Object(counts) = field(&row, "counts") else { panic!("{row:?}") };
    counts
}

/// One of the rows of a table.
fn any(world: &World, table: &str, random: &mut ChaCha8Rng) -> Option<Value> {
    let rows = world.convex.table(table);
    (!rows.is_empty()).then(|| field(&rows[random.random_range(0..rows.len())], "_id"))
}

/// Something that changes what is there; often it is refused.
async fn act(world: &World, random: &mut ChaCha8Rng, epoch: &mut f64) {
    let ada = || Some(world.ada.clone());
    let (Some(worker), Some(session)) = (any(world, "workers", random), any(world, "sessions", random))
    else {
        return;
    };
    let turn = any(world, "turns", random);
    let me = || who(&world.machine, Some(*epoch));
    let of_turn = |turn: Option<Value>| turn.map(|turn| object([("who", me()), ("turn", turn)]));
    let (path, args, person) = match random.random_range(0..18) {
        0 => ("workers:createMachine", Some(object([("name", "m".into())])), ada()),
        1 => ("chat:startSession", Some(object([("worker", worker)])), ada()),
        2 => ("chat:endSession", Some(object([("session", session)])), ada()),
        3 => {
            let error = object([("code", "c".into()), ("message", "m".into())]);
            let args = turn.map(|turn| object([("who", me()), ("turn", turn), ("error", error)]));
            ("chat:failMessage", args, None)
        }
        4 => {
            let running = turn.into_iter().collect();
            let args = [("who", me()), ("limit", 2.0.into()), ("running", Value::Array(running))];
            ("chat:expireStale", Some(object(args)), None)
        }
        5 if random.random_bool(0.2) => {
            tokio::time::sleep(Duration::from_secs(11 * 60)).await;
            return;
        }
        5 => ("workers:markConnected", Some(object([("who", me())])), None),
        6 if random.random_bool(0.3) => {
            *epoch += 1.0;
            let args = [("who", who(&world.machine, None)), ("acceptUnclaimedWithinMs", 0.0.into())];
            ("workers:register", Some(object(args)), None)
        }
        6 if random.random_bool(0.05) => ("workers:revoke", Some(object([("worker", worker)])), ada()),
        7 => {
            let id = format!("ses_{}", random.random_range(0..9));
            let args = [("who", me()), ("opencodeSessionId", id.into()), ("title", "t".into())];
            ("sync:createSyncedSession", Some(object(args)), None)
        }
        8 => {
            let args = turn.map(|turn| {
                object([("who", me()), ("turn", turn), ("sequence", 0.0.into()), ("text", "".into())])
            });
            ("chat:completeMessage", args, None)
        }
        9 | 10 => ("chat:claim", of_turn(turn), None),
        11 => ("chat:deleteSession", Some(object([("session", session)])), ada()),
        12 if random.random_bool(0.2) => ("workers:deleteWorker", Some(object([("worker", worker)])), ada()),
        13 if random.random_bool(0.02) => {
            ("workers:deleteMachine", Some(object([("machine", world.machine.clone())])), ada())
        }
        14 if random.random_bool(0.3) => {
            let name = format!("worker_{}", random.random_range(0..9));
            let args = [("machine", world.machine.clone()), ("workerId", name.into())];
            ("workers:invite", Some(object(args)), ada())
        }
        _ => {
            let args = object([("session", session), ("content", "hello".into())]);
            ("chat:sendMessage", Some(args), ada())
        }
    };
    let Some(args) = args else { return };
    match world.call(path, args, person).await {
        Ok(_) | Err(CallError::Failed(_)) => {}
        Err(other) => panic!("{path}: {other}"),
    }
    if path.contains("delete") {
        // A worker's rows go in the jobs that this began.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[test]
fn what_a_person_has_is_counted_exactly_whatever_happens_to_it() {
    for seed in 0..8 {
        check(async |world| {
            run_scheduler(&world.convex);
            let (mut random, mut epoch) = (ChaCha8Rng::seed_from_u64(seed), 1.0);
            world
                .limit([("sessions", 12.0.into()), ("machines", 5.0.into()), ("pendingTurns", 15.0.into())])
                .await;
            for step in 0..200 {
                act(&world, &mut random, &mut epoch).await;
                assert_eq!(counted(&world), recounted(&world), "seed {seed}, step {step}");
            }
        });
    }
}
