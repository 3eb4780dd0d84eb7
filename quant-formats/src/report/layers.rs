//! The outputs of layers of the float and the quantized model.

use std::io::{self, Write};

use quant::activation::{ComparedLayer, LayerComparison};

use super::text::{Decibels, Fixed, Path, Value};

/// The ratio that has the longest bar, in dB.
const LONGEST: f64 = 60.0;

pub(super) fn write_layers(w: &mut impl Write, compared: &LayerComparison) -> io::Result<()> {
    writeln!(
        w,
        "<h2>Outputs of layers</h2>\n<p>The float and the quantized model on the same inputs, lowest SQNR \
         first. An output has the errors of the layers before it, too.</p>\n\
         <table><thead><tr><th class=\"w\" scope=\"col\">Layer</th>\
         <th class=\"h\" scope=\"col\">0 to {LONGEST} dB</th>\
         <th class=\"n\" scope=\"col\">SQNR</th>\
         <th class=\"n\" scope=\"col\">Cosine</th>\
         <th class=\"n\" scope=\"col\">Largest error</th></tr></thead>\n<tbody>"
    )?;
    compared.layers.iter().try_for_each(|layer| write_layer(w, layer))?;
    writeln!(w, "</tbody></table>")?;
    if let Some(first) = compared.unreached.first() {
        let first = Path(first.as_str());
        match compared.unreached.len() {
            1 => writeln!(w, "<p>No input reached {first}.</p>")?,
            count => writeln!(w, "<p>No input reached {count} layers, such as {first}.</p>")?,
        }
    }
    Ok(())
}

fn write_layer(w: &mut impl Write, layer: &ComparedLayer) -> io::Result<()> {
    let ComparedLayer { id, scheme, sqnr_db, cosine, max_abs_error, .. } = layer;
    write!(w, "<tr><td class=\"w\">{}<small>", Path(id.as_str()))?;
    match scheme {
        Some(scheme) => write!(w, "{scheme}</small>")?,
        None => write!(w, "float</small>")?,
    }
    let share = 100.0 * (sqnr_db.unwrap_or(LONGEST) / LONGEST).clamp(0.0, 1.0);
    write!(
        w,
        "</td><td class=\"h\"><span class=\"size\" style=\"width:100%\" aria-hidden=\"true\">\
         <i style=\"width:{share:.1}%\"></i></span></td>"
    )?;
    match sqnr_db {
        None => write!(w, "<td class=\"n\">equal</td>")?,
        Some(_) => write!(w, "<td class=\"n\">{}</td>", Decibels(*sqnr_db))?,
    }
    let (cosine, largest) = (Fixed(*cosine, 5), Value(*max_abs_error));
    writeln!(w, "<td class=\"n\">{cosine}</td><td class=\"n\">{largest}</td></tr>")
}
