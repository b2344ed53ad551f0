//! Which failures are told at length, and where on the page.

use crate::sweep::outcome::Run;

/// Failed runs told with their violation; the others are in the grid.
pub(super) const TOLD: usize = 50;

/// Where a failed run is told on the page.
pub(super) fn anchor(run: &Run) -> String {
    format!("{}-{}", crate::files::file_name(&run.scenario), run.seed)
}
