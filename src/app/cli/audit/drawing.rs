//! The lineage graph as an inline SVG: the version on the left, its inputs to the right, one column per step.

use maud::{Markup, html};

use crate::app::human;
use crate::repo::audit::{AuditGraph, AuditNode, MAX_DEPTH, MAX_NODES, Standing};

const BOX_WIDTH: usize = 250;
const BOX_HEIGHT: usize = 44;
const COLUMN: usize = 310;
const ROW: usize = 60;
const MARGIN: usize = 10;
/// Characters of a label that fit in a box; all of it is in the tooltip.
const LABEL_CHARS: usize = 32;

/// Returns the drawing of a graph, or says that there is nothing but the version itself.
pub(super) fn lineage(graph: &AuditGraph) -> Markup {
    let drawing = if graph.edges.is_empty() {
        html! { p { "No inputs were recorded." } }
    } else {
        svg(graph)
    };
    html! { (drawing) (left_out(graph)) }
}

fn svg(graph: &AuditGraph) -> Markup {
    let places = places(graph);
    let columns = graph.nodes.iter().map(|node| node.depth + 1).max().unwrap_or(1);
    let rows = places.iter().map(|(_, row)| row + 1).max().unwrap_or(1);
    let (width, height) = (MARGIN * 2 + COLUMN * (columns - 1) + BOX_WIDTH, MARGIN * 2 + ROW * rows);
    let ends = graph.edges.iter().filter_map(|(from, to)| Some((*places.get(*from)?, *places.get(*to)?)));
    html! {
        div.scroll {
            svg role="img" aria-label="lineage" width=(width) height=(height) {
                @for (from, to) in ends { path d=(curve(from, to)) {} }
                @for (i, (node, place)) in graph.nodes.iter().zip(&places).enumerate() {
                    (version(node, *place, i == 0))
                }
            }
        }
    }
}

fn left_out(graph: &AuditGraph) -> Markup {
    let more = human::count(graph.left_out, "more input");
    html! {
        @if graph.left_out > 0 {
            p.dim { (more) " not drawn: at most " (MAX_NODES) " versions and " (MAX_DEPTH) " steps are." }
        }
    }
}

/// Column and row of each node: columns by depth, rows in the order in which they were found.
fn places(graph: &AuditGraph) -> Vec<(usize, usize)> {
    let mut used = [0; MAX_DEPTH + 2];
    let place = |node: &AuditNode| {
        let column = node.depth.min(MAX_DEPTH + 1);
        let row = used[column];
        used[column] += 1;
        (column, row)
    };
    graph.nodes.iter().map(place).collect()
}

fn corner((column, row): (usize, usize)) -> (usize, usize) {
    (MARGIN + column * COLUMN, MARGIN + row * ROW)
}

/// The path from a version to an input of it.
fn curve(from: (usize, usize), to: (usize, usize)) -> String {
    let ((x1, y1), (x2, y2)) = (corner(from), corner(to));
    let (x1, y1, y2) = (x1 + BOX_WIDTH, y1 + BOX_HEIGHT / 2, y2 + BOX_HEIGHT / 2);
    let bend = (COLUMN - BOX_WIDTH) / 2;
    format!("M{x1} {y1} C{} {y1} {} {y2} {x2} {y2}", x1 + bend, x2.saturating_sub(bend))
}

/// The box of a version.
fn version(node: &AuditNode, place: (usize, usize), is_own: bool) -> Markup {
    let (x, y) = corner(place);
    let class = match node.standing {
        _ if is_own => "own",
        Standing::Living => "",
        Standing::Deleted | Standing::Moving | Standing::Unknown => "gone",
    };
    let below = match (node.standing, &node.created, &node.actor) {
        (Standing::Unknown, ..) => "not known to this store".to_owned(),
        (Standing::Deleted, ..) => "deleted".to_owned(),
        (Standing::Moving, ..) => "by a name that moves".to_owned(),
        (Standing::Living, Some(created), Some(actor)) => format!("{} {actor}", human::time(*created)),
        (Standing::Living, ..) => String::new(),
    };
    html! {
        g {
            title { (node.label) "\n" (node.digest.as_deref().unwrap_or_default()) }
            rect class=(class) rx="6" x=(x) y=(y) width=(BOX_WIDTH) height=(BOX_HEIGHT) {}
            text x=(x + 10) y=(y + 18) { (shorten(&node.label)) }
            text.dim x=(x + 10) y=(y + 34) { (shorten(&below)) }
        }
    }
}

fn shorten(label: &str) -> String {
    if label.chars().count() <= LABEL_CHARS {
        return label.to_owned();
    }
    let mut short: String = label.chars().take(LABEL_CHARS - 1).collect();
    short.push('…');
    short
}
