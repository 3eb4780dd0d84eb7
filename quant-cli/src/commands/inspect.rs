//! `quant inspect`

use std::collections::BTreeMap;
use std::io::{self, Write};

use quant::Tensor;
use quant::record::RecordState;
use quant_formats::{Checkpoint, Entry};
use serde::Serialize;

use crate::Answer;
use crate::args::Inspect;
use crate::error::Failure;
use crate::input;
use crate::output::{self, Table, bytes, count, shape, value};
use crate::progress::Progress;

pub(crate) fn run(args: &Inspect) -> Result<Answer, Failure> {
    let checkpoint = input::open(&args.input)?;
    let contents = Contents::gather(&*checkpoint, args)?;
    let mut out = io::stdout().lock();
    if args.json {
        output::json(&mut out, &contents)?;
    } else {
        contents.print(&mut out, args)?;
    }
    Ok(if contents.tensors.iter().any(|tensor| tensor.damage.is_some()) {
        Answer::No
    } else {
        Answer::Yes
    })
}

/// All that is shown.
#[derive(Serialize)]
struct Contents<'a> {
    path: String,
    format: String,
    metadata: &'a BTreeMap<String, String>,
    parameters: u64,
    bytes: u64,
    tensors: Vec<Line>,
    states: Vec<StateLine>,
}

#[derive(Serialize)]
struct Line {
    name: String,
    shape: Vec<usize>,
    #[serde(rename = "type")]
    stored: String,
    bytes: u64,
    /// The least and the greatest value that is finite.
    range: Option<[f32; 2]>,
    /// Values that are NaN or infinite.
    non_finite: Option<u64>,
    damage: Option<String>,
}

#[derive(Serialize)]
struct StateLine {
    name: String,
    kind: String,
    bytes: usize,
}

impl<'a> Contents<'a> {
    fn gather(checkpoint: &'a dyn Checkpoint, args: &Inspect) -> Result<Self, Failure> {
        let entries = checkpoint.entries();
        let progress = Progress::over(checkpoint);
        let mut tensors = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let mut line = Line::new(entry);
            if !args.quick {
                match checkpoint.read(index) {
                    Ok(tensor) => line.look_at(&tensor),
                    Err(error) => line.damage = Some(error.to_string()),
                }
                progress.advance(4 * entry.element_count() as u64);
            }
            tensors.push(line);
        }
        progress.clear();
        let states = checkpoint.states();
        let states = states.map_err(|error| Failure::record(&args.input.path, error))?;
        Ok(Self {
            path: args.input.path.display().to_string(),
            format: checkpoint.format().to_string(),
            metadata: checkpoint.metadata(),
            parameters: entries.iter().map(|entry| entry.element_count() as u64).sum(),
            bytes: entries.iter().map(|entry| entry.bytes).sum(),
            tensors,
            states: states.into_iter().map(StateLine::new).collect(),
        })
    }

    fn print(&self, out: &mut impl Write, args: &Inspect) -> io::Result<()> {
        writeln!(
            out,
            "{}: {}, {} tensors, {} parameters, {}",
            self.path,
            self.format,
            self.tensors.len(),
            count(self.parameters),
            bytes(self.bytes)
        )?;
        for (key, value) in self.metadata {
            writeln!(out, "  {} = {}", key.escape_debug(), value.escape_debug())?;
        }
        writeln!(out)?;
        let mut table = Table::new(["<tensor", "<shape", "<type", "size", "range", "<"]);
        let depth = args.depth.map_or(usize::MAX, std::num::NonZero::get);
        Tree::of(&self.tensors).rows(&mut table, 0, depth);
        table.print(out)?;
        if !self.states.is_empty() {
            writeln!(out, "\nbesides parameters")?;
            let mut table = Table::new(["<", "<", ""]);
            for StateLine { name, kind, bytes: len } in &self.states {
                table.row([format!("  {name}"), kind.clone(), bytes(*len as u64)]);
            }
            table.print(out)?;
        }
        self.verdict(out, args)
    }

    fn verdict(&self, out: &mut impl Write, args: &Inspect) -> io::Result<()> {
        let damaged = self.tensors.iter().filter(|line| line.damage.is_some()).count();
        if args.quick {
            writeln!(out, "\nvalues and checksums were not read")
        } else if damaged > 0 {
            writeln!(out, "\n{damaged} of {} tensors are damaged", self.tensors.len())
        } else if self.format == "record" {
            writeln!(out, "\nall checksums are right")
        } else {
            writeln!(out, "\nall tensors can be read; the format has no checksums")
        }
    }
}

impl Line {
    fn new(entry: &Entry) -> Self {
        Self {
            name: entry.id.to_string(),
            shape: entry.shape.clone(),
            stored: entry.stored.to_string(),
            bytes: entry.bytes,
            range: None,
            non_finite: None,
            damage: None,
        }
    }

    fn look_at(&mut self, tensor: &Tensor) {
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
            _ => String::new(),
        };
        [name, shape(&self.shape), self.stored.clone(), bytes(self.bytes), range, remark]
    }
}

impl StateLine {
    fn new(state: RecordState) -> Self {
        Self { name: state.id.to_string(), kind: state.kind, bytes: state.data.len() }
    }
}

/// Tensors by the steps of their paths, in the order of the file.
#[derive(Default)]
struct Tree<'a> {
    children: Vec<(&'a str, Tree<'a>)>,
    line: Option<&'a Line>,
    tensors: usize,
    parameters: u64,
    bytes: u64,
}

impl<'a> Tree<'a> {
    fn of(lines: &'a [Line]) -> Self {
        let mut root = Self::default();
        for line in lines {
            root.insert(&line.name, line);
        }
        root
    }

    fn insert(&mut self, path: &'a str, line: &'a Line) {
        self.tensors += 1;
        self.parameters += line.shape.iter().map(|&extent| extent as u64).product::<u64>();
        self.bytes += line.bytes;
        let (step, rest) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
        // The children of one path mostly follow each other.
        let at = self
            .children
            .iter()
            .rposition(|(name, child)| *name == step && (rest.is_some() || child.line.is_none()));
        let at = at.unwrap_or_else(|| {
            self.children.push((step, Self::default()));
            self.children.len() - 1
        });
        let child = &mut self.children[at].1;
        match rest {
            Some(rest) => child.insert(rest, line),
            None => {
                child.line = Some(line);
                child.tensors += 1;
                child.bytes += line.bytes;
            }
        }
    }

    fn rows(&self, table: &mut Table, indent: usize, depth: usize) {
        for (step, child) in &self.children {
            let mut name = format!("{:1$}{step}", "", 2 * indent);
            let mut child = child;
            // A step without a choice does not take a line of its own.
            while child.line.is_none() && child.children.len() == 1 {
                let (step, only) = &child.children[0];
                name = format!("{name}.{step}");
                child = only;
            }
            match child.line {
                Some(line) => table.row(line.cells(name)),
                None => {
                    let what = format!("{} tensors, {}", child.tensors, count(child.parameters));
                    let empty = String::new;
                    table.dim_row([name, what, empty(), bytes(child.bytes), empty(), empty()]);
                }
            }
            if indent + 1 < depth {
                child.rows(table, indent + 1, depth);
            }
        }
    }
}
