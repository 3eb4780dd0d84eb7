//! The details of one tensor: pictures, figures and outliers.

use std::fmt::Display;
use std::io::{self, Write};

use super::measure::{BINS, Channels, Levels, OUTLIER_DEVIATIONS, QuantError, Quantized};
use super::picture::{Bars, HEIGHT, Marks, Ticks, WIDTH, grid_over};
use super::tensor::TensorReport;
use super::text::{Bytes, Count, Decibels, Path, Shape, Text, Value};

pub(super) fn write_detail(
    w: &mut Vec<u8>,
    number: usize,
    tensor: &TensorReport,
) -> io::Result<()> {
    let open = if number == 0 { " open" } else { "" };
    write!(
        w,
        "<details id=\"t{number}\"{open}><summary>{}<span>{} · ",
        Path(tensor.id.as_str()),
        Shape(&tensor.shape),
    )?;
    match (&tensor.quantized, &tensor.error) {
        (None, _) => write!(w, "float")?,
        (Some(_), None) => write!(w, "quantized")?,
        (Some(_), Some(error)) => write!(w, "{}", Decibels(error.sqnr_db()))?,
    }
    writeln!(w, "</span></summary><div><section>")?;
    write_histogram(w, number, tensor)?;
    if let Some(channels) = tensor.error.as_ref().and_then(|error| error.channels.as_ref()) {
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
    write!(
        w,
        "<h3>Values <span>up to {} in a bin</span></h3><div class=\"p\"><svg viewBox=\"0 0 {WIDTH} \
         {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"histogram of the \
         values\"><use href=\"#h{number}\" transform=\"scale({} 1)\"/>",
        Count(most),
        WIDTH / BINS as u32,
    )?;
    if let Some(grid) = coarsest.and_then(|levels| grid_over(histogram, levels)) {
        write!(w, "{grid}")?;
    }
    writeln!(w, "{}</svg></div>", Marks { over: histogram, levels: coarsest })?;
    writeln!(
        w,
        "<div class=\"x\"><span>{}</span><span>{}</span></div>",
        Value(histogram.lo),
        Value(histogram.hi)
    )?;
    match &tensor.quantized {
        Some(Quantized { groups: 1, finest, .. }) => write_levels(w, tensor, "", *finest),
        Some(Quantized { groups, finest, coarsest, .. }) => {
            let groups = Count(*groups as u64);
            write_levels(w, tensor, format_args!("least scale of {groups} groups: "), *finest)?;
            write_levels(w, tensor, "greatest scale: ", *coarsest)
        }
        None => Ok(()),
    }
}

fn write_levels(
    w: &mut impl Write,
    tensor: &TensorReport,
    which: impl Display,
    levels: Levels,
) -> io::Result<()> {
    let height = 14;
    let over = &tensor.histogram;
    let ticks = Ticks { levels, over, y: height / 2, height, class: "t" };
    writeln!(
        w,
        "<div class=\"r\"><svg viewBox=\"0 0 {WIDTH} {height}\" preserveAspectRatio=\"none\" \
         aria-hidden=\"true\">{ticks}</svg></div><div class=\"x\"><span>{which}{} levels from {} \
         to {}, scale {}</span></div>",
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
    write!(w, "<h3>Figures</h3><dl class=\"facts\">")?;
    match &tensor.quantized {
        Some(quantized) => fact(w, "Scheme", quantized.scheme)?,
        None => fact(w, "Scheme", "float")?,
    }
    if !tensor.note.is_empty() {
        fact(w, "Reason", Text(&tensor.note))?;
    }
    if let Some(error) = &tensor.error {
        write_error(w, error, values.count)?;
    } else if tensor.quantized.is_some() {
        fact(w, "Error", "unknown: the float values are not available")?;
    }
    let (before, after) = (Bytes(tensor.bytes_before), Bytes(tensor.bytes_after));
    fact(w, "Bytes", format_args!("{before} → {after}"))?;
    fact(w, "Values", Count(values.count))?;
    if values.non_finite > 0 {
        let count = Count(values.non_finite);
        fact(w, "NaN or infinite", format_args!("<span class=\"bad\">{count}</span>"))?;
    }
    fact(w, "Mean", Value(values.mean))?;
    fact(w, "Deviation", Value(values.deviation))?;
    fact(w, "Excess kurtosis", Value(values.excess_kurtosis))?;
    writeln!(w, "</dl>")
}

/// A figure with its name; `value` is HTML.
fn fact(w: &mut impl Write, name: &str, value: impl Display) -> io::Result<()> {
    write!(w, "<dt>{name}</dt><dd>{value}</dd>")
}

fn write_error(w: &mut impl Write, error: &QuantError, count: u64) -> io::Result<()> {
    fact(w, "SQNR", Decibels(error.sqnr_db()))?;
    fact(w, "Largest error", Value(error.largest.into()))?;
    fact(w, "RMS error", Value((error.noise / count.max(1) as f64).sqrt()))?;
    if error.clipped == 0 {
        return fact(w, "Values clipped", "none");
    }
    let clipped = 100.0 * error.clipped as f64 / count.max(1) as f64;
    fact(w, "Values clipped", format_args!("{} ({clipped:.2}\u{A0}%)", Count(error.clipped)))
}

fn write_outliers(w: &mut impl Write, tensor: &TensorReport) -> io::Result<()> {
    let values = &tensor.values;
    write!(
        w,
        "<h3>Outliers <span>beyond {OUTLIER_DEVIATIONS} standard deviations: {}",
        Count(values.outliers)
    )?;
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
