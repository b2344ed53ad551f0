//! Sizes of values as Convex counts them, and the shape that a document may have.

use convex::Value;

use super::limits;

/// The size of a value in bytes, by Convex's rules: null, booleans 1, numbers 9, strings and bytes length + 2, arrays
/// and objects 2 + contents, field names length + 1.
pub fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Boolean(_) => 1,
        Value::Int64(_) | Value::Float64(_) => 9,
        Value::String(text) => text.len() + 2,
        Value::Bytes(bytes) => bytes.len() + 2,
        Value::Array(items) => 2 + items.iter().map(size).sum::<usize>(),
        Value::Object(fields) => {
            2 + fields.iter().map(|(name, field)| name.len() + 1 + size(field)).sum::<usize>()
        }
    }
}

/// How deep a value is nested: 0 for a plain one.
pub fn nesting(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(nesting).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(nesting).max().unwrap_or(0),
        _ => 0,
    }
}

/// Checks what the arrays and objects of a value may hold.
pub fn check_shape(value: &Value) -> Result<(), String> {
    match value {
        Value::Array(items) if items.len() > limits::ARRAY_ELEMENTS => Err(format!(
            "Array length is too long ({} > maximum length {})",
            items.len(),
            limits::ARRAY_ELEMENTS
        )),
        Value::Array(items) => items.iter().try_for_each(check_shape),
        Value::Object(fields) if fields.len() > limits::OBJECT_FIELDS => Err(format!(
            "Object has too many fields ({} > maximum number {})",
            fields.len(),
            limits::OBJECT_FIELDS
        )),
        Value::Object(fields) => fields.iter().try_for_each(|(name, field)| {
            check_name(name)?;
            check_shape(field)
        }),
        _ => Ok(()),
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if name.starts_with('$') {
        return Err(format!("Field name {name} starts with '$', which is reserved."));
    }
    match name.chars().find(|letter| !(' '..='~').contains(letter)) {
        _ if name.is_empty() => Err("Field name is empty.".into()),
        Some(letter) => Err(format!(
            "Field name {name} has invalid character '{letter}': Field names can only contain non-control ASCII characters"
        )),
        None => Ok(()),
    }
}

/// Checks a whole document.
pub fn check_document(value: &Value, size: usize) -> Result<(), String> {
    if size > limits::DOCUMENT_BYTES {
        return Err(format!(
            "Value is too large ({size} bytes > maximum size {} bytes)",
            limits::DOCUMENT_BYTES
        ));
    }
    let nesting = nesting(value);
    if nesting > limits::DOCUMENT_NESTING {
        return Err(format!(
            "Document is too nested (nested {nesting} levels deep > maximum nesting {})",
            limits::DOCUMENT_NESTING
        ));
    }
    check_shape(value)
}
