//! A small backend for tests.

use super::*;

/// Its files.
pub(crate) const FIXTURE: &[(&str, &str)] = &[
    ("schema.ts", include_str!("fixture/schema.ts")),
    ("items.ts", include_str!("fixture/items.ts")),
    ("actions.ts", include_str!("fixture/actions.ts")),
];

pub(crate) fn strings(items: &[&str]) -> Value {
    Value::Array(items.iter().map(|item| (*item).into()).collect())
}

pub(crate) async fn query(convex: &Convex, path: &str, args: Value) -> Value {
    convex.call(Kind::Query, path, args, None, "test").await.unwrap()
}

pub(crate) async fn mutate(convex: &Convex, path: &str, args: Value) -> Value {
    convex.call(Kind::Mutation, path, args, None, "test").await.unwrap()
}

pub(crate) fn item(name: &str, n: f64, tag: Option<Value>) -> BTreeMap<String, Value> {
    let fields = [("name".to_owned(), name.into()), ("n".to_owned(), n.into())];
    fields.into_iter().chain(tag.map(|tag| ("tag".to_owned(), tag))).collect()
}

pub(crate) async fn add(convex: &Convex, name: &str, n: f64, tag: Option<Value>) -> Value {
    mutate(convex, "items:add", Value::Object(item(name, n, tag))).await
}
