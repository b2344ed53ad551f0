//! Our store and isolate: runs a sequence of calls as `js/functions.mjs` does, and answers in the same form.

use std::{cell::Cell, collections::BTreeMap, path::Path, rc::Rc, time::Duration};

use convex::Value;
use fake_convex::{CallError, Convex, Identity, Kind, NoFaults, Options, SyncOptions, sources};
use serde_json::{Map, Value as Json, json};

/// A fresh backend, and its clock in milliseconds.
struct Backend {
    convex: Convex,
    now: Rc<Cell<u64>>,
    cursors: BTreeMap<String, Json>,
}

/// Runs one sequence; `tables` are to be dumped.
pub(crate) async fn run(functions: &Path, sequence: &Json, tables: &[String]) -> Json {
    let now = Rc::new(Cell::new(sequence["calls"][0]["now"].as_u64().unwrap()));
    let clock = now.clone();
    let options = Options {
        seed: 1,
        clock: Rc::new(move || clock.get() * 1_000_000),
        execution_latency: Duration::ZERO,
        sync: SyncOptions::default(),
        observer: Rc::new(|_| ()),
        faults: Rc::new(NoFaults),
    };
    let mut files = sources::read_directory(functions).unwrap();
    // The sequence says when a cron job runs.
    files.remove("crons.ts");
    let convex = Convex::load(&files, options).unwrap();
    let mut backend = Backend { convex, now, cursors: BTreeMap::new() };
    let mut results = Vec::new();
    for call in sequence["calls"].as_array().unwrap() {
        results.push(backend.call(call).await);
    }
    let dump = tables.iter().map(|table| (table.clone(), backend.rows(table).into()));
    json!({ "results": results, "tables": dump.collect::<Map<_, _>>() })
}

impl Backend {
    fn rows(&self, table: &str) -> Vec<Json> {
        self.convex.table(table).into_iter().map(Json::from).collect()
    }

    fn resolve(&self, value: &Json) -> Json {
        match value {
            Json::Array(items) => items.iter().map(|item| self.resolve(item)).collect(),
            Json::Object(fields) => {
                if let Some(row) = fields.get("$row") {
                    let rows = self.rows(row[0].as_str().unwrap());
                    let at = usize::try_from(row[1].as_u64().unwrap()).unwrap();
                    return rows.get(at % rows.len().max(1)).map_or(json!("none"), |row| row["_id"].clone());
                }
                if fields.contains_key("$machine") {
                    let first = self.rows("machines").into_iter().next();
                    return first.map_or(json!("none"), |machine| machine["machineId"].clone());
                }
                fields.iter().map(|(name, field)| (name.clone(), self.resolve(field))).collect()
            }
            Json::Number(number) => json!(number.as_f64()),
            other => other.clone(),
        }
    }

    /// Puts in where the last page of the same query ended, if that is asked for. Returns what names the query.
    fn cursor(&self, call: &Json, args: &mut Json) -> String {
        let mut other = args.clone();
        let options = other.as_object_mut().and_then(|fields| fields.remove("paginationOpts"));
        let query = json!([call["path"], call["who"], other]).to_string();
        if options.is_some_and(|options| options["cursor"].is_object()) {
            args["paginationOpts"]["cursor"] = self.cursors.get(&query).cloned().unwrap_or_default();
        }
        query
    }

    async fn call(&mut self, call: &Json) -> Json {
        self.now.set(call["now"].as_u64().unwrap());
        if call["kind"] == "due" {
            let _ = tokio::time::timeout(Duration::from_millis(1), self.convex.run_scheduler()).await;
            return json!({ "value": null });
        }
        let mut args = self.resolve(&call["args"]);
        let query = self.cursor(call, &mut args);
        let args = Value::try_from(args).unwrap();
        let identity = call["who"].as_str().map(|who| Identity::new("https://people.example", who));
        let path = call["path"].as_str().unwrap();
        let outcome = match call["kind"].as_str().unwrap() {
            "cron" => self.convex.call_as_cron(path, args).await,
            "query" => self.convex.call(Kind::Query, path, args, identity, "test").await,
            "action" => self.convex.call(Kind::Action, path, args, identity, "test").await,
            _ => self.convex.call(Kind::Mutation, path, args, identity, "test").await,
        };
        match outcome {
            Ok(value) => {
                let value = Json::from(value);
                if let Some(cursor) = value.get("continueCursor") {
                    self.cursors.insert(query, cursor.clone());
                }
                json!({ "value": value })
            }
            Err(CallError::Failed(failure)) => match failure.data {
                Some(data) => json!({ "code": Json::from(data) }),
                None => json!({ "error": failure.message }),
            },
            Err(other) => json!({ "error": other.to_string() }),
        }
    }
}
