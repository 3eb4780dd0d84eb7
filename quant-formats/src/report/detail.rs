//! The details of one tensor: pictures, figures and outliers.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::measure::{BINS, Channels, Levels, OUTLIER_DEVIATIONS, QuantError, Quantized};
use super::picture::{Bars, HEIGHT, Ticks, WIDTH, grid_over, marks};
use super::tensor::TensorReport;
use super::text::{Bytes, Count, Path, Shape, Text, Value, decibels};

pub(super) fn write_detail(
    w: &mut impl Write,
    number: usize,
    tensor: &TensorReport,
) -> io::Result<()> {
    let open = if number == 0 { " open" } else { "" };
    let outcome = match (&tensor.quantized, &tensor.error) {
        (None, _) => "float".into(),
        (Some(_), None) => "quantized".into(),
        (Some(_), Some(error)) => error.sqnr_db().map_or("exact".into(), decibels),
    };
    writeln!(
        w,
        "<details id=\"t{number}\"{open}><summary>{}<span>{} · {outcome}</span>\
         </summary><div><section>",
        Path(tensor.id.as_str()),
        Shape(&tensor.shape),
    )?;
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
    writeln!(
        w,
        "<h3>Values <span>up to {} in a bin</span></h3><div class=\"p\"><svg viewBox=\"0 0 {WIDTH} \
         {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"histogram of the \
         values\"><use href=\"#h{number}\" transform=\"scale({} 1)\"/>{}{}</svg></div>",
        Count(most),
        WIDTH / BINS as f64,
        coarsest
            .and_then(|levels| grid_over(histogram, levels))
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
                &format!("least scale of {} groups: ", Count(*groups as u64)),
                *finest,
            )?;
            write_levels(w, tensor, "greatest scale: ", *coarsest)
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
    let mut facts: Vec<(&str, String)> = Vec::new();
    match &tensor.quantized {
        Some(quantized) => facts.push(("Scheme", quantized.scheme.to_string())),
        None => facts.push(("Scheme", "float".into())),
    }
    if !tensor.note.is_empty() {
        facts.push(("Reason", Text(&tensor.note).to_string()));
    }
    if let Some(error) = &tensor.error {
        facts.extend(error_facts(error, values.count));
    } else if tensor.quantized.is_some() {
        facts.push(("Error", "unknown: the float values are not available".into()));
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
        write!(list, "<dt>{name}</dt><dd>{value}</dd>").expect("a string can be written");
    }
    writeln!(w, "<h3>Figures</h3><dl class=\"facts\">{list}</dl>")
}

fn error_facts(error: &QuantError, count: u64) -> [(&'static str, String); 4] {
    let rms = (error.noise / count.max(1) as f64).sqrt();
    let clipped = 100.0 * error.clipped as f64 / count.max(1) as f64;
    let clipped = match error.clipped {
        0 => "none".into(),
        some => format!("{} ({clipped:.2}\u{A0}%)", Count(some)),
    };
    [
        ("SQNR", error.sqnr_db().map_or("exact".into(), decibels)),
        ("Largest error", Value(error.largest.into()).to_string()),
        ("RMS error", Value(rms).to_string()),
        ("Values clipped", clipped),
    ]
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
