//! The limits of [`limits`](crate::limits): what is just allowed, and what is not.

use super::{fixture::*, functions::check, functions::error, *};
use crate::{call::Call, transaction::Transaction};

#[test]
fn what_a_transaction_reads_and_writes_is_limited() {
    simulate(|| async {
        let (convex, _) = deploy(FIXTURE, Duration::ZERO, SyncOptions::default());
        let store = convex.0.store.borrow();
        let mut transaction = Transaction::new(store.last_ts(), START);
        let mut insert = |name: &str| {
            let id = id::Id::draw(16, &mut *convex.0.random.borrow_mut());
            transaction.insert(&store, id, item(name, 1.0, None))
        };
        let refused = insert(&"x".repeat(limits::DOCUMENT_BYTES)).unwrap_err();
        insta::assert_snapshot!(refused, @"Value is too large (1048657 bytes > maximum size 1048576 bytes)");
        (0..limits::DOCUMENTS_WRITTEN).for_each(|_| insert("x").unwrap());
        insta::assert_snapshot!(insert("x").unwrap_err(), @"Too many documents written in a single function execution (limit: 16000)");
        let mut reader = Transaction::new(store.last_ts(), START);
        let id = id::Id::draw(16, &mut *convex.0.random.borrow_mut());
        (0..limits::INDEX_RANGES).for_each(|_| drop(reader.get(&store, id).unwrap()));
        insta::assert_snapshot!(reader.get(&store, id).unwrap_err(), @"Too many reads in a single function execution (limit: 4096)");
    });
}

/// What is refused of a function that only gives back what it is given.
async fn refused(convex: &Convex, value: Value) -> String {
    let message = error(convex, Kind::Query, "items:values", object([("value", value)])).await;
    message.lines().nth(1).unwrap().to_owned()
}

#[test]
fn what_a_function_is_given_and_gives_is_limited() {
    check(|convex| async move {
        // The name of the argument and the object around it count too.
        let fits = limits::ARGUMENTS_BYTES - "value".len() - 1 - 2 - 2;
        let text = |bytes: usize| Value::String("x".repeat(bytes));
        assert_eq!(query(&convex, "items:values", object([("value", text(fits))])).await, text(fits));
        insta::assert_snapshot!(refused(&convex, text(fits + 1)).await, @"Arguments are too large (actual: 16777217 bytes, limit: 16777216 bytes)");
        let give = async |bytes: usize| {
            let args = object([("bytes", (bytes as f64).into())]);
            convex.call(Kind::Query, "items:repeat", args, None, "test").await
        };
        assert!(give(limits::RESULT_BYTES - 2).await.is_ok());
        assert!(
            give(limits::RESULT_BYTES - 1)
                .await
                .unwrap_err()
                .to_string()
                .contains("return value is too large")
        );
    });
}

#[test]
fn a_log_is_limited() {
    check(|convex| async move {
        let call = Call {
            path: "items:log".into(),
            args: object([("lines", 300.0.into()), ("bytes", 5_000.0.into())]),
            identity: None,
            caller: "test".into(),
            public: true,
        };
        let logs = convex.run_query(&call, None, false).logs;
        assert_eq!(logs.len(), limits::LOG_LINES);
        let note = " (truncated due to length)";
        assert!(
            logs.iter().all(|line| line.len() == limits::LOG_LINE_BYTES + note.len() && line.ends_with(note))
        );
    });
}

#[test]
fn the_arguments_of_what_is_scheduled_are_limited_together() {
    check(|convex| async move {
        let schedule = |times: f64| object([("times", times.into()), ("bytes", 4_000_000.0.into())]);
        mutate(&convex, "items:laterWith", schedule(4.0)).await;
        let message = error(&convex, Kind::Mutation, "items:laterWith", schedule(5.0)).await;
        insta::assert_snapshot!(message.lines().nth(1).unwrap(), @"Uncaught Error: Too large total size of the arguments of scheduled functions from this mutation (limit: 16777216 bytes)");
    });
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(Value::Null, |inside, _| Value::Array(vec![inside]))
}

#[test]
fn the_shape_of_a_document_is_limited() {
    let checked = |value: Value| size::check_document(&value, size::size(&value));
    let array = |length: usize| Value::Array(vec![Value::Null; length]);
    let fields = |count: usize| Value::Object((0..count).map(|n| (format!("f{n}"), Value::Null)).collect());
    assert!(checked(nested(limits::DOCUMENT_NESTING)).is_ok());
    insta::assert_snapshot!(checked(nested(limits::DOCUMENT_NESTING + 1)).unwrap_err(), @"Document is too nested (nested 17 levels deep > maximum nesting 16)");
    assert!(checked(array(limits::ARRAY_ELEMENTS)).is_ok());
    insta::assert_snapshot!(checked(array(limits::ARRAY_ELEMENTS + 1)).unwrap_err(), @"Array length is too long (8193 > maximum length 8192)");
    assert!(checked(fields(limits::OBJECT_FIELDS)).is_ok());
    insta::assert_snapshot!(checked(fields(limits::OBJECT_FIELDS + 1)).unwrap_err(), @"Object has too many fields (1025 > maximum number 1024)");
}
