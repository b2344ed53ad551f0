//! Seeds that failed: kept in a file, and run first by the next sweep.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use sim_model::seed::Seed;

/// Seeds kept; the oldest is forgotten first.
pub const KEPT: usize = 100;

const OPENING: &str = "# Seeds that failed. Sweeps of these scenarios run them first, the newest before the others.\n\
                       # Remove a line to have it forgotten.\n\n";

/// A run that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: Seed,
    /// The oracle that saw it first, or `crash`.
    pub oracle: String,
}

/// What failed before, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corpus {
    #[serde(default)]
    failed: Vec<Failed>,
}

/// Why a corpus cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// The file cannot be read.
    #[error("cannot read the corpus `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else.
    #[error("`{}` is not a corpus of failed seeds: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<toml::de::Error>,
    },
    /// The file cannot be written.
    #[error("cannot write the corpus `{}`: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Corpus {
    /// The corpus at `path`; empty if there is no such file.
    ///
    /// # Errors
    /// If the file cannot be read, or is something else.
    pub fn read(path: &Path) -> Result<Self, CorpusError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(CorpusError::Read { path: path.to_owned(), source }),
        };
        toml::from_str(&text)
            .map_err(|source| CorpusError::Content { path: path.to_owned(), source: Box::new(source) })
    }

    /// Adds `failed` as the newest; what was known of that run before is forgotten.
    pub fn add(&mut self, failed: Failed) {
        self.failed.retain(|known| (&known.scenario, known.seed) != (&failed.scenario, failed.seed));
        self.failed.push(failed);
        let surplus = self.failed.len().saturating_sub(KEPT);
        self.failed.drain(..surplus);
    }

    /// What failed, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Failed> {
        self.failed.iter().rev()
    }

    /// Adds `failed` to the corpus at `path`, which is made if need be and exchanged at once. What another sweep adds
    /// in the same moment may be lost: it will be found again.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn extend(path: &Path, failed: impl IntoIterator<Item = Failed>) -> Result<(), CorpusError> {
        let mut corpus = Self::read(path)?;
        let before = corpus.clone();
        failed.into_iter().for_each(|failed| corpus.add(failed));
        if corpus == before {
            return Ok(());
        }
        let text = toml::to_string(&corpus).expect("a corpus is plain data");
        let new = path.with_extension(format!("toml.{}", std::process::id()));
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        directory
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&new, format!("{OPENING}{text}")))
            .and_then(|()| fs::rename(&new, path))
            .map_err(|source| CorpusError::Write { path: path.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(seed: u64) -> Failed {
        Failed { scenario: "smoke".into(), seed: Seed(seed), oracle: "stale".into() }
    }

    #[test]
    fn what_failed_is_read_back_newest_first() {
        let path = tempfile::tempdir().unwrap().keep().join("deep/corpus.toml");
        assert_eq!(Corpus::read(&path).unwrap(), Corpus::default());
        Corpus::extend(&path, [failed(1), failed(u64::MAX)]).unwrap();
        Corpus::extend(&path, [failed(1)]).unwrap();
        let seeds: Vec<_> = Corpus::read(&path).unwrap().newest_first().map(|failed| failed.seed.0).collect();
        assert_eq!(seeds, [1, u64::MAX]);
    }

    #[test]
    fn only_the_newest_are_kept() {
        let mut corpus = Corpus::default();
        (0..250).for_each(|seed| corpus.add(failed(seed)));
        let seeds: Vec<_> = corpus.newest_first().map(|failed| failed.seed.0).collect();
        assert_eq!((seeds.len(), seeds[0], seeds[99]), (KEPT, 249, 150));
    }

    #[test]
    fn a_file_that_is_something_else_is_refused() {
        let path = tempfile::tempdir().unwrap().keep().join("corpus.toml");
        fs::write(&path, "seeds = [1]").unwrap();
        let error = Corpus::read(&path).unwrap_err().to_string();
        assert!(error.contains("is not a corpus of failed seeds"), "{error}");
    }
}
