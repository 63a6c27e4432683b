//! Which run reads and writes what: noted when files are opened, and recorded by commits.

use std::sync::Arc;

use super::open_session::{LiveSession, OpenSession};
use super::version_node::VersionNode;
use crate::format::name::{ArtifactKey, RunId, VersionNumber};
use crate::format::run::{MAX_READS, Run, RunSource, VersionRead};
use crate::mount::provenance::{LedgerError, OpenWatch, Published, WatchCounts};
use crate::mount::staging::Caller;
use crate::repo::commit::Settings;

/// What a commit records of the run that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordedLineage {
    /// Nothing.
    Omit,
    /// The runs that wrote what is staged, and this one that asks for the commit.
    Record(Option<RunId>),
}

/// The runs behind a commit, and what they read.
#[derive(Debug, Default)]
pub(super) struct ProducingRuns {
    /// The runs whose reads the commit records.
    pub runs: Vec<RunId>,
    run: Option<Run>,
    reads: Vec<VersionRead>,
}

impl ProducingRuns {
    /// Adds run and reads to a commit's settings.
    pub fn add_to(&self, settings: &mut Settings) {
        settings.run = self.run.clone().map(Box::new);
        settings.reads = self.reads.iter().take(MAX_READS).cloned().collect();
        settings.more_reads = self.reads.len().saturating_sub(MAX_READS) as u64;
    }
}

/// Notes opens and writes for lineage, where it is recorded; without a watch, nothing is.
pub(super) struct LineageRecorder {
    watch: Option<Arc<OpenWatch>>,
    runtime: tokio::runtime::Handle,
}

impl LineageRecorder {
    pub fn new(watch: Option<Arc<OpenWatch>>, runtime: tokio::runtime::Handle) -> Self {
        Self { watch, runtime }
    }

    /// Notes that a caller opened a file of a version.
    pub async fn note_read(&self, caller: Caller, version: &VersionNode, ordinal: u64, bytes: u64) {
        let Some(watch) = &self.watch else { return };
        if let Some(run) = watch.run_of(caller.pid).await {
            watch.opened(&run, &version.artifact, version.number(), version.digest(), ordinal, bytes);
        }
    }

    /// Notes that a caller changes a session.
    pub async fn note_write(&self, caller: Caller, session: &OpenSession) {
        let (Some(watch), Some(live)) = (&self.watch, session.live_now()) else { return };
        if let Some(run) = watch.run_of(caller.pid).await {
            watch.wrote(&run, &live.id.to_string());
        }
    }

    /// The run that a thread belongs to.
    pub async fn run_of(&self, thread: u32) -> Option<RunId> {
        self.watch.as_ref()?.run_of(thread).await.map(|run| (*run).clone())
    }

    /// Counts of what was noted.
    pub fn counts(&self) -> Option<WatchCounts> {
        self.watch.as_ref().map(|watch| watch.counts())
    }

    /// Writes what was noted to the state folder.
    pub async fn flush(&self) -> Result<(), LedgerError> {
        let Some(watch) = self.watch.clone() else { return Ok(()) };
        self.runtime.spawn_blocking(move || watch.flush()).await.unwrap_or(Ok(()))
    }

    /// The runs that wrote what is staged. A failure is logged: no commit fails for want of lineage.
    pub async fn runs_behind(&self, lineage: &RecordedLineage, live: &Arc<LiveSession>) -> ProducingRuns {
        let (Some(watch), RecordedLineage::Record(committer)) = (self.watch.clone(), lineage.clone()) else {
            return ProducingRuns::default();
        };
        let session = live.id.to_string();
        let found = self.runtime.spawn_blocking(move || find(&watch, &session, committer)).await;
        match found {
            Ok(Ok(made)) => made,
            Ok(Err(e)) => {
                tracing::warn!("the commit is made without its run: {e}");
                ProducingRuns::default()
            }
            Err(_) => ProducingRuns::default(),
        }
    }

    /// Notes that a commit has recorded what these runs read.
    pub fn published(
        &self,
        artifact: &ArtifactKey,
        version: VersionNumber,
        made: &ProducingRuns,
        live: &Arc<LiveSession>,
    ) {
        let Some(watch) = &self.watch else { return };
        let session = live.id.to_string();
        // Reads that the event had no room for stay in the ledger, and are published as uses.
        let reads = &made.reads[..made.reads.len().min(MAX_READS)];
        let told = Published { reads, made: Some((artifact, version)), session: Some(&session) };
        if let Err(e) = watch.ledger().published(&made.runs, watch.store(), &told) {
            // These reads may then be published a second time, as uses.
            tracing::warn!("{artifact}: {e}");
        }
    }
}

fn find(
    watch: &Arc<OpenWatch>,
    session: &str,
    committer: Option<RunId>,
) -> Result<ProducingRuns, LedgerError> {
    watch.flush()?;
    let ledger = watch.ledger();
    let mut runs = ledger.writers_of(session)?;
    if let Some(committer) = committer.filter(|run| !runs.contains(run)) {
        // A `mv` by itself says nothing of where the content came from.
        let is_mute = !runs.is_empty()
            && ledger.run(&committer)?.is_some_and(|run| run.source == RunSource::Process)
            && ledger.reads_of(std::slice::from_ref(&committer), watch.store())?.is_empty();
        if !is_mute {
            runs.push(committer);
        }
    }
    watch.settle(&runs)?;
    let reads = ledger.reads_of(&runs, watch.store())?;
    let mut records: Vec<Run> =
        runs.iter().filter_map(|run| ledger.run(run).transpose()).collect::<Result<_, _>>()?;
    // A declared run is preferred to the last one that wrote, and a run that read to one that did not.
    let mut best = None;
    for (at, record) in records.iter().enumerate() {
        let is_named = record.source == RunSource::Declared;
        let id: Vec<RunId> = record.id.iter().cloned().collect();
        let has_read = !ledger.reads_of(&id, watch.store())?.is_empty();
        let rank = (is_named, has_read, std::cmp::Reverse(at));
        best = best.max(Some((rank, at)));
    }
    let run = best.map(|(_, at)| records.swap_remove(at));
    Ok(ProducingRuns { runs, run, reads })
}
