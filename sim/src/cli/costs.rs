//! `sim costs`: measures what the worker costs, and writes or checks the page that says so.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::{
    cli::{exit::Exit, terminal},
    costs,
};

/// What to do with the figures; without a file they are printed.
#[derive(Debug, Args)]
pub(crate) struct CostsArgs {
    /// Write the page.
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    write: Option<PathBuf>,
    /// Fail if the page says anything else than what is measured.
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

/// Measures, and fails if the population shows.
pub(super) fn costs(args: &CostsArgs) -> anyhow::Result<Exit> {
    let costs = costs::measure()?;
    if let Some(dependence) = costs.dependence() {
        terminal::complain(&format!("error: the backend's population shows: {dependence}"));
        return Ok(Exit::Regression);
    }
    let page = costs.page();
    match (&args.write, &args.check) {
        (Some(file), _) => {
            fs::write(file, &page).with_context(|| format!("cannot write `{}`", file.display()))?;
            terminal::say(&format!("wrote {}", file.display()));
        }
        (None, Some(file)) => {
            let found =
                fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
            if let Some((number, (old, new))) = first_difference(&found, &page) {
                terminal::complain(&format!(
                    "error: `{0}` is out of date at line {number}:\n  it says   {old}\n  measured  {new}\nhelp: make it anew with `cargo run -p sim -- costs --write {0}`",
                    file.display()
                ));
                return Ok(Exit::Regression);
            }
            terminal::say(&format!("{} says what is measured", file.display()));
        }
        (None, None) => terminal::say(page.trim_end()),
    }
    Ok(Exit::Passed)
}

fn first_difference<'a>(old: &'a str, new: &'a str) -> Option<(usize, (&'a str, &'a str))> {
    let lines = old.lines().count().max(new.lines().count());
    let line = |text: &'a str, number: usize| text.lines().nth(number).unwrap_or("[no such line]");
    (0..lines).map(|n| (n + 1, (line(old, n), line(new, n)))).find(|(_, (old, new))| old != new)
}
