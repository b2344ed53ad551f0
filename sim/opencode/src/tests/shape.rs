//! The shape of a JSON value: sets of keys and types, recursively, so that recordings and answers can be compared.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// What a value looks like, without what it says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    Null,
    Bool,
    Number,
    Text,
    /// The different shapes of the elements.
    Array(BTreeSet<Shape>),
    Object(BTreeMap<String, Shape>),
}

pub(super) fn shape(value: &Value) -> Shape {
    match value {
        Value::Null => Shape::Null,
        Value::Bool(_) => Shape::Bool,
        Value::Number(_) => Shape::Number,
        Value::String(_) => Shape::Text,
        Value::Array(items) => Shape::Array(items.iter().map(shape).collect()),
        Value::Object(fields) => {
            Shape::Object(fields.iter().map(|(key, value)| (name(key), shape(value))).collect())
        }
    }
}

/// Keys that are identifiers count as one.
fn name(key: &str) -> String {
    if key.starts_with("ses_") { "ses_*".into() } else { key.into() }
}

/// Checks that two values have the same shape; says where they differ.
pub(super) fn same_shape(what: &str, ours: &Value, recorded: &Value) {
    let (left, right) = (shape(ours), shape(recorded));
    assert!(left == right, "{what}: shapes differ\nours:     {ours}\nrecorded: {recorded}");
}

#[test]
fn shapes_see_keys_and_types_but_not_values() {
    use serde_json::json;
    assert_eq!(shape(&json!({ "a": [1, 2], "b": "x" })), shape(&json!({ "b": "", "a": [7] })));
    assert_ne!(shape(&json!({ "a": 1 })), shape(&json!({ "a": "1" })));
    assert_ne!(shape(&json!({ "a": 1 })), shape(&json!({ "a": 1, "b": 1 })));
    assert_ne!(shape(&json!([{ "a": 1 }])), shape(&json!([{ "a": 1 }, 2])));
}
