//! `sim schema`: the shapes of what is read from people and written for programs.

use clap::ValueEnum;
use schemars::{JsonSchema, Schema, generate::SchemaSettings};

use crate::{
    cli::{exit::Exit, terminal},
    gate::Baseline,
};
use sim_model::scenario;
use sim_report::{Report, sweep::report::SweepReport};

/// What has a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Document {
    /// A scenario's file, read as the data that its TOML stands for.
    Scenario,
    /// The report of a run, in simulation or in real time (`load`, `limits`).
    Report,
    /// The report of a sweep, whole or of a shard.
    Sweep,
    /// The figures that the gate compares with.
    Baseline,
}

impl Document {
    /// Its schema (draft 2020-12), made from the types that read or write it, and their comments.
    fn schema(self) -> Schema {
        match self {
            Self::Scenario => scenario::json_schema(),
            Self::Report => written::<Report>(),
            Self::Sweep => written::<SweepReport>(),
            Self::Baseline => written::<Baseline>(),
        }
    }
}

/// The shape in which a type is written: what may be left out is optional, and no default stands for it.
fn written<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>()
}

/// Prints the JSON schema of `document`.
pub(super) fn schema(document: Document) -> anyhow::Result<Exit> {
    terminal::say(&serde_json::to_string_pretty(&document.schema())?);
    Ok(Exit::Passed)
}
