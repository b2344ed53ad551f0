//! Convex values to Rust types and back.
//!
//! Numbers are always `Float64`: a Rust integer would travel as `$integer`, which `v.number()` refuses.

use std::collections::BTreeMap;

use convex::Value;
use serde::de::DeserializeOwned;

use crate::error::CallError;

/// Arguments of a function.
pub(super) type Args = BTreeMap<String, Value>;

/// Builds arguments from pairs.
pub(super) fn args<const N: usize>(pairs: [(&str, Value); N]) -> Args {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A count as Convex's `v.number()` expects it. Counts here stay far below 2^53.
pub(super) fn number(count: u64) -> Value {
    debug_assert!(count < 1 << 53, "a count that a double cannot hold");
    Value::Float64(count as f64)
}

/// Reads a function's result into `T`.
pub(super) fn read<T: DeserializeOwned>(path: &'static str, value: Value) -> Result<T, CallError> {
    serde_json::from_value(value.export())
        .map_err(|error| CallError::Unexpected { path, problem: error.to_string() })
}

/// The code and message of a `ConvexError`; the backend's own always carry both.
pub(super) fn refusal(path: &'static str, error: convex::ConvexError) -> CallError {
    let field = |name: &str| match &error.data {
        Value::Object(data) => match data.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    };
    CallError::Refused {
        path,
        code: field("code").unwrap_or_else(|| "unknown".to_owned()),
        message: field("message").unwrap_or(error.message),
    }
}
