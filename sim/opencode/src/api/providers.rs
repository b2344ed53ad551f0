//! `/config/providers`: the models, with the provider's key in clear, as the real one shows it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::answer::{self, Answer};
use crate::{observation::Observation, options::PROVIDER_KEY, state::ServerState};

pub(super) fn list(server: &ServerState) -> Answer {
    server.machine.observe(&Observation::ModelsListed);
    let mut models: BTreeMap<&str, BTreeMap<&str, Value>> = BTreeMap::new();
    for name in &server.machine.options.models {
        let (provider, model) = name.split_once('/').unwrap_or(("fake", name));
        models.entry(provider).or_default().insert(model, describe(provider, model));
    }
    // The default is the provider's last model, not the one that the configuration names (measured).
    let default: BTreeMap<_, _> =
        models.iter().filter_map(|(id, of)| Some((id, of.keys().last()?))).collect();
    let providers: Vec<_> = models.iter().map(|(id, models)| provider(id, models)).collect();
    answer::json(&json!({ "providers": providers, "default": default }))
}

fn provider(id: &str, models: &BTreeMap<&str, Value>) -> Value {
    let options = json!({ "baseURL": "http://127.0.0.1:1/v1", "apiKey": PROVIDER_KEY });
    let name = format!("Fake provider {id}");
    json!({ "id": id, "name": name, "source": "config", "env": [], "options": options, "models": models })
}

fn describe(provider: &str, model: &str) -> Value {
    let formats = json!({ "text": true, "audio": false, "image": false, "video": false, "pdf": false });
    json!({
        "id": model, "providerID": provider, "name": format!("Fake model {model}"), "family": "",
        "api": { "id": model, "url": "", "npm": "@ai-sdk/openai-compatible" },
        "capabilities": {
            "temperature": false, "reasoning": false, "attachment": false, "toolcall": true,
            "input": formats, "output": formats, "interleaved": false,
        },
        "cost": { "input": 0, "output": 0, "cache": { "read": 0, "write": 0 } },
        "limit": { "context": 100_000, "output": 4096 },
        "status": "active", "options": {}, "headers": {}, "release_date": "", "variants": {},
    })
}
