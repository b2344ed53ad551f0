//! `sim list`.

use std::{fs, path::Path};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};

use crate::cli::{exit::Exit, terminal};
use sim_model::{scenario::Scenario, units::Time};

/// Characters of a line, at most.
const WIDTH: u16 = 120;

/// Prints the scenarios of `directory` by family and name; a broken one is shown with its error, and makes this fail.
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
    let mut scenarios = Vec::new();
    for path in paths {
        match Scenario::read(&path) {
            Ok(scenario) => scenarios.push(scenario),
            Err(error) => {
                terminal::complain(&error.render(terminal::is_error_styled()));
                exit = Exit::Usage;
            }
        }
    }
    scenarios.sort_by(|one, other| (one.family, &one.source.path).cmp(&(other.family, &other.source.path)));
    terminal::say(&table(&scenarios).to_string());
    Ok(exit)
}

fn table(scenarios: &[Scenario]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH);
    table.set_header(["family", "scenario", "what it shows", "duration", "gate"]);
    for scenario in scenarios {
        let gate = match scenario.gate.len() {
            0 => String::new(),
            1 => "1 seed".into(),
            count => format!("{count} seeds"),
        };
        let (file, duration) = (scenario.source.path.clone(), Time(scenario.duration).to_string());
        table.add_row([scenario.family.to_string(), file, scenario.description.clone(), duration, gate]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
