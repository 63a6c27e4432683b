//! Two versions side by side with the versions that they contain, as their users see them: one tree each.
//!
//! Manifests are compared pair by pair (`compare.rs`). Where a contained version differs, what it shows is compared with
//! what the other side has at the same path: another contained version, a directory, or nothing. One that is the same on
//! both sides is not opened.

use std::sync::Arc;

use super::compare::{Common, ManifestPart, Pair, Pairs, Which};
use super::error::ReadError;
use super::nested::{MAX_SHOWN, NestedDirectory, NestedEntry, WholeView};
use crate::format::entry::EntryBody;
use crate::format::path::TreePath;

/// A path at which two versions differ: the entry of one side, or of both.
#[derive(Debug, Clone)]
pub struct DifferingPath {
    /// In the first version.
    pub old: Option<NestedEntry>,
    /// In the second.
    pub new: Option<NestedEntry>,
}

/// The differences of two versions in the order of the paths shown. Times are not compared.
#[derive(Debug)]
pub struct Differences {
    old: Arc<WholeView>,
    new: Arc<WholeView>,
    levels: Vec<NestedCompareLevel>,
    common: Common,
    given: u64,
}

/// Two manifests that are compared, and the directories that they are shown as. None: that side has nothing there.
#[derive(Debug)]
struct NestedCompareLevel {
    pairs: Pairs,
    old: Option<NestedDirectory>,
    new: Option<NestedDirectory>,
}

impl NestedCompareLevel {
    fn new(
        old: Option<(NestedDirectory, ManifestPart)>,
        new: Option<(NestedDirectory, ManifestPart)>,
    ) -> Option<Self> {
        let view = old.as_ref().or(new.as_ref()).map(|(place, _)| place.view.clone())?;
        let split = |side: Option<(NestedDirectory, ManifestPart)>| match side {
            Some((place, part)) => (place.view.clone(), part, Some(place)),
            None => (view.clone(), ManifestPart::Nothing, None),
        };
        let (old_view, old_part, old) = split(old);
        let (new_view, new_part, new) = split(new);
        Some(Self { pairs: Pairs::new((&old_view, old_part), (&new_view, new_part)), old, new })
    }
}

impl Differences {
    /// Starts to compare two versions, everywhere or at and below `only`. Cost: what finding `only` costs on both sides.
    ///
    /// # Errors
    /// As of [`WholeView::find`].
    pub async fn new(
        old: &Arc<WholeView>,
        new: &Arc<WholeView>,
        only: Option<&TreePath>,
    ) -> Result<Self, ReadError> {
        let (from, to) = tokio::join!(begin(old, only), begin(new, only));
        let levels = NestedCompareLevel::new(from?, to?).into_iter().collect();
        Ok(Self { old: old.clone(), new: new.clone(), levels, common: Common::default(), given: 0 })
    }

    /// Returns how much was the same up to here. A contained version that is the same is one entry, with the bytes of all
    /// it shows.
    pub fn common(&self) -> Common {
        self.levels.iter().fold(self.common, |sum, level| sum + level.pairs.common())
    }

    /// Returns the next difference; none at the end. A contained version comes before what differs in it. Cost: the blocks
    /// that only one side has, for each two manifests that differ; the roots of contained versions that differ.
    ///
    /// # Errors
    /// A block is damaged, or cannot be read now; more than `MAX_SHOWN` entries differ.
    pub async fn next(&mut self) -> Result<Option<DifferingPath>, ReadError> {
        while let Some(level) = self.levels.last_mut() {
            let Some(pair) = level.pairs.next().await? else {
                self.common = self.common + level.pairs.common();
                self.levels.pop();
                continue;
            };
            self.given += 1;
            if self.given > MAX_SHOWN {
                let problem = format!("it shows more than {MAX_SHOWN} entries");
                return Err(self.new.top().contradiction(problem));
            }
            let Pair { old, new } = pair;
            let seen = DifferingPath { old: found(&level.old, old)?, new: found(&level.new, new)? };
            self.enter(&seen).await?;
            return Ok(Some(seen));
        }
        Ok(None)
    }

    /// Goes on inside contained versions, if one of the two entries is one.
    async fn enter(&mut self, seen: &DifferingPath) -> Result<(), ReadError> {
        if !is_contained(&seen.old) && !is_contained(&seen.new) {
            return Ok(());
        }
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        // The directory's own manifest would return what is below it once more.
        for (which, side) in [(Which::Old, &seen.old), (Which::New, &seen.new)] {
            if let Some(found) = side.as_ref().filter(|found| found.entry.body == EntryBody::Directory) {
                level.pairs.pass_over(which, found.inner_path()).await?;
            }
        }
        let (old, new) = tokio::join!(below(&self.old, &seen.old), below(&self.new, &seen.new));
        self.levels.extend(NestedCompareLevel::new(old?, new?));
        Ok(())
    }
}

fn found(
    place: &Option<NestedDirectory>,
    side: Option<(u64, crate::format::entry::Entry)>,
) -> Result<Option<NestedEntry>, ReadError> {
    let both = place.as_ref().zip(side);
    both.map(|(place, (ordinal, entry))| place.found(ordinal, entry)).transpose()
}

fn is_contained(side: &Option<NestedEntry>) -> bool {
    side.as_ref().is_some_and(|found| matches!(found.entry.body, EntryBody::Contained(_)))
}

/// Returns where a comparison begins; none if there is nothing at the path.
async fn begin(
    whole: &Arc<WholeView>,
    only: Option<&TreePath>,
) -> Result<Option<(NestedDirectory, ManifestPart)>, ReadError> {
    let Some(path) = only else { return Ok(Some((whole.root(), ManifestPart::All))) };
    let located = whole.locate(path).await?;
    Ok(located.map(|(place, _, entry)| (place, ManifestPart::At(entry.path))))
}

/// Returns what is shown below an entry; none if it is not a directory.
async fn below(
    whole: &Arc<WholeView>,
    side: &Option<NestedEntry>,
) -> Result<Option<(NestedDirectory, ManifestPart)>, ReadError> {
    let Some(found) = side else { return Ok(None) };
    let place = match &found.entry.body {
        EntryBody::Contained(contained) => whole.enter(found, contained).await?,
        EntryBody::Directory => NestedDirectory::directory(found.clone()),
        EntryBody::File(_) | EntryBody::Symlink { .. } | EntryBody::Reference(_) => return Ok(None),
    };
    let part = place.inner.clone().map_or(ManifestPart::All, ManifestPart::Below);
    Ok(Some((place, part)))
}
