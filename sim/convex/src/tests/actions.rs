//! Actions: what they call are transactions of their own, and they are none.

use super::{fixture::*, functions::check, functions::error, *};

async fn act(convex: &Convex, path: &str, args: Value) -> Result<Value, CallError> {
    convex.call(Kind::Action, path, args, Some(Identity::new("https://i", "ada")), "test").await
}

async fn outcome(convex: &Convex, path: &str, args: Value) -> Value {
    act(convex, path, args).await.unwrap()
}

/// Runs a test on functions that take a while.
fn check_slow<F: Future<Output = ()>>(test: impl FnOnce(Convex) -> F) {
    simulate(|| async {
        let (convex, _) = deploy(FIXTURE, Duration::from_millis(10), SyncOptions::default());
        test(convex).await;
    });
}

#[test]
fn each_call_of_an_action_is_a_transaction_of_its_own() {
    check_slow(|convex| async move {
        let args = |first: &str, second: &str| object([("first", first.into()), ("second", second.into())]);
        let one = outcome(&convex, "actions:addTwo", args("a", "b")).await;
        assert_eq!(one, Value::Array(vec![strings(&["a"]), strings(&["a", "b"])]));
        let (left, right) = tokio::join!(
            outcome(&convex, "actions:addTwo", args("c", "d")),
            outcome(&convex, "actions:addTwo", args("e", "f")),
        );
        assert_ne!(left, right, "they go on side by side and see each other's writes");
        assert_eq!(convex.table("items").len(), 6);
    });
}

#[test]
fn calls_of_one_action_run_at_the_same_time() {
    check_slow(|convex| async move {
        let began = tokio::time::Instant::now();
        let args = object([("names", strings(&["a", "bad", "c"]))]);
        let settled = outcome(&convex, "actions:addAll", args).await;
        assert_eq!(settled, strings(&["fulfilled", "rejected", "fulfilled"]));
        assert_eq!((convex.table("items").len(), began.elapsed().as_millis()), (2, 10));
    });
}

#[test]
fn what_an_action_did_before_it_failed_stays_and_error_data_arrive() {
    check(|convex| async move {
        let refused = |caught: bool| object([("caught", caught.into())]);
        assert_eq!(outcome(&convex, "actions:refused", refused(true)).await, "no".into());
        let Err(CallError::Failed(failure)) = act(&convex, "actions:refused", refused(false)).await else {
            panic!()
        };
        assert_eq!(failure.data.map(|data| field(&data, "code")), Some("no".into()));
        assert_eq!(convex.table("items").len(), 2, "one from each");
    });
}

#[test]
fn the_clock_of_an_action_goes_on_and_it_acts_for_its_caller() {
    check_slow(|convex| async move {
        let seen = outcome(&convex, "actions:clock", object([])).await;
        let expected = object([("took", 10.0.into()), ("differs", true.into()), ("who", "ada".into())]);
        assert_eq!(seen, expected);
    });
}

#[test]
fn what_is_not_modelled_in_actions_is_refused_there() {
    check(|convex| async move {
        let mut said = Vec::new();
        for what in ["fetch", "timers", "scheduler", "actions"] {
            let message = error(&convex, Kind::Action, "actions:use", object([("what", what.into())])).await;
            said.push(message.lines().nth(1).unwrap().to_owned());
        }
        insta::assert_snapshot!(said.join("\n"), @r"
        Uncaught Error: the simulator does not model fetch() in actions
        Uncaught Error: the simulator does not model setTimeout() in actions
        Uncaught Error: the simulator does not model ctx.scheduler in actions
        Uncaught Error: the simulator does not model ctx.runAction in actions
        ");
        let database = outcome(&convex, "actions:use", object([("what", "database".into())])).await;
        assert_eq!(database, "undefined".into());
        insta::assert_snapshot!(error(&convex, Kind::Query, "actions:clock", object([])).await, @r"
        Server Error
        Trying to execute actions:clock as Query, but it is defined as Action.
        ");
    });
}

#[test]
fn an_action_that_hangs_or_goes_on_for_ever_is_stopped() {
    check_slow(|convex| async move {
        let message = error(&convex, Kind::Action, "actions:hang", object([])).await;
        assert!(message.contains("never resolves"), "{message}");
        let message = error(&convex, Kind::Action, "actions:endless", object([])).await;
        insta::assert_snapshot!(message, @r"
        Server Error
        Function execution timed out (maximum duration: 1800s)
        ");
        assert_eq!(query(&convex, "items:count", object([])).await, 0.0.into());
    });
}
