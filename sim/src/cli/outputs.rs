//! Where results go: files for programs and people, and standard output.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::cli::terminal;
use sim_report::Annotation;

/// Where results go.
#[derive(Debug, Args)]
pub(crate) struct Outputs {
    /// Where the report goes, as JSON and as a page for people.
    #[arg(long, value_name = "DIR", default_value = "reports")]
    pub(super) report: PathBuf,
    /// Write a case for each run as JUnit XML too (- for standard output, which then carries nothing else).
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a summary as Markdown too (- for standard output, which then carries nothing else).
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Show failures on the change that is being checked, in this build server's way.
    #[arg(long, value_name = "WHERE", value_enum)]
    annotations: Option<Server>,
    /// Print nothing but errors.
    #[arg(long, short)]
    pub(super) quiet: bool,
}

/// A build server that shows annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Server {
    /// GitHub, by workflow commands among the output.
    Github,
}

/// A result in its forms.
pub(super) struct Forms<R> {
    /// Writes JSON and page into a directory, and says where they are, in this order.
    pub(super) write: fn(&R, &Path) -> io::Result<[PathBuf; 2]>,
    pub(super) told: Told<R>,
}

/// A result as build servers want it.
pub(super) struct Told<R> {
    pub(super) junit: fn(&R) -> String,
    pub(super) markdown: fn(&R) -> String,
    pub(super) annotations: fn(&R) -> Vec<Annotation>,
}

impl Outputs {
    /// Whether nothing is to be said: as asked, or because standard output carries a report.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet || self.carries_report()
    }

    /// Why they cannot all be written, if they cannot.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let both = [&self.junit, &self.markdown].iter().all(|file| file.as_deref().is_some_and(is_stdout));
        both.then_some("error: both --junit and --markdown ask for standard output: give one of them a file")
    }

    /// Writes `result` to where it was asked for, and says where that is.
    pub(super) fn publish<R>(&self, result: &R, forms: &Forms<R>) -> anyhow::Result<()> {
        let [json, html] = (forms.write)(result, &self.report)
            .with_context(|| format!("cannot write the report into `{}`", self.report.display()))?;
        self.tell(result, &forms.told)?;
        if !self.is_quiet() {
            terminal::say(&format!("report: {} and {}", html.display(), json.display()));
        }
        Ok(())
    }

    /// Writes what build servers are to know of `result`.
    pub(super) fn tell<R>(&self, result: &R, told: &Told<R>) -> anyhow::Result<()> {
        write_more(self.junit.as_deref(), || (told.junit)(result))?;
        write_more(self.markdown.as_deref(), || (told.markdown)(result))?;
        self.annotate(|| (told.annotations)(result));
        Ok(())
    }

    /// Shows a failure that left no result.
    pub(super) fn annotate_failure(&self, title: &str, message: &str) {
        let (title, message) = (title.to_owned(), message.to_owned());
        self.annotate(|| vec![Annotation { file: None, title, message }]);
    }

    /// Prints annotations, if they are wanted. Build servers read standard error too.
    fn annotate(&self, annotations: impl FnOnce() -> Vec<Annotation>) {
        let Some(Server::Github) = self.annotations else { return };
        let commands = sim_report::commands(&annotations());
        match (commands.is_empty(), self.carries_report()) {
            (true, _) => {}
            (false, true) => terminal::complain(&commands),
            (false, false) => terminal::say(&commands),
        }
    }

    /// Whether standard output carries a report, and so nothing else.
    fn carries_report(&self) -> bool {
        [&self.junit, &self.markdown].into_iter().flatten().any(|file| is_stdout(file))
    }
}

fn is_stdout(file: &Path) -> bool {
    file == Path::new("-")
}

/// Writes what `text` makes to where it was asked for, if it was.
fn write_more(file: Option<&Path>, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    match file {
        None => {}
        Some(file) if is_stdout(file) => terminal::say(text().trim_end()),
        Some(file) => {
            fs::write(file, text()).with_context(|| format!("cannot write `{}`", file.display()))?;
        }
    }
    Ok(())
}
