//! One pass over a tree: what is new of it is packed, and its manifest is built.

use super::chunks::ChunkWriter;
use super::error::CommitError;
use super::ingest::{Done, Renewal, ingest};
use super::item::TreeVisitor;
use super::packs::{PackWriter, Uploads};
use super::prepared::Prepared;
use super::progress::CommitProgress;
use super::renewer::Renewer;
use super::stored_chunks::StoredChunks;
use super::tree::{CommitTree, TreeBuilder};
use super::tree_source::TreeSource;

/// How entries whose content is known are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carry {
    /// They are taken as they are.
    Trusting,
    /// They are looked into one by one, and their bytes are stored again where what they refer to was collected.
    Vetting,
}

/// Reads the tree and makes its packs and its root. The packs may still be on their way. Blocks, outside of the runtime.
pub(super) fn read_tree(
    stored: &StoredChunks,
    packs: PackWriter,
    progress: &CommitProgress,
    tree: &dyn TreeSource,
    carry: Carry,
    renewer: &mut Renewer,
) -> Result<(Prepared, Uploads), CommitError> {
    let (env, with_sha256) = (packs.env(), packs.wants_sha256());
    let mut builder = TreeBuilder::new(ChunkWriter::new(stored, packs)?, with_sha256);
    let known = |id: &_| stored.find(id).is_some();
    let renew = |path: &_, entry: &_, own| match carry {
        Carry::Trusting => Ok(Renewal::NotNeeded),
        Carry::Vetting => renewer.renew(path, entry, own),
    };
    // Vetting looks into entries one by one.
    let expanded = |visit: TreeVisitor<'_>| tree.walk(&mut |item| item.expand(visit));
    let tree = match carry {
        Carry::Trusting => tree,
        Carry::Vetting => &expanded,
    };
    ingest(tree, renew, known, progress, |done| match done {
        Done::Begin(head) => builder.begin(head),
        Done::Chunk { raw, id, codec, stored } => builder.chunk(raw, id, codec, stored),
        Done::Again => builder.again(),
        Done::End => builder.end(),
    })?;
    let CommitTree { root, id, bytes, written, gathered } = builder.finish(&env)?;
    let prepared = Prepared {
        digest: root.digest,
        root: (id, bytes.into()),
        manifest: None,
        entries: root.entries,
        files: root.files,
        bytes: root.bytes,
        stored_bytes: written.stored_bytes,
        packs: written.packs,
        found_in: written.found_in,
        sealed: written.sealed,
        restored: written.restored,
        gathered,
        new_chunks: written.new,
        epoch: 0,
        covered: None,
    };
    Ok((prepared, written.uploads))
}
