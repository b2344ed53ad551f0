//! The colours of plots. Plots are drawn in the colours of light surroundings; the style sheet, made from the same
//! table, exchanges them in dark ones.

use std::fmt::Write as _;

use plotters::style::RGBColor;

/// A colour in light and in dark surroundings, and how a line in it is dashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Colour {
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
pub(super) const INK: Colour = colour(0x57_60_6A, 0x9D_A7_B3);
/// Axes.
pub(super) const AXIS: Colour = colour(0x8C_95_9F, 0x6E_76_81);
/// Lines of the grid.
pub(super) const GRID: Colour = colour(0xE1_E4_E8, 0x2D_33_3B);
/// Kills.
pub(super) const KILL: Colour = colour(0xCF_22_2E, 0xFF_7B_72);
/// Stops.
pub(super) const STOP: Colour = dashed(0x9A_67_00, 0xE3_B3_41, "6 3");
/// The border between phases.
pub(super) const PHASE: Colour = dashed(0x6E_77_81, 0x8B_94_9E, "1 4");
/// The first violation.
pub(super) const BREACH: Colour = colour(0xB3_00_86, 0xFF_6B_D6);
/// Limits.
pub(super) const LIMIT: Colour = dashed(0xD1_24_2F, 0xFF_8A_80, "8 4");
/// What is left over.
pub(super) const REST: Colour = colour(0x94_9C_A5, 0x76_80_8B);
/// Lines; a plot with more of them begins again.
pub(super) const LINES: [Colour; 7] = [
    colour(0x0B_62_C4, 0x58_A6_FF),
    colour(0xC2_5B_00, 0xFF_A6_57),
    colour(0x1A_7F_37, 0x56_D3_64),
    colour(0x82_50_DF, 0xD2_A8_FF),
    colour(0x0E_7C_86, 0x4F_D1_DB),
    colour(0xBF_39_89, 0xFF_8F_C8),
    colour(0x7A_6A_00, 0xD9_C7_4A),
];
/// All but the lines.
const MEANINGS: [Colour; 9] = [INK, AXIS, GRID, KILL, STOP, PHASE, BREACH, LIMIT, REST];

/// The colour of the line with this number.
pub(super) fn line(number: usize) -> Colour {
    LINES[number % LINES.len()]
}

impl Colour {
    /// As plots are drawn.
    pub(super) fn drawn(self) -> RGBColor {
        let [_, red, green, blue] = self.light.to_be_bytes();
        RGBColor(red, green, blue)
    }

    /// The CSS variable that holds it.
    pub(super) fn variable(self) -> String {
        format!("var(--c{:06X})", self.light)
    }

    /// Whether lines in it are dashed.
    pub(super) fn is_dashed(self) -> bool {
        self.dashes.is_some()
    }
}

/// The part of the style sheet that knows the colours.
pub(super) fn style_sheet() -> String {
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
