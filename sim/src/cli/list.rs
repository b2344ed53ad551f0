//! `sim list`.

use std::{fs, path::Path};

use super::{Exit, terminal};
use crate::scenario::Scenario;

/// Prints the scenarios of `directory` by name; a broken one is shown with its error, and makes this fail.
pub(super) fn list(directory: &Path) -> anyhow::Result<Exit> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            terminal::complain(&format!("error: cannot list `{}`: {error}", directory.display()));
            return Ok(Exit::Usage);
        }
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    let mut exit = Exit::Passed;
    for path in paths {
        match Scenario::read(&path) {
            Ok(scenario) => terminal::say(&format!("{:<36} {}", path.display(), scenario.description)),
            Err(error) => {
                terminal::complain(&error.render(terminal::is_error_styled()));
                exit = Exit::Usage;
            }
        }
    }
    Ok(exit)
}
