//! Curves as SVG: a few lines on axes, no more.

use std::fmt::Write;

/// Points (x, y), in the order of x.
pub type Points = Vec<(f64, f64)>;

/// A named line through points.
#[derive(Clone, Debug)]
pub struct Curve {
    /// What the legend says.
    pub name: String,
    /// What it goes through.
    pub points: Points,
}

const SIZE: (f64, f64) = (640.0, 360.0);
/// Left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (64.0, 36.0, 120.0, 40.0);
const COLOURS: [&str; 6] = ["#1b6ca8", "#d1495b", "#2e933c", "#edae49", "#6a4c93", "#444444"];

/// The drawing of these curves.
pub fn svg(title: &str, x_label: &str, curves: &[Curve]) -> String {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let (x0, x1) = extent(points().map(|point| point.0));
    let (y0, y1) = extent(points().map(|point| point.1));
    let (left, top, right, bottom) = MARGIN;
    let place = |(x, y): (f64, f64)| {
        let (width, height) = (SIZE.0 - left - right, SIZE.1 - top - bottom);
        (left + (x - x0) / (x1 - x0) * width, top + (1.0 - (y - y0) / (y1 - y0)) * height)
    };
    let mut svg = String::new();
    let (width, height) = SIZE;
    let mut line = |text: String| svg.push_str(&(text + "\n"));
    line(format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">"#
    ));
    line(format!(r#"<rect width="{width}" height="{height}" fill="white"/>"#));
    line(format!(r#"<text x="{left}" y="20" font-size="14">{title}</text>"#));
    for step in 0..=4 {
        let share = f64::from(step) / 4.0;
        let (x, y) = ((x0 + share * (x1 - x0)).round(), y0 + share * (y1 - y0));
        let ((px, _), (_, py)) = (place((x, y0)), place((x0, y)));
        let (end, base) = (width - right, height - bottom);
        line(format!(
            r##"<path d="M{left} {py:.1}H{end}" stroke="#ddd"/><text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"##,
            left - 6.0,
            py + 4.0,
            tick(y)
        ));
        line(format!(
            r#"<text x="{px:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            base + 16.0,
            tick(x)
        ));
    }
    line(format!(
        r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{x_label}</text>"#,
        width - right,
        height - 8.0
    ));
    for (number, Curve { name, points }) in curves.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let mut path = String::new();
        for (i, &point) in points.iter().enumerate() {
            let (x, y) = place(point);
            let _ = write!(path, "{}{x:.1} {y:.1}", if i == 0 { "M" } else { "L" });
        }
        line(format!(r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>"#));
        let (x, y) = (width - right + 10.0, top + 8.0 + 16.0 * number as f64);
        line(format!(r#"<text x="{x}" y="{y:.1}" fill="{colour}">{name}</text>"#));
    }
    svg.push_str("</svg>\n");
    svg
}

/// The least and the greatest value, a little apart where they are one.
fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (lo, hi) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
    if !lo.is_finite() {
        (0.0, 1.0)
    } else if lo == hi {
        (lo, lo + 1.0)
    } else {
        (lo, hi)
    }
}

fn tick(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}
