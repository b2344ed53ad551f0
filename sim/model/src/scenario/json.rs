//! The shape of scenario files as a JSON schema, for editors and other programs. It is made from the types that read
//! the files, and their comments.

use schemars::{Schema, generate::SchemaSettings};

use super::schema::Raw;

/// The JSON schema (draft 2020-12) of a scenario file, read as the data that its TOML stands for.
#[must_use]
pub fn json_schema() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Raw>()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

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
        check("[hostile]", "hostile");
        check("[replies]", "replies");
        check("[[faults]]", "faults/items");
        check("[limits]", "limits");
        check("[liveness]", "liveness");
        check("[gate]", "gate");
        check("[latency]", "latency");
        check("[worker]", "worker");
        for part in ["turns", "sessions", "opencode", "heartbeat", "retention", "lifecycle"] {
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
