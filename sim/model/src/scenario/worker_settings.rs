//! The worker's settings in the JSON schema of scenarios.

use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use worker::config::Settings;

/// The worker's settings, from their defaults: the worker itself knows nothing of schemas.
pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    let defaults = serde_json::to_value(Settings::default()).expect("settings are plain data");
    let mut described = of_default(&defaults);
    // What has no default is not among the defaults.
    let properties = &mut described["properties"];
    properties["admin"] = json!({ "type": "string" });
    properties["opencode"]["properties"]["data_directory"] = json!({ "type": "string" });
    properties["retention"]["properties"]["days"] = json!({ "type": "integer", "minimum": 1 });
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
