//! The same calls through convex-test, the community's reference, and through our store and isolate: results and
//! tables must be equal once ids are numbered anew. The functions are the real ones, `worker/convex`.
//!
//! `CONFORMANCE_SEQUENCES` says how many sequences are drawn; each is a seed, so a failure names the one to look at.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod calls;
mod ours;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use conformance::tools;
use serde_json::{Map, Value as Json, json};
use tokio::task::LocalSet;

const SEQUENCES: u64 = 100;
const LENGTH: usize = 60;

/// Runs sequences through convex-test.
fn theirs(functions: &Path, sequences: &[Json]) -> Option<Vec<Json>> {
    let mut node = tools::node()?;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), sequences.iter().map(|sequence| format!("{sequence}\n")).collect::<String>())
        .unwrap();
    let output = node.arg("js/functions.mjs").arg(functions).arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    Some(lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// Replaces what differs from backend to backend: ids and machines get numbers in the order in which they appear,
/// cursors go, moments lose what is below a millisecond, and an error is an error.
#[derive(Default)]
struct Normal(BTreeMap<String, usize>);

/// Fields of a page that people do not see: opaque, or hints about its size.
const HIDDEN: [&str; 4] = ["continueCursor", "splitCursor", "pageStatus", "error"];

impl Normal {
    fn value(&mut self, value: &Json) -> Json {
        match value {
            Json::String(text) if is_id(text) => {
                let next = self.0.len();
                json!(format!("id {}", self.0.entry(text.clone()).or_insert(next)))
            }
            Json::Number(number) => json!(number.as_f64().map(|number| number.floor() as i64)),
            Json::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Json::Object(fields) => {
                let shown = |name: &str, field: Json| if HIDDEN.contains(&name) { Json::Null } else { field };
                fields
                    .iter()
                    .map(|(name, field)| (name.clone(), shown(name, self.value(field))))
                    .filter(|(_, field)| !field.is_null())
                    .collect::<Map<_, _>>()
                    .into()
            }
            other => other.clone(),
        }
    }

    fn outcome(&mut self, outcome: &Json) -> Json {
        let failed = if outcome.get("error").is_some() { json!("an error") } else { Json::Null };
        json!([failed, self.value(outcome)])
    }
}

/// Ids of ours are 31 to 37 small letters and digits, convex-test's a number of 28 digits and the table's name.
fn is_id(text: &str) -> bool {
    let machine = text.strip_prefix("machine_").unwrap_or(text);
    (29..60).contains(&machine.len())
        && machine.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && machine.bytes().any(|byte| byte.is_ascii_digit())
}

/// Where convex-test is known to be wrong (`docs/fidelity.md` says by which source): it looks beyond a page that is full,
/// so that `isDone` comes a page too early. The backend learns that a range is exhausted only by reading on.
fn corrected(call: &Json, their: &Json) -> Json {
    let mut their = their.clone();
    let rows = their["value"]["page"].as_array().map(Vec::len);
    let asked = call["args"]["paginationOpts"]["numItems"].as_u64();
    if rows.is_some_and(|rows| Some(rows as u64) == asked) {
        their["value"]["isDone"] = json!(false);
    }
    their
}

/// Compares call by call, then table by table.
fn compare(what: &str, calls: &Json, ours: &Json, theirs: &Json) {
    let (mut left, mut right) = (Normal::default(), Normal::default());
    let pairs = ours["results"].as_array().unwrap().iter().zip(theirs["results"].as_array().unwrap());
    for (at, (our, their)) in pairs.enumerate() {
        let their = &corrected(&calls["calls"][at], their);
        let same = left.outcome(our) == right.outcome(their);
        assert!(same, "{what}, call {at}: {}\nours:   {our}\ntheirs: {their}", calls["calls"][at]);
    }
    assert_eq!(left.value(&ours["tables"]), right.value(&theirs["tables"]), "{what}: tables");
}

/// Runs both and compares. Returns what the functions were that succeeded at least once, if convex-test is there.
fn check(functions: &Path, sequences: &[Json]) -> Option<BTreeSet<String>> {
    let theirs = theirs(functions, sequences)?;
    assert_eq!(theirs.len(), sequences.len());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        for (seed, (sequence, theirs)) in sequences.iter().zip(&theirs).enumerate() {
            let tables: Vec<_> = theirs["tables"].as_object().unwrap().keys().cloned().collect();
            let ours = ours::run(functions, sequence, &tables).await;
            compare(&format!("sequence {seed}"), sequence, &ours, theirs);
        }
    });
    let steps = sequences.iter().zip(&theirs).flat_map(|(sequence, theirs)| {
        let calls = sequence["calls"].as_array().into_iter().flatten();
        calls.zip(theirs["results"].as_array().into_iter().flatten())
    });
    let done = steps.filter(|(_, result)| result.get("value").is_some());
    Some(done.map(|(call, _)| call["path"].as_str().unwrap().to_owned()).collect())
}

#[test]
fn the_backend_does_the_same_in_convex_test_and_in_the_fake() {
    let count = std::env::var("CONFORMANCE_SEQUENCES").map_or(SEQUENCES, |count| count.parse().unwrap());
    let sequences: Vec<_> = (0..count).map(|seed| calls::draw(seed, LENGTH)).collect();
    let done = check(&Path::new(tools::DIRECTORY).join("../../worker/convex"), &sequences);
    assert!(done.is_none_or(|done| done.len() == 22), "every function succeeds now and then");
}

/// The limit itself is allowed, one more is not.
#[test]
fn the_limits_of_a_transaction_are_the_same() {
    let call = |kind: &str, path: &str, args: Json| json!({ "kind": kind, "path": path, "args": args, "who": null, "now": 1_767_225_600_000_u64 });
    let insert =
        |count: u32, bytes: u32| call("mutation", "limits:insert", json!({ "count": count, "bytes": bytes }));
    let sequence = |calls: Vec<Json>| json!({ "limits": true, "calls": calls });
    let sequences = [
        sequence(vec![
            insert(16_000, 1),
            insert(16_001, 1),
            insert(16_000, 1),
            call("query", "limits:scan", json!({ "count": 32_000 })),
        ]),
        sequence(vec![insert(16, 1_000_000), insert(17, 1_000_000)]),
        sequence(
            [4_096, 4_097].map(|count| call("query", "limits:ranges", json!({ "count": count }))).to_vec(),
        ),
        sequence(
            [1_000, 1_001]
                .map(|count| call("mutation", "limits:schedule", json!({ "count": count })))
                .to_vec(),
        ),
    ];
    let functions: PathBuf = Path::new(tools::DIRECTORY).join("convex");
    check(&functions, &sequences);
    let failed = |sequence: &Json| {
        let theirs = theirs(&functions, std::slice::from_ref(sequence))?;
        Some(
            theirs[0]["results"]
                .as_array()?
                .iter()
                .map(|result| result.get("error").is_some())
                .collect::<Vec<_>>(),
        )
    };
    assert!(
        failed(&sequences[2]).is_none_or(|failed| failed == [false, true]),
        "the reference enforces limits"
    );
}
