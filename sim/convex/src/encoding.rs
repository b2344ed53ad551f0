//! Index keys as bytes whose order is Convex's order of values.
//!
//! `undefined < null < int64 < float64 < bool < string < bytes < array < object`. No encoding is the prefix of
//! another one, so "all keys that begin with these values" is one range of bytes, and a read set is a list of such
//! ranges ([`Interval`]).

use convex::Value;

mod tag {
    pub(super) const END: u8 = 0;
    pub(super) const UNDEFINED: u8 = 1;
    pub(super) const NULL: u8 = 2;
    pub(super) const INT64: u8 = 3;
    pub(super) const FLOAT64: u8 = 4;
    pub(super) const FALSE: u8 = 5;
    pub(super) const TRUE: u8 = 6;
    pub(super) const STRING: u8 = 7;
    pub(super) const BYTES: u8 = 8;
    pub(super) const ARRAY: u8 = 9;
    pub(super) const OBJECT: u8 = 10;
}

/// Appends the ordered form of a value; `None` is `undefined`.
pub fn encode(value: Option<&Value>, out: &mut Vec<u8>) {
    match value {
        None => out.push(tag::UNDEFINED),
        Some(Value::Null) => out.push(tag::NULL),
        Some(Value::Int64(n)) => {
            out.push(tag::INT64);
            out.extend((*n as u64 ^ 1 << 63).to_be_bytes());
        }
        Some(Value::Float64(n)) => encode_float(*n, out),
        Some(Value::Boolean(b)) => out.push(if *b { tag::TRUE } else { tag::FALSE }),
        Some(Value::String(s)) => encode_bytes(tag::STRING, s.as_bytes(), out),
        Some(Value::Bytes(b)) => encode_bytes(tag::BYTES, b, out),
        Some(Value::Array(items)) => {
            out.push(tag::ARRAY);
            items.iter().for_each(|item| encode(Some(item), out));
            out.push(tag::END);
        }
        Some(Value::Object(fields)) => {
            out.push(tag::OBJECT);
            for (name, field) in fields {
                encode_bytes(tag::STRING, name.as_bytes(), out);
                encode(Some(field), out);
            }
            out.push(tag::END);
        }
    }
}

/// Appends the ordered form of a string.
pub fn encode_str(text: &str, out: &mut Vec<u8>) {
    encode_bytes(tag::STRING, text.as_bytes(), out);
}

/// Appends the ordered form of a float64, by IEEE total order.
pub fn encode_float(n: f64, out: &mut Vec<u8>) {
    let bits = n.to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    out.push(tag::FLOAT64);
    out.extend(ordered.to_be_bytes());
}

/// Zero bytes are escaped, so that the terminator sorts below every continuation.
fn encode_bytes(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    if !bytes.contains(&0) {
        // Nearly every key: copied as a whole.
        out.extend_from_slice(bytes);
        out.extend([0, 0]);
        return;
    }
    for part in bytes.split_inclusive(|byte| *byte == 0) {
        out.extend(part);
        if part.ends_with(&[0]) {
            out.push(0xff);
        }
    }
    out.extend([0, 0]);
}

/// The smallest key above every key that begins with `prefix`; `None` if there is no such key.
pub fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end)
}

/// A half-open range of index keys: `start <= key`, and `key < end` if there is an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    /// The first key inside.
    pub start: Vec<u8>,
    /// The first key above; `None` is unbounded.
    pub end: Option<Vec<u8>>,
}

impl Interval {
    /// All keys.
    pub fn all() -> Self {
        Self { start: Vec::new(), end: None }
    }

    /// All keys that begin with `prefix`. A whole key is its own prefix, so this is also the point at a key.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { start: prefix.to_vec(), end: successor(prefix) }
    }

    /// Whether a key lies inside.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && self.end.as_deref().is_none_or(|end| key < end)
    }

    /// Whether no key can lie inside.
    pub fn is_empty(&self) -> bool {
        self.end.as_deref().is_some_and(|end| end <= self.start.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::*;

    fn encoded(value: Option<&Value>) -> Vec<u8> {
        let mut out = Vec::new();
        encode(value, &mut out);
        out
    }

    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Int64),
            any::<f64>().prop_map(Value::Float64),
            any::<bool>().prop_map(Value::Boolean),
            "[a\u{0}\u{1}é]{0,4}".prop_map(Value::String),
            prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..4).prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                prop::collection::btree_map("[ab]{1,2}", inner, 0..3).prop_map(Value::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn bytes_order_as_values_do(a in any_value(), b in any_value()) {
            prop_assert_eq!(encoded(Some(&a)).cmp(&encoded(Some(&b))), a.cmp(&b));
        }

        #[test]
        fn no_encoding_is_the_prefix_of_another(a in any_value(), b in any_value()) {
            prop_assume!(a.cmp(&b) != Ordering::Equal);
            prop_assert!(!encoded(Some(&b)).starts_with(&encoded(Some(&a))));
        }
    }

    #[test]
    fn undefined_sorts_below_everything() {
        assert!(encoded(None) < encoded(Some(&Value::Null)));
    }

    #[test]
    fn a_prefix_interval_holds_exactly_the_keys_with_that_prefix() {
        let interval = Interval::prefix(&[7, 0xff]);
        assert!(interval.contains(&[7, 0xff]) && interval.contains(&[7, 0xff, 0xff, 1]));
        assert!(!interval.contains(&[7, 0xfe]) && !interval.contains(&[8]));
        assert_eq!(successor(&[0xff]), None);
    }
}
