//! These functions over data of the first ones (`fixtures/functions-1`), deployed as production deploys them.

use std::path::Path;

use super::{
    limits::{counted, recounted},
    *,
};

fn old_sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/functions-1");
    sources::read_directory(&root).unwrap()
}

fn told(n: usize) -> String {
    format!("{n} {}", "漢".repeat(199_000))
}

/// A world of the first functions: an approved worker that is online, with what people have said to it.
async fn old_world() -> World {
    let (convex, log) = deploy_map(&old_sources(), Duration::ZERO, SyncOptions::default());
    let mut world = World {
        convex,
        log,
        ada: Identity::new("https://issuer", "ada"),
        machine: Value::Null,
        session: Value::Null,
    };
    world.machine = world.person("workers:createMachine", object([("name", "laptop".into())])).await;
    let registered = world.register().await;
    let worker = field(&registered, "worker");
    world.person("workers:approve", object([("worker", worker.clone())])).await;
    world.worker("workers:markConnected", []).await.unwrap();
    let start =
        [("worker", worker), ("title", "t".repeat(2_000).into()), ("model", "m".repeat(300_000).into())];
    world.session = world.person("chat:startSession", object(start)).await;
    for n in 0..30 {
        world.say(&told(n)).await.unwrap();
    }
    let head = field(&world.convex.table("turns")[0], "_id");
    world.worker("chat:claim", [("turn", head.clone())]).await.unwrap();
    let ask = [
        ("turn", head),
        ("request", "per_1".into()),
        ("permission", "bash".into()),
        ("patterns", Value::Array(vec!["rm".into()])),
        ("timeoutMs", 60_000.0.into()),
    ];
    world.worker("permissions:ask", ask).await.unwrap();
    world
}

/// Deploys these functions over the data.
fn upgrade(world: &mut World) {
    world.convex = world.convex.redeploy(&real_sources()).unwrap();
}

/// What was said in the session, oldest first, as its owner reads it.
async fn said(world: &World) -> Vec<String> {
    let (mut cursor, mut said) = (Value::Null, Vec::new());
    loop {
        let options = object([("numItems", 100.0.into()), ("cursor", cursor)]);
        let args = object([("session", world.session.clone()), ("paginationOpts", options)]);
        let page = world.query("chat:listTurns", args).await.unwrap();
        for turn in array(field(&page, "page")) {
            let Value::String(content) = field(&turn, "content") else { panic!() };
            said.push(content);
        }
        if field(&page, "isDone") == true.into() {
            said.reverse();
            return said;
        }
        cursor = field(&page, "continueCursor");
    }
}

async fn migrate_a_page(world: &World) -> Value {
    field(&world.operator("migrations:run", object([])).await, "next")
}

fn in_turns(world: &World) -> usize {
    let has_content = |turn: &&Value| matches!(turn, Value::Object(fields) if fields.contains_key("content"));
    world.convex.table("turns").iter().filter(has_content).count()
}

#[test]
fn a_worker_and_its_people_go_on_over_old_data_before_it_is_migrated() {
    simulate(|| async {
        let mut world = old_world().await;
        upgrade(&mut world);
        run_scheduler(&world.convex);
        world.worker("workers:heartbeat", []).await.unwrap();
        assert_eq!(said(&world).await.len(), 30);
        let questions = array(world.query("permissions:list", object([])).await.unwrap());
        assert_eq!(field(&questions[0], "patterns"), Value::Array(vec!["rm".into()]));
        let first = field(&world.convex.table("turns")[0], "_id");
        world.worker("chat:completeMessage", chunk(&first, 0.0, "done")).await.unwrap();
        let second = field(&world.convex.table("turns")[1], "_id");
        let claimed = world.worker("chat:claim", [("turn", second)]).await.unwrap();
        assert_eq!(field(&claimed, "content"), told(1).into());
        world.say("new").await.unwrap();
        let listed = array(world.query("workers:list", object([])).await.unwrap());
        assert_eq!(field(&listed[0], "status"), "online".into());
        assert_ne!(field(&listed[0], "registeredAt"), Value::Null);
        // Its token is as good as ever, and it needs no invitation.
        world.register().await;
        world.person("chat:endSession", object([("session", world.session.clone())])).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let turns = world.convex.table("turns");
        let of = |wanted: &str| turns.iter().filter(|turn| field(turn, "state") == wanted.into()).count();
        assert_eq!([of("completed"), of("claimed"), of("failed")], [1, 1, 29]);
        let status = field(&world.convex.table("workers")[0], "status");
        assert_eq!(status, "offline".into(), "looked after since its first beat");
        assert!(world.log.borrow().iter().all(|call| !call.contains(" Error")), "a transaction did not fit");
    });
}

#[test]
fn titles_without_end_that_are_stored_already_stop_neither_lists_nor_a_comparison() {
    simulate(|| async {
        let mut world = old_world().await;
        let worker = world.worker_id();
        for n in 0..20 {
            let start = [("worker", worker.clone()), ("title", "t".repeat(900_000).into())];
            let session = world.person("chat:startSession", object(start)).await;
            let link = [("session", session), ("opencodeSessionId", format!("ses_{n:02}").into())];
            world.worker("chat:sessionReady", link).await.unwrap();
        }
        let list = async |world: &World| {
            let options = object([("numItems", 20.0.into()), ("cursor", Value::Null)]);
            world.query("chat:listSessions", object([("paginationOpts", options)])).await
        };
        let compare = async |world: &World, after: &Value| {
            let who = ("who", who(&world.machine, Some(1.0)));
            let args = object([who, ("after", after.clone()), ("limit", 50.0.into())]);
            world.convex.call(Kind::Query, "sync:pageOfLinkedSessions", args, None, "test").await
        };
        let start = Value::from("");
        assert!(
            list(&world).await.is_err() && compare(&world, &start).await.is_err(),
            "the first functions fail"
        );
        upgrade(&mut world);
        assert!(!array(field(&list(&world).await.unwrap(), "page")).is_empty());
        let (mut seen, mut after) = (0, start);
        loop {
            let page = compare(&world, &after).await.unwrap();
            let ids = array(field(&page, "ids"));
            seen += ids.len();
            if field(&page, "isDone") == true.into() {
                break;
            }
            after = ids.last().cloned().unwrap();
        }
        assert_eq!(seen, 20);
    });
}

#[test]
fn what_the_first_functions_had_scheduled_goes_on() {
    simulate(|| async {
        let mut world = old_world().await;
        world.person("workers:revoke", object([("worker", world.worker_id())])).await;
        upgrade(&mut world);
        run_scheduler(&world.convex);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let is_told = |turn: &Value| field(&field(turn, "error"), "code") == "revoked".into();
        assert!(world.convex.table("turns").iter().all(is_told));
    });
}

#[test]
fn a_migration_goes_on_by_itself_and_nothing_is_lost() {
    simulate(|| async {
        let mut world = old_world().await;
        upgrade(&mut world);
        run_scheduler(&world.convex);
        migrate_a_page(&world).await;
        world.say("while it runs").await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(migrate_a_page(&world).await, Value::Null, "it is through");
        assert_eq!((in_turns(&world), world.convex.table("messages").len()), (0, 31));
        let expected: Vec<_> = (0..30).map(told).chain(["while it runs".to_owned()]).collect();
        assert_eq!(said(&world).await, expected);
        let Value::String(title) = field(&world.convex.table("sessions")[0], "title") else { panic!() };
        assert_eq!(title.len(), 300);
        assert_eq!(counted(&world), recounted(&world));
        assert_eq!(counted(&world)["pendingTurns"], 30.0.into());
        // The worker died in the upgrade: what it left ends in its time.
        tokio::time::sleep(Duration::from_secs(11 * 60)).await;
        let expired = |turn: &Value| field(turn, "state") == "expired".into();
        assert!(world.convex.table("turns").iter().all(expired));
        assert_eq!(counted(&world), recounted(&world));
        assert!(world.log.borrow().iter().all(|call| !call.contains(" Error")), "a transaction did not fit");
    });
}

#[test]
fn a_migration_that_was_cut_off_goes_on_where_it_was() {
    simulate(|| async {
        let mut world = old_world().await;
        upgrade(&mut world);
        // Nobody runs what it schedules: every page is begun by hand, and people and the worker go on in between.
        let mut pages = 0;
        while migrate_a_page(&world).await != Value::Null {
            pages += 1;
            world.say("in between").await.unwrap();
            let head = field(
                &world
                    .convex
                    .table("readySessions")
                    .into_iter()
                    .next()
                    .unwrap_or_else(|| object([("turn", Value::Null)])),
                "turn",
            );
            if head != Value::Null {
                world.worker("chat:claim", [("turn", head)]).await.unwrap();
            }
            assert!(pages < 100);
        }
        assert!(pages > 10, "{pages}");
        assert_eq!(in_turns(&world), 0);
        assert_eq!(said(&world).await[..30], (0..30).map(told).collect::<Vec<_>>());
        // Whoever was to be counted is counted once somebody runs it; until then only their speed is limited.
        run_scheduler(&world.convex);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(counted(&world), recounted(&world));
    });
}

#[test]
fn functions_that_do_not_match_what_is_stored_are_not_deployed() {
    simulate(|| async {
        let world = old_world().await;
        let mut sources = real_sources();
        let schema = sources.get_mut("schema.ts").unwrap();
        *schema = schema.replace("intervalMs: v.optional(v.number()),", "intervalMs: v.number(),");
        let refused = world.convex.redeploy(&sources).unwrap_err().to_string();
        assert!(refused.contains("in table \"workerHeartbeats\" does not match the schema"), "{refused}");
        // What is deployed stays.
        world.worker("workers:heartbeat", []).await.unwrap();
    });
}

#[test]
fn a_worker_and_functions_that_do_not_fit_say_which_of_them_to_update() {
    check(async |world| {
        let register = async |protocol: f64| {
            let args = [
                ("who", who(&world.machine, None)),
                ("acceptUnclaimedWithinMs", 0.0.into()),
                ("protocol", protocol.into()),
            ];
            world.call("workers:register", object(args), None).await
        };
        for known in [1.0, 2.0] {
            assert_eq!(field(&register(known).await.unwrap(), "protocol"), 2.0.into());
        }
        let mut said = Vec::new();
        for unknown in [3.0, 0.0] {
            let Err(CallError::Failed(refused)) = register(unknown).await else { panic!() };
            let data = refused.data.unwrap();
            said.push(["code", "message"].map(|name| match field(&data, name) {
                Value::String(text) => text,
                other => panic!("{other:?}"),
            }));
        }
        let said: Vec<_> = said.iter().map(|refusal| refusal.join(": ")).collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        functions_too_old: The worker speaks protocol 3, the functions up to 2: deploy the functions that came with this worker (`npx convex deploy` in its `worker` directory).
        worker_too_old: The worker speaks protocol 0, the functions 1 at least: install the worker that came with these functions, or a newer one.
        ");
        assert_eq!(field(&world.convex.table("workers")[0], "epoch"), 3.0.into(), "no process was put out");
    });
}
