//! What is deleted is gone at once, and removed soon; so is what is kept for so many days only.

use super::{
    limits::{counted, recounted},
    *,
};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Tables that hold what was said or whose it is.
const ALL: [&str; 15] = [
    "machines",
    "workers",
    "workerHeartbeats",
    "workerModels",
    "sessions",
    "forgottenSessions",
    "syncStates",
    "turns",
    "messages",
    "chunks",
    "readySessions",
    "permissionQuestions",
    "permissionTexts",
    "cancellations",
    "owners",
];

fn rows(world: &World) -> BTreeMap<&'static str, usize> {
    ALL.into_iter().map(|table| (table, world.convex.table(table).len())).collect()
}

async fn own<const N: usize>(
    world: &World,
    path: &str,
    args: [(&str, Value); N],
) -> Result<Value, CallError> {
    world.call(path, object(args), Some(world.ada.clone())).await
}

fn page() -> (&'static str, Value) {
    ("paginationOpts", object([("numItems", 50.0.into()), ("cursor", Value::Null)]))
}

async fn sessions(world: &World) -> Vec<Value> {
    array(field(&world.query("chat:listSessions", object([page()])).await.unwrap(), "page"))
}

/// Gives the session of a world something of everything: replies, a running turn with a question, and waiting ones.
async fn fill(world: &World) -> Value {
    let done = world.turn().await;
    for n in 0..30 {
        world.worker("chat:writeChunk", chunk(&done, f64::from(n), &"x".repeat(100_000))).await.unwrap();
    }
    world.worker("chat:completeMessage", chunk(&done, 30.0, "done")).await.unwrap();
    let running = world.turn().await;
    let fields = [
        ("turn", running.clone()),
        ("request", "per_1".into()),
        ("permission", "bash".into()),
        ("patterns", Value::Array(vec!["rm".into()])),
        ("timeoutMs", 60_000.0.into()),
    ];
    world.worker("permissions:ask", fields).await.unwrap();
    for _ in 0..5 {
        world.send().await;
    }
    let link = [("session", world.session.clone()), ("opencodeSessionId", "ses_1".into())];
    world.worker("chat:sessionReady", link).await.unwrap();
    world.worker("sync:updateLastSyncTimestamp", [("timestamp", 1.0.into())]).await.unwrap();
    let models = [("models", Value::Array(vec!["a/b".into()])), ("digest", "d".into())];
    world.worker("workerModels:updateModels", models).await.unwrap();
    running
}

#[test]
fn a_deleted_session_is_gone_at_once_and_what_was_said_in_it_soon() {
    check(async |world| {
        run_scheduler(&world.convex);
        world.worker("workers:markConnected", []).await.unwrap();
        let running = fill(&world).await;
        own(&world, "chat:deleteSession", [("session", world.session.clone())]).await.unwrap();
        assert_eq!(sessions(&world).await, []);
        let asked = [("session", world.session.clone()), page()];
        assert_eq!(code(world.query("chat:listTurns", object(asked)).await), "not_found".into());
        assert_eq!(array(world.query("permissions:list", object([])).await.unwrap()), []);
        assert_eq!(code(world.say("hello").await), "not_found".into());
        assert_eq!(counted(&world)["sessions"], 0.0.into());
        let window = object([("who", who(&world.machine, Some(1.0))), ("limit", 9.0.into())]);
        let window = world
            .convex
            .call(Kind::Query, "chat:subscribeToWorkerMessages", window, None, "test")
            .await
            .unwrap();
        assert_eq!(array(field(&window, "ready")), [], "nothing of it is ready");
        assert_eq!(
            array(field(&window, "cancelled")),
            std::slice::from_ref(&running),
            "what runs is stopped"
        );
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_secs(5)).await;
            world.worker("workers:heartbeat", []).await.unwrap();
        }
        let left: Vec<_> = rows(&world).into_iter().filter(|(_, count)| *count > 0).collect();
        let kept = [
            "forgottenSessions",
            "machines",
            "owners",
            "syncStates",
            "workerHeartbeats",
            "workerModels",
            "workers",
        ];
        assert_eq!(left, kept.map(|table| (table, 1)));
        assert_eq!(counted(&world), recounted(&world));
        // The worker, which may be late, is told that the turn has ended.
        let late = world.worker("chat:writeChunk", chunk(&running, 0.0, "late")).await.unwrap();
        assert_eq!(field(&late, "status"), "ended".into());
        assert!(world.log.borrow().iter().all(|call| !call.contains(" Error")), "a transaction did not fit");
    });
}

#[test]
fn a_deleted_chat_does_not_come_back_from_opencode() {
    check(async |world| {
        run_scheduler(&world.convex);
        let link = [("session", world.session.clone()), ("opencodeSessionId", "ses_1".into())];
        world.worker("chat:sessionReady", link).await.unwrap();
        own(&world, "chat:deleteSession", [("session", world.session.clone())]).await.unwrap();
        let found = async || {
            let titled = object([("opencodeSessionId", "ses_1".into()), ("title", "secret".into())]);
            let no = || Value::Array(vec![]);
            let plan =
                [("newSessions", Value::Array(vec![titled])), ("nameUpdates", no()), ("deletions", no())];
            field(&world.worker("sync:applyPlan", plan).await.unwrap(), "created")
        };
        assert_eq!(found().await, 0.0.into());
        // Once it is deleted there, too, nothing needs to be remembered.
        let deleted = [("opencodeSessionId", "ses_1".into())];
        world.worker("sync:markSessionDeletedInOpencode", deleted).await.unwrap();
        assert!(world.convex.table("forgottenSessions").is_empty());
    });
}

#[test]
fn a_worker_is_deleted_once_it_is_off_with_all_its_chats() {
    check(async |world| {
        run_scheduler(&world.convex);
        world.worker("workers:markConnected", []).await.unwrap();
        fill(&world).await;
        let worker = || [("worker", world.worker_id())];
        assert_eq!(code(own(&world, "workers:deleteWorker", worker()).await), "online".into());
        world.worker("workers:setOffline", []).await.unwrap();
        own(&world, "workers:deleteWorker", worker()).await.unwrap();
        assert_eq!(sessions(&world).await, []);
        assert_eq!(array(world.query("workers:list", object([])).await.unwrap()), []);
        assert_eq!(array(world.query("permissions:list", object([])).await.unwrap()), []);
        assert_eq!(code(world.say("hello").await), "not_found".into());
        assert_eq!(code(world.worker("workers:heartbeat", []).await), "unauthorized".into());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let left: Vec<_> = rows(&world).into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(left, [("machines", 1), ("owners", 1)]);
        assert_eq!(counted(&world), recounted(&world));
        // The name is free again.
        world.enrol(1.0).await;
        world.register().await;
    });
}

#[test]
fn a_machine_is_deleted_with_workers_that_run_and_nobody_elses_is_touched() {
    check_many(2, async |worlds| {
        let [leaving, staying] = &worlds[..] else { unreachable!() };
        run_scheduler(&leaving.convex);
        for world in &worlds {
            world.worker("workers:markConnected", []).await.unwrap();
            fill(world).await;
        }
        let before = rows(staying);
        let machine = || [("machine", leaving.machine.clone())];
        assert_eq!(code(own(staying, "workers:deleteMachine", machine()).await), "not_found".into());
        own(leaving, "workers:deleteMachine", machine()).await.unwrap();
        assert_eq!(code(leaving.worker("workers:heartbeat", []).await), "unauthorized".into());
        assert_eq!(
            code(
                own(leaving, "workers:openEnrolment", [machine()[0].clone(), ("minutes", 1.0.into())]).await
            ),
            "not_found".into()
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
        let halves = rows(staying).into_iter().filter(|(table, _)| !["owners"].contains(table));
        for (table, count) in halves {
            assert_eq!(count * 2, before[table], "{table}");
        }
        for world in &worlds {
            assert_eq!(counted(world), recounted(world));
        }
    });
}

#[test]
fn as_many_workers_and_sessions_as_anybody_has_are_deleted_in_transactions_that_fit() {
    check(async |world| {
        run_scheduler(&world.convex);
        world.limit([("workers", 1_000.0.into())]).await;
        let (worker, machine) = (world.worker_id(), world.machine.clone());
        for n in 0..900 {
            let invite = [("machine", machine.clone()), ("workerId", format!("worker_{n}").into())];
            own(&world, "workers:invite", invite).await.unwrap();
            own(&world, "chat:startSession", [("worker", worker.clone())]).await.unwrap();
        }
        own(&world, "workers:deleteMachine", [("machine", machine)]).await.unwrap();
        assert_eq!(sessions(&world).await, []);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let left: Vec<_> = rows(&world).into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(left, [("owners", 1)]);
        assert_eq!(counted(&world), recounted(&world));
        assert!(world.log.borrow().iter().all(|call| !call.contains(" Error")), "a transaction did not fit");
    });
}

#[test]
fn what_is_made_after_an_account_was_deleted_stays() {
    check(async |world| {
        run_scheduler(&world.convex);
        world.limit([("machines", Value::Null)]).await;
        for _ in 0..130 {
            own(&world, "workers:createMachine", [("name", "old".into())]).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        own(&world, "workers:deleteAccount", []).await.unwrap();
        own(&world, "workers:createMachine", [("name", "new".into())]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let machines = world.convex.table("machines");
        assert_eq!(machines.iter().map(|machine| field(machine, "name")).collect::<Vec<_>>(), ["new".into()]);
    });
}

#[test]
fn an_account_is_deleted_and_what_an_operator_set_stays() {
    check_many(2, async |worlds| {
        let [leaving, limited] = &worlds[..] else { unreachable!() };
        run_scheduler(&leaving.convex);
        limited.limit([("machines", 1.0.into())]).await;
        for world in &worlds {
            fill(world).await;
            own(world, "workers:deleteAccount", []).await.unwrap();
            assert_eq!(
                (
                    sessions(world).await,
                    array(world.query("workers:listMachines", object([])).await.unwrap())
                ),
                (vec![], vec![])
            );
        }
        let create =
            async |world: &World| own(world, "workers:createMachine", [("name", "new".into())]).await;
        create(limited).await.unwrap();
        assert_eq!(code(create(limited).await), "limit_reached".into());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let left: Vec<_> = rows(leaving).into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(left, [("machines", 1), ("owners", 1)]);
        assert_eq!(counted(limited), recounted(limited));
    });
}

#[test]
fn sessions_that_ended_are_kept_for_as_many_days_as_the_worker_said() {
    check(async |world| {
        run_scheduler(&world.convex);
        world.limit([("sessions", Value::Null), ("messagesPerMinute", Value::Null)]).await;
        let worker = world.worker_id();
        let register = async |days: Option<f64>| {
            let mut args = BTreeMap::from([
                ("who".to_owned(), who(&world.machine, None)),
                ("acceptUnclaimedWithinMs".to_owned(), 1e9.into()),
            ]);
            args.extend(days.map(|days| ("retentionDays".to_owned(), days.into())));
            world.call("workers:register", Value::Object(args), None).await
        };
        assert_eq!(code(register(Some(0.5)).await), "not_days".into());
        let (mut epoch, mut sizes) = (1.0, Vec::new());
        for day in 0..6 {
            // Starting again and again makes no second look.
            for _ in 0..2 {
                register(Some(1.0)).await.unwrap();
                epoch += 1.0;
            }
            for _ in 0..60 {
                let session = own(&world, "chat:startSession", [("worker", worker.clone())]).await.unwrap();
                let message = [("session", session.clone()), ("content", "hello".into())];
                let turn = own(&world, "chat:sendMessage", message).await.unwrap();
                let me = || ("who", who(&world.machine, Some(epoch)));
                world.call("chat:claim", object([me(), ("turn", turn.clone())]), None).await.unwrap();
                let [turn, sequence, text] = chunk(&turn, 0.0, "done");
                world.call("chat:completeMessage", object([me(), turn, sequence, text]), None).await.unwrap();
                own(&world, "chat:endSession", [("session", session)]).await.unwrap();
            }
            tokio::time::sleep(DAY).await;
            if day >= 2 {
                sizes.push(rows(&world));
            }
        }
        assert!(sizes.windows(2).all(|pair| pair[0] == pair[1]), "{sizes:?}");
        assert_eq!(counted(&world), recounted(&world));
        let looks = || world.log.borrow().iter().filter(|call| call.contains("retention:look")).count();
        assert_eq!(looks(), 6, "one a day");
        // Active sessions stay, and so does everything once nothing is said any more.
        assert_eq!(field(&world.convex.table("sessions")[0], "_id"), world.session);
        register(None).await.unwrap();
        tokio::time::sleep(DAY * 3).await;
        assert_eq!((rows(&world)["sessions"], looks()), (sizes[3]["sessions"], 7));
    });
}
