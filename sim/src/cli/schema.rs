//! `sim schema`.

use super::{Exit, terminal};
use crate::scenario::json_schema;

/// Prints the JSON schema of scenario files.
pub(super) fn schema() -> anyhow::Result<Exit> {
    terminal::say(&serde_json::to_string_pretty(&json_schema())?);
    Ok(Exit::Passed)
}
