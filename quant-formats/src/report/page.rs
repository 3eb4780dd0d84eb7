//! The page.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::picture::{Bars, HEIGHT, Outline, Ticks, WIDTH, marks, over};
use super::tensor::{BINS, Channels, Damage, FAR, Levels, Quantized, TensorReport, sqnr_db};
use super::text::{Bytes, Count, Path, Shape, Text, Value};

/// The most tensors whose size has a bar.
const SIZES: usize = 12;

/// What quantization did to a model, as one HTML file.
///
/// The file fetches nothing and runs on its own: pictures are inline SVG, and the only script,
/// which sorts the table, is not needed to read it. It follows the reader's light or dark theme,
/// and fits a phone. Each tensor takes up to 6 KB.
#[derive(Clone, Debug)]
pub struct Report {
    title: String,
    metadata: Vec<(String, String)>,
    /// Worst first.
    tensors: Vec<TensorReport>,
}

impl Report {
    /// The report about `tensors`.
    pub fn new(title: impl Into<String>, tensors: impl IntoIterator<Item = TensorReport>) -> Self {
        let mut tensors: Vec<_> = tensors.into_iter().collect();
        // Stable: equal ones stay in the order of the model.
        tensors.sort_by(|a, b| rank(a).0.cmp(&rank(b).0).then(rank(a).1.total_cmp(&rank(b).1)));
        Self { title: title.into(), metadata: Vec::new(), tensors }
    }

    /// Adds a line to the head of the page: the source, a date, a recipe.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// The tensors, most damaged first: by signal-to-noise ratio, then exact ones, then those
    /// whose error is not known, then float ones.
    pub fn tensors(&self) -> &[TensorReport] {
        &self.tensors
    }

    /// Writes the page, in UTF-8.
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
    /// Those of `writer`, which is flushed.
    pub fn write_html(&self, mut writer: impl Write) -> io::Result<()> {
        let w = &mut writer;
        self.write_head(w)?;
        self.write_tiles(w)?;
        self.write_sizes(w)?;
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
        // Without it browsers ask the server for an icon.
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
            tile(w, "Worst SQNR", &decibels(db), &name)?;
        }
        writeln!(w, "</dl>")
    }

    /// The signal-to-noise ratio of all tensors that are quantized and known as floats.
    fn overall(&self) -> (String, String) {
        let known = || self.tensors.iter().filter_map(|tensor| tensor.damage.as_ref());
        let signal: f64 = known().map(|damage| damage.signal).sum();
        let noise: f64 = known().map(|damage| damage.noise).sum();
        let of = match known().count() {
            1 => "over 1 tensor".into(),
            count => format!("over {count} tensors"),
        };
        if known().next().is_none() {
            ("\u{2013}".into(), "no errors are known".into())
        } else {
            (sqnr_db(signal, noise).map_or("exact".into(), decibels), of)
        }
    }

    fn write_sizes(&self, w: &mut impl Write) -> io::Result<()> {
        let mut largest: Vec<_> = self.tensors.iter().enumerate().collect();
        largest.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.bytes_before));
        let Some(most) = largest.first().map(|(_, tensor)| tensor.bytes_before.max(1)) else {
            return Ok(());
        };
        writeln!(w, "<h2>Size</h2>\n<p>Bytes before, pale, and after, full; largest first.</p>")?;
        writeln!(w, "<ul class=\"sizes\">")?;
        let shown = largest.len().min(SIZES);
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
            "<h2>Tensors</h2>\n<p>Most damaged first: SQNR is the ratio of the sum of squared \
             values to that of squared errors. Histograms count on a logarithmic scale.</p>\n\
             <table id=\"all\"><thead><tr><th class=\"w\" data-k scope=\"col\">Tensor</th>\
             <th class=\"h\" scope=\"col\">Values</th>\
             <th class=\"n\" data-k scope=\"col\">SQNR</th>\
             <th class=\"n\" data-k scope=\"col\">Largest error</th>\
             <th class=\"n\" data-k scope=\"col\">Outliers</th>\
             <th class=\"n\" data-k scope=\"col\">Before</th>\
             <th class=\"n\" data-k scope=\"col\">After</th></tr></thead>\n<tbody>"
        )?;
        for (number, tensor) in self.tensors.iter().enumerate() {
            write_row(w, number, tensor)?;
        }
        writeln!(w, "</tbody></table>")
    }

    fn write_details(&self, w: &mut impl Write) -> io::Result<()> {
        writeln!(
            w,
            "<h2>Each tensor</h2>\n<p>The histogram of values on a logarithmic scale, with zero as \
             a line. Below it, in orange, the values that codes stand for; where a tensor has \
             many scales, those of its finest and of its coarsest group. Dashed lines are the \
             ends of the coarsest.</p>"
        )?;
        for (number, tensor) in self.tensors.iter().enumerate() {
            write_detail(w, number, tensor)?;
        }
        writeln!(w, "</main>")
    }
}

/// Where a tensor comes in the table.
fn rank(tensor: &TensorReport) -> (u8, f64) {
    match (&tensor.quantized, &tensor.damage) {
        (None, _) => (3, 0.0),
        (Some(_), None) => (2, 0.0),
        (Some(_), Some(damage)) => match damage.sqnr_db() {
            None => (1, 0.0),
            Some(db) => (0, db),
        },
    }
}

fn decibels(db: f64) -> String {
    format!("{db:.1}\u{A0}dB")
}

/// `note` is HTML.
fn tile(w: &mut impl Write, name: &str, value: &str, note: &str) -> io::Result<()> {
    let small = if note.is_empty() { String::new() } else { format!("<small>{note}</small>") };
    writeln!(w, "<div><dt>{name}</dt><dd>{value}{small}</dd></div>")
}

/// `name` is HTML.
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

fn write_row(w: &mut impl Write, number: usize, tensor: &TensorReport) -> io::Result<()> {
    let outcome = match &tensor.quantized {
        Some(Quantized { scheme, .. }) => scheme.to_string(),
        None => "float".into(),
    };
    let non_finite = match tensor.values.non_finite {
        0 => String::new(),
        some => format!("<small class=\"bad\">{} NaN or infinite</small>", Count(some)),
    };
    writeln!(
        w,
        "<tr><td class=\"w\"><a href=\"#t{number}\">{}</a><small>{} · {outcome}</small>\
         {non_finite}</td><td class=\"h\"><svg viewBox=\"0 0 {BINS} {HEIGHT}\" preserveAspectRatio=\"none\" \
         role=\"img\" aria-label=\"values from {} to {}\"><path class=\"b\" id=\"h{number}\" \
         d=\"{}\"/></svg></td>",
        Path(tensor.id.as_str()),
        Shape(&tensor.shape),
        Value(tensor.values.lo.into()),
        Value(tensor.values.hi.into()),
        Outline(&tensor.histogram),
    )?;
    let sqnr = match &tensor.damage {
        None => (String::new(), "\u{2013}".into()),
        Some(damage) => match damage.sqnr_db() {
            None => ("1e9".into(), "exact".into()),
            Some(db) => (format!("{db:.3}"), decibels(db)),
        },
    };
    let error = tensor.max_abs_error().map(f64::from);
    let shown = error.map_or("\u{2013}".into(), |error| Value(error).to_string());
    cell(w, "SQNR", &sqnr.0, &sqnr.1)?;
    cell(w, "Largest error", &error.map_or(String::new(), |it| format!("{it:e}")), &shown)?;
    let far = tensor.values.far;
    cell(w, "Outliers", &far.to_string(), &Count(far).to_string())?;
    for (label, bytes) in [("Before", tensor.bytes_before), ("After", tensor.bytes_after)] {
        cell(w, label, &bytes.to_string(), &Bytes(bytes).to_string())?;
    }
    writeln!(w, "</tr>")
}

/// A number in the table, with what it is sorted by.
fn cell(w: &mut impl Write, label: &str, key: &str, shown: &str) -> io::Result<()> {
    write!(w, "<td class=\"n\" data-l=\"{label}\" data-v=\"{key}\">{shown}</td>")
}

fn write_detail(w: &mut impl Write, number: usize, tensor: &TensorReport) -> io::Result<()> {
    let open = if number == 0 { " open" } else { "" };
    let outcome = match (&tensor.quantized, &tensor.damage) {
        (None, _) => "float".into(),
        (Some(_), None) => "quantized".into(),
        (Some(_), Some(damage)) => damage.sqnr_db().map_or("exact".into(), decibels),
    };
    writeln!(
        w,
        "<details id=\"t{number}\"{open}><summary>{}<span>{} · {outcome}</span>\
         </summary><div><section>",
        Path(tensor.id.as_str()),
        Shape(&tensor.shape),
    )?;
    write_histogram(w, number, tensor)?;
    if let Some(channels) = tensor.damage.as_ref().and_then(|damage| damage.channels.as_ref()) {
        write_channels(w, channels)?;
    }
    writeln!(w, "</section><section>")?;
    write_facts(w, tensor)?;
    write_outliers(w, tensor)?;
    writeln!(w, "</section></div></details>")
}

fn write_histogram(w: &mut impl Write, number: usize, tensor: &TensorReport) -> io::Result<()> {
    let histogram = &tensor.histogram;
    let coarsest = tensor.quantized.as_ref().map(|quantized| quantized.coarsest);
    let most = histogram.bins.iter().copied().max().unwrap_or(0);
    writeln!(
        w,
        "<h3>Values <span>up to {} in a bin</span></h3><div class=\"p\"><svg viewBox=\"0 0 {WIDTH} \
         {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"histogram of the \
         values\"><use href=\"#h{number}\" transform=\"scale({} 1)\"/>{}{}</svg></div>",
        Count(most),
        WIDTH / BINS as f64,
        coarsest
            .and_then(|levels| over(histogram, levels))
            .map_or(String::new(), |it| it.to_string()),
        marks(histogram, coarsest),
    )?;
    writeln!(
        w,
        "<div class=\"x\"><span>{}</span><span>{}</span></div>",
        Value(histogram.lo),
        Value(histogram.hi)
    )?;
    match &tensor.quantized {
        Some(Quantized { groups: 1, finest, .. }) => write_levels(w, tensor, "", *finest),
        Some(Quantized { groups, finest, coarsest, .. }) => {
            write_levels(
                w,
                tensor,
                &format!("finest of {} groups: ", Count(*groups as u64)),
                *finest,
            )?;
            write_levels(w, tensor, "coarsest: ", *coarsest)
        }
        None => Ok(()),
    }
}

fn write_levels(
    w: &mut impl Write,
    tensor: &TensorReport,
    which: &str,
    levels: Levels,
) -> io::Result<()> {
    let height = 14.0;
    let over = &tensor.histogram;
    let ticks = Ticks { levels, over, y: height / 2.0, height, class: "t" };
    writeln!(
        w,
        "<div class=\"r\"><svg viewBox=\"0 0 {WIDTH} {height}\" preserveAspectRatio=\"none\" \
         aria-hidden=\"true\">{ticks}</svg></div><div class=\"x\"><span>{which}{} levels from {} \
         to {}, a step of {}</span></div>",
        levels.count,
        Value(levels.lo),
        Value(levels.hi),
        Value(levels.step),
    )
}

fn write_channels(w: &mut impl Write, channels: &Channels) -> io::Result<()> {
    let Channels { axis, count, worst } = channels;
    let most = worst.iter().copied().fold(0.0, f64::max);
    let each = match count.div_ceil(worst.len()) {
        1 => "one bar each".into(),
        some => format!("the worst of up to {some} in each bar"),
    };
    writeln!(
        w,
        "<h3>Error by channel <span>root mean square, up to {}; {} channels of axis {axis}, {each}\
         </span></h3><div class=\"c\"><svg viewBox=\"0 0 {} {HEIGHT}\" \
         preserveAspectRatio=\"none\" role=\"img\" aria-label=\"error by channel\">\
         <path class=\"b\" d=\"{}\"/></svg></div><div class=\"x\"><span>0</span><span>{}</span>\
         </div>",
        Value(most),
        Count(*count as u64),
        worst.len(),
        Bars(channels),
        count - 1,
    )
}

fn write_facts(w: &mut impl Write, tensor: &TensorReport) -> io::Result<()> {
    let values = &tensor.values;
    let mut facts: Vec<(&str, String)> = Vec::new();
    match &tensor.quantized {
        Some(quantized) => facts.push(("Scheme", quantized.scheme.to_string())),
        None => facts.push(("Scheme", "stays float".into())),
    }
    if !tensor.note.is_empty() {
        facts.push(("Because", Text(&tensor.note).to_string()));
    }
    if let Some(damage) = &tensor.damage {
        facts.extend(damage_facts(damage, values.count));
    } else if tensor.quantized.is_some() {
        facts.push(("Error", "not known: there are no floats".into()));
    }
    let bytes = format!("{} → {}", Bytes(tensor.bytes_before), Bytes(tensor.bytes_after));
    facts.push(("Bytes", bytes));
    facts.push(("Values", Count(values.count).to_string()));
    if values.non_finite > 0 {
        let count = Count(values.non_finite);
        facts.push(("NaN or infinite", format!("<span class=\"bad\">{count}</span>")));
    }
    facts.push(("Mean", Value(values.mean).to_string()));
    facts.push(("Deviation", Value(values.deviation).to_string()));
    facts.push(("Excess kurtosis", Value(values.excess_kurtosis).to_string()));
    let mut list = String::new();
    for (name, value) in facts {
        write!(list, "<dt>{name}</dt><dd>{value}</dd>").expect("a string takes what is written");
    }
    writeln!(w, "<h3>Figures</h3><dl class=\"facts\">{list}</dl>")
}

fn damage_facts(damage: &Damage, count: u64) -> [(&'static str, String); 4] {
    let rms = (damage.noise / count.max(1) as f64).sqrt();
    let clipped = 100.0 * damage.clipped as f64 / count.max(1) as f64;
    let clipped = match damage.clipped {
        0 => "none".into(),
        some => format!("{} ({clipped:.2}\u{A0}%)", Count(some)),
    };
    [
        ("SQNR", damage.sqnr_db().map_or("exact".into(), decibels)),
        ("Largest error", Value(damage.largest.into()).to_string()),
        ("RMS error", Value(rms).to_string()),
        ("Values clipped", clipped),
    ]
}

fn write_outliers(w: &mut impl Write, tensor: &TensorReport) -> io::Result<()> {
    let values = &tensor.values;
    write!(w, "<h3>Outliers <span>beyond {FAR} standard deviations: {}", Count(values.far))?;
    if values.furthest.is_empty() {
        return writeln!(w, "</span></h3>");
    }
    writeln!(
        w,
        ", furthest first</span></h3><table><thead><tr><th scope=\"col\">Value</th><th class=\"n\" \
         scope=\"col\">Deviations</th><th class=\"n\" scope=\"col\">Channel</th><th class=\"n\" \
         scope=\"col\">Index</th></tr></thead><tbody>"
    )?;
    for outlier in &values.furthest {
        let channel = outlier.channel.map_or("\u{2013}".into(), |it| it.to_string());
        writeln!(
            w,
            "<tr><td>{}</td><td class=\"n\">{:.1}</td><td class=\"n\">{channel}</td>\
             <td class=\"n\">{}</td></tr>",
            Value(outlier.value.into()),
            outlier.distance,
            outlier.index,
        )?;
    }
    writeln!(w, "</tbody></table>")
}
