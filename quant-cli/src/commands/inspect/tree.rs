//! Tensors by the parts of their names between dots, in the order of the file.
//!
//! A name may have as many parts as its file has bytes: nothing here is recursive, and the time is
//! linear in the length of all names.

use std::collections::HashMap;

use super::Line;
use crate::output::{Table, bytes, count};

/// Nodes are stored after their parents; the first is the root.
pub(super) struct Tree<'a> {
    nodes: Vec<Node<'a>>,
}

#[derive(Default)]
struct Node<'a> {
    name: &'a str,
    children: Vec<usize>,
    by_name: HashMap<&'a str, usize>,
    line: Option<&'a Line>,
    /// The totals of the tensors at this node and below it.
    tensors: usize,
    parameters: u64,
    bytes: u64,
}

/// The levels of indentation that are shown; deeper ones look alike.
const MAX_INDENT: usize = 32;

impl<'a> Tree<'a> {
    pub(super) fn of(lines: &'a [Line]) -> Self {
        let mut tree = Self { nodes: vec![Node::default()] };
        for line in lines {
            tree.insert(line);
        }
        tree
    }

    fn insert(&mut self, line: &'a Line) {
        let mut node = 0;
        self.nodes[node].add(line);
        for name in line.name.split('.') {
            node = self.child(node, name);
            self.nodes[node].add(line);
        }
        self.nodes[node].line = Some(line);
    }

    fn child(&mut self, parent: usize, name: &'a str) -> usize {
        if let Some(&child) = self.nodes[parent].by_name.get(name) {
            return child;
        }
        let child = self.nodes.len();
        self.nodes.push(Node { name, ..Node::default() });
        self.nodes[parent].by_name.insert(name, child);
        self.nodes[parent].children.push(child);
        child
    }

    /// Adds a row for each node down to `depth` levels.
    pub(super) fn add_rows(&self, table: &mut Table, depth: usize) {
        let children = |node: usize| self.nodes[node].children.iter().rev().copied();
        let mut pending: Vec<(usize, usize)> = children(0).map(|child| (child, 0)).collect();
        while let Some((node, indent)) = pending.pop() {
            let (node, name) = self.collapsed(node);
            let name = format!("{:1$}{name}", "", 2 * indent.min(MAX_INDENT));
            self.nodes[node].add_row(table, name);
            if indent + 1 < depth {
                pending.extend(children(node).map(|child| (child, indent + 1)));
            }
        }
    }

    /// Joins a node with its only child, and that with its own: they take one row together.
    fn collapsed(&self, mut node: usize) -> (usize, String) {
        let mut name = self.nodes[node].name.to_owned();
        while let Node { line: None, children, .. } = &self.nodes[node]
            && let [only] = children[..]
        {
            node = only;
            name.push('.');
            name.push_str(self.nodes[node].name);
        }
        (node, name)
    }
}

impl Node<'_> {
    fn add(&mut self, line: &Line) {
        self.tensors += 1;
        self.parameters = self.parameters.saturating_add(line.parameters());
        self.bytes = self.bytes.saturating_add(line.bytes);
    }

    fn add_row(&self, table: &mut Table, name: String) {
        match self.line {
            Some(line) => table.row(line.cells(name)),
            None => {
                let what = format!("{} tensors, {}", self.tensors, count(self.parameters));
                let empty = String::new;
                table.dim_row([name, what, empty(), bytes(self.bytes), empty(), empty()]);
            }
        }
    }
}
