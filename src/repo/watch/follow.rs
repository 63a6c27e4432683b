//! Following logs: polling them, and delivering what is new to the hooks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;

use super::cursor::WatchCursor;
use super::error::WatchError;
use super::hook::{Hook, HookError};
use super::notice::Notice;
use super::options::{Begin, FollowOptions, OnAbsent, OnFailure, WatchScope};
use crate::format::name::ArtifactKey;
use crate::repo::catalog::{ArtifactState, Catalog, CatalogError};

/// The time between two searches for new artifacts: each takes one listing or more.
const LIST_INTERVAL: Duration = Duration::from_secs(30);
/// Logs read concurrently.
const LOGS_AT_ONCE: usize = 16;

/// Follows the logs of artifacts and delivers their events to hooks.
pub struct EventWatch {
    catalog: Arc<Catalog>,
    options: FollowOptions,
    hooks: Vec<Hook>,
    cursor: WatchCursor,
}

impl EventWatch {
    /// Creates a watch that delivers every event to every hook, in their order. Reads the cursor's file.
    ///
    /// # Errors
    /// [`WatchError::Cursor`] if the cursor's file is used by another watch, belongs to another store, or cannot be read.
    pub fn new(catalog: Arc<Catalog>, options: FollowOptions, hooks: Vec<Hook>) -> Result<Self, WatchError> {
        let cursor = WatchCursor::open(options.cursor.as_deref(), catalog.store().id())?;
        Ok(Self { catalog, options, hooks, cursor })
    }

    /// Delivers all there is, once. Cost: a request for each artifact, and those that read new events.
    ///
    /// # Errors
    /// A log cannot be read, the cursor cannot be written, a hook fails for good, or the named project or artifact does
    /// not exist.
    pub async fn once(&mut self) -> Result<(), WatchError> {
        self.round(Duration::ZERO).await
    }

    /// Delivers what there is and what comes, until a hook or a log fails. Waits while the store does not answer. Cost: a
    /// request for each artifact and interval, and at least one listing every 30 seconds.
    ///
    /// # Errors
    /// A log cannot be read, the cursor cannot be written, a hook fails for good, or the named project or artifact does
    /// not exist.
    pub async fn follow(&mut self) -> Result<(), WatchError> {
        loop {
            match self.round(LIST_INTERVAL).await {
                Err(WatchError::Catalog(CatalogError::Store(error))) if error.is_transient() => {
                    tracing::warn!("the store does not answer, trying again: {error}");
                }
                done => done?,
            }
            tokio::time::sleep(self.options.refresh).await;
        }
    }

    async fn round(&mut self, list_age: Duration) -> Result<(), WatchError> {
        let keys = self.artifacts(list_age).await?;
        let is_first = self.cursor.is_new();
        let catalog = self.catalog.clone();
        let states = futures::stream::iter(keys).map(|key| {
            let catalog = catalog.clone();
            async move { (catalog.state(&key, Duration::ZERO).await, key) }
        });
        let mut states = std::pin::pin!(states.buffered(LOGS_AT_ONCE));
        let mut is_absent = true;
        while let Some((state, key)) = states.next().await {
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    is_absent = false;
                    self.pass(error.into())?;
                    continue;
                }
            };
            let Some(state) = state else { continue };
            is_absent = false;
            let end = state.seq() + 1;
            let begin = match self.options.begin {
                Begin::New if is_first => end,
                Begin::At(seq) if is_first => seq,
                // An artifact that appears later is new from its first event.
                Begin::New | Begin::At(_) => 0,
            };
            let next = self.cursor.next(&key).unwrap_or(begin);
            if next > end && self.cursor.next(&key).is_some() {
                self.pass(WatchError::RolledBack { artifact: key, next })?;
                continue;
            }
            let lines = match self.lines_from(&state, next).await {
                Ok(lines) => lines,
                Err(error) => {
                    self.pass(error.into())?;
                    continue;
                }
            };
            self.deliver_all(&key, next, lines).await?;
        }
        if is_absent {
            self.check_absent()?;
        }
        self.cursor.begun()?;
        Ok(())
    }

    /// Fails if there must be something to follow.
    fn check_absent(&self) -> Result<(), WatchError> {
        let (what, name) = match &self.options.scope {
            _ if self.options.on_absent == OnAbsent::Wait => return Ok(()),
            WatchScope::All => return Ok(()),
            WatchScope::Project(project) => ("project", project.to_string()),
            WatchScope::Artifact(artifact) => ("artifact", artifact.to_string()),
        };
        Err(WatchError::Absent { what, name, store: self.catalog.store().url().to_string() })
    }

    /// Reads the stored events from number `next` on.
    async fn lines_from(&self, state: &ArtifactState, next: u64) -> Result<Vec<Bytes>, CatalogError> {
        match next.checked_sub(1) {
            None => self.catalog.log_lines(state).await,
            Some(before) => {
                let behind = self.catalog.events_behind(state, before).await?;
                Ok(behind.map(|(_, events)| events).unwrap_or_default())
            }
        }
    }

    /// Logs an error of one log instead of returning it, if the options say so.
    fn pass(&self, error: WatchError) -> Result<(), WatchError> {
        let waits = matches!(&error, WatchError::Catalog(CatalogError::Store(e)) if e.is_transient());
        match self.options.on_failure {
            OnFailure::Skip if !waits => {
                tracing::error!("{error}");
                Ok(())
            }
            OnFailure::Skip | OnFailure::Stop => Err(error),
        }
    }

    async fn deliver_all(
        &mut self,
        key: &ArtifactKey,
        from: u64,
        lines: Vec<Bytes>,
    ) -> Result<(), WatchError> {
        self.cursor.set(key, from);
        for (seq, line) in (from..).zip(lines) {
            let notice = Notice::new(key, seq, &line)?;
            if self.options.kinds.is_empty() || self.options.kinds.contains(&notice.kind) {
                let delivered = self.deliver(&notice).await;
                if let Err(error) = delivered {
                    self.cursor.keep()?;
                    match self.options.on_failure {
                        OnFailure::Skip if !matches!(error, WatchError::Output(_)) => {
                            tracing::error!("skipped: {error}")
                        }
                        OnFailure::Skip | OnFailure::Stop => return Err(error),
                    }
                }
                self.cursor.set(key, seq + 1);
                self.cursor.keep()?;
            } else {
                self.cursor.set(key, seq + 1);
            }
        }
        Ok(self.cursor.keep()?)
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), WatchError> {
        let env = self.catalog.store().env();
        for hook in &self.hooks {
            match hook.deliver(notice, env).await {
                Ok(()) => {}
                Err(HookError::Output(error)) => return Err(WatchError::Output(error)),
                Err(source) => {
                    let (artifact, seq) = (notice.artifact.clone(), notice.seq);
                    return Err(WatchError::Hook { artifact, seq, source });
                }
            }
        }
        Ok(())
    }

    async fn artifacts(&self, max_age: Duration) -> Result<Vec<ArtifactKey>, CatalogError> {
        let projects = match &self.options.scope {
            WatchScope::Artifact(key) => return Ok(vec![key.clone()]),
            WatchScope::Project(project) => vec![project.clone()],
            WatchScope::All => self.catalog.projects(max_age).await?,
        };
        let mut keys = vec![];
        for project in projects {
            let names = self.catalog.artifacts(&project, max_age).await?;
            keys.extend(names.into_iter().map(|name| ArtifactKey { project: project.clone(), name }));
        }
        Ok(keys)
    }
}
