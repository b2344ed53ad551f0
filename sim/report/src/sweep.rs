//! What many runs came to together.

pub mod outcome;
mod render;
pub mod report;
pub mod seeds;
#[doc(hidden)]
pub mod testing;

pub use render::{annotations, failure, header, junit, junit_of_run, markdown, page, summary, write};
