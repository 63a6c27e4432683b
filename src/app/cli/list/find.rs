//! Finding versions by a condition, in an artifact, a project or the whole store.

use std::cmp::Ordering;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::app::cli::args::CommandTarget;
use crate::app::cli::context::OpenedStore;
use crate::app::cli::error::CliError;
use crate::app::cli::list::layout::Layout;
use crate::app::cli::list::versions::{artifacts_of, print_values, version_json, versions_of};
use crate::app::cli::ui::Ui;
use crate::app::cli::ui::table::{Align, TextTable};
use crate::app::human;
use crate::format::clock::Timestamp;
use crate::format::event::NEVER_SECONDS;
use crate::format::query::{Condition, Field, FieldValue, Fields, Plain, QueryError};
use crate::repo::catalog::{ArtifactState, VersionRecord, names_of};

/// Which versions to find, in what order.
pub struct Search<'a> {
    /// Only versions that match.
    pub condition: Option<&'a Condition>,
    /// Their order; by artifact and number if empty.
    pub sort: &'a [SortKey],
    /// At most this many.
    pub limit: Option<usize>,
}

/// A field to sort by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortKey {
    field: Field,
    is_descending: bool,
}

impl FromStr for SortKey {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let field = text.strip_prefix('-');
        Ok(Self { field: field.unwrap_or(text).parse()?, is_descending: field.is_some() })
    }
}

/// A version and the state of its artifact.
struct FoundVersion<'a> {
    state: &'a ArtifactState,
    version: &'a VersionRecord,
    now: Timestamp,
}

/// Finds and prints. Cost: that of reading the logs of all artifacts concerned; content and messages are not read.
pub fn run(
    ui: Ui,
    opened: &OpenedStore,
    target: Option<&CommandTarget>,
    search: &Search<'_>,
    layout: Layout,
) -> Result<(), CliError> {
    let states = states(opened, target)?;
    let now = opened.catalog.store().env().now();
    let mut found = vec![];
    for state in &states {
        let versions: Vec<&VersionRecord> = match target {
            Some(CommandTarget::Artifact(named)) => versions_of(state, named)?,
            _ => state.versions().collect(),
        };
        let rows = versions.into_iter().map(|version| FoundVersion { state, version, now });
        found.extend(rows.filter(|row| search.condition.is_none_or(|condition| condition.holds(row))));
    }
    sort(&mut found, search.sort);
    found.truncate(search.limit.unwrap_or(usize::MAX));
    match layout {
        Layout::Table => print_table(ui, &found, search),
        _ => print_values(ui, layout, found.iter().map(|row| version_json(row.state, row.version)).collect()),
    }
}

fn states(opened: &OpenedStore, target: Option<&CommandTarget>) -> Result<Vec<Arc<ArtifactState>>, CliError> {
    let catalog = &opened.catalog;
    let runtime = &opened.runtime;
    Ok(match target {
        None => runtime.block_on(catalog.living_states())?,
        Some(CommandTarget::Project(project)) => artifacts_of(opened, project)?,
        Some(CommandTarget::Artifact(named)) => {
            vec![runtime.block_on(catalog.existing(&named.reference.artifact, Duration::ZERO))?]
        }
    })
}

/// Sorts versions. Those without a value come last in either direction; text among numbers (NaN) counts as no value.
fn sort(found: &mut [FoundVersion<'_>], keys: &[SortKey]) {
    let has_number = |key: &SortKey| {
        let is_number = |value: &FieldValue| matches!(value, FieldValue::Number(_));
        found.iter().any(|row| row.values(&key.field).iter().any(is_number))
    };
    let keys: Vec<(&SortKey, bool)> = keys.iter().map(|key| (key, has_number(key))).collect();
    let first = |row: &FoundVersion<'_>, key: &SortKey, has_number: bool| {
        let values = row.values(&key.field).into_iter();
        values.filter(|value| !(has_number && matches!(value, FieldValue::Text(_)))).min_by(FieldValue::order)
    };
    let compare = |a: &FoundVersion<'_>, b: &FoundVersion<'_>| {
        let by = |(key, has_number): &(&SortKey, bool)| match (
            first(a, key, *has_number),
            first(b, key, *has_number),
        ) {
            (Some(a), Some(b)) if key.is_descending => b.order(&a),
            (Some(a), Some(b)) => a.order(&b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        };
        keys.iter().map(by).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    };
    found.sort_by(compare);
}

/// Prints a table; metadata named in the search gets its own columns.
fn print_table(ui: Ui, found: &[FoundVersion<'_>], search: &Search<'_>) -> Result<(), CliError> {
    if found.is_empty() {
        ui.note("no version matches");
        return Ok(());
    }
    let mut asked = search.condition.map(Condition::metadata).unwrap_or_default();
    for key in search.sort {
        if matches!(key.field, Field::Meta(_)) && !asked.contains(&&key.field) {
            asked.push(&key.field);
        }
    }
    let names: Vec<String> = asked.iter().map(ToString::to_string).collect();
    let mut columns = vec![
        ("ARTIFACT", Align::Left),
        ("VERSION", Align::Left),
        ("TYPE", Align::Left),
        ("SIZE", Align::Right),
        ("CREATED (UTC)", Align::Left),
        ("BY", Align::Left),
        ("TAGS", Align::Left),
        ("ALIASES", Align::Left),
    ];
    columns.extend(names.iter().map(|name| (name.as_str(), Align::Left)));
    let mut table = TextTable::new(&columns);
    for row in found {
        let version = row.version;
        let mut cells = vec![
            row.state.key().to_string(),
            version.version.to_string(),
            version.artifact_type.clone().unwrap_or_else(|| "-".into()),
            human::size(version.bytes),
            human::time(version.created),
            version.actor.clone(),
            version.tags.iter().cloned().collect::<Vec<_>>().join(", "),
            names_of(row.state, version.version).join(", "),
        ];
        let shown = |field: &&Field| {
            let values = row.values(field);
            if values.is_empty() {
                "-".into()
            } else {
                values.iter().map(FieldValue::to_string).collect::<Vec<_>>().join(", ")
            }
        };
        cells.extend(asked.iter().map(shown));
        table.row(&cells);
    }
    ui.print(&table.to_text())
}

impl Fields for FoundVersion<'_> {
    fn values(&self, field: &Field) -> Vec<FieldValue> {
        let Self { state, version, now } = self;
        let text = |text: &dyn std::fmt::Display| vec![FieldValue::Text(text.to_string())];
        let texts = |list: &mut dyn Iterator<Item = String>| list.map(FieldValue::Text).collect();
        let number = |n: u64| vec![FieldValue::Number(n.into())];
        let plain = match field {
            Field::Plain(plain) => plain,
            Field::Meta(path) => return meta(version, path),
        };
        match plain {
            Plain::Project => text(&state.key().project),
            Plain::Name => text(&state.key().name),
            Plain::Artifact => text(state.key()),
            Plain::Version => number(version.version.0),
            Plain::Type => texts(&mut version.artifact_type.iter().cloned()),
            Plain::Tag => texts(&mut version.tags.iter().cloned()),
            Plain::Alias => texts(&mut names_of(state, version.version).into_iter()),
            Plain::Input => texts(&mut version.inputs.iter().cloned()),
            Plain::Actor => text(&version.actor),
            Plain::Host => text(&version.host),
            Plain::Created => vec![FieldValue::Time(version.created)],
            Plain::Age => {
                let millis = now.unix_millis().saturating_sub(version.created.unix_millis());
                vec![FieldValue::Span(u64::try_from(millis / 1000).unwrap_or(0))]
            }
            Plain::Files => number(version.files),
            Plain::Bytes => number(version.bytes),
            Plain::Stored => number(version.stored_bytes),
            Plain::Digest => text(&version.digest),
            Plain::Ttl => {
                let seconds = version.ttl_seconds.or(state.default_ttl_seconds());
                vec![FieldValue::Span(seconds.unwrap_or(NEVER_SECONDS))]
            }
        }
    }
}

/// Looks a path up in metadata. Names may contain dots, so the longest matching name wins; the rest leads into
/// objects.
fn meta(version: &VersionRecord, path: &[String]) -> Vec<FieldValue> {
    for taken in (1..=path.len()).rev() {
        let Some(mut json) = version.meta.get(&path[..taken].join(".")) else { continue };
        for name in &path[taken..] {
            match json.get(name) {
                Some(inner) => json = inner,
                None => return vec![],
            }
        }
        return FieldValue::of_json(json);
    }
    vec![]
}
