//! Tensors by the parts of their names between dots, in the order of the file.
//!
//! A name may have as many parts as its file has bytes: nothing here is recursive. Nothing is stored for
//! a part, because there may be several for each of many tensors: the positions of the tensors are sorted
//! by name, and what is below a part of a name is a range of them.

use std::cmp::Reverse;
use std::ops::Range;

use super::Line;
use crate::output::{Table, bytes, count};

/// All tensors.
pub(super) struct Tree<'a> {
    lines: &'a [Line<'a>],
    /// Positions of lines, by the parts of their names.
    sorted: Vec<usize>,
}

/// The tensors whose names start with the same parts.
struct Branch {
    /// Positions in [`Tree::sorted`].
    range: Range<usize>,
    /// The bytes of their names that are the text of the row: the last of the parts, or several.
    part: Range<usize>,
    /// The first of the tensors in the file.
    first: usize,
}

/// The levels of indentation that are shown; deeper ones look alike.
const MAX_INDENT: usize = 32;

impl<'a> Tree<'a> {
    pub(super) fn of(lines: &'a [Line<'a>]) -> Self {
        let mut sorted: Vec<usize> = (0..lines.len()).collect();
        let parts = |position: usize| lines[position].name.split('.');
        sorted.sort_unstable_by(|&a, &b| parts(a).cmp(parts(b)).then(a.cmp(&b)));
        Self { lines, sorted }
    }

    /// Adds a row for each branch down to `depth` levels.
    pub(super) fn add_rows(&self, table: &mut Table, depth: usize) {
        let branches = |below, start, indent: usize| {
            let mut branches = self.branches(below, start);
            // The first one is taken first, from the end.
            branches.sort_unstable_by_key(|branch| Reverse(branch.first));
            branches.into_iter().map(move |branch| (branch, indent))
        };
        let mut pending: Vec<(Branch, usize)> = branches(0..self.lines.len(), 0, 0).collect();
        while let Some((branch, indent)) = pending.pop() {
            let branch = self.with_only_branches(branch);
            self.add_row(table, &branch, indent);
            if indent + 1 < depth {
                pending.extend(branches(branch.range, branch.part.end + 1, indent + 1));
            }
        }
    }

    fn line(&self, position: usize) -> &'a Line<'a> {
        &self.lines[self.sorted[position]]
    }

    /// The branches by the part that starts at a byte of all names of a range. Names that end before it
    /// have none, and come first.
    fn branches(&self, mut range: Range<usize>, start: usize) -> Vec<Branch> {
        let mut branches = Vec::new();
        while let Some(position) = range.next() {
            let Some(rest) = self.line(position).name.get(start..) else { continue };
            let part = rest.split('.').next().unwrap_or(rest);
            let is_below = |position: &usize| {
                let rest = &self.line(*position).name[start..];
                rest.split('.').next() == Some(part)
            };
            let more = range.clone().take_while(is_below).count();
            let below = position..position + 1 + more;
            range.start = below.end;
            let first = self.sorted[below.clone()].iter().copied().min().unwrap_or_default();
            branches.push(Branch { range: below, part: start..start + part.len(), first });
        }
        branches
    }

    /// Joins a branch with the only one below it, and that with its own: they take one row together.
    fn with_only_branches(&self, mut branch: Branch) -> Branch {
        let (first, last) = (branch.range.start, branch.range.end - 1);
        let next = |position: usize, start: usize| {
            let rest = self.line(position).name.get(start..)?;
            rest.split('.').next()
        };
        while let Some(part) = next(first, branch.part.end + 1)
            && next(last, branch.part.end + 1) == Some(part)
        {
            branch.part.end += 1 + part.len();
        }
        branch
    }

    fn add_row(&self, table: &mut Table, branch: &Branch, indent: usize) {
        let line = self.line(branch.range.start);
        let Range { start, end } = branch.part;
        let name = format!("{:2$}{}", "", &line.name[start..end], 2 * indent.min(MAX_INDENT));
        if line.name.len() == end {
            return table.row(line.cells(name));
        }
        let lines = || branch.range.clone().map(|position| self.line(position));
        let parameters = lines().fold(0, |sum: u64, line| sum.saturating_add(line.parameters()));
        let all_bytes = lines().fold(0, |sum: u64, line| sum.saturating_add(line.bytes));
        let what = format!("{} tensors, {}", branch.range.len(), count(parameters));
        let empty = String::new;
        table.dim_row([name, what, empty(), bytes(all_bytes), empty(), empty()]);
    }
}
