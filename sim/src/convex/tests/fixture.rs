//! A small backend for tests.

use super::*;

/// Its files.
pub(in crate::convex) const FIXTURE: &[(&str, &str)] =
    &[("schema.ts", include_str!("fixture/schema.ts")), ("items.ts", include_str!("fixture/items.ts"))];

pub(in crate::convex) fn strings(items: &[&str]) -> Value {
    Value::Array(items.iter().map(|item| (*item).into()).collect())
}

pub(in crate::convex) async fn query(convex: &Convex, path: &str, args: Value) -> Value {
    convex.call(Kind::Query, path, args, None, "test").await.unwrap()
}

pub(in crate::convex) async fn mutate(convex: &Convex, path: &str, args: Value) -> Value {
    convex.call(Kind::Mutation, path, args, None, "test").await.unwrap()
}

pub(in crate::convex) fn item(name: &str, n: f64, tag: Option<Value>) -> BTreeMap<String, Value> {
    let fields = [("name".to_owned(), name.into()), ("n".to_owned(), n.into())];
    fields.into_iter().chain(tag.map(|tag| ("tag".to_owned(), tag))).collect()
}

pub(in crate::convex) async fn add(convex: &Convex, name: &str, n: f64, tag: Option<Value>) -> Value {
    mutate(convex, "items:add", Value::Object(item(name, n, tag))).await
}
