//! Where in the config file each value stands, so that an error can point there.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{error::ConfigError, line_of};

/// The lines of a config file's values, by their dotted keys. Empty where there is no file.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    path: PathBuf,
    lines: BTreeMap<String, usize>,
}

impl Places {
    /// Those of the file at `path`, which has this text.
    pub(super) fn of(path: &Path, text: &str) -> Result<Self, toml::de::Error> {
        let mut lines = BTreeMap::new();
        collect("", DeTable::parse(text)?.get_ref(), text, &mut lines);
        Ok(Self { path: path.to_owned(), lines })
    }

    /// The value of this key comes from elsewhere: what is wrong with it is no fault of the file's.
    pub(super) fn overridden(&mut self, key: &str) {
        self.lines.remove(key);
    }

    /// Adds the place of the value that the error is about, if it stands in the file.
    pub(super) fn locate(&self, problem: ConfigError) -> ConfigError {
        let line = problem.key().and_then(|key| self.lines.get(key));
        match line {
            Some(line) => {
                ConfigError::Place { path: self.path.clone(), line: *line, problem: Box::new(problem) }
            }
            None => problem,
        }
    }
}

fn collect(prefix: &str, table: &DeTable<'_>, text: &str, lines: &mut BTreeMap<String, usize>) {
    for (name, value) in table {
        let (name, place): (&Spanned<_>, _) = (name, name.span().start);
        let key = format!("{prefix}{}", name.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => collect(&format!("{key}."), inner, text, lines),
            _ => drop(lines.insert(key, line_of(text, place))),
        }
    }
}
