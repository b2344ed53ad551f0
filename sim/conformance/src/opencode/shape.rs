//! What is kept of answers and events: shapes and labels, without what differs from run to run.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

/// The fields of a value with their types, as `a.b[].c: string`; the elements of a list count together.
pub(super) fn shape(value: &Json) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    collect("", value, &mut fields);
    fields
}

fn collect(path: &str, value: &Json, fields: &mut BTreeSet<String>) {
    let kind = match value {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(items) => {
            items.iter().for_each(|item| collect(&format!("{path}[]"), item, fields));
            "list"
        }
        Json::Object(inside) => {
            for (key, value) in inside {
                let key = if key.starts_with("ses_") { "ses_…" } else { key };
                collect(&format!("{path}.{key}"), value, fields);
            }
            "object"
        }
    };
    fields.insert(format!("{}: {kind}", path.trim_start_matches('.')));
}

/// What an event says, without what differs from run to run.
pub(super) fn label(event: &Json) -> String {
    let (kind, says) = (event["type"].as_str().unwrap_or_default(), &event["properties"]);
    let text = |value: &Json| value.as_str().unwrap_or("-").to_owned();
    let detail = match kind {
        "message.updated" => {
            let info = &says["info"];
            let has =
                |field: &Json, name: &str| if field.is_null() { String::new() } else { format!(" {name}") };
            format!(
                "{}{}{}{}",
                text(&info["role"]),
                info["finish"].as_str().map(|finish| format!(" finish={finish}")).unwrap_or_default(),
                has(&info["time"]["completed"], "completed"),
                info["error"]["name"].as_str().map(|name| format!(" error={name}")).unwrap_or_default(),
            )
        }
        "message.part.updated" => {
            let part = &says["part"];
            let ended = if part["time"]["end"].is_null() { "" } else { " ended" };
            let status = part["state"]["status"].as_str().map(|status| format!(" {status}"));
            format!("{}{ended}{}", text(&part["type"]), status.unwrap_or_default())
        }
        "session.status" => text(&says["status"]["type"]),
        "session.error" => text(&says["error"]["name"]),
        "permission.replied" => text(&says["reply"]),
        _ => String::new(),
    };
    format!("{kind} {detail}").trim_end().to_owned()
}

pub(super) fn session_of(event: &Json) -> Option<&str> {
    let says = &event["properties"];
    let places =
        [&says["sessionID"], &says["info"]["sessionID"], &says["part"]["sessionID"], &says["info"]["id"]];
    places.into_iter().find_map(Json::as_str)
}

/// The real server sums up, asks for permission and answers at the same time, so only the order within each is certain:
/// it differs from run to run how they interleave.
pub(super) fn streams(order: Vec<String>) -> BTreeMap<&'static str, Vec<String>> {
    let mut streams = BTreeMap::<_, Vec<_>>::new();
    for label in order {
        let name = match label.as_str() {
            "session.updated" | "session.diff" | "message.updated user" => "summaries",
            label if label.starts_with("permission.") => "permissions",
            _ => "events",
        };
        streams.entry(name).or_default().push(label);
    }
    streams
}
