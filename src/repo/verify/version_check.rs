//! Checks one manifest: its blocks, its entries, and what the log says of the whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::file_check::{CheckedFile, check_file, check_reference};
use super::finding::{Finding, Problem, damage, is_damage};
use super::progress::VerifyProgress;
use crate::format::contained::Contained;
use crate::format::entry::{Entry, EntryBody};
use crate::format::id::PackId;
use crate::format::listing::ListingHasher;
use crate::format::path::TreePath;
use crate::repo::view::{ReadError, Totals, VersionView};

/// Files checked at once.
const FILES_AT_ONCE: usize = 16;
/// Entries looked at one by one where a batch of them cannot be read; the batch is of one block, and holds fewer.
const MAX_SINGLE_STEPS: u64 = 16_384;

/// How references are treated, whose bytes are outside of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum References {
    /// Their sources are asked.
    Asked,
    /// They are taken as they are recorded.
    PassedOver,
}

/// The check of one manifest.
pub(super) struct VersionCheck<'a> {
    view: &'a Arc<VersionView>,
    references: References,
    progress: &'a Arc<VerifyProgress>,
    /// The packs that anything of it is in.
    packs: &'a mut BTreeSet<PackId>,
    jobs: JoinSet<Result<CheckedFile, ReadError>>,
    findings: BTreeSet<Finding>,
    listing: ListingHasher,
    /// Ordinal of the next entry.
    next: u64,
    files: u64,
    bytes: u64,
    /// Where it is contained; none for the version itself.
    at: Option<TreePath>,
    /// What it contains, with the paths that it is seen at.
    contained: Vec<(TreePath, Contained)>,
}

impl<'a> VersionCheck<'a> {
    pub fn new(
        view: &'a Arc<VersionView>,
        references: References,
        progress: &'a Arc<VerifyProgress>,
        at: Option<TreePath>,
        packs: &'a mut BTreeSet<PackId>,
    ) -> Self {
        Self {
            view,
            references,
            progress,
            packs,
            jobs: JoinSet::new(),
            findings: BTreeSet::new(),
            listing: ListingHasher::default(),
            next: 0,
            files: 0,
            bytes: 0,
            at,
            contained: vec![],
        }
    }

    /// Checks all of the manifest. Returns the versions that it contains. Findings name it `version`; `stated` is what it
    /// should be according to `by`.
    pub async fn run(
        mut self,
        version: &str,
        by: &str,
        stated: Totals,
        findings: &mut BTreeSet<Finding>,
    ) -> Result<Vec<(TreePath, Contained)>, ReadError> {
        let mut is_complete = true;
        let mut entries = self.view.entries(0);
        loop {
            match entries.next_batch().await {
                Ok(batch) if batch.is_empty() => break,
                Ok(batch) => {
                    for (ordinal, entry) in batch {
                        self.take(ordinal, entry).await?;
                    }
                }
                Err(error) if is_damage(&error) => {
                    is_complete = false;
                    if !self.pass(version, &error).await? {
                        break;
                    }
                    entries = self.view.entries(self.next);
                }
                Err(error) => return Err(error),
            }
        }
        while !self.jobs.is_empty() {
            self.join_one().await?;
        }
        if is_complete {
            self.compare(version, by, stated);
            self.packs.extend(self.view.block_packs().await?);
        }
        findings.extend(self.findings);
        Ok(self.contained)
    }

    async fn take(&mut self, ordinal: u64, entry: Entry) -> Result<(), ReadError> {
        self.listing.push(&entry);
        self.next = ordinal + 1;
        let (files, bytes) = entry.body.sums();
        self.files = self.files.saturating_add(files);
        self.bytes = self.bytes.saturating_add(bytes);
        if let EntryBody::Contained(contained) = entry.body {
            let seen_at = match &self.at {
                None => entry.path,
                // Of a long path the end is enough to be found by.
                Some(at) => at.append(&entry.path).unwrap_or(entry.path),
            };
            self.contained.push((seen_at, *contained));
        } else if let EntryBody::Reference(reference) = entry.body {
            if self.references == References::PassedOver {
                return Ok(());
            }
            if self.jobs.len() >= FILES_AT_ONCE {
                self.join_one().await?;
            }
            let content = self.view.open_reference(&entry.path, &reference);
            let progress = self.progress.clone();
            self.jobs.spawn(async move {
                let findings = check_reference(&content, &entry.path, &reference, &progress).await?;
                Ok(CheckedFile { findings, packs: BTreeSet::new() })
            });
        } else if let EntryBody::File(body) = entry.body {
            if self.jobs.len() >= FILES_AT_ONCE {
                self.join_one().await?;
            }
            let (view, progress) = (self.view.clone(), self.progress.clone());
            self.jobs.spawn(async move { check_file(&view, ordinal, &entry.path, &body, &progress).await });
        }
        Ok(())
    }

    /// Gets past a part of the manifest that cannot be read: takes what comes before it and finds what comes
    /// after. Returns whether there is more.
    async fn pass(&mut self, version: &str, error: &ReadError) -> Result<bool, ReadError> {
        let total = self.view.totals().entries;
        for _ in 0..MAX_SINGLE_STEPS {
            match self.view.entry_at(self.next).await {
                Ok(Some(entry)) => self.take(self.next, entry).await?,
                Ok(None) => break,
                Err(error) if is_damage(&error) => {
                    self.findings.insert(damage(version, &error));
                    return self.leap(total).await;
                }
                Err(error) => return Err(error),
            }
        }
        // All can be read, and contradicts itself.
        self.findings.insert(damage(version, error));
        Ok(self.next < total)
    }

    /// Goes on behind entries that cannot be read.
    async fn leap(&mut self, total: u64) -> Result<bool, ReadError> {
        let first_bad = self.next;
        let (mut bad, mut step) = (self.next, 1);
        let mut good = loop {
            let probe = bad.saturating_add(step);
            if probe >= total {
                // The last one decides whether any is left.
                match total.checked_sub(1).filter(|last| *last > bad) {
                    Some(last) if self.is_readable(last).await? => break last,
                    _ => {
                        self.note_unread(first_bad, total);
                        return Ok(false);
                    }
                }
            }
            if self.is_readable(probe).await? {
                break probe;
            }
            (bad, step) = (probe, step * 2);
        };
        while good - bad > 1 {
            let middle = bad + (good - bad) / 2;
            if self.is_readable(middle).await? { good = middle } else { bad = middle }
        }
        self.note_unread(first_bad, good);
        self.next = good;
        Ok(true)
    }

    fn note_unread(&mut self, from: u64, to: u64) {
        let version = self.view.manifest();
        let detail = format!("{} entries of manifest {version} cannot be known", to - from);
        self.findings.insert(Finding {
            path: format!("entries {from} to {}", to.saturating_sub(1)),
            problem: Problem::Missing,
            detail,
        });
    }

    async fn is_readable(&self, ordinal: u64) -> Result<bool, ReadError> {
        match self.view.entry_at(ordinal).await {
            Ok(entry) => Ok(entry.is_some()),
            Err(error) if is_damage(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Compares the whole with what the log and the manifest's root say about it.
    fn compare(&mut self, version: &str, by: &str, stated: Totals) {
        let totals = self.view.totals();
        let digest = self.listing.digest();
        let mut differs = |what: &str, found: String, stated: String| {
            if found != stated {
                let detail = format!("{what} should be {stated} and is {found}");
                self.findings.insert(Finding {
                    path: version.to_owned(),
                    problem: Problem::Different,
                    detail,
                });
            }
        };
        differs(&format!("the digest by {by}"), digest.to_string(), stated.digest.to_string());
        differs("the digest in the manifest", digest.to_string(), totals.digest.to_string());
        for (by, entries, files, bytes) in [
            (by, stated.entries, stated.files, stated.bytes),
            ("the manifest", totals.entries, totals.files, totals.bytes),
        ] {
            let shown = |entries, files, bytes| format!("{entries} entries, {files} files, {bytes} bytes");
            let found = shown(self.next, self.files, self.bytes);
            differs(&format!("the count by {by}"), found, shown(entries, files, bytes));
        }
    }

    async fn join_one(&mut self) -> Result<(), ReadError> {
        match self.jobs.join_next().await {
            None => Ok(()),
            Some(Ok(checked)) => {
                let CheckedFile { findings, packs } = checked?;
                self.findings.extend(findings);
                self.packs.extend(packs);
                Ok(())
            }
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Some(Err(_)) => Err(ReadError::Stopped),
        }
    }
}
