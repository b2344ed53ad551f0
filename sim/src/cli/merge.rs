//! `sim merge`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use crate::{
    cli::{exit::Exit, outputs::Outputs, sweep, terminal},
    sweep::merge::merge as put_together,
};
use sim_report::sweep::report::{SCHEMA, SweepReport};

/// Which shards to put together.
#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// The reports of all shards of one sweep, as JSON.
    #[arg(value_name = "REPORT", required = true)]
    reports: Vec<PathBuf>,
    #[command(flatten)]
    outputs: Outputs,
}

/// Puts the shards of a sweep together, and judges it as a whole.
pub(super) fn merge(args: &MergeArgs) -> anyhow::Result<Exit> {
    let parts: anyhow::Result<Vec<_>> = args.reports.iter().map(|path| read(path)).collect();
    let merged = parts.and_then(|parts| Ok(put_together(&parts)?));
    match merged {
        Ok(report) => sweep::publish(&report, &args.outputs),
        Err(error) => {
            terminal::complain(&format!("error: {error:#}"));
            args.outputs.annotate_failure("the sweep cannot be judged", &format!("{error:#}"));
            Ok(Exit::Usage)
        }
    }
}

fn read(path: &Path) -> anyhow::Result<(String, SweepReport)> {
    let shown = path.display().to_string();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the report `{shown}`"))?;
    let value: Value = serde_json::from_str(&text).with_context(|| format!("`{shown}` is not a report"))?;
    if value["kind"] != "sweep" {
        anyhow::bail!("`{shown}` is not the report of a sweep");
    }
    if value["schema"] != SCHEMA {
        anyhow::bail!(
            "`{shown}` has schema {}, but this program merges schema {SCHEMA}; make the report again",
            value["schema"]
        );
    }
    let report = serde_json::from_value(value).with_context(|| format!("`{shown}` is not whole"))?;
    Ok((shown, report))
}
