//! Draws plots as SVG: the same input gives the same bytes. Names and keys stand around a plot, as HTML.

use maud::{Markup, PreEscaped, html};
use plotters::{
    backend::SVGBackend,
    chart::{ChartBuilder, ChartContext},
    coord::{Shift, cartesian::Cartesian2d, types::RangedCoordf64},
    drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea as _},
    element::{PathElement, Polygon, Rectangle, Text},
    style::{
        Color as _, IntoFont as _, ShapeStyle, TRANSPARENT, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use crate::html::palette::{AXIS, Colour, GRID, INK};

/// A plot is drawn for wide and for narrow screens, so that its texts can be read on both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// The CSS class that shows it where it fits.
    class: &'static str,
    width: u32,
    /// Room for the texts at the left.
    left: u32,
    /// About how many texts fit under it.
    labels: usize,
}

/// The sizes in which plots are drawn.
pub(crate) const SIZES: [Size; 2] = [
    Size { class: "wide", width: 928, left: 84, labels: 10 },
    Size { class: "narrow", width: 420, left: 68, labels: 5 },
];
/// The height of a plot of values.
pub(crate) const HEIGHT: u32 = 184;
/// Room for the texts under a plot.
const BELOW: u32 = 26;
/// Room above and beside a plot, in which half a text fits.
const MARGIN: u32 = 10;
/// Room at the right end, in which half of the last text fits.
const RIGHT: u32 = 30;

/// What is drawn, in units of the axes.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    /// A line through these corners.
    Line(Colour, Vec<(f64, f64)>),
    /// The area under a line through these corners.
    Area(Colour, Vec<(f64, f64)>),
    /// A box between two corners.
    Bar(Colour, [(f64, f64); 2]),
    /// A line over the full height.
    Upright(Colour, f64),
    /// A line over the full width.
    Level(Colour, f64),
}

/// Writes a value at an axis. An empty text leaves a place without one.
pub(crate) type Label<'a> = &'a dyn Fn(&f64) -> String;

/// What stands beside a plot.
pub(crate) enum Beside<'a> {
    /// Values.
    Values(Label<'a>),
    /// Names of rows from the top, each 1 high.
    Rows(&'a [String]),
    /// The same, in the upper part of each row: for names that are too long to stand beside it.
    Within(&'a [String]),
}

/// A plot to draw.
pub(crate) struct Chart<'a> {
    /// What is seen, for those who do not see it.
    pub(crate) alt: &'a str,
    /// In pixels, texts included.
    pub(crate) height: u32,
    /// The right end; the left is 0.
    pub(crate) right: f64,
    /// The upper end; the lower is 0.
    pub(crate) top: f64,
    /// Texts under the plot.
    pub(crate) below: Label<'a>,
    /// Texts beside the plot.
    pub(crate) beside: Beside<'a>,
    /// What to draw, the lowest first.
    pub(crate) shapes: &'a [Shape],
}

type Canvas<'b> = DrawingArea<SVGBackend<'b>, Shift>;
type Plot<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

impl Chart<'_> {
    /// The plot as an SVG element.
    pub(crate) fn svg(&self, size: Size) -> Markup {
        let mut drawn = String::new();
        let canvas = SVGBackend::with_string(&mut drawn, (size.width, self.height)).into_drawing_area();
        self.draw(&canvas, size).expect("drawing into memory");
        drop(canvas);
        // The outermost element is ours: the drawn one has a fixed size.
        let inner = drawn.split_once('>').and_then(|(_, rest)| rest.rsplit_once("</svg>"));
        let (inner, _) = inner.expect("an SVG was drawn");
        html! {
            svg class=(size.class) role="img" viewBox=(format!("0 0 {} {}", size.width, self.height)) {
                title { (self.alt) }
                (PreEscaped(inner))
            }
        }
    }

    fn draw(&self, canvas: &Canvas<'_>, size: Size) -> Drawn {
        let mut plot = ChartBuilder::on(canvas)
            .margin(MARGIN)
            .margin_left(0)
            .margin_right(RIGHT)
            .x_label_area_size(BELOW)
            .y_label_area_size(size.left)
            .build_cartesian_2d(0.0..self.right, 0.0..self.top)?;
        self.draw_axes(&mut plot, size)?;
        self.shapes.iter().try_for_each(|shape| self.draw_shape(&plot, shape))?;
        match self.beside {
            Beside::Values(_) => {}
            Beside::Rows(names) => {
                self.draw_names(canvas, &plot, names, 0.5, Pos::new(HPos::Right, VPos::Center))?
            }
            Beside::Within(names) => {
                self.draw_names(canvas, &plot, names, 0.0, Pos::new(HPos::Left, VPos::Top))?
            }
        }
        canvas.present()
    }

    fn draw_axes(&self, plot: &mut Plot<'_, '_>, size: Size) -> Drawn {
        let mut mesh = plot.configure_mesh();
        mesh.axis_style(AXIS.drawn())
            .bold_line_style(GRID.drawn())
            .light_line_style(TRANSPARENT)
            .max_light_lines(0)
            .label_style(text_style())
            .x_labels(size.labels)
            .x_label_formatter(self.below);
        match self.beside {
            Beside::Values(label) => mesh.y_labels(5).y_label_formatter(label),
            Beside::Rows(_) | Beside::Within(_) => mesh.y_labels(0).disable_y_mesh(),
        };
        mesh.draw()
    }

    /// Writes the names so far below the upper ends of their rows, on the side of the axis on which they have room.
    fn draw_names(
        &self,
        canvas: &Canvas<'_>,
        plot: &Plot<'_, '_>,
        names: &[String],
        below: f64,
        pos: Pos,
    ) -> Drawn {
        let gap = if matches!(pos.h_pos, HPos::Right) { -GAP } else { GAP };
        let style = text_style().pos(pos);
        names.iter().enumerate().try_for_each(|(row, name)| {
            let (x, y) = plot.backend_coord(&(0.0, self.top - row as f64 - below));
            canvas.draw(&Text::new(name.clone(), (x + gap, y), style.clone()))
        })
    }

    fn draw_shape(&self, plot: &Plot<'_, '_>, shape: &Shape) -> Drawn {
        let area = plot.plotting_area();
        match shape {
            Shape::Line(colour, corners) => {
                area.draw(&PathElement::new(corners.clone(), colour.drawn().stroke_width(2)))
            }
            Shape::Area(colour, corners) => {
                let ends = [corners.last(), corners.first()].into_iter().flatten().map(|(x, _)| (*x, 0.0));
                let around: Vec<_> = corners.iter().copied().chain(ends).collect();
                area.draw(&Polygon::new(around, colour.drawn()))
            }
            Shape::Bar(colour, corners) => area.draw(&Rectangle::new(*corners, colour.drawn().filled())),
            Shape::Upright(colour, x) => area.draw(&line([(*x, 0.0), (*x, self.top)], *colour)),
            Shape::Level(colour, y) => area.draw(&line([(0.0, *y), (self.right, *y)], *colour)),
        }
    }
}

/// Between a name and its row.
const GAP: i32 = 8;

fn line(ends: [(f64, f64); 2], colour: Colour) -> PathElement<(f64, f64)> {
    PathElement::new(ends.to_vec(), ShapeStyle::from(colour.drawn()).stroke_width(1))
}

/// The style sheet sets the font; this size is for measuring.
fn text_style() -> TextStyle<'static> {
    ("sans-serif", 14).into_font().color(&INK.drawn())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html::palette::KILL;

    #[test]
    fn a_plot_is_drawn_in_the_same_bytes_each_time() {
        let shapes = [
            Shape::Line(palette_line(), vec![(0.0, 1.0), (1.0, 1.0), (1.0, 3.0), (4.0, 3.0)]),
            Shape::Upright(KILL, 2.0),
        ];
        let chart = Chart {
            alt: "heap < 4 & rising",
            height: 100,
            right: 4.0,
            top: 4.0,
            below: &|x| format!("{x} s"),
            beside: Beside::Values(&|y| format!("{y}")),
            shapes: &shapes,
        };
        insta::assert_snapshot!(chart.svg(SIZES[1]).into_string());
    }

    fn palette_line() -> Colour {
        crate::html::palette::line(0)
    }
}
