//! A file system put together from its parts.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};

use super::admission::Admission;
use super::aliases::AliasLinks;
use super::artifact_rename::ArtifactRenames;
use super::commit::SessionCommits;
use super::directories::OpenDirectories;
use super::dispatch::Fs;
use super::generated::GeneratedFiles;
use super::inode::Inodes;
use super::kernel_names::{Invalidation, KernelNames};
use super::known_names::KnownNames;
use super::lineage::LineageRecorder;
use super::log_sync::LogSync;
use super::lower::{Gives, SessionContent};
use super::names::NameTree;
use super::options::{FsOptions, FsServices};
use super::reply_policy::ReplyPolicy;
use super::rights::CallerRights;
use super::session_setup::SessionSetup;
use super::session_xattr::SessionAttributes;
use super::sessions::{Sessions, SessionsParts};
use super::staged_files::StagedFiles;
use super::staged_names::StagedNames;
use super::version_files::VersionFiles;
use super::version_xattr::VersionAttributes;
use super::versions::VersionTrees;

impl Fs {
    /// Returns a tree over these services, and the names that the kernel must forget. Must be called within a tokio
    /// runtime. Commits that a crash interrupted are settled before anything is served.
    pub async fn new(options: FsOptions, services: FsServices) -> (Arc<Self>, mpsc::Receiver<Invalidation>) {
        let FsServices { catalog, context, registry, closer, committer, admission, watch } = services;
        let runtime = tokio::runtime::Handle::current();
        let options = Arc::new(options);
        let inodes = Arc::new(Inodes::new());
        let (kernel, receiver) = KernelNames::new(inodes.clone());
        let kernel = Arc::new(kernel);
        let rights = Arc::new(CallerRights::new(options.clone()));
        let replies = Arc::new(ReplyPolicy::new(options.clone(), catalog.clone()));
        let admission = Arc::new(Admission::new(admission));
        let lineage = Arc::new(LineageRecorder::new(watch, runtime.clone()));
        let known = Arc::new(KnownNames::new(catalog.clone(), registry.clone(), replies.clone()));
        let versions = Arc::new(VersionTrees::new(
            context.clone(),
            inodes.clone(),
            replies.clone(),
            admission.clone(),
            options.owner,
        ));
        let generated = Arc::new(GeneratedFiles::new(
            catalog.clone(),
            inodes.clone(),
            replies.clone(),
            known.clone(),
            versions.clone(),
            options.state.clone(),
        ));
        let aliases = Arc::new(AliasLinks::new(
            catalog.clone(),
            inodes.clone(),
            replies.clone(),
            rights.clone(),
            admission.clone(),
            known.clone(),
            kernel.clone(),
        ));
        let gives = if admission.is_demanded() { Gives::Whole } else { Gives::Chunks };
        let sessions = Arc::new(Sessions::new(SessionsParts {
            options: options.clone(),
            registry: registry.clone(),
            inodes: inodes.clone(),
            replies: replies.clone(),
            kernel: kernel.clone(),
            closer,
            context: context.clone(),
            content: SessionContent::new(runtime.clone(), context.clone(), gives),
            runtime: runtime.clone(),
        }));
        let names = Arc::new(NameTree {
            options: options.clone(),
            catalog: catalog.clone(),
            registry: registry.clone(),
            inodes: inodes.clone(),
            replies: replies.clone(),
            rights: rights.clone(),
            admission: admission.clone(),
            known: known.clone(),
            versions: versions.clone(),
            sessions: sessions.clone(),
            generated: generated.clone(),
            aliases: aliases.clone(),
        });
        let commits = Arc::new(SessionCommits {
            options: options.clone(),
            catalog: catalog.clone(),
            context: context.clone(),
            registry: registry.clone(),
            committer,
            replies,
            rights: rights.clone(),
            kernel: kernel.clone(),
            sessions: sessions.clone(),
            generated: generated.clone(),
            lineage: lineage.clone(),
            runtime: runtime.clone(),
        });
        let fs = Arc::new(Self {
            renames: ArtifactRenames::new(rights.clone(), names.clone(), aliases.clone(), commits.clone()),
            version_files: VersionFiles::new(
                inodes.clone(),
                versions.clone(),
                generated.clone(),
                lineage.clone(),
                options.read_only,
                runtime.clone(),
            ),
            version_xattrs: VersionAttributes::new(catalog.clone(), rights.clone(), known, versions.clone()),
            session_setup: SessionSetup {
                options: options.clone(),
                catalog: catalog.clone(),
                registry: registry.clone(),
                sessions: sessions.clone(),
                admission: admission.clone(),
                runtime: runtime.clone(),
            },
            staged_names: StagedNames::new(sessions.clone(), lineage.clone()),
            staged_files: StagedFiles::new(
                sessions.clone(),
                versions.clone(),
                admission,
                lineage.clone(),
                context,
                runtime.clone(),
            ),
            session_xattrs: SessionAttributes::new(sessions.clone(), registry),
            directories: OpenDirectories::new(
                inodes.clone(),
                names.clone(),
                sessions.clone(),
                versions.clone(),
                runtime.clone(),
            ),
            logs: LogSync::new(catalog.clone(), kernel),
            kernel_requests: AtomicU64::new(0),
            options,
            catalog,
            inodes,
            rights,
            names,
            aliases,
            generated,
            versions,
            sessions,
            commits,
            lineage,
            runtime,
        });
        fs.commits.settle_interrupted_commits().await;
        (fs, receiver)
    }
}
