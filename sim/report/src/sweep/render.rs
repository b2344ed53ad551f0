//! What a sweep came to; as JSON, HTML, JUnit, Markdown and text.

mod annotation;
mod html;
mod junit;
mod markdown;
mod text;
mod value;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use annotation::annotations;
pub use html::page;
pub use junit::{junit, junit_of_run};
pub use markdown::markdown;
pub use text::{failure, header, summary};

use crate::{files::file_name, sweep::report::SweepReport};

/// Writes `sweep-<scenario>.json` and `.html` into `directory`, which is made if need be; a shard says which it is.
/// Returns their paths.
///
/// # Errors
/// If the directory or a file cannot be written.
pub fn write(report: &SweepReport, directory: &Path) -> io::Result<[PathBuf; 2]> {
    fs::create_dir_all(directory)?;
    let shard = report.head.shard.map(|shard| format!("-shard-{}-of-{}", shard.index, shard.of));
    let stem = format!("sweep-{}{}", file_name(&report.name()), shard.unwrap_or_default());
    let path = |extension: &str| directory.join(format!("{stem}.{extension}"));
    let paths = [path("json"), path("html")];
    let mut json = serde_json::to_string_pretty(report)?;
    json.push('\n');
    fs::write(&paths[0], json)?;
    fs::write(&paths[1], page(report))?;
    Ok(paths)
}
