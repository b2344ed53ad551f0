//! What functions can do, and what they are refused.

use super::{fixture::*, *};

pub(super) async fn error(convex: &Convex, kind: Kind, path: &str, args: Value) -> String {
    match convex.call(kind, path, args, None, "test").await {
        Err(CallError::Failed(failure)) => {
            let (request, rest) = failure.message.split_once("] ").unwrap();
            assert_eq!(request.len(), "[Request ID: 0123456789abcdef".len());
            rest.to_owned()
        }
        other => panic!("{path} did not fail: {other:?}"),
    }
}

/// Runs a test on the fixture's functions.
pub(super) fn check<F: Future<Output = ()>>(test: impl FnOnce(Convex) -> F) {
    simulate(|| async {
        let (convex, _) = deploy(FIXTURE, Duration::ZERO, SyncOptions::default());
        test(convex).await;
    });
}

#[test]
fn a_range_is_read_in_order_and_up_to_its_bounds() {
    check(|convex| async move {
        for (name, n) in [("c", 3.0), ("a", 1.0), ("d", 4.0), ("b", 2.0), ("b2", 2.0)] {
            add(&convex, name, n, None).await;
        }
        for (from, to, take, descending, expect) in [
            (1.0, 4.0, 10.0, false, vec!["a", "b", "b2", "c"]),
            (1.0, 4.0, 2.0, true, vec!["c", "b2"]),
            (5.0, 4.0, 2.0, true, vec![]),
            (0.0, 9.0, 0.0, false, vec![]),
        ] {
            let args = object([
                ("from", from.into()),
                ("to", to.into()),
                ("take", take.into()),
                ("descending", descending.into()),
            ]);
            assert_eq!(query(&convex, "items:range", args).await, strings(&expect));
        }
    });
}

#[test]
fn undefined_sorts_before_null_and_null_before_strings() {
    check(|convex| async move {
        add(&convex, "text", 1.0, Some("x".into())).await;
        add(&convex, "null", 2.0, Some(Value::Null)).await;
        let absent = add(&convex, "absent", 3.0, None).await;
        assert_eq!(query(&convex, "items:byTag", object([])).await, strings(&["absent", "null", "text"]));
        let tagged = add(&convex, "untagged", 0.0, Some("y".into())).await;
        mutate(&convex, "items:untag", object([("id", tagged)])).await;
        let expect = strings(&["untagged", "absent", "null", "text"]);
        assert_eq!(query(&convex, "items.js:byTag", object([])).await, expect);
        assert_eq!(query(&convex, "items:filtered", object([("above", 0.5.into())])).await, "text".into());
        assert_eq!(mutate(&convex, "items:increment", object([("id", absent)])).await, 4.0.into());
    });
}

#[test]
fn pages_follow_each_other_without_gaps() {
    check(|convex| async move {
        for n in 0..5 {
            add(&convex, &format!("i{n}"), f64::from(n), None).await;
        }
        let (mut cursor, mut seen) = (Value::Null, Vec::new());
        loop {
            let options = object([("numItems", 2.0.into()), ("cursor", cursor)]);
            let page = query(&convex, "items:page", object([("paginationOpts", options)])).await;
            seen.push(field(&page, "page"));
            if field(&page, "isDone") == true.into() {
                break;
            }
            cursor = field(&page, "continueCursor");
        }
        assert_eq!(seen, [strings(&["i0", "i1"]), strings(&["i2", "i3"]), strings(&["i4"])]);
        let options = object([("numItems", 2.0.into()), ("cursor", "AAAAAAAAAAABcQ".into())]);
        let refused = error(&convex, Kind::Query, "items:page", object([("paginationOpts", options)])).await;
        assert!(refused.contains("InvalidCursor"), "{refused}");
    });
}

#[test]
fn a_mutation_that_throws_leaves_nothing_behind() {
    check(|convex| async move {
        let message = error(&convex, Kind::Mutation, "items:boom", object([])).await;
        insta::assert_snapshot!(message, @r"
        Server Error
        Uncaught Error: boom
            at handler (../convex/items.ts:85:15)
        ");
        assert!(convex.table("items").is_empty());
    });
}

#[test]
fn a_stack_points_into_the_file_as_it_was_written() {
    let text = "import { mutation } from './_generated/server';

interface Order {
  id: string;
}

function check<T extends Order>(order: T, why?: Array<string | number>): asserts order is T {
  if (!(order as Order | undefined)?.id) throw new RangeError('unpaid');
}

export const pay = mutation({
  args: {},
  handler: async (
    _ctx,
  ): Promise<
    null
  > => {
    const order: Order = { id: '' }; check<Order>(order, []);
    return null;
  },
});
";
    let files = [FIXTURE, &[("pay.ts", text)]].concat();
    simulate(|| async {
        let (convex, _) = deploy(&files, Duration::ZERO, SyncOptions::default());
        let message = error(&convex, Kind::Mutation, "pay:pay", object([])).await;
        let frames = message.lines().filter_map(|line| line.split_once("pay.ts:")?.1.strip_suffix(')'));
        let pointed: Vec<_> = frames
            .map(|place| {
                let (line, column) = place.split_once(':').unwrap();
                let line = text.lines().nth(line.parse::<usize>().unwrap() - 1).unwrap();
                &line[column.parse::<usize>().unwrap() - 1..]
            })
            .collect();
        assert_eq!(pointed, ["RangeError('unpaid');", "order, []);"], "{message}");
    });
}

#[test]
fn a_nested_mutation_that_throws_undoes_its_own_writes_alone() {
    check(|convex| async move {
        let message = mutate(&convex, "items:nested", object([])).await;
        assert_eq!(message, "failed at undone".into());
        assert_eq!(query(&convex, "items:names", object([])).await, strings(&["kept"]));
    });
}

#[test]
fn errors_read_as_those_of_a_development_deployment() {
    check(|convex| async move {
        let wrong = object([("name", 1.0.into()), ("n", 1.0.into())]);
        insta::assert_snapshot!(error(&convex, Kind::Mutation, "items:add", wrong).await, @r"
        Server Error
        ArgumentValidationError: Value does not match validator.
        Path: .name
        Value: 1.0
        Validator: v.string()
        ");
        insta::assert_snapshot!(error(&convex, Kind::Mutation, "items:unlike", object([])).await, @r#"
        Server Error
        Uncaught Error: Failed to insert or update a document in table "items" because it does not match the schema: Value does not match validator.
        Path: .name
        Value: 1.0
        Validator: v.string()
            at handler (../convex/items.ts:107:34)
        "#);
        insta::assert_snapshot!(error(&convex, Kind::Mutation, "items:refuse", object([])).await, @r#"
        Server Error
        Uncaught ConvexError: {"code":"no","message":"No."}
            at handler (../convex/items.ts:92:15)
        "#);
        insta::assert_snapshot!(error(&convex, Kind::Mutation, "items:count", object([])).await, @r"
        Server Error
        Trying to execute items:count as Mutation, but it is defined as Query.
        ");
        insta::assert_snapshot!(error(&convex, Kind::Query, "items:inner", object([])).await, @r"
        Server Error
        Could not find public function for 'items:inner'. Did you forget to run `npx convex dev` or `npx convex deploy`?
        ");
        insta::assert_snapshot!(error(&convex, Kind::Query, "nowhere:at_all", object([])).await, @r"
        Server Error
        Could not find public function for 'nowhere:at_all'. Did you forget to run `npx convex dev` or `npx convex deploy`?
        ");
    });
}

#[test]
fn endless_and_hanging_functions_are_stopped_and_the_next_one_runs() {
    check(|convex| async move {
        insta::assert_snapshot!(error(&convex, Kind::Query, "items:spin", object([])).await, @r"
        Server Error
        Function execution timed out (maximum duration: 1s)
        ");
        let message = error(&convex, Kind::Query, "items:hang", object([])).await;
        assert!(message.contains("never resolves"), "{message}");
        assert_eq!(query(&convex, "items:count", object([])).await, 0.0.into());
    });
}

#[test]
fn time_is_frozen_and_randomness_seeded() {
    let run = || {
        simulate(|| async {
            let (convex, _) = deploy(FIXTURE, Duration::ZERO, SyncOptions::default());
            let first = query(&convex, "items:environment", object([])).await;
            let second = query(&convex, "items:environment", object([])).await;
            assert_ne!(field(&first, "random"), field(&second, "random"));
            first
        })
    };
    let seen = run();
    assert_eq!(seen, run(), "the same seed gives the same run");
    assert_eq!(field(&seen, "now"), Value::Float64((START / 1_000_000) as f64));
    assert_eq!(field(&seen, "frozen"), true.into());
    assert_eq!(field(&seen, "hour"), 5.0.into());
    assert_eq!(field(&seen, "sha"), Value::Array(vec![186.0.into(), 120.0.into(), 22.0.into()]));
    assert_eq!(field(&seen, "big"), Value::Int64(1 << 40));
    assert_eq!(field(&seen, "bytes"), Value::Bytes(vec![1, 2]));
    assert_eq!(field(&seen, "zero"), Value::Float64(-0.0));
}

#[test]
fn scheduled_functions_run_once_when_due_and_not_when_cancelled() {
    check(|convex| async move {
        let runner = convex.clone();
        let task = tokio::task::spawn_local(async move { runner.run_scheduler().await });
        let later = |delay: f64, cancel: bool| object([("delay", delay.into()), ("cancel", cancel.into())]);
        assert_eq!(mutate(&convex, "items:later", later(5_000.0, false)).await, "pending".into());
        assert_eq!(mutate(&convex, "items:later", later(5_000.0, true)).await, "canceled".into());
        tokio::time::sleep(Duration::from_millis(4_900)).await;
        assert!(convex.table("items").is_empty());
        task.abort();
        let runner = convex.clone();
        let task = tokio::task::spawn_local(async move { runner.run_scheduler().await });
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(convex.table("items").len(), 1);
        let states: Vec<_> = convex
            .table("_scheduled_functions")
            .iter()
            .map(|job| field(&field(job, "state"), "kind"))
            .collect();
        assert_eq!(Value::Array(states), strings(&["success", "canceled"]));
        task.abort();
    });
}

#[test]
fn conflicting_mutations_all_take_effect_and_none_is_lost() {
    simulate(|| async {
        let (convex, log) = deploy(FIXTURE, Duration::from_millis(10), SyncOptions::default());
        let id = add(&convex, "counter", 0.0, None).await;
        let one = |id: Value| mutate(&convex, "items:increment", object([("id", id)]));
        let results = tokio::join!(one(id.clone()), one(id.clone()), one(id));
        let mut results = [results.0, results.1, results.2];
        results.sort();
        assert_eq!(results, [1.0.into(), 2.0.into(), 3.0.into()]);
        assert!(log.borrow().iter().any(|line| line.ends_with("x2") || line.ends_with("x3")), "{log:?}");
    });
}

#[test]
fn a_conflict_at_every_attempt_is_an_error() {
    simulate(|| async {
        let (convex, _) = deploy(FIXTURE, Duration::from_millis(10), SyncOptions::default());
        add(&convex, "first", 0.0, None).await;
        let storm = async {
            loop {
                convex.seed(|seeder| seeder.insert("items", item("x", 0.0, None), 1.0)).unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let call = convex.call(Kind::Mutation, "items:nameAll", object([]), None, "test");
        let outcome = tokio::select! { () = storm => unreachable!(), outcome = call => outcome };
        assert_eq!(outcome, Err(CallError::Conflict));
    });
}

#[test]
fn seeded_documents_are_checked_and_keep_their_time() {
    check(|convex| async move {
        let fields = |name: Value| BTreeMap::from([("name".to_owned(), name), ("n".to_owned(), 1.0.into())]);
        let id = convex.seed(|seeder| seeder.insert("items", fields("old".into()), 5.0)).unwrap();
        assert_eq!(field(&convex.table("items")[0], "_creationTime"), 5.0.into());
        assert_eq!(field(&convex.table("items")[0], "_id"), id.into());
        let refused = convex.seed(|seeder| seeder.insert("items", fields(1.0.into()), 5.0)).unwrap_err();
        assert!(refused.contains("does not match the schema"), "{refused}");
    });
}

#[test]
fn backends_that_need_what_is_not_modelled_are_refused_at_load() {
    let load = |file: &str, text: &str| {
        let mut sources: BTreeMap<_, _> =
            FIXTURE.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect();
        sources.insert(file.to_owned(), text.to_owned());
        let options = Options {
            seed: 0,
            clock: Rc::new(|| START),
            execution_latency: Duration::ZERO,
            sync: SyncOptions::default(),
            observer: Rc::new(|_| {}),
            faults: Rc::new(NoFaults),
        };
        Convex::load(&sources, options).unwrap_err().to_string()
    };
    insta::assert_snapshot!(load("x.ts", "import fs from 'node:fs'; export const f = fs;"), @"cannot load the backend functions: x: ReferenceError: Error resolving module 'node:fs' from '../convex/x': the simulator loads relative modules, `convex/server` and `convex/values` only");
    insta::assert_snapshot!(load("crons.ts", "import { cronJobs } from 'convex/server'; const c = cronJobs(); c.cron('a', '* * * * *', 'items:inner'); export default c;"), @r"
    cannot load the backend functions: crons: Error: the simulator does not model crons in cron syntax
        at <anonymous> (../convex/crons.ts:1:66)
    ");
    insta::assert_snapshot!(load("schema.ts", "import { defineSchema, defineTable } from 'convex/server'; export default defineSchema({ t: defineTable({}).searchIndex('x', {}) });"), @r"
    cannot load the backend functions: schema: Error: the simulator does not model search indexes
        at <anonymous> (../convex/schema.ts:1:108)
    ");
}
