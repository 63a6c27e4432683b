//! `mv` within an artifact's directory: it commits a session, or moves an alias.

use std::sync::Arc;

use super::aliases::AliasLinks;
use super::artifact_child::ArtifactChild;
use super::commit::SessionCommits;
use super::errno::{Errno, Result};
use super::names::{NameTree, refuse};
use super::rights::CallerRights;
use crate::format::name::ArtifactKey;
use crate::mount::staging::Caller;

/// Decides what a rename within an artifact's directory means.
pub(super) struct ArtifactRenames {
    rights: Arc<CallerRights>,
    names: Arc<NameTree>,
    aliases: Arc<AliasLinks>,
    commits: Arc<SessionCommits>,
}

impl ArtifactRenames {
    pub fn new(
        rights: Arc<CallerRights>,
        names: Arc<NameTree>,
        aliases: Arc<AliasLinks>,
        commits: Arc<SessionCommits>,
    ) -> Self {
        Self { rights, names, aliases, commits }
    }

    /// Renames a name of an artifact; `flags` as of `renameat2(2)`, of which only `RENAME_NOREPLACE` is supported.
    pub async fn rename(
        &self,
        caller: Caller,
        artifact: &ArtifactKey,
        name: &[u8],
        new_name: &[u8],
        flags: u32,
    ) -> Result<()> {
        if flags & !libc::RENAME_NOREPLACE != 0 {
            return Err(Errno::INVALID);
        }
        let is_temporary = self.aliases.is_temporary(artifact, name);
        match (ArtifactChild::parse(name), ArtifactChild::parse(new_name)) {
            (ArtifactChild::Session(session), target) if !is_temporary => {
                self.rights.check_writable(caller)?;
                let demanded = match target {
                    ArtifactChild::Next => None,
                    ArtifactChild::Version(number) => Some(number),
                    _ => {
                        tracing::warn!(
                            "{artifact}: staging can only be renamed to next or to the next version's number, which commits it"
                        );
                        return Err(Errno::NOT_PERMITTED);
                    }
                };
                self.commits.commit_by_rename(caller, artifact, session.as_ref(), demanded).await
            }
            (ArtifactChild::Version(version), _) if !is_temporary => {
                Err(refuse(&format!("the version {artifact}:{version}")))
            }
            (ArtifactChild::Latest, _) => Err(Errno::NOT_PERMITTED),
            _ => {
                self.rights.check_writable(caller)?;
                let no_replace = flags & libc::RENAME_NOREPLACE != 0;
                if no_replace && self.names.lookup_in_artifact(artifact, new_name).await.is_ok() {
                    return Err(Errno(libc::EEXIST));
                }
                self.aliases.rename(caller, artifact, name, new_name).await
            }
        }
    }
}
