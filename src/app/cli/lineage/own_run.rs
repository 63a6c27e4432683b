//! The run that this command belongs to, for commands that read or make versions without a mount.

use crate::app::cli::context::Context;
use crate::format::clock;
use crate::format::id::StoreId;
use crate::format::name::{ArtifactKey, RunId, VersionNumber};
use crate::format::run::{MAX_READS, VersionRead};
use crate::host::process::{Proc, rule};
use crate::host::sys;
use crate::mount::provenance::capture::{self, HostNames, Trust};
use crate::mount::provenance::{LedgerError, Published, RunLedger, observer};
use crate::repo::catalog::VersionRecord;
use crate::repo::commit::Settings;

/// The run of this process, and the ledger of runs. A command never fails because recording fails; that is logged.
#[derive(Debug)]
pub struct OwnRun {
    ledger: RunLedger,
    id: RunId,
}

impl OwnRun {
    /// Finds the run, and records it unless that was done before.
    pub fn find(context: &Context) -> Option<Self> {
        let found = Self::try_find(context);
        found.inspect_err(|e| tracing::warn!("the run is not recorded: {e}")).ok().flatten()
    }

    fn try_find(context: &Context) -> Result<Option<Self>, LedgerError> {
        let (Ok(state), env) = (context.state(), clock::system()) else { return Ok(None) };
        let host = context.actor().host;
        let Some(found) = rule::run_of(&Proc, &observer(&host, vec![]), std::process::id()) else {
            return Ok(None);
        };
        // Called for its warning about an invalid name.
        let _ = context.declared_run();
        let ledger = RunLedger::open(&state)?;
        if ledger.run(&found.id)?.is_none() {
            let names =
                HostNames { host, user: |uid| sys::user_name(uid).unwrap_or_else(|| format!("uid{uid}")) };
            let mut run = capture::of_process(&found, &names, env.now());
            let is_mine = Proc.user(found.root.pid) == Some(sys::effective_uid());
            capture::add_code(&mut run, if is_mine { Trust::Own } else { Trust::Foreign });
            ledger.put(&run, env.now())?;
        }
        Ok(Some(Self { ledger, id: found.id }))
    }

    /// Notes that this command read files of a version.
    pub fn read(
        &self,
        store: StoreId,
        artifact: &ArtifactKey,
        version: &VersionRecord,
        files: u64,
        bytes: u64,
    ) {
        let read = VersionRead {
            project: artifact.project.clone(),
            name: artifact.name.clone(),
            version: version.version,
            digest: version.digest,
            files,
            bytes,
        };
        self.warn(self.ledger.add_read(&self.id, store, &read, clock::system().now()));
    }

    /// Adds the run and its reads to the settings of a commit.
    pub fn add_to(&self, settings: &mut Settings, store: StoreId) {
        let found = self
            .ledger
            .run(&self.id)
            .and_then(|run| Ok((run, self.ledger.reads_of(std::slice::from_ref(&self.id), store)?)));
        let Some((run, mut reads)) = self.warn(found) else { return };
        settings.run = run.map(Box::new);
        settings.more_reads = reads.len().saturating_sub(MAX_READS) as u64;
        reads.truncate(MAX_READS);
        settings.reads = reads;
    }

    /// Notes that a version was made that lists what the run read.
    pub fn published(
        &self,
        store: StoreId,
        reads: &[VersionRead],
        artifact: &ArtifactKey,
        version: VersionNumber,
    ) {
        let told = Published { reads, made: Some((artifact, version)), session: None };
        self.warn(self.ledger.published(std::slice::from_ref(&self.id), store, &told));
    }

    fn warn<T>(&self, done: Result<T, LedgerError>) -> Option<T> {
        done.inspect_err(|e| tracing::warn!("the run is not recorded: {e}")).ok()
    }
}
