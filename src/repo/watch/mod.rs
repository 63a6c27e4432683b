//! Following what happens to artifacts: every event of their logs, in order, given to hooks at least once.
//!
//! Where a watch got to is a number for each artifact. It moves on, durably if there is a cursor's file, only after
//! every hook succeeded; who dies in between gives the same event again. Events of one artifact come in the order of
//! its log; there is no order between artifacts.

mod cursor;
mod exec;
mod hook;
mod webhook;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;

pub use self::cursor::{CursorError, WatchCursor};
pub use self::exec::Exec;
pub use self::hook::{Hook, HookError, Retries};
pub use self::webhook::Webhook;
use crate::format::event::{Event, EventBody};
use crate::format::name::{AliasName, ArtifactKey, ProjectName, VersionNumber};
use crate::repo::catalog::{ArtifactState, Catalog, CatalogError};

/// New artifacts are looked for this often: each look is a listing or more.
const LIST_INTERVAL: Duration = Duration::from_secs(30);
/// Logs asked for at once.
const LOGS_AT_ONCE: usize = 16;

/// Which artifacts are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchScope {
    /// All of the store.
    All,
    /// Those of a project.
    Project(ProjectName),
    /// One.
    Artifact(ArtifactKey),
}

/// Where to begin with artifacts of which the cursor knows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// With this event.
    At(u64),
    /// Behind what is there now.
    New,
}

/// What to do when a hook failed as often as it is tried, or a log is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// End, and leave the cursor before the event.
    Stop,
    /// Log it and go on behind it.
    Skip,
}

/// What to do while a project or artifact that was named is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnAbsent {
    /// End: its name may be wrong.
    Stop,
    /// Wait for it.
    Wait,
}

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// There is nothing of the name that should be followed.
    #[error("there is no {what} {name} in {store}")]
    Absent {
        /// Project or artifact.
        what: &'static str,
        /// Its name.
        name: String,
        /// The store.
        store: String,
    },
    /// A log cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The position cannot be read or kept.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// An event was not delivered.
    #[error("event {seq} of {artifact} was not delivered: {error}")]
    Hook {
        /// The artifact.
        artifact: ArtifactKey,
        /// The event.
        seq: u64,
        /// Why.
        error: HookError,
    },
    /// A log is shorter than what was delivered of it.
    #[error(
        "the log of {artifact} ends before event {next}, and all up to there was delivered: the store was rolled back"
    )]
    RolledBack {
        /// The artifact.
        artifact: ArtifactKey,
        /// The next event to deliver.
        next: u64,
    },
    /// The output is gone.
    #[error("the output cannot be written: {0}")]
    Output(std::io::Error),
}

/// An event as it is given to hooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// The event's number.
    pub seq: u64,
    /// Its id, the same however often it is delivered.
    pub id: String,
    /// Its kind, without control characters.
    pub kind: String,
    /// The version it is about, if it is about one.
    pub version: Option<VersionNumber>,
    /// The aliases that it set or removed.
    pub aliases: Vec<AliasName>,
    /// The stored event as one line of JSON, with one more member: `ref`.
    pub json: String,
}

impl Notice {
    fn new(artifact: &ArtifactKey, seq: u64, line: &[u8]) -> Result<Self, CatalogError> {
        let damaged = |problem: String| CatalogError::Damaged { artifact: artifact.clone(), seq, problem };
        let event = Event::decode(line).map_err(|e| damaged(e.problem))?;
        let (version, aliases) = about(&event.body);
        let reference = reference(artifact, version);
        let text = std::str::from_utf8(line).map_err(|e| damaged(e.to_string()))?.trim_end();
        let open = text.strip_suffix('}').ok_or_else(|| damaged("it is no JSON object".to_owned()))?;
        Ok(Self {
            artifact: artifact.clone(),
            seq,
            id: event.id.to_string(),
            kind: event.body.kind().chars().filter(|c| !c.is_control()).collect(),
            version,
            aliases,
            // Behind all others: of two members of one name readers take the last.
            json: format!("{open},\"ref\":\"{reference}\"}}"),
        })
    }

    /// `project/name:v7`, or `project/name` if it is not about one version.
    pub fn reference(&self) -> String {
        reference(&self.artifact, self.version)
    }
}

fn reference(artifact: &ArtifactKey, version: Option<VersionNumber>) -> String {
    version.map_or_else(|| artifact.to_string(), |version| format!("{artifact}:{version}"))
}

/// The version that an event is about, and the aliases that it moves.
fn about(body: &EventBody) -> (Option<VersionNumber>, Vec<AliasName>) {
    match body {
        EventBody::Commit(commit) => (Some(commit.version), commit.settings.aliases.clone()),
        EventBody::Recommit(again) => (Some(again.version), again.settings.aliases.clone()),
        EventBody::Alias(change) => {
            let to = change.to.as_ref().map(|to| to.version);
            (to.or(change.from), vec![change.alias.clone()])
        }
        EventBody::Tag(change) => (Some(change.version), vec![]),
        EventBody::Meta(change) => (Some(change.version), vec![]),
        EventBody::Ttl(change) => (Some(change.version), vec![]),
        EventBody::Message(change) => (Some(change.version), vec![]),
        EventBody::Delete(deletion) => match deletion.versions[..] {
            [one] => (Some(one), deletion.aliases.clone()),
            _ => (None, deletion.aliases.clone()),
        },
        _ => (None, vec![]),
    }
}

/// What to follow, and how.
#[derive(Debug)]
pub struct FollowOptions {
    /// Which artifacts.
    pub scope: WatchScope,
    /// Kinds of events; empty: all.
    pub kinds: BTreeSet<String>,
    /// Where to begin.
    pub begin: Begin,
    /// The file that keeps where it got to; none: in memory only.
    pub cursor: Option<PathBuf>,
    /// Time between two looks at a log.
    pub refresh: Duration,
    /// When a hook fails for good.
    pub on_failure: OnFailure,
    /// When there is nothing to follow.
    pub on_absent: OnAbsent,
}

/// A watch.
pub struct EventWatch {
    catalog: Arc<Catalog>,
    options: FollowOptions,
    hooks: Vec<Hook>,
    cursor: WatchCursor,
}

impl EventWatch {
    /// A watch that gives every event to every hook, in their order. Reads the cursor's file.
    ///
    /// # Errors
    /// A cursor's file that another watch uses, that is of another store, or that cannot be read.
    pub fn new(catalog: Arc<Catalog>, options: FollowOptions, hooks: Vec<Hook>) -> Result<Self, WatchError> {
        let cursor = WatchCursor::open(options.cursor.as_deref(), catalog.store().id())?;
        Ok(Self { catalog, options, hooks, cursor })
    }

    /// Delivers all there is, once. Cost: a request for each artifact, and those for what is new.
    pub async fn once(&mut self) -> Result<(), WatchError> {
        self.round(Duration::ZERO).await
    }

    /// Delivers what there is and what comes, until a hook or a log fails. Cost: a request for each artifact and
    /// interval, and a listing or more every 30 seconds. While the store does not answer, it waits.
    pub async fn follow(&mut self) -> Result<(), WatchError> {
        loop {
            match self.round(LIST_INTERVAL).await {
                Err(WatchError::Catalog(CatalogError::Store(error))) if error.is_transient() => {
                    tracing::warn!("the store does not answer, trying on: {error}");
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
                // What appears later is new from its first event on.
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

    /// Whether it is well that there is nothing to follow.
    fn check_absent(&self) -> Result<(), WatchError> {
        let (what, name) = match &self.options.scope {
            _ if self.options.on_absent == OnAbsent::Wait => return Ok(()),
            WatchScope::All => return Ok(()),
            WatchScope::Project(project) => ("project", project.to_string()),
            WatchScope::Artifact(artifact) => ("artifact", artifact.to_string()),
        };
        Err(WatchError::Absent { what, name, store: self.catalog.store().url().to_string() })
    }

    /// The stored events from number `next` on.
    async fn lines_from(&self, state: &ArtifactState, next: u64) -> Result<Vec<Bytes>, CatalogError> {
        match next.checked_sub(1) {
            None => self.catalog.log_lines(state).await,
            Some(before) => {
                let behind = self.catalog.events_behind(state, before).await?;
                Ok(behind.map(|(_, events)| events).unwrap_or_default())
            }
        }
    }

    /// Gets past what is wrong with one log, if that is wished.
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
                Err(error) => {
                    let (artifact, seq) = (notice.artifact.clone(), notice.seq);
                    return Err(WatchError::Hook { artifact, seq, error });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_event_says_of_its_own_reference_does_not_count() {
        let line = br#"{"format":1,"store":"97e4fcbb715036ce85833fe6b0b1a50d","project":"p","name":"a",
"artifact":"ffc6ed0031cbf7b88b6a0480b8ff633a","seq":1,"prev":null,"id":"3f0d6a5c5d0b4f6f8c1b0a9d7e2f4c61",
"time":"2026-11-21T12:12:08.160Z","actor":"root","host":"vm","kind":"tag","must_understand":true,
"body":{"version":"v3","add":["x"]},"ref":"p/other:v9"}"#;
        let line: Vec<u8> = line.iter().copied().filter(|b| *b != b'\n').collect();
        let notice = Notice::new(&"p/a".parse().unwrap(), 1, &line).unwrap();
        let value: serde_json::Value = serde_json::from_str(&notice.json).unwrap();
        assert_eq!((value["ref"].as_str(), value["seq"].as_u64()), (Some("p/a:v3"), Some(1)));
        assert_eq!((notice.reference(), notice.kind), ("p/a:v3".to_owned(), "tag".to_owned()));
    }
}
