//! Where the report of a run is written.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{data::Report, html::page, json};

/// Writes `<scenario>-<seed>.json` and `.html` into `directory`, which is made if need be. Returns their paths.
///
/// # Errors
/// If the directory or a file cannot be written.
pub fn write(report: &Report, directory: &Path) -> io::Result<[PathBuf; 2]> {
    fs::create_dir_all(directory)?;
    let stem = format!("{}-{}", file_name(&report.scenario), report.seed);
    let path = |extension: &str| directory.join(format!("{stem}.{extension}"));
    let paths = [path("json"), path("html")];
    fs::write(&paths[0], json::json(report)?)?;
    fs::write(&paths[1], page(report))?;
    Ok(paths)
}

/// A scenario's name may be anything; a file's may not.
#[must_use]
pub fn file_name(scenario: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    scenario.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use crate::files::file_name;

    #[test]
    fn a_name_cannot_leave_the_directory() {
        assert_eq!(file_name("../500 sessions"), "..-500-sessions");
    }
}
