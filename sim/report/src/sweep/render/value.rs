//! Figures of a sweep as people read them.

use crate::{format, sweep::outcome::Unit};

/// A value with its unit.
pub(super) fn show(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Count if value.fract() == 0.0 => format!("{value}"),
        Unit::Count => format!("{value:.1}"),
        Unit::Millis => format::millis(value),
        Unit::Seconds => format!("{value:.0} s"),
        Unit::Bytes => format::size(value as u64),
    }
}
