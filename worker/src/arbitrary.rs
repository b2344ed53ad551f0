//! Texts from outside for tests of whatever reads them: arbitrary bytes, arbitrary JSON, and samples in which bytes were
//! changed, left out or repeated. Every reader must refuse or take them, and never panic.
//!
//! `PROPTEST_CASES` says how many each reader gets: 256 by default, many more every night.

use proptest::prelude::*;
use serde_json::Value;

/// The longest arbitrary text (bytes), and the most changes to a sample.
const LONGEST: usize = 200;
const CHANGES: usize = 8;

/// Texts that may come where `samples` are expected.
pub(crate) fn text(samples: &'static [&'static str]) -> impl Strategy<Value = String> {
    let bytes = prop::collection::vec(any::<u8>(), 0..LONGEST);
    prop_oneof![
        1 => bytes.prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        2 => json().prop_map(|value| value.to_string()),
        2 => (prop::sample::select(samples), json()).prop_map(|(sample, value)| with_value(sample, &value)),
        5 => (prop::sample::select(samples), prop::collection::vec(change(), 1..CHANGES))
            .prop_map(|(sample, changes)| changed(sample, &changes)),
    ]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(&["type", "id", "ses_1", "per_1", "Transition", "text"][..])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z]{1,9}", inner, 0..4).prop_map(Value::from_iter),
        ]
    })
}

/// The sample with `value` in place of one of its own, if it is an object.
fn with_value(sample: &str, value: &Value) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(sample) else { return sample.to_owned() };
    let place = value.to_string().len() % fields.len().max(1);
    if let Some((_, field)) = fields.iter_mut().nth(place) {
        *field = value.clone();
    }
    Value::Object(fields).to_string()
}

#[derive(Debug, Clone)]
enum Change {
    Replace(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Repeat(prop::sample::Index, prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        any::<prop::sample::Index>().prop_map(Change::Remove),
        (any::<prop::sample::Index>(), any::<prop::sample::Index>())
            .prop_map(|(from, to)| Change::Repeat(from, to)),
    ]
}

fn changed(sample: &str, changes: &[Change]) -> String {
    let mut bytes = sample.as_bytes().to_vec();
    for change in changes.iter().filter(|_| !sample.is_empty()) {
        let length = bytes.len().max(1);
        match change {
            Change::Replace(at, byte) => {
                if let Some(place) = bytes.get_mut(at.index(length)) {
                    *place = *byte;
                }
            }
            Change::Remove(at) if !bytes.is_empty() => drop(bytes.remove(at.index(length))),
            Change::Remove(_) => {}
            Change::Repeat(from, to) if bytes.len() < 10_000 => {
                let (from, to) = (from.index(length), to.index(length));
                let part = bytes.get(from.min(to)..from.max(to)).unwrap_or_default().to_vec();
                bytes.splice(from.min(bytes.len())..from.min(bytes.len()), part);
            }
            Change::Repeat(..) => {}
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
