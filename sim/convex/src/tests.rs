//! The deployment as a whole, with functions of its own and with the real ones.

use std::{cell::RefCell, collections::BTreeMap, path::Path, rc::Rc, time::Duration};

use ::convex::Value;
use tokio::task::LocalSet;

use super::*;

mod actions;
mod bounds;
mod edge;
pub(crate) mod fixture;
mod functions;
mod invalidation;
mod real;

/// 2026-01-01T00:00:00Z, in nanoseconds.
pub(crate) const START: u64 = 1_767_225_600_000_000_000;

/// A line for each execution: `kind path outcome reads/writes xattempts`.
pub(crate) type Log = Rc<RefCell<Vec<String>>>;

/// A deployment on tokio's paused clock.
pub(crate) fn deploy(sources: &[(&str, &str)], latency: Duration, sync: SyncOptions) -> (Convex, Log) {
    let sources = sources.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    deploy_map(&sources, latency, sync)
}

pub(crate) fn deploy_map(
    sources: &BTreeMap<String, String>,
    execution_latency: Duration,
    sync: SyncOptions,
) -> (Convex, Log) {
    let began = tokio::time::Instant::now();
    let log = Log::default();
    let lines = log.clone();
    let observer = move |observation: &Observation<'_>| {
        if let Observation::Executed { kind, path, outcome, usage, attempts, .. } = observation {
            let (reads, writes) = (usage.documents_read, usage.documents_written);
            let kind = kind.as_str();
            lines.borrow_mut().push(format!("{kind} {path} {outcome:?} {reads}/{writes} x{attempts}"));
        }
    };
    let options = Options {
        seed: 7,
        clock: Rc::new(move || START + began.elapsed().as_nanos() as u64),
        execution_latency,
        sync,
        observer: Rc::new(observer),
        faults: Rc::new(NoFaults),
    };
    (Convex::load(sources, options).unwrap(), log)
}

/// Runs a test on a paused runtime with a `LocalSet`.
pub(crate) fn simulate<F: Future>(test: impl FnOnce() -> F) -> F::Output {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, async move { test().await })
}

/// An object.
pub(crate) fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A field of an object.
pub(crate) fn field(value: &Value, name: &str) -> Value {
    match value {
        Value::Object(fields) => {
            fields.get(name).cloned().unwrap_or_else(|| panic!("no {name} in {fields:?}"))
        }
        other => panic!("no object: {other:?}"),
    }
}

/// The real backend functions.
pub(crate) fn real_sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../worker/convex");
    sources::read_directory(&root).unwrap()
}
