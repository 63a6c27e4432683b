//! Checks what the store holds of a version, and of all versions that it contains.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use futures::StreamExt;

use super::finding::{Finding, damage, is_damage};
use super::progress::VerifyProgress;
use super::version_check::{References, VersionCheck};
use crate::format::id::PackId;
use crate::repo::catalog::VersionRecord;
use crate::repo::view::{ReadError, Totals, VersionView};

/// Packs whose tables are read at once.
const PACKS_AT_ONCE: usize = 16;

/// Checks every block of the manifest and every chunk of every file, by reading all of them from the store, and the
/// tables of all packs that they are in; `view` must be opened over an empty cache. Returns the findings in order of path.
///
/// # Errors
/// What cannot be read now, or may not be read.
pub async fn stored(
    view: &Arc<VersionView>,
    recorded: &VersionRecord,
    references: References,
    progress: &Arc<VerifyProgress>,
) -> Result<Vec<Finding>, ReadError> {
    let version = recorded.version.to_string();
    let logged = Totals {
        entries: recorded.entries,
        files: recorded.files,
        bytes: recorded.bytes,
        digest: recorded.digest,
    };
    let mut findings = BTreeSet::new();
    let mut packs = BTreeSet::new();
    let mut seen = HashSet::from([view.manifest()]);
    let check = VersionCheck::new(view, references, progress, None, &mut packs);
    let mut open = check.run(&version, "the log", logged, &mut findings).await?;
    while let Some((path, contained)) = open.pop() {
        if !seen.insert(contained.manifest) {
            continue;
        }
        let inner = match view.open_contained(&contained).await {
            Ok(inner) => inner,
            Err(error) if is_damage(&error) => {
                findings.insert(damage(path.to_string(), &error));
                continue;
            }
            Err(error) => return Err(error),
        };
        let logged = Totals { digest: contained.digest, ..inner.totals() };
        let shown = path.to_string();
        let check = VersionCheck::new(&inner, references, progress, Some(path), &mut packs);
        open.extend(check.run(&shown, "the version that contains it", logged, &mut findings).await?);
    }
    check_packs(view, packs, &mut findings).await?;
    Ok(findings.into_iter().collect())
}

/// Checks the tables of packs, and of those that they were moved to.
async fn check_packs(
    view: &Arc<VersionView>,
    packs: BTreeSet<PackId>,
    findings: &mut BTreeSet<Finding>,
) -> Result<(), ReadError> {
    let mut seen = packs.clone();
    let mut open: Vec<PackId> = packs.into_iter().collect();
    while !open.is_empty() {
        let proofs = futures::stream::iter(std::mem::take(&mut open))
            .map(|pack| async move { (pack, view.prove_pack(&pack).await) });
        let mut proofs = std::pin::pin!(proofs.buffered(PACKS_AT_ONCE));
        while let Some((pack, proof)) = proofs.next().await {
            match proof {
                Ok(moved_to) => open.extend(moved_to.into_iter().filter(|pack| seen.insert(*pack))),
                Err(error) if is_damage(&error) => {
                    findings.insert(damage(format!("pack {pack}"), &error));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
