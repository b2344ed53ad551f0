//! Workers: who may act in whose name, and what becomes of those that are lost.

use std::collections::BTreeSet;

use super::*;

#[test]
fn a_superseded_epoch_is_refused_with_its_code() {
    check(async |world| {
        world.register().await;
        assert_eq!(code(world.worker("workers:heartbeat", []).await), "superseded".into());
        let last = world.log.borrow().last().cloned().unwrap();
        assert_eq!(last, r#"mutation workers:heartbeat ConvexError("superseded") 1/0 x1"#);
    });
}

#[test]
fn a_lost_worker_is_marked_offline() {
    check(async |world| {
        world.worker("workers:markConnected", []).await.unwrap();
        let status = || field(&world.convex.table("workers")[0], "status");
        assert_eq!(status(), "online".into());
        run_scheduler(&world.convex);
        tokio::time::sleep(Duration::from_secs(29)).await;
        assert_eq!(status(), "online".into());
        tokio::time::sleep(Duration::from_secs(32)).await;
        assert_eq!(status(), "offline".into());
    });
}

#[test]
fn all_of_many_workers_that_are_lost_at_once_go_offline() {
    check_many(120, async |worlds| {
        for world in &worlds {
            world.worker("workers:markConnected", []).await.unwrap();
        }
        let convex = &worlds[0].convex;
        run_scheduler(convex);
        tokio::time::sleep(Duration::from_secs(61)).await;
        let online = |worker: &&Value| field(worker, "status") == "online".into();
        assert_eq!(convex.table("workers").iter().filter(online).count(), 0);
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
            args.insert("digest".to_owned(), "0".into());
        }
        let Value::String(code) = code(world.call(path, Value::Object(args), None).await) else { panic!() };
        codes.insert(code);
    }
    codes
}

#[test]
fn whoever_only_knows_a_workers_id_can_do_nothing_in_its_name() {
    check(async |world| {
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

#[test]
fn a_worker_that_was_taken_for_lost_is_online_again_with_its_next_heartbeat() {
    check(async |world| {
        world.worker("workers:markConnected", []).await.unwrap();
        let status = || field(&world.convex.table("workers")[0], "status");
        run_scheduler(&world.convex);
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!(status(), "offline".into());
        world.worker("workers:heartbeat", []).await.unwrap();
        assert_eq!(status(), "online".into());
    });
}

#[test]
fn the_turns_of_many_workers_that_went_at_once_are_all_expired() {
    check_many(30, async |worlds| {
        for world in &worlds {
            for _ in 0..49 {
                world.send().await;
            }
            world.worker("workers:markConnected", []).await.unwrap();
        }
        let convex = &worlds[0].convex;
        run_scheduler(convex);
        tokio::time::sleep(Duration::from_secs(16 * 60)).await;
        let is_expired = |turn: &Value| field(turn, "state") == "expired".into();
        assert_eq!(convex.table("turns").iter().filter(|turn| is_expired(turn)).count(), 30 * 49);
        assert!(convex.table("workerHeartbeats").is_empty());
    });
}

const MINUTE: Duration = Duration::from_secs(60);

fn states(world: &World) -> Vec<Value> {
    world.convex.table("turns").iter().map(|turn| field(turn, "state")).collect()
}

#[test]
fn a_message_to_a_worker_that_never_came_expires_and_each_has_its_ten_minutes() {
    check(async |world| {
        run_scheduler(&world.convex);
        world.send().await;
        tokio::time::sleep(MINUTE * 9).await;
        world.send().await;
        assert_eq!(states(&world), ["pending".into(), "pending".into()]);
        tokio::time::sleep(MINUTE * 7).await;
        assert_eq!(states(&world), ["expired".into(), "pending".into()]);
        let message = field(&field(&world.convex.table("turns")[0], "error"), "message");
        let Value::String(message) = message else { panic!("{message:?}") };
        assert!(message.starts_with("No worker was there to answer this message."), "{message}");
        tokio::time::sleep(MINUTE * 9).await;
        assert_eq!(states(&world), ["expired".into(), "expired".into()]);
        assert!(world.convex.table("workerHeartbeats").is_empty());
        // And so it goes on, for as long as nobody comes.
        world.send().await;
        tokio::time::sleep(MINUTE * 16).await;
        assert_eq!(states(&world)[2], "expired".into());
    });
}

#[test]
fn what_a_worker_left_when_it_stopped_is_expired_and_so_is_what_came_later() {
    check(async |world| {
        run_scheduler(&world.convex);
        world.worker("workers:markConnected", []).await.unwrap();
        world.turn().await;
        world.worker("workers:setOffline", []).await.unwrap();
        world.send().await;
        tokio::time::sleep(MINUTE * 16).await;
        assert_eq!(states(&world), ["expired".into(), "expired".into()]);
        assert!(world.convex.table("readySessions").is_empty());
    });
}

#[test]
fn a_worker_that_lives_keeps_its_turns_for_as_long_as_they_take() {
    check(async |world| {
        run_scheduler(&world.convex);
        world.worker("workers:markConnected", []).await.unwrap();
        world.turn().await;
        world.send().await;
        for _ in 0..12 * 30 {
            tokio::time::sleep(Duration::from_secs(5)).await;
            world.worker("workers:heartbeat", []).await.unwrap();
        }
        assert_eq!(states(&world), ["claimed".into(), "pending".into()]);
        assert!(
            world.log.borrow().iter().all(|call| call.ends_with(" x1")),
            "a call met another one's writes"
        );
    });
}

#[test]
fn a_revoked_workers_turns_fail_and_it_gets_no_more() {
    check(async |world| {
        run_scheduler(&world.convex);
        world.hurry().await;
        world.turn().await;
        for _ in 0..120 {
            world.send().await;
        }
        let worker = field(&world.convex.table("workers")[0], "_id");
        world.person("workers:revoke", object([("worker", worker.clone())])).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let turns = world.convex.table("turns");
        let is_told = |turn: &&Value| field(&field(turn, "error"), "code") == "revoked".into();
        assert_eq!(turns.iter().filter(is_told).count(), 121);
        let ada = || Some(world.ada.clone());
        let message = object([("session", world.session.clone()), ("content", "hello".into())]);
        assert_eq!(code(world.call("chat:sendMessage", message, ada()).await), "revoked".into());
        let session = world.call("chat:startSession", object([("worker", worker)]), ada()).await;
        assert_eq!(code(session), "revoked".into());
    });
}
