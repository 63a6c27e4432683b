//! The lineage graph as an inline SVG: what was made on the left, what it was made from to the right of it, a column a
//! step.

use super::page::HtmlPage;
use crate::app::human;
use crate::repo::audit::{AuditGraph, AuditNode, MAX_DEPTH, Standing};

const BOX_WIDTH: usize = 250;
const BOX_HEIGHT: usize = 44;
const COLUMN: usize = 310;
const ROW: usize = 60;
const MARGIN: usize = 10;
/// Characters of a label that fit in a box; all of it is in the tooltip.
const LABEL_CHARS: usize = 32;

/// Draws a graph; says so if there is nothing but the version itself.
pub(super) fn draw(page: &mut HtmlPage, graph: &AuditGraph) {
    if graph.edges.is_empty() {
        page.raw("<p>No inputs were recorded.</p>\n");
        note_left_out(page, graph);
        return;
    }
    let places = places(graph);
    let columns = graph.nodes.iter().map(|node| node.depth + 1).max().unwrap_or(1);
    let rows = places.iter().map(|(_, row)| row + 1).max().unwrap_or(1);
    let (width, height) = (MARGIN * 2 + COLUMN * (columns - 1) + BOX_WIDTH, MARGIN * 2 + ROW * rows);
    page.raw("<div class=\"scroll\"><svg role=\"img\" aria-label=\"lineage\" width=\"").number(width);
    page.raw("\" height=\"").number(height).raw("\">\n");
    for (from, to) in &graph.edges {
        if let (Some(from), Some(to)) = (places.get(*from), places.get(*to)) {
            edge(page, *from, *to);
        }
    }
    for (i, (node, place)) in graph.nodes.iter().zip(&places).enumerate() {
        draw_node(page, node, *place, i == 0);
    }
    page.raw("</svg></div>\n");
    note_left_out(page, graph);
}

fn note_left_out(page: &mut HtmlPage, graph: &AuditGraph) {
    if graph.left_out > 0 {
        let more = human::count(graph.left_out, "more input");
        let note = format!(
            "{more} not drawn: at most {} versions and {MAX_DEPTH} steps are.",
            crate::repo::audit::MAX_NODES
        );
        page.raw("<p class=\"dim\">").text(&note).raw("</p>\n");
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

fn edge(page: &mut HtmlPage, from: (usize, usize), to: (usize, usize)) {
    let ((x1, y1), (x2, y2)) = (corner(from), corner(to));
    let (x1, y1, y2) = (x1 + BOX_WIDTH, y1 + BOX_HEIGHT / 2, y2 + BOX_HEIGHT / 2);
    let bend = (COLUMN - BOX_WIDTH) / 2;
    page.raw("<path d=\"M").number(x1).raw(" ").number(y1).raw(" C").number(x1 + bend).raw(" ").number(y1);
    page.raw(" ").number(x2.saturating_sub(bend)).raw(" ").number(y2);
    page.raw(" ").number(x2).raw(" ").number(y2).raw("\"/>\n");
}

fn draw_node(page: &mut HtmlPage, node: &AuditNode, place: (usize, usize), is_own: bool) {
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
    page.raw("<g><title>").text(&node.label).raw("\n");
    page.text(node.digest.as_deref().unwrap_or_default()).raw("</title><rect class=\"").text(class);
    page.raw("\" rx=\"6\" x=\"").number(x).raw("\" y=\"").number(y).raw("\" width=\"").number(BOX_WIDTH);
    page.raw("\" height=\"").number(BOX_HEIGHT).raw("\"/><text x=\"").number(x + 10).raw("\" y=\"");
    page.number(y + 18).raw("\">").text(&shorten(&node.label)).raw("</text><text class=\"dim\" x=\"");
    page.number(x + 10).raw("\" y=\"").number(y + 34).raw("\">").text(&shorten(&below)).raw("</text></g>\n");
}

fn shorten(label: &str) -> String {
    if label.chars().count() <= LABEL_CHARS {
        return label.to_owned();
    }
    let mut short: String = label.chars().take(LABEL_CHARS - 1).collect();
    short.push('…');
    short
}
