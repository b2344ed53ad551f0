//! The shape of scenario files as a JSON schema, for editors and other programs. It is made from the types that read
//! the files, and their comments; values that are written in a way of their own are described here.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema as schema};
use serde_json::{Map, Value, json};
use worker::config::Settings;

use super::{
    schema::Raw,
    values::{Bytes, Share, Time},
};
use crate::seed::Seed;

/// The JSON schema (draft 2020-12) of a scenario file, read as the data that its TOML stands for.
#[must_use]
pub fn json_schema() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Raw>()
}

macro_rules! described {
    ($type:ty, $name:literal, $schema:tt) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                schema!($schema)
            }
        }
    };
}

described!(Time, "Time", {
    "description": "A time span such as 250ms, 10min or 1h 30m.",
    "type": "string",
    "examples": ["250ms", "10min", "1h 30m"]
});
described!(Bytes, "Bytes", {
    "description": "A number of bytes, such as 4096 or 64KiB.",
    "anyOf": [
        { "type": "integer", "minimum": 0 },
        { "type": "string", "pattern": "^[0-9]+ *(B|KiB|MiB|GiB)?$" }
    ]
});
described!(Share, "Share", {
    "description": "A share of all cases.",
    "type": "number",
    "minimum": 0,
    "maximum": 1
});

impl JsonSchema for Seed {
    fn schema_name() -> Cow<'static, str> {
        "Seed".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        if generator.contract().is_serialize() {
            return schema!({ "description": "A seed.", "type": "string", "pattern": "^0x[0-9a-f]{1,16}$" });
        }
        schema!({
            "description": "A seed: a number, or a text such as 0x2a if it is 2^63 or more.",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^(0[xX][0-9a-fA-F_]+|[0-9_]+)$" }
            ]
        })
    }
}

/// The worker's settings, from their defaults: the worker itself knows nothing of schemas.
pub(super) fn settings(_: &mut SchemaGenerator) -> Schema {
    let defaults = serde_json::to_value(Settings::default()).expect("settings are plain data");
    let mut described = of_default(&defaults);
    // What has no default is not among the defaults.
    described["properties"]["admin"] = json!({ "type": "string" });
    described["description"] = "The workers' settings, as in their config file.".into();
    Schema::try_from(described).expect("an object is a schema")
}

/// The schema of a value that is like this one.
fn of_default(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let properties: Map<_, _> =
                fields.iter().map(|(name, value)| (name.clone(), of_default(value))).collect();
            json!({ "type": "object", "properties": properties, "additionalProperties": false })
        }
        Value::Number(number) if number.is_f64() => json!({ "type": "number", "default": number }),
        Value::Number(number) => json!({ "type": "integer", "minimum": 0, "default": number }),
        Value::Bool(bool) => json!({ "type": "boolean", "default": bool }),
        Value::String(text) => json!({ "type": "string", "default": text }),
        Value::Array(items) => json!({ "type": "array", "default": items }),
        Value::Null => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::scenario::Scenario;

    /// What `schema` refers to, if it refers to something.
    fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
        let reference = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        reference.map_or(schema, |pointer| root.pointer(pointer).expect("references lead somewhere"))
    }

    /// The keys that a table of a scenario may have, as the reader itself says when it meets an unknown one.
    fn known(place: &str) -> BTreeSet<String> {
        let source = if place.is_empty() {
            "no-such-key = 1\nduration = '1min'".to_owned()
        } else {
            format!("duration = '1min'\n{place}\nno-such-key = 1")
        };
        let error = Scenario::parse("some.toml", "some", &source).unwrap_err().to_string();
        let (_, expected) = error.split_once("expected ").unwrap_or_else(|| panic!("{error}"));
        expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[track_caller]
    fn check(place: &str, pointer: &str) {
        let root = serde_json::to_value(json_schema()).unwrap();
        let schema = pointer.split('/').filter(|key| !key.is_empty()).fold(&root, |schema, key| {
            let schema = resolve(&root, schema);
            if key == "items" { &schema["items"] } else { &schema["properties"][key] }
        });
        let schema = resolve(&root, schema);
        let keys = schema["properties"].as_object().unwrap_or_else(|| panic!("{pointer}: {schema}")).keys();
        assert_eq!(keys.cloned().collect::<BTreeSet<_>>(), known(place), "{pointer}");
        assert_eq!(schema["additionalProperties"], false, "{pointer}");
    }

    #[test]
    fn the_schema_has_exactly_the_keys_that_are_read() {
        check("", "");
        check("[population]", "population");
        check("[workload]", "workload");
        check("[[workload.messages]]", "workload/messages/items");
        check("[replies]", "replies");
        check("[[faults]]", "faults/items");
        check("[limits]", "limits");
        check("[liveness]", "liveness");
        check("[gate]", "gate");
        check("[latency]", "latency");
        check("[worker]", "worker");
        for part in ["turns", "sessions", "opencode", "lifecycle"] {
            check(&format!("[worker.{part}]"), &format!("worker/{part}"));
        }
    }

    #[test]
    fn what_a_file_needs_and_what_the_comments_say_is_in_the_schema() {
        let root = serde_json::to_value(json_schema()).unwrap();
        assert_eq!(root["required"], json!(["duration"]));
        let seeds = &resolve(&root, &root["properties"]["gate"])["properties"]["seeds"]["description"];
        assert_eq!(*seeds, "One run each; none without the table.");
    }
}
