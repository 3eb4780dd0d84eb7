//! `quant inspect`

mod tree;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{self, Write};

use quant::Tensor;
use quant_formats::{Checkpoint, Entry, FloatReason, Format, PreQuantized, StateEntry};
use serde::{Serialize, Serializer};

use crate::Outcome;
use crate::args::Inspect;
use crate::error::{Failure, chain};
use crate::input;
use crate::output::{self, Table, bytes, count, printable_line, shape, value};
use crate::progress::Progress;
use crate::signals;
use tree::Tree;

/// The characters of a value of metadata that are shown as text.
const METADATA_CHARS: usize = 200;

pub(crate) fn run(args: &Inspect) -> Result<Outcome, Failure> {
    signals::exit_at_once();
    let checkpoint = input::open(&args.input)?;
    let contents = Contents::gather(&checkpoint, args)?;
    let mut out = io::stdout().lock();
    if args.json {
        output::json(&mut out, &contents)?;
    } else {
        contents.print(&mut out, args)?;
    }
    Ok(if contents.damaged() == 0 { Outcome::Success } else { Outcome::Difference })
}

/// Everything that is shown.
#[derive(Serialize)]
struct Contents<'a> {
    path: String,
    format: String,
    metadata: &'a BTreeMap<String, String>,
    /// What another program has quantized.
    prequantized: Option<String>,
    parameters: u64,
    bytes: u64,
    tensors: Vec<Line<'a>>,
    states: Vec<StateLine>,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    shape: &'a [usize],
    #[serde(rename = "type")]
    stored: Type<'a>,
    bytes: u64,
    /// The least and the greatest finite value.
    range: Option<[f32; 2]>,
    /// The number of values that are NaN or infinite.
    non_finite: Option<u64>,
    /// Why codes of another program are shown as floats.
    as_floats: Option<String>,
    damage: Option<String>,
}

/// The type of a tensor, as its file names it.
struct Type<'a>(&'a Entry);

impl fmt::Display for Type<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.gguf_type {
            Some(ty) => ty.fmt(f),
            None => self.0.stored.fmt(f),
        }
    }
}

impl Serialize for Type<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Serialize)]
struct StateLine {
    name: String,
    kind: String,
    bytes: u64,
}

impl<'a> Contents<'a> {
    fn gather(checkpoint: &'a Checkpoint, args: &Inspect) -> Result<Self, Failure> {
        let entries = checkpoint.entries();
        let mut tensors: Vec<Line<'_>> = entries.iter().map(Line::new).collect();
        add_float_reasons(&mut tensors, checkpoint.prequantized());
        if !args.quick {
            let progress = Progress::over(checkpoint);
            for (index, line) in tensors.iter_mut().enumerate() {
                match checkpoint.read(index) {
                    Ok(tensor) => line.measure(&tensor),
                    Err(error) => line.damage = Some(chain(&error)),
                }
                progress.advance(4 * entries[index].element_count() as u64);
            }
            progress.clear();
            // Compares their checksums.
            let states = checkpoint.states();
            states.map_err(|error| Failure::record(&args.input.path, error))?;
        }
        Ok(Self {
            path: args.input.path.display().to_string(),
            format: checkpoint.format().to_string(),
            metadata: checkpoint.metadata(),
            prequantized: checkpoint.prequantized().map(describe),
            parameters: entries.iter().map(|entry| entry.element_count() as u64).sum(),
            bytes: entries.iter().map(|entry| entry.bytes).sum(),
            tensors,
            states: checkpoint.state_entries().into_iter().map(StateLine::new).collect(),
        })
    }

    fn damaged(&self) -> usize {
        self.tensors.iter().filter(|line| line.damage.is_some()).count()
    }

    fn print(&self, out: &mut impl Write, args: &Inspect) -> io::Result<()> {
        let (tensors, parameters) = (self.tensors.len(), count(self.parameters));
        let Self { path, format, .. } = self;
        let size = bytes(self.bytes);
        writeln!(out, "{path}: {format}, {tensors} tensors, {parameters} parameters, {size}")?;
        for (key, value) in self.metadata {
            // A chat template fills pages.
            let short: String = value.chars().take(METADATA_CHARS).collect();
            let more = if short.len() < value.len() { "…" } else { "" };
            writeln!(out, "  {} = {}{more}", printable_line(key), printable_line(&short))?;
        }
        if let Some(prequantized) = &self.prequantized {
            writeln!(out, "  quantized already: {}", printable_line(prequantized))?;
        }
        writeln!(out)?;
        let mut table = Table::new(["<tensor", "<shape", "<type", "size", "range", "<"]);
        let depth = args.depth.map_or(usize::MAX, std::num::NonZero::get);
        Tree::of(&self.tensors).add_rows(&mut table, depth);
        table.print(out)?;
        if !self.states.is_empty() {
            writeln!(out, "\nother tensors and states")?;
            let mut table = Table::new(["<", "<", ""]);
            for StateLine { name, kind, bytes: len } in &self.states {
                table.row([format!("  {name}"), kind.clone(), bytes(*len)]);
            }
            table.print(out)?;
        }
        self.print_verdict(out, args)
    }

    fn print_verdict(&self, out: &mut impl Write, args: &Inspect) -> io::Result<()> {
        let damaged = self.damaged();
        if args.quick {
            writeln!(out, "\nvalues and checksums were not read")
        } else if damaged > 0 {
            writeln!(out, "\n{damaged} of {} tensors are damaged", self.tensors.len())
        } else if self.format == Format::Record.to_string() {
            writeln!(out, "\nall checksums match")
        } else {
            writeln!(out, "\nall tensors can be read; the format has no checksums")
        }
    }
}

/// What another program has quantized, and whether its values are shown.
fn describe(all: &PreQuantized) -> String {
    match all.refused() {
        None => all.to_string(),
        Some((tensor, refusal)) => format!("{all}; {} is left as it is: {refusal}", tensor.id),
    }
}

/// Says why tensors that another program has quantized are floats here.
fn add_float_reasons(lines: &mut [Line<'_>], all: Option<&PreQuantized>) {
    let tensors = all.map_or(&[][..], PreQuantized::tensors).iter();
    let reasons: HashMap<&str, FloatReason> =
        tensors.filter_map(|tensor| Some((tensor.id.as_str(), tensor.as_floats?))).collect();
    for line in lines {
        line.as_floats = reasons.get(line.name).map(ToString::to_string);
    }
}

impl<'a> Line<'a> {
    fn new(entry: &'a Entry) -> Self {
        Self {
            name: entry.id.as_str(),
            shape: &entry.shape,
            stored: Type(entry),
            bytes: entry.bytes,
            range: None,
            non_finite: None,
            as_floats: None,
            damage: None,
        }
    }

    fn parameters(&self) -> u64 {
        self.shape.iter().fold(1, |count, &extent| count.saturating_mul(extent as u64))
    }

    fn measure(&mut self, tensor: &Tensor) {
        let values = tensor.values();
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let (least, greatest) =
            finite().fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
        let non_finite = (values.len() - finite().count()) as u64;
        self.range = (least <= greatest).then_some([least, greatest]);
        self.non_finite = Some(non_finite);
    }

    fn cells(&self, name: String) -> [String; 6] {
        let range = self.range.map_or(String::new(), |[lo, hi]| {
            if lo == hi { value(lo) } else { format!("{} … {}", value(lo), value(hi)) }
        });
        let remark = match (&self.damage, self.non_finite) {
            (Some(damage), _) => format!("DAMAGED: {damage}"),
            (None, Some(n @ 1..)) => format!("{n} not finite"),
            _ => self.as_floats.as_ref().map_or(String::new(), |why| format!("floats: {why}")),
        };
        [name, shape(self.shape), self.stored.to_string(), bytes(self.bytes), range, remark]
    }
}

impl StateLine {
    fn new(state: StateEntry) -> Self {
        Self { name: state.id.to_string(), kind: state.kind, bytes: state.bytes }
    }
}
