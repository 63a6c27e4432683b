//! Names that the kernel has cached and should forget.

use std::sync::{Arc, mpsc};

use super::inode::{Inodes, NodeKey};
use crate::format::name::ArtifactKey;

/// Something the kernel should forget. Sent from threads that serve no request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalidation {
    /// A name in a directory.
    Entry {
        /// The directory.
        parent: u64,
        /// The name.
        name: Vec<u8>,
    },
}

/// Makes the kernel forget names that it may have cached.
pub(super) struct KernelNames {
    inodes: Arc<Inodes>,
    invalidations: mpsc::Sender<Invalidation>,
}

impl KernelNames {
    /// Returns the receiver as well, from which the kernel is notified.
    pub fn new(inodes: Arc<Inodes>) -> (Self, mpsc::Receiver<Invalidation>) {
        let (invalidations, receiver) = mpsc::channel();
        (Self { inodes, invalidations }, receiver)
    }

    /// Makes the kernel forget a name in an artifact's directory.
    pub fn forget_in_artifact(&self, artifact: &ArtifactKey, name: &[u8]) {
        self.forget(&NodeKey::Artifact(artifact.clone()), name);
    }

    /// Makes the kernel forget the name of an artifact.
    pub fn forget_artifact(&self, artifact: &ArtifactKey) {
        self.forget(&NodeKey::Project(artifact.project.clone()), artifact.name.as_str().as_bytes());
    }

    /// Makes the kernel forget `next`, under which a rename that commits leaves a session for its caller.
    pub fn forget_next(&self, artifact: &ArtifactKey) {
        self.forget_in_artifact(artifact, b"next");
    }

    fn forget(&self, directory: &NodeKey, name: &[u8]) {
        if let Some(parent) = self.inodes.known(directory) {
            // The receiver is gone when the mount is being taken down: nothing is cached then.
            let _ = self.invalidations.send(Invalidation::Entry { parent, name: name.to_vec() });
        }
    }
}
