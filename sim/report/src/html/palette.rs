//! The colours of plots. Plots are drawn in the colours of light surroundings; the style sheet, made from the same
//! table, exchanges them in dark ones.

use std::fmt::Write as _;

use plotters::style::RGBColor;

/// A colour in light and in dark surroundings, and how a line in it is dashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Colour {
    light: u32,
    dark: u32,
    dashes: Option<&'static str>,
}

const fn colour(light: u32, dark: u32) -> Colour {
    Colour { light, dark, dashes: None }
}

const fn dashed(light: u32, dark: u32, dashes: &'static str) -> Colour {
    Colour { light, dark, dashes: Some(dashes) }
}

/// Texts at axes.
pub(crate) const INK: Colour = colour(0x57606A, 0x9DA7B3);
/// Axes.
pub(crate) const AXIS: Colour = colour(0x8C959F, 0x6E7681);
/// Lines of the grid.
pub(crate) const GRID: Colour = colour(0xE1E4E8, 0x2D333B);
/// Kills.
pub(crate) const KILL: Colour = colour(0xCF222E, 0xFF7B72);
/// Stops.
pub(crate) const STOP: Colour = dashed(0x9A6700, 0xE3B341, "6 3");
/// The border between phases.
pub(crate) const PHASE: Colour = dashed(0x6E7781, 0x8B949E, "1 4");
/// The first violation.
pub(crate) const BREACH: Colour = colour(0xB30086, 0xFF6BD6);
/// Limits.
pub(crate) const LIMIT: Colour = dashed(0xD1242F, 0xFF8A80, "8 4");
/// What is left over.
pub(crate) const REST: Colour = colour(0x949CA5, 0x76808B);
/// Lines; a plot with more of them begins again.
pub(crate) const LINES: [Colour; 7] = [
    colour(0x0B62C4, 0x58A6FF),
    colour(0xC25B00, 0xFFA657),
    colour(0x1A7F37, 0x56D364),
    colour(0x8250DF, 0xD2A8FF),
    colour(0x0E7C86, 0x4FD1DB),
    colour(0xBF3989, 0xFF8FC8),
    colour(0x7A6A00, 0xD9C74A),
];
/// All but the lines.
const MEANINGS: [Colour; 9] = [INK, AXIS, GRID, KILL, STOP, PHASE, BREACH, LIMIT, REST];

/// The colour of the line with this number.
pub(crate) fn line(number: usize) -> Colour {
    LINES[number % LINES.len()]
}

impl Colour {
    /// As plots are drawn.
    pub(crate) fn drawn(self) -> RGBColor {
        let [_, red, green, blue] = self.light.to_be_bytes();
        RGBColor(red, green, blue)
    }

    /// The CSS variable that holds it.
    pub(crate) fn variable(self) -> String {
        format!("var(--c{:06X})", self.light)
    }

    /// Whether lines in it are dashed.
    pub(crate) fn is_dashed(self) -> bool {
        self.dashes.is_some()
    }
}

/// The part of the style sheet that knows the colours.
pub(crate) fn style_sheet() -> String {
    let (mut light, mut dark, mut rules) = (String::new(), String::new(), String::new());
    for Colour { light: from, dark: to, dashes } in MEANINGS.into_iter().chain(LINES) {
        let _ = write!(light, "--c{from:06X}:#{from:06X};");
        let _ = write!(dark, "--c{from:06X}:#{to:06X};");
        if let Some(dashes) = dashes {
            let _ = writeln!(rules, "svg [stroke=\"#{from:06X}\"]{{stroke-dasharray:{dashes}}}");
        }
        for property in ["stroke", "fill"] {
            let _ = writeln!(rules, "svg [{property}=\"#{from:06X}\"]{{{property}:var(--c{from:06X})}}");
        }
    }
    format!(":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{rules}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_meanings_share_a_colour() {
        let all: Vec<_> = MEANINGS.into_iter().chain(LINES).collect();
        let different: BTreeSet<_> = all.iter().map(|colour| colour.light).collect();
        assert_eq!(all.len(), different.len());
    }

    #[test]
    fn the_style_sheet_exchanges_a_colour_as_plots_write_it() {
        let sheet = style_sheet();
        assert!(sheet.contains("svg [stroke=\"#CF222E\"]{stroke:var(--cCF222E)}"), "{sheet}");
        assert!(sheet.contains("--cCF222E:#FF7B72;"), "{sheet}");
    }
}
