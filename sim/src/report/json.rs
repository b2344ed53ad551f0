//! The report as a file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::Report;

/// Writes `<scenario>-<seed>.json` into `directory`, which is made if need be. Returns its path.
///
/// # Errors
/// If the directory or the file cannot be written.
pub fn write(report: &Report, directory: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let path = directory.join(format!("{}-{}.json", file_name(&report.scenario), report.seed));
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    fs::write(&path, text)?;
    Ok(path)
}

/// A scenario's name may be anything; a file's may not.
fn file_name(scenario: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    scenario.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn a_name_cannot_leave_the_directory() {
        assert_eq!(file_name("../500 sessions"), "..-500-sessions");
    }
}
