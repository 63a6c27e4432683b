//! A lineage graph as text: a tree for people, DOT and Mermaid for programs that draw.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use crate::app::cli::ui::escape;
use crate::app::human;
use crate::repo::lineage::graph::{DescribedNode, LineageGraph, Link};

/// Lines of a tree.
const MAX_LINES: usize = 2000;
/// Steps shown in a tree; deeper ones are cut, so that no line grows without limit.
const MAX_DEPTH: usize = 100;

/// Draws the graph as two trees: inputs, and versions made from this one. A version is unfolded only once.
pub fn tree(graph: &LineageGraph) -> String {
    let nodes: HashMap<&str, &DescribedNode> =
        graph.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
    let mut inputs: BTreeMap<&str, Vec<&Link>> = BTreeMap::new();
    let mut made: BTreeMap<&str, Vec<&Link>> = BTreeMap::new();
    for link in &graph.edges {
        inputs.entry(&link.made).or_default().push(link);
        made.entry(&link.input).or_default().push(link);
    }
    let about = nodes.get(graph.root.as_str()).map(|node| about(node)).unwrap_or_default();
    let mut text = format!("{}{about}\n", escape::line(&graph.root));
    for (title, links, next) in [
        ("made from", &inputs, (|link| &link.input) as fn(&Link) -> &String),
        ("was used to make", &made, |link| &link.made),
    ] {
        if links.contains_key(graph.root.as_str()) {
            let _ = writeln!(text, "{title}");
            Branches { nodes: &nodes, links, next, shown: HashSet::new(), lines: 0 }.write(
                &graph.root,
                "",
                0,
                &mut text,
            );
        }
    }
    if graph.edges.is_empty() {
        text.push_str("no inputs and no outputs are recorded\n");
    }
    text
}

struct Branches<'a> {
    nodes: &'a HashMap<&'a str, &'a DescribedNode>,
    links: &'a BTreeMap<&'a str, Vec<&'a Link>>,
    next: fn(&Link) -> &String,
    shown: HashSet<&'a str>,
    lines: usize,
}

impl<'a> Branches<'a> {
    fn write(&mut self, name: &str, indent: &str, depth: usize, text: &mut String) {
        let Some(links) = self.links.get(name) else { return };
        for (at, link) in links.iter().enumerate() {
            if self.lines >= MAX_LINES || depth >= MAX_DEPTH {
                let _ = writeln!(text, "{indent}└─ … (--json has all)");
                return;
            }
            self.lines += 1;
            let next = (self.next)(link);
            let is_last = at + 1 == links.len();
            let (branch, below) = if is_last { ("└─", "   ") } else { ("├─", "│  ") };
            let about = self.nodes.get(next.as_str()).map(|node| about(node)).unwrap_or_default();
            let read = match (link.files, link.bytes) {
                (Some(files), Some(bytes)) => {
                    format!("  {} read, {}", human::count(files, "file"), human::size(bytes))
                }
                _ => "  named".to_owned(),
            };
            let is_new = self.shown.insert(next);
            let again = if is_new || !self.links.contains_key(next.as_str()) { "" } else { "  (see above)" };
            let _ = writeln!(text, "{indent}{branch} {}{about}{read}{again}", escape::line(next));
            if is_new {
                self.write(next, &format!("{indent}{below}"), depth + 1, text);
            }
        }
    }
}

fn about(node: &DescribedNode) -> String {
    let kind =
        node.artifact_type.as_ref().map(|kind| format!(" ({})", escape::line(kind))).unwrap_or_default();
    let deleted = if node.deleted { " (deleted)" } else { "" };
    format!("{kind}{deleted}")
}

/// For Graphviz.
pub fn dot(graph: &LineageGraph) -> String {
    let quote = |text: &str| format!("\"{}\"", escape::line(text).replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = String::from("digraph lineage {\n  rankdir=LR;\n  node [shape=box];\n");
    for node in &graph.nodes {
        let style = match (node.name == graph.root, node.deleted, node.version.is_some()) {
            (true, ..) => " [style=bold]",
            (_, true, _) => " [style=dashed]",
            (_, _, false) => " [shape=plain]",
            _ => "",
        };
        let _ = writeln!(text, "  {}{style};", quote(&node.name));
    }
    for link in &graph.edges {
        let label = link
            .files
            .map(|files| format!(" [label={}]", quote(&human::count(files, "file"))))
            .unwrap_or_default();
        let _ = writeln!(text, "  {} -> {}{label};", quote(&link.input), quote(&link.made));
    }
    text.push_str("}\n");
    text
}

/// For Mermaid.
pub fn mermaid(graph: &LineageGraph) -> String {
    let quote = |text: &str| format!("\"{}\"", escape::line(text).replace('"', "#quot;"));
    let numbers: HashMap<&str, usize> =
        graph.nodes.iter().enumerate().map(|(at, node)| (node.name.as_str(), at)).collect();
    let mut text = String::from("flowchart LR\n");
    for (at, node) in graph.nodes.iter().enumerate() {
        let _ = writeln!(text, "  n{at}[{}]", quote(&node.name));
    }
    for link in &graph.edges {
        if let (Some(input), Some(made)) = (numbers.get(link.input.as_str()), numbers.get(link.made.as_str()))
        {
            let _ = match link.files {
                Some(files) => {
                    writeln!(text, "  n{input} -->|{}| n{made}", quote(&human::count(files, "file")))
                }
                None => writeln!(text, "  n{input} --> n{made}"),
            };
        }
    }
    text
}
