//! Errors of scenario files, shown at the place in the file where they are.

use std::{fmt, io, ops::Range};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use toml::Spanned;

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read scenario `{path}`: {source}; `sim list` shows the scenarios there are")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file makes no sense.
    #[error("{0}")]
    Content(Box<Diagnostic>),
}

impl ScenarioError {
    /// The error as text for a person, with colours if `styled`.
    #[must_use]
    pub fn render(&self, styled: bool) -> String {
        match self {
            Self::Read { .. } => format!("error: {self}"),
            Self::Content(diagnostic) => diagnostic.render(styled),
        }
    }
}

/// One complaint about one place of a scenario file.
#[derive(Debug)]
pub struct Diagnostic {
    /// The file's name as the person gave it.
    pub path: String,
    /// The file's text.
    pub source: String,
    /// What is wrong.
    pub title: String,
    /// The place, in bytes; empty for the file as a whole.
    pub span: Range<usize>,
    /// What is wrong with that place, in a few words.
    pub label: String,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    pub(crate) fn from_toml(path: &str, source: &str, error: &toml::de::Error) -> Self {
        let title = error.message().trim().to_owned();
        let help = suggestion(&title);
        Self {
            path: path.to_owned(),
            source: source.to_owned(),
            label: if help.is_some() { unknown(&title).into() } else { "here".into() },
            span: visible(source, error.span().unwrap_or(0..0)),
            title,
            help,
        }
    }

    fn render(&self, styled: bool) -> String {
        let title = Level::ERROR.primary_title(self.title.as_str());
        let annotation = AnnotationKind::Primary.span(self.span.clone()).label(self.label.as_str());
        let snippet = Snippet::source(self.source.as_str()).path(self.path.as_str());
        let snippet = if self.span.is_empty() { snippet } else { snippet.annotation(annotation) };
        let mut group = title.element(snippet);
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scenario `{}`: {}", self.path, self.title)
    }
}

/// `unknown field …` or `unknown variant …`.
fn unknown(message: &str) -> &'static str {
    if message.starts_with("unknown variant") { "no such name" } else { "no such key" }
}

/// A place that can be pointed at: an empty one becomes the text before it in its line.
fn visible(source: &str, span: Range<usize>) -> Range<usize> {
    if !span.is_empty() {
        return span;
    }
    let before = source.get(..span.start).unwrap_or(source);
    before.rfind('\n').map_or(0, |newline| newline + 1)..before.trim_end().len().max(1).min(source.len())
}

/// A likely meant name, if `message` is serde's complaint about an unknown one:
/// ``unknown field `a`, expected one of `b`, `c` ``.
fn suggestion(message: &str) -> Option<String> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let wrong = quoted.next()?;
    let known: Vec<_> = quoted.collect();
    let near =
        known.iter().map(|name| (strsim::jaro_winkler(wrong, name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    Some(match near {
        Some((likeness, name)) if likeness > 0.75 => format!("did you mean `{name}`?"),
        _ => format!("known here: {}", known.join(", ")),
    })
}

/// A complaint about the sense of a value.
pub(crate) struct Complaint {
    title: String,
    span: Range<usize>,
    label: String,
    help: &'static str,
}

impl Complaint {
    /// The complaint, with the file that it is about.
    pub(crate) fn at(self, path: &str, source: &str) -> Diagnostic {
        let Self { title, span, label, help } = self;
        Diagnostic { path: path.into(), source: source.into(), title, span, label, help: Some(help.into()) }
    }
}

/// Refuses `value` unless `sound`.
pub(crate) fn require<T>(
    sound: bool,
    value: &Spanned<T>,
    title: impl Into<String>,
    label: impl Into<String>,
    help: &'static str,
) -> Result<(), Complaint> {
    if sound {
        return Ok(());
    }
    Err(Complaint { title: title.into(), span: value.span(), label: label.into(), help })
}
