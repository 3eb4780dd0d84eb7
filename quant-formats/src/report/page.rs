//! The page: title, totals, sizes and the table of tensors.

use std::cmp::Reverse;
use std::fmt::Display;
use std::io::{self, Write};

use quant::activation::LayerComparison;

use super::detail::write_detail;
use super::each::write_each;
use super::layers::write_layers;
use super::measure::{BINS, QuantError, Quantized, sqnr_db};
use super::picture::{HEIGHT, Outline};
use super::tensor::TensorReport;
use super::text::{Bytes, Count, Decibels, Fixed, Path, Shape, Text, Value};

/// The number of tensors whose size has a bar.
const SIZE_BARS: usize = 12;

/// The effect of quantization on a model, as one HTML file.
///
/// The file loads nothing else: pictures are inline SVG, and the only script sorts the table. It
/// follows the light or dark theme of the browser, and fits a phone. Each tensor takes at most 6
/// kB.
#[derive(Clone, Debug)]
pub struct Report {
    title: String,
    metadata: Vec<(String, String)>,
    /// Sorted by their rank.
    tensors: Vec<TensorReport>,
    layers: Option<LayerComparison>,
}

impl Report {
    /// A report on these tensors, which are sorted by their errors.
    pub fn new(title: impl Into<String>, tensors: impl IntoIterator<Item = TensorReport>) -> Self {
        let mut tensors: Vec<_> = tensors.into_iter().collect();
        // Stable: tensors of one rank stay in the order of the model.
        tensors.sort_by(|a, b| rank(a).0.cmp(&rank(b).0).then(rank(a).1.total_cmp(&rank(b).1)));
        Self { title: title.into(), metadata: Vec::new(), tensors, layers: None }
    }

    /// Adds a line below the title, such as the source, a date or a recipe.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// Adds a table of the outputs of layers.
    #[must_use]
    pub fn layers(self, compared: LayerComparison) -> Self {
        Self { layers: Some(compared), ..self }
    }

    /// The tensors by signal-to-noise ratio, the lowest first; then exact ones, then those whose
    /// error is unknown, then float ones.
    pub fn tensors(&self) -> &[TensorReport] {
        &self.tensors
    }

    /// Writes the page, in UTF-8. With the feature `rayon`, several threads make the text.
    ///
    /// ```
    /// use quant_formats::report::{Report, TensorReport};
    ///
    /// let tensor = TensorReport::new("norm.weight", &[2], &[1.0, 1.5], None)?;
    /// let report = Report::new("<my model>", [tensor]).metadata("source", "model.safetensors");
    /// let mut page = Vec::new();
    /// report.write_html(&mut page)?;
    /// let page = String::from_utf8(page)?;
    /// assert!(page.contains("<h1><bdi>&lt;my model&gt;</bdi></h1>"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `writer` fails to write or to flush.
    pub fn write_html(&self, mut writer: impl Write) -> io::Result<()> {
        let w = &mut writer;
        self.write_head(w)?;
        self.write_tiles(w)?;
        self.write_sizes(w)?;
        if let Some(layers) = &self.layers {
            write_layers(w, layers)?;
        }
        self.write_table(w)?;
        self.write_details(w)?;
        let script = include_str!("sort.js");
        writeln!(w, "<footer>Written by quant {}.</footer>", env!("CARGO_PKG_VERSION"))?;
        writeln!(w, "<script>\n{script}</script>\n</body>\n</html>")?;
        w.flush()
    }

    fn write_head(&self, w: &mut impl Write) -> io::Result<()> {
        let (title, style) = (Text(&self.title), include_str!("style.css"));
        writeln!(w, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">")?;
        writeln!(w, "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">")?;
        // Without an icon, browsers request one from the server.
        writeln!(w, "<link rel=\"icon\" href=\"data:,\">")?;
        writeln!(w, "<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>")?;
        writeln!(w, "<header><h1><bdi>{title}</bdi></h1>")?;
        if !self.metadata.is_empty() {
            writeln!(w, "<dl class=\"meta\">")?;
            for (key, value) in &self.metadata {
                let (key, value) = (Text(key), Text(value));
                writeln!(w, "<dt><bdi>{key}</bdi></dt><dd><bdi>{value}</bdi></dd>")?;
            }
            writeln!(w, "</dl>")?;
        }
        writeln!(w, "</header>\n<main>")
    }

    fn write_tiles(&self, w: &mut impl Write) -> io::Result<()> {
        let before: u64 = self.tensors.iter().map(|tensor| tensor.bytes_before).sum();
        let after: u64 = self.tensors.iter().map(|tensor| tensor.bytes_after).sum();
        let quantized = self.tensors.iter().filter(|tensor| tensor.quantized.is_some()).count();
        writeln!(w, "<dl class=\"tiles\">")?;
        tile(w, "Before", &Bytes(before).to_string(), "")?;
        let percent = 100.0 * after as f64 / before.max(1) as f64;
        tile(w, "After", &Bytes(after).to_string(), &format!("{percent:.1}\u{A0}% of before"))?;
        let smaller = match after {
            0 => "\u{2013}".into(),
            after => format!("{:.2}×", before as f64 / after as f64),
        };
        tile(w, "Smaller by", &smaller, "")?;
        let float = format!("{} quantized, {} float", quantized, self.tensors.len() - quantized);
        tile(w, "Tensors", &Count(self.tensors.len() as u64).to_string(), &float)?;
        let (sqnr, of) = self.overall();
        tile(w, "SQNR of all", &sqnr, &of)?;
        if let Some((worst, db)) = self.tensors.iter().find_map(|it| Some((it, it.sqnr_db()?))) {
            let name = format!("<a href=\"#t0\">{}</a>", Path(worst.id.as_str()));
            tile(w, "Worst SQNR", &Decibels(Some(db)).to_string(), &name)?;
        }
        writeln!(w, "</dl>")
    }

    /// The signal-to-noise ratio of all tensors whose error is known.
    fn overall(&self) -> (String, String) {
        let known = || self.tensors.iter().filter_map(|tensor| tensor.error.as_ref());
        let signal: f64 = known().map(|error| error.signal).sum();
        let noise: f64 = known().map(|error| error.noise).sum();
        let of = match known().count() {
            1 => "over 1 tensor".into(),
            count => format!("over {count} tensors"),
        };
        if known().next().is_none() {
            ("\u{2013}".into(), "no errors are known".into())
        } else {
            (Decibels(sqnr_db(signal, noise)).to_string(), of)
        }
    }

    fn write_sizes(&self, w: &mut impl Write) -> io::Result<()> {
        let mut largest: Vec<_> = self.tensors.iter().enumerate().collect();
        largest.sort_by_key(|(_, tensor)| Reverse(tensor.bytes_before));
        let Some(most) = largest.first().map(|(_, tensor)| tensor.bytes_before.max(1)) else {
            return Ok(());
        };
        writeln!(
            w,
            "<h2>Size</h2>\n<p>Bytes before (pale) and after (full), the largest first.</p>"
        )?;
        writeln!(w, "<ul class=\"sizes\">")?;
        let shown = largest.len().min(SIZE_BARS);
        for (number, tensor) in &largest[..shown] {
            let name = format!("<a href=\"#t{number}\">{}</a>", Path(tensor.id.as_str()));
            size(w, &name, tensor.bytes_before, tensor.bytes_after, most)?;
        }
        let rest = || largest[shown..].iter().map(|(_, tensor)| tensor);
        if rest().next().is_some() {
            let name = format!("<span class=\"soft\">{} others</span>", rest().count());
            let before = rest().map(|tensor| tensor.bytes_before).sum();
            size(w, &name, before, rest().map(|tensor| tensor.bytes_after).sum(), most)?;
        }
        writeln!(w, "</ul>")
    }

    fn write_table(&self, w: &mut impl Write) -> io::Result<()> {
        writeln!(
            w,
            "<h2>Tensors</h2>\n<p>Lowest SQNR first: the ratio of the sum of squared values to \
             the sum of squared errors. Histograms have a logarithmic scale.</p>\n\
             <table id=\"all\"><thead><tr><th class=\"w\" data-k scope=\"col\">Tensor</th>\
             <th class=\"h\" scope=\"col\">Values</th>\
             <th class=\"n\" data-k scope=\"col\">SQNR</th>\
             <th class=\"n\" data-k scope=\"col\">Largest error</th>\
             <th class=\"n\" data-k scope=\"col\">Outliers</th>\
             <th class=\"n\" data-k scope=\"col\">Before</th>\
             <th class=\"n\" data-k scope=\"col\">After</th></tr></thead>\n<tbody>"
        )?;
        write_each(w, &self.tensors, write_row)?;
        writeln!(w, "</tbody></table>")
    }

    fn write_details(&self, w: &mut impl Write) -> io::Result<()> {
        writeln!(
            w,
            "<h2>Each tensor</h2>\n<p>The histogram of the values, on a logarithmic scale; the line \
             marks zero. Below it, in orange, the values that codes represent: of the groups with \
             the least and the greatest scale, if there are several. Dashed lines mark the range \
             of the group with the greatest scale.</p>"
        )?;
        write_each(w, &self.tensors, write_detail)?;
        writeln!(w, "</main>")
    }
}

/// The position of a tensor in the table.
fn rank(tensor: &TensorReport) -> (u8, f64) {
    match (&tensor.quantized, &tensor.error) {
        (None, _) => (3, 0.0),
        (Some(_), None) => (2, 0.0),
        (Some(_), Some(error)) => match error.sqnr_db() {
            None => (1, 0.0),
            Some(db) => (0, db),
        },
    }
}

/// A figure of the whole model; `note` is HTML.
fn tile(w: &mut impl Write, name: &str, value: &str, note: &str) -> io::Result<()> {
    let small = if note.is_empty() { String::new() } else { format!("<small>{note}</small>") };
    writeln!(w, "<div><dt>{name}</dt><dd>{value}{small}</dd></div>")
}

/// A line with a bar; `name` is HTML.
fn size(w: &mut impl Write, name: &str, before: u64, after: u64, most: u64) -> io::Result<()> {
    let share = |bytes: u64, of: u64| 100.0 * bytes as f64 / of.max(1) as f64;
    writeln!(
        w,
        "<li><span>{name}</span><span class=\"size\" style=\"width:{:.1}%\" aria-hidden=\"true\">\
         <i style=\"width:{:.1}%\"></i></span><span>{} → {}</span></li>",
        share(before, most).min(100.0),
        share(after, before).min(100.0),
        Bytes(before),
        Bytes(after),
    )
}

fn write_row(w: &mut Vec<u8>, number: usize, tensor: &TensorReport) -> io::Result<()> {
    write!(
        w,
        "<tr><td class=\"w\"><a href=\"#t{number}\">{}</a><small>{} · ",
        Path(tensor.id.as_str()),
        Shape(&tensor.shape),
    )?;
    match &tensor.quantized {
        Some(Quantized { scheme, .. }) => write!(w, "{scheme}</small>")?,
        None => write!(w, "float</small>")?,
    }
    if tensor.values.non_finite > 0 {
        let count = Count(tensor.values.non_finite);
        write!(w, "<small class=\"bad\">{count} NaN or infinite</small>")?;
    }
    writeln!(
        w,
        "</td><td class=\"h\"><svg viewBox=\"0 0 {BINS} {HEIGHT}\" preserveAspectRatio=\"none\" \
         role=\"img\" aria-label=\"values from {} to {}\"><path class=\"b\" id=\"h{number}\" \
         d=\"{}\"/></svg></td>",
        Value(tensor.values.lo.into()),
        Value(tensor.values.hi.into()),
        Outline(&tensor.histogram),
    )?;
    match tensor.error.as_ref().map(QuantError::sqnr_db) {
        None => cell(w, "", "\u{2013}")?,
        Some(None) => cell(w, "1e9", "exact")?,
        Some(Some(db)) => cell(w, Fixed(db, 3), Decibels(Some(db)))?,
    }
    match tensor.max_abs_error() {
        None => cell(w, "", "\u{2013}")?,
        Some(largest) => cell(w, format_args!("{largest:e}"), Value(largest.into()))?,
    }
    let outliers = tensor.values.outliers;
    cell(w, outliers, Count(outliers))?;
    for bytes in [tensor.bytes_before, tensor.bytes_after] {
        cell(w, bytes, Bytes(bytes))?;
    }
    writeln!(w, "</tr>")
}

/// A number in the table; `key` is the value to sort by.
fn cell(w: &mut impl Write, key: impl Display, shown: impl Display) -> io::Result<()> {
    write!(w, "<td class=\"n\" data-v=\"{key}\">{shown}</td>")
}
