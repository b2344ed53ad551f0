//! What a sweep came to; as JSON, HTML, JUnit, Markdown and text.

mod annotation;
mod html;
mod junit;
mod markdown;
mod text;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use crate::sweep::render::annotation::annotations;
pub use crate::sweep::render::html::page;
pub use crate::sweep::render::junit::junit;
pub use crate::sweep::render::markdown::markdown;
pub use crate::sweep::render::text::{failure, header, summary};

use crate::files::file_name;
use crate::sweep::{outcome::Unit, report::SweepReport};

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

/// A value with its unit.
fn show(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Count if value.fract() == 0.0 => format!("{value}"),
        Unit::Count => format!("{value:.1}"),
        Unit::Millis => crate::text::millis(value),
        Unit::Seconds => format!("{value:.0} s"),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bytes are whole and not negative"
        )]
        Unit::Bytes => crate::text::size(value as u64),
    }
}
