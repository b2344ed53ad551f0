//! What a run came to: its figures, its verdict, its course; as JSON, HTML, JUnit, Markdown and text. And what many runs
//! came to together ([`sweep`]).

mod annotation;
mod data;
mod figures;
mod files;
mod format;
mod html;
mod json;
pub mod junit;
mod load;
mod load_figures;
mod markdown;
mod observed;
mod options;
mod read;
mod series;
mod story;
pub mod sweep;
#[doc(hidden)]
pub mod testing;
mod text;
mod verdict;

pub use annotation::{Annotation, annotations, commands};
pub use data::{Engine, Report, SCHEMA, TraceSummary};
pub use figures::{Distribution, Figures, FunctionFigures, Latency};
pub use files::{file_name, write};
pub use html::page;
pub use load_figures::{Goal, LoadFigures, Other, ProcessFigures, Reading, Step};
pub use markdown::{escape, fenced, markdown, table};
pub use observed::Observed;
pub use options::options;
pub use read::ReadError;
pub use series::{Mark, Measure, Moment, Series, Timeline};
pub use text::{header, summary};
pub use verdict::RunVerdict;
