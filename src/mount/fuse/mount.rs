//! Mounting a tree, and telling the kernel which names to forget.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, mpsc};

use fuser::{Config, INodeNo, MountOption, Session, SessionACL};
use tokio::runtime::Handle;

use super::backing::Backings;
use super::busy::BusyDirectories;
use super::requests::KernelRequests;
use crate::mount::fs::{Fs, Invalidation};
use crate::mount::staging;

/// Threads that take requests from the kernel.
const THREADS: usize = 4;

/// How a tree is mounted.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// Whether users other than the mounter may see it.
    pub allow_other: bool,
    /// Whether the kernel refuses all changes.
    pub read_only: bool,
    /// Whether files may be handed to the kernel.
    pub passthrough: bool,
    /// Whether the kernel opens files without asking, and reads them through its page cache; no file is handed to it
    /// then. Only for mounts on which nothing can be written.
    pub no_open: bool,
}

/// A mounted tree. Dropping it does not unmount.
#[derive(Debug)]
pub struct FuseMount {
    session: std::thread::JoinHandle<io::Result<()>>,
}

impl FuseMount {
    /// Waits until the tree is unmounted.
    ///
    /// # Errors
    /// The connection to the kernel failed.
    pub fn wait(self) -> io::Result<()> {
        self.session.join().map_err(|_| io::Error::other("the session's thread panicked"))?
    }
}

/// Mounts a tree and serves it on threads of its own. Returns once the kernel has mounted it.
///
/// # Errors
/// Mounting failed: there is no `/dev/fuse`, no permission, or no such mount point.
pub fn mount(
    fs: Arc<Fs>,
    invalidations: mpsc::Receiver<Invalidation>,
    mount_point: &Path,
    options: &MountOptions,
    runtime: Handle,
) -> io::Result<FuseMount> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("artfs".into()),
        MountOption::Subtype("artfs".into()),
        MountOption::DefaultPermissions,
    ];
    if options.read_only {
        config.mount_options.push(MountOption::RO);
    }
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    let state = fs.options().state.clone();
    let busy = Arc::new(BusyDirectories::default());
    let requests = KernelRequests {
        fs,
        runtime,
        backings: Arc::new(Backings::new(options.passthrough && !options.no_open)),
        no_open: options.no_open,
        busy: busy.clone(),
        // A backing file on an overlay counts as one more layer.
        stack_depth: if staging::is_overlayfs(&state).unwrap_or(false) { 2 } else { 1 },
    };
    let session = Session::new(requests, mount_point, &config)?;
    let notifier = session.notifier();
    std::thread::Builder::new().name("invalidate".into()).spawn(move || {
        // On a thread of its own: a notification waits for the directory's lock, which a request under way holds.
        for Invalidation::Entry { parent, name } in invalidations {
            if !busy.wait_idle(parent) {
                continue;
            }
            if let Err(e) = notifier.inval_entry(INodeNo(parent), OsStr::from_bytes(&name))
                && e.kind() != io::ErrorKind::NotFound
            {
                tracing::debug!("the kernel did not forget a name: {e}");
            }
        }
    })?;
    let session = std::thread::Builder::new().name("fuse".into()).spawn(move || session.run())?;
    Ok(FuseMount { session })
}
