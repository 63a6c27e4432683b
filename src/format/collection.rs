//! What a collection condemned: the names it is going to delete unless they turn out to be in use.
//!
//! ```text
//! record   = "artfsgc1" | store id 16 | epoch u64
//!          | pack count u32 | pack count x (pack id 32 | fate u8)
//!          | artifact count u32 | artifacts | BLAKE3 of all bytes before 32
//! fate     = 1 the pack goes | 2 the pack goes, its live chunks were moved | 3 its table of moves goes
//! artifact = project length u16 | project | name length u16 | name
//!          | count u32 | count x manifest id 32 | count u32 | count x details id 16
//!          | count u32 | count x (checkpoint's event number u64 | its hash 32)
//! ```

use serde::{Deserialize, Serialize};

use super::checkpoint_ref::CheckpointRef;
use super::error::FormatError;
use super::header::FORMAT_VERSION;
use super::wire::{WireReader, put_short_bytes};
use crate::format::id::{CheckpointHash, DetailsId, ManifestId, PackId, StoreId};
use crate::format::name::ArtifactKey;

/// The longest record in bytes; what does not fit is left for the next collection.
pub const MAX_RECORD_BYTES: usize = 48 << 20;
const MAGIC: &[u8; 8] = b"artfsgc1";
const HASH_BYTES: usize = 32;
const WHAT: &str = "collection record";

/// What becomes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackFate {
    /// Nothing in it is in use: it goes.
    Gone,
    /// It goes, and what was in use of it was copied: its table of moves says where to.
    Moved,
    /// It went before, and nothing needs its table of moves any more: the table goes.
    Forgotten,
}

impl PackFate {
    fn to_byte(self) -> u8 {
        match self {
            PackFate::Gone => 1,
            PackFate::Moved => 2,
            PackFate::Forgotten => 3,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(PackFate::Gone),
            2 => Some(PackFate::Moved),
            3 => Some(PackFate::Forgotten),
            _ => None,
        }
    }
}

/// What goes of one artifact. Its events never do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CondemnedArtifact {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// Manifest roots.
    pub manifests: Vec<ManifestId>,
    /// Details objects.
    pub details: Vec<DetailsId>,
    /// Checkpoints.
    pub checkpoints: Vec<CheckpointRef>,
}

impl CondemnedArtifact {
    /// Nothing of this artifact yet.
    pub fn new(artifact: ArtifactKey) -> Self {
        Self { artifact, manifests: vec![], details: vec![], checkpoints: vec![] }
    }

    /// How many objects go.
    pub fn len(&self) -> usize {
        self.manifests.len() + self.details.len() + self.checkpoints.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn encoded_len(&self) -> usize {
        let names = self.artifact.project.as_str().len() + self.artifact.name.as_str().len();
        16 + names + 32 * self.manifests.len() + 16 * self.details.len() + 40 * self.checkpoints.len()
    }
}

/// The record of one collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// The store it belongs to.
    pub store: StoreId,
    /// Its number, from 1.
    pub epoch: u64,
    /// Packs and tables of moves.
    pub packs: Vec<(PackId, PackFate)>,
    /// What goes of artifacts.
    pub artifacts: Vec<CondemnedArtifact>,
}

impl Collection {
    /// A collection that condemns nothing yet.
    pub fn new(store: StoreId, epoch: u64) -> Self {
        Self { store, epoch, packs: vec![], artifacts: vec![] }
    }

    /// How many objects it condemns.
    pub fn len(&self) -> usize {
        self.packs.len() + self.artifacts.iter().map(CondemnedArtifact::len).sum::<usize>()
    }

    /// Whether it condemns nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its length in bytes, at most [`MAX_RECORD_BYTES`] for one that is to be written.
    pub fn encoded_len(&self) -> usize {
        let artifacts: usize = self.artifacts.iter().map(CondemnedArtifact::encoded_len).sum();
        MAGIC.len() + 16 + 8 + 4 + 33 * self.packs.len() + 4 + artifacts + HASH_BYTES
    }

    /// The stored bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(self.store.as_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        put_count(&mut out, self.packs.len());
        for (id, fate) in &self.packs {
            out.extend_from_slice(id.as_bytes());
            out.push(fate.to_byte());
        }
        put_count(&mut out, self.artifacts.len());
        for condemned in &self.artifacts {
            put_short_bytes(&mut out, condemned.artifact.project.as_str().as_bytes());
            put_short_bytes(&mut out, condemned.artifact.name.as_str().as_bytes());
            put_count(&mut out, condemned.manifests.len());
            condemned.manifests.iter().for_each(|id| out.extend_from_slice(id.as_bytes()));
            put_count(&mut out, condemned.details.len());
            condemned.details.iter().for_each(|id| out.extend_from_slice(id.as_bytes()));
            put_count(&mut out, condemned.checkpoints.len());
            for CheckpointRef { seq, hash } in &condemned.checkpoints {
                out.extend_from_slice(&seq.to_le_bytes());
                out.extend_from_slice(hash.as_bytes());
            }
        }
        let hash = blake3::hash(&out);
        out.extend_from_slice(hash.as_bytes());
        out
    }

    /// Reads the record of a collection of this store and number.
    ///
    /// # Errors
    /// The record is damaged, of another store or number, or of a newer format.
    pub fn decode(store: StoreId, epoch: u64, bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(FormatError::new(WHAT, format!("{} bytes are too many", bytes.len())));
        }
        let body = checked_body(WHAT, bytes)?;
        let mut r = WireReader::new(WHAT, body);
        if r.bytes(MAGIC.len())? != MAGIC {
            return Err(r.error("it does not begin as records of this format do"));
        }
        if StoreId::from_bytes(r.array()?) != store {
            return Err(r.error("it belongs to another store"));
        }
        let found = r.u64()?;
        if found != epoch {
            return Err(r.error(format!("it is that of collection {found}")));
        }
        // No count is believed: each row that is read takes bytes of the input.
        let mut packs = vec![];
        for _ in 0..r.u32()? {
            let id = PackId::from_bytes(r.array()?);
            let fate = r.u8()?;
            let fate =
                PackFate::from_byte(fate).ok_or_else(|| r.error(format!("fate {fate} of pack {id}")))?;
            packs.push((id, fate));
        }
        let mut artifacts = vec![];
        for _ in 0..r.u32()? {
            artifacts.push(decode_artifact(&mut r)?);
        }
        r.end()?;
        Ok(Self { store, epoch, packs, artifacts })
    }
}

fn decode_artifact(r: &mut WireReader<'_>) -> Result<CondemnedArtifact, FormatError> {
    let (project, name) = (short_text(r)?, short_text(r)?);
    let artifact = format!("{project}/{name}").parse().map_err(|e| r.error(format!("{e}")))?;
    let mut condemned = CondemnedArtifact::new(artifact);
    for _ in 0..r.u32()? {
        condemned.manifests.push(ManifestId::from_bytes(r.array()?));
    }
    for _ in 0..r.u32()? {
        condemned.details.push(DetailsId::from_bytes(r.array()?));
    }
    for _ in 0..r.u32()? {
        let (seq, hash) = (r.u64()?, CheckpointHash::from_bytes(r.array()?));
        condemned.checkpoints.push(CheckpointRef { seq, hash });
    }
    Ok(condemned)
}

fn short_text<'a>(r: &mut WireReader<'a>) -> Result<&'a str, FormatError> {
    let bytes = r.short_bytes()?;
    std::str::from_utf8(bytes).map_err(|_| r.error("a name is not UTF-8"))
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("records are far smaller than 2^32 rows");
    out.extend_from_slice(&count.to_le_bytes());
}

/// The bytes before the hash at the end, if it is theirs.
pub(super) fn checked_body<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a [u8], FormatError> {
    let error = |problem: &str| FormatError::new(what, problem);
    let (body, hash) =
        bytes.split_last_chunk::<HASH_BYTES>().ok_or_else(|| error("it is shorter than its hash"))?;
    if blake3::hash(body).as_bytes() != hash {
        return Err(error("the hash at its end is not that of its bytes"));
    }
    Ok(body)
}

/// The end of a collection: everything that it condemned and that was not in use is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionEnd {
    /// Of the store.
    pub format: u32,
    /// The collection's number.
    pub epoch: u64,
    /// Objects that were deleted.
    pub deleted: u64,
    /// Objects that had come into use and were spared.
    pub spared: u64,
}

impl CollectionEnd {
    /// The end of this collection.
    pub fn new(epoch: u64, deleted: u64, spared: u64) -> Self {
        Self { format: FORMAT_VERSION, epoch, deleted, spared }
    }

    /// The stored bytes: one JSON object.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: [u8; 16] = [9; 16];

    fn record() -> Collection {
        let mut first = CondemnedArtifact::new("p/a".parse().unwrap());
        first.manifests = vec![ManifestId::of(b"m"), ManifestId::of(b"n")];
        first.checkpoints = vec![CheckpointRef { seq: 17, hash: CheckpointHash::of(b"c") }];
        let mut second = CondemnedArtifact::new("p/b".parse().unwrap());
        second.details = vec![DetailsId::from_bytes([3; 16])];
        Collection {
            store: StoreId::from_bytes(STORE),
            epoch: 7,
            packs: vec![
                (PackId::of(b"1"), PackFate::Gone),
                (PackId::of(b"2"), PackFate::Moved),
                (PackId::of(b"3"), PackFate::Forgotten),
            ],
            artifacts: vec![first, second],
        }
    }

    fn decode(bytes: &[u8]) -> Result<Collection, FormatError> {
        Collection::decode(StoreId::from_bytes(STORE), 7, bytes)
    }

    #[test]
    fn records_round_trip_and_any_damage_is_found() {
        let record = record();
        let bytes = record.encode();
        assert_eq!((bytes.len(), record.len()), (record.encoded_len(), 7));
        assert_eq!(decode(&bytes).unwrap(), record);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(decode(&damaged).is_err(), "byte {at}");
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        }
        let empty = Collection::new(StoreId::from_bytes(STORE), 7);
        assert_eq!(decode(&empty.encode()).unwrap(), empty);
        assert_eq!(empty.encode().len(), empty.encoded_len());
    }

    #[test]
    fn a_record_of_another_store_or_number_is_refused() {
        let bytes = record().encode();
        assert!(Collection::decode(StoreId::from_bytes([8; 16]), 7, &bytes).is_err());
        assert!(Collection::decode(StoreId::from_bytes(STORE), 8, &bytes).is_err());
    }

    /// Hostile bytes with a right hash are errors, and take no more memory than they have bytes.
    #[test]
    fn counts_fates_and_names_that_make_no_sense_are_refused() {
        let hashed = |mut body: Vec<u8>| {
            let hash = blake3::hash(&body);
            body.extend_from_slice(hash.as_bytes());
            body
        };
        let good = record().encode();
        let body = good[..good.len() - HASH_BYTES].to_vec();
        assert_eq!(decode(&hashed(body.clone())).unwrap(), record());
        let mut many = body.clone();
        many[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut fate = body.clone();
        fate[36 + 32] = 9;
        let mut longer = body.clone();
        longer.push(0);
        for bad in [many, fate, longer, vec![], MAGIC.to_vec()] {
            assert!(decode(&hashed(bad)).is_err());
        }
    }

    #[test]
    fn an_end_is_one_json_object() {
        let text = String::from_utf8(CollectionEnd::new(5, 12, 1).encode()).unwrap();
        assert_eq!(text, r#"{"format":1,"epoch":5,"deleted":12,"spared":1}"#);
    }
}
