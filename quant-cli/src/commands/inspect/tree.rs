//! Tensors by the parts of their names between dots, in the order of the file.
//!
//! A name may have as many parts as its file has bytes: nothing here is recursive, and the time is
//! linear in the length of all names.

use std::collections::HashMap;

use super::Line;
use crate::output::{Table, bytes, count};

/// Nodes are stored after their parents; the first is the root. A node has few bytes, because there may
/// be several for each tensor: children are a linked list.
pub(super) struct Tree<'a> {
    nodes: Vec<Node<'a>>,
}

/// Nodes by their parent and name.
type ByName<'a> = HashMap<(usize, &'a str), usize>;

#[derive(Default)]
struct Node<'a> {
    name: &'a str,
    /// The child that was added last. The root is no child, so 0 stands for none, as in `sibling`.
    last_child: usize,
    /// The child of the same parent that was added before.
    sibling: usize,
    line: Option<&'a Line<'a>>,
    /// The totals of the tensors at this node and below it.
    tensors: usize,
    parameters: u64,
    bytes: u64,
}

/// The levels of indentation that are shown; deeper ones look alike.
const MAX_INDENT: usize = 32;

impl<'a> Tree<'a> {
    pub(super) fn of(lines: &'a [Line<'a>]) -> Self {
        let mut tree = Self { nodes: vec![Node::default()] };
        let mut by_name = ByName::new();
        for line in lines {
            tree.insert(line, &mut by_name);
        }
        tree
    }

    fn insert(&mut self, line: &'a Line<'a>, by_name: &mut ByName<'a>) {
        let mut node = 0;
        self.nodes[node].add(line);
        for name in line.name.split('.') {
            node = self.child(node, name, by_name);
            self.nodes[node].add(line);
        }
        self.nodes[node].line = Some(line);
    }

    fn child(&mut self, parent: usize, name: &'a str, by_name: &mut ByName<'a>) -> usize {
        let child = *by_name.entry((parent, name)).or_insert(self.nodes.len());
        if child == self.nodes.len() {
            let sibling = std::mem::replace(&mut self.nodes[parent].last_child, child);
            self.nodes.push(Node { name, sibling, ..Node::default() });
        }
        child
    }

    /// The children of a node, the last one first.
    fn children(&self, node: usize) -> impl Iterator<Item = usize> {
        let child = |child: usize| (child > 0).then_some(child);
        let last = child(self.nodes[node].last_child);
        std::iter::successors(last, move |&it| child(self.nodes[it].sibling))
    }

    /// Adds a row for each node down to `depth` levels.
    pub(super) fn add_rows(&self, table: &mut Table, depth: usize) {
        let mut pending: Vec<(usize, usize)> = self.children(0).map(|child| (child, 0)).collect();
        while let Some((node, indent)) = pending.pop() {
            let (node, name) = self.collapsed(node);
            let name = format!("{:1$}{name}", "", 2 * indent.min(MAX_INDENT));
            self.nodes[node].add_row(table, name);
            if indent + 1 < depth {
                pending.extend(self.children(node).map(|child| (child, indent + 1)));
            }
        }
    }

    /// Joins a node with its only child, and that with its own: they take one row together.
    fn collapsed(&self, mut node: usize) -> (usize, String) {
        let mut name = self.nodes[node].name.to_owned();
        while let Node { line: None, last_child: only @ 1.., .. } = self.nodes[node]
            && self.nodes[only].sibling == 0
        {
            node = only;
            name.push('.');
            name.push_str(self.nodes[node].name);
        }
        (node, name)
    }
}

impl Node<'_> {
    fn add(&mut self, line: &Line<'_>) {
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
