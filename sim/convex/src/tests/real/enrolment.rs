//! How a worker comes to be, and how its owner knows which one it is.

use sha2::{Digest, Sha256};

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn identity(machine: &Value, name: &str, secret: &str) -> Value {
    let fields = [("machineId", machine.clone()), ("workerId", name.into()), ("secret", secret.into())];
    object(fields)
}

async fn register(world: &World, name: &str, secret: &str) -> Result<Value, CallError> {
    let args = [("who", identity(&world.machine, name, secret)), ("acceptUnclaimedWithinMs", 0.0.into())];
    world.call("workers:register", object(args), None).await
}

/// Calls as the owner.
async fn own<const N: usize>(
    world: &World,
    path: &str,
    args: [(&str, Value); N],
) -> Result<Value, CallError> {
    world.call(path, object(args), Some(world.ada.clone())).await
}

fn text(value: &Value, name: &str) -> String {
    let Value::String(text) = field(value, name) else { panic!("{value:?}") };
    text
}

/// The owner's workers, by name.
async fn listed(world: &World) -> BTreeMap<String, Value> {
    let workers = array(world.query("workers:list", object([])).await.unwrap());
    workers.into_iter().map(|worker| (text(&worker, "workerId"), worker)).collect()
}

/// As a worker's log prints it.
fn fingerprint(secret: &str) -> String {
    let digits: String = Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect();
    [&digits[..4], &digits[4..8], &digits[8..12], &digits[12..16]].join("-")
}

#[test]
fn an_invited_worker_may_work_at_once_and_its_secret_is_shown_once() {
    check(async |world| {
        let args = || [("machine", world.machine.clone()), ("workerId", "worker_new".into())];
        let invited = own(&world, "workers:invite", args()).await.unwrap();
        let secret = text(&invited, "secret");
        assert_eq!((secret.len(), field(&invited, "machineId")), (48, world.machine.clone()));
        let stored = format!("{:?}", world.convex.table("workers"));
        assert!(!stored.contains(&secret), "only a hash is kept");
        assert_eq!(field(&listed(&world).await["worker_new"], "registeredAt"), Value::Null);
        let registered = register(&world, "worker_new", &secret).await.unwrap();
        assert_eq!(
            (field(&registered, "approval"), field(&registered, "epoch")),
            ("approved".into(), 1.0.into())
        );
        assert_ne!(field(&listed(&world).await["worker_new"], "registeredAt"), Value::Null);
        assert_eq!(code(own(&world, "workers:invite", args()).await), "taken".into());
        let bad = [("machine", world.machine.clone()), ("workerId", "new:worker".into())];
        assert_eq!(code(own(&world, "workers:invite", bad).await), "not_a_name".into());
        let eve = Some(Identity::new("https://issuer", "eve"));
        let args = object([("machine", world.machine.clone()), ("workerId", "worker_eve".into())]);
        assert_eq!(code(world.call("workers:invite", args, eve).await), "not_found".into());
    });
}

#[test]
fn whoever_was_not_invited_registers_only_while_enrolment_is_open() {
    check(async |world| {
        own(&world, "workers:closeEnrolment", [("machine", world.machine.clone())]).await.unwrap();
        let Err(CallError::Failed(refused)) = register(&world, "stranger", SECRET).await else { panic!() };
        insta::assert_snapshot!(text(&refused.data.unwrap(), "message"), @"This worker was not invited. The machine's owner makes its token with `workers:invite`, or opens enrolment for some minutes with `workers:openEnrolment`.");
        for minutes in [0.0, 15.5, f64::NAN] {
            let args = [("machine", world.machine.clone()), ("minutes", minutes.into())];
            assert_eq!(code(own(&world, "workers:openEnrolment", args).await), "not_minutes".into());
        }
        world.enrol(15.0).await;
        let machines = array(world.query("workers:listMachines", object([])).await.unwrap());
        assert_ne!(field(&machines[0], "enrolmentUntil"), Value::Null);
        for n in 0..20 {
            register(&world, &format!("worker_{n}"), SECRET).await.unwrap();
        }
        assert_eq!(code(register(&world, "worker_20", SECRET).await), "too_many_pending".into());
        // One that waits starts again as often as it wants, also later.
        tokio::time::sleep(HOUR / 4).await;
        let again = register(&world, "worker_7", SECRET).await.unwrap();
        assert_eq!(field(&again, "approval"), "pending".into());
        assert_eq!(code(register(&world, "worker_21", SECRET).await), "not_invited".into());
        let machines = array(world.query("workers:listMachines", object([])).await.unwrap());
        assert_eq!(field(&machines[0], "enrolmentUntil"), Value::Null);
        assert_eq!(listed(&world).await.len(), 21, "an owner sees all that wait");
    });
}

#[test]
fn an_owner_approves_only_what_waits_and_has_the_fingerprint_of_the_log() {
    check(async |world| {
        register(&world, "worker_b", "another-secret-0123456789abcdef01234567").await.unwrap();
        let worker = listed(&world).await.remove("worker_b").unwrap();
        let shown = fingerprint("another-secret-0123456789abcdef01234567");
        assert_eq!(field(&worker, "fingerprint"), shown.clone().into());
        let approve = async |fingerprint: &str| {
            let args = [("worker", field(&worker, "_id")), ("fingerprint", fingerprint.into())];
            own(&world, "workers:approve", args).await
        };
        assert_eq!(code(approve(&fingerprint(SECRET)).await), "other_fingerprint".into());
        approve(&shown.to_uppercase()).await.unwrap();
        assert_eq!(code(approve(&shown).await), "not_pending".into());
        own(&world, "workers:revoke", [("worker", field(&worker, "_id"))]).await.unwrap();
        assert_eq!(code(approve(&shown).await), "not_pending".into(), "revoked is for good");
        assert_eq!(field(&listed(&world).await["worker_b"], "approval"), "revoked".into());
    });
}

#[test]
fn a_new_secret_puts_the_old_one_out_at_once_and_keeps_the_chats() {
    check(async |world| {
        let turn = world.turn().await;
        let worker = || [("worker", world.worker_id())];
        let rotated = own(&world, "workers:rotate", worker()).await.unwrap();
        assert_eq!(code(world.worker("workers:heartbeat", []).await), "unauthorized".into());
        assert_eq!(code(register(&world, "w", SECRET).await), "unauthorized".into());
        let secret = text(&rotated, "secret");
        let registered = register(&world, "w", &secret).await.unwrap();
        assert_eq!(
            (field(&registered, "approval"), field(&registered, "epoch")),
            ("approved".into(), 3.0.into())
        );
        let Value::Object(mut who) = identity(&world.machine, "w", &secret) else { unreachable!() };
        who.insert("epoch".into(), 3.0.into());
        let stale = [("who", Value::Object(who)), ("limit", 9.0.into()), ("running", Value::Array(vec![]))];
        world.call("chat:expireStale", object(stale), None).await.unwrap();
        let ended = world.convex.table("turns").remove(0);
        assert_eq!((field(&ended, "_id"), field(&ended, "state")), (turn, "expired".into()));
        own(&world, "workers:revoke", worker()).await.unwrap();
        assert_eq!(code(own(&world, "workers:rotate", worker()).await), "revoked".into());
    });
}

#[test]
fn an_owner_sees_when_a_worker_that_was_there_was_taken_over_and_how_often() {
    check(async |world| {
        let seen = async || {
            let worker = listed(&world).await.remove("w").unwrap();
            (field(&worker, "lastTakeoverAt"), field(&worker, "takeoversLately"))
        };
        world.register().await;
        assert_eq!(seen().await, (Value::Null, 0.0.into()), "nobody was there");
        let connect = async |epoch: f64| {
            let args = object([("who", who(&world.machine, Some(epoch)))]);
            world.call("workers:markConnected", args, None).await.unwrap();
        };
        connect(2.0).await;
        world.register().await;
        world.register().await;
        let (last, lately) = seen().await;
        assert_eq!((last != Value::Null, lately), (true, 2.0.into()));
        tokio::time::sleep(HOUR * 25).await;
        for epoch in 5..30 {
            connect(f64::from(epoch - 1)).await;
            world.register().await;
        }
        assert_eq!(seen().await.1, 20.0.into(), "as many as are remembered");
        tokio::time::sleep(HOUR * 25).await;
        assert_eq!(seen().await.1, 0.0.into());
    });
}
