//! One function for each decoder of bytes from outside: it must not panic, whatever it is given, and what it reads is
//! read again as the same after it was written. Shared by the targets of `cargo fuzz` and by the corpus test.

use std::path::Path;

use artfs::app::daemon::wire::{ControlRequest, Reply, to_line};
use artfs::format::checkpoint::Checkpoint;
use artfs::format::chunk;
use artfs::format::codec::{self, Codec, Encoder};
use artfs::format::collection::{Collection, CondemnedArtifact, PackFate};
use artfs::format::details::{Details, DetailsRef};
use artfs::format::entry::{ChunkLocation, ChunkRef, Entry, EntryBody, FileBody, FileBytes, Mtime};
use artfs::format::event::{self, Event};
use artfs::format::header::StoreHeader;
use artfs::format::id::{ChunkId, DetailsHash, DetailsId, FileHash, ManifestId, PackId, StoreId};
use artfs::format::lease::Lease;
use artfs::format::listed;
use artfs::format::manifest::{self, Block, BlockKind, IndexRow, Root};
use artfs::format::name::{AliasName, ArtifactKey, Reference, RunId, Selector, SessionName, VersionNumber};
use artfs::format::pack::{self, PackRow};
use artfs::format::path::{self, TreePath};
use artfs::format::query::{Condition, Field};
use artfs::format::relocation::{Moves, encode_moves};
use artfs::format::run::Run;
use artfs::format::signed::SignedEvent;
use artfs::format::signers::AllowedSigners;
use artfs::format::sshsig::{PublicKey, SshSignature};
use artfs::format::units;
use artfs::mount::staging;
use artfs::repo::cache;
use artfs::repo::diff::content::decoders;
use artfs::repo::trust::{Floor, TrustRule};
use artfs::store::source::Uri;
use artfs::store::{Key, StoreUrl};
use bytes::Bytes;

/// A decoder: its name, what it does with bytes, and bytes that it reads.
pub struct Decoder {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! decoders {
    ($($name:ident: $seeds:expr),* $(,)?) => {
        #[allow(dead_code, reason = "a target runs one of them")]
        pub const ALL: &[Decoder] = &[$(Decoder { name: stringify!($name), run: $name, seeds: $seeds }),*];
    };
}

decoders! {
    event: Vec::new,
    signed: Vec::new,
    checkpoint: Vec::new,
    header: Vec::new,
    details: Vec::new,
    run: Vec::new,
    root: Vec::new,
    block: blocks,
    entry: || vec![sample("a/b", 3).encode_alone(), sample("x", 0).encode_alone()],
    chunk_reference: || vec![chunk_ref(7).encode_alone().to_vec()],
    stored_chunk: stored_chunks,
    pack_table: || vec![pack_rows(3), pack_rows(0)],
    moves: || vec![unhashed(encode_moves(&PackId::of(b"p"), &[1, 2].map(|n| (chunk_ref(n).id, chunk_ref(n).place)).into()))],
    collection: || vec![unhashed(a_collection().encode())],
    lease: || vec![Lease::new(3600).encode()],
    listing: Vec::new,
    signature: Vec::new,
    armored_signature: Vec::new,
    signers: Vec::new,
    condition: Vec::new,
    store_url: Vec::new,
    source_uri: Vec::new,
    names: Vec::new,
    tree_path: Vec::new,
    object_key: Vec::new,
    spans_and_sizes: Vec::new,
    signature_rules: Vec::new,
    request: || vec![to_line(&ControlRequest::Status), to_line(&ControlRequest::Unmount { lazy: true })],
    reply: Vec::new,
    journal: Vec::new,
    identity: Vec::new,
    safetensors: Vec::new,
    npy: Vec::new,
    parquet: Vec::new,
    delimited: Vec::new,
    json_lines: Vec::new,
}

fn text(bytes: &[u8]) -> &str {
    // As much as is text: a reader of text refuses the rest before it looks.
    let valid = std::str::from_utf8(bytes).map_or_else(|e| e.valid_up_to(), str::len);
    std::str::from_utf8(&bytes[..valid]).unwrap_or_default()
}

/// What was parsed is printed, and parsed again as the same.
fn prints_back<T: std::str::FromStr + std::fmt::Display + PartialEq + std::fmt::Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let printed = value.to_string();
        assert!(printed.parse::<T>().is_ok_and(|again| again == value), "{text:?} is printed as {printed:?}");
    }
}

pub fn event(bytes: &[u8]) {
    let Ok(event) = Event::decode(bytes) else { return };
    if !matches!(event.body, event::EventBody::Unknown { .. }) {
        assert_eq!(Event::decode(&event.encode()).as_ref(), Ok(&event));
    }
}

pub fn signed(bytes: &[u8]) {
    if let Ok(Some(signed)) = SignedEvent::from_stored(bytes) {
        assert_eq!(SignedEvent::from_stored(&signed.to_stored()), Ok(Some(signed.clone())));
        let _ = signed.verify();
    }
}

pub fn checkpoint(bytes: &[u8]) {
    if let Ok(checkpoint) = Checkpoint::decode(bytes) {
        let again = Checkpoint::decode(&checkpoint.encode().unwrap()).unwrap();
        assert_eq!(again.encode().unwrap(), checkpoint.encode().unwrap());
    }
}

pub fn header(bytes: &[u8]) {
    if let Ok(header) = StoreHeader::decode(bytes) {
        assert!(StoreHeader::decode(&header.encode()).is_ok_and(|again| again == header));
    }
}

pub fn details(bytes: &[u8]) {
    let id = DetailsId::from_bytes([7; 16]);
    if let Ok(details) = Details::decode(&DetailsRef { id, hash: DetailsHash::of(bytes) }, bytes) {
        let (reference, again) = details.encode(id);
        assert_eq!(Details::decode(&reference, &again), Ok(details));
    }
}

pub fn run(bytes: &[u8]) {
    if let Ok(run) = serde_json::from_slice::<Run>(bytes) {
        let again = serde_json::to_vec(&run).unwrap();
        assert!(serde_json::from_slice::<Run>(&again).is_ok_and(|again| again == run));
        let _ = run.title();
    }
}

pub fn root(bytes: &[u8]) {
    if let Ok(root) = Root::decode(&ManifestId::of(bytes), bytes) {
        walk(&root.top);
        let (id, again) = root.encode([1; 16], &mut Encoder::new().unwrap());
        assert!(Root::decode(&id, &again).is_ok_and(|again| again.digest == root.digest));
    }
}

pub fn block(bytes: &[u8]) {
    if let Ok(block) = Block::parse(Bytes::copy_from_slice(bytes)) {
        walk(&block);
    }
}

fn walk(block: &Block) {
    for i in 0..block.len() {
        match block.kind() {
            BlockKind::Leaf => drop(block.entry(i)),
            BlockKind::Index => drop(block.index_row(i)),
            BlockKind::List => drop(block.chunk(i)),
        }
        if let Ok(path) = block.path(i) {
            let _ = block.lower_bound(path);
        }
    }
    let _ = (block.chunks(1000), block.lower_bound(b"a"), block.entry(block.len()));
}

pub fn entry(bytes: &[u8]) {
    if let Ok(entry) = Entry::decode_alone(bytes) {
        assert_eq!(Entry::decode_alone(&entry.encode_alone()), Ok(entry));
    }
}

pub fn chunk_reference(bytes: &[u8]) {
    if let Ok(chunk) = ChunkRef::decode_alone(bytes) {
        assert_eq!(ChunkRef::decode_alone(&chunk.encode_alone()), Ok(chunk));
    }
}

/// Codec, length when decoded, stored bytes.
pub fn stored_chunk(bytes: &[u8]) {
    let Some((&[codec, a, b, c], stored)) = bytes.split_first_chunk::<4>() else { return };
    let Ok(codec) = Codec::from_byte(codec) else { return };
    let raw_len = u32::from_le_bytes([a, b, c, 0]);
    if let Ok(raw) = codec::decode(codec, stored, raw_len) {
        assert_eq!(raw.len(), raw_len as usize);
    }
}

pub fn pack_table(bytes: &[u8]) {
    if let Some(footer) = bytes.last_chunk::<{ pack::PACK_FOOTER_BYTES }>() {
        let _ = pack::decode_footer(footer);
    }
    if let Ok(rows) = pack::decode_table(&PackId::of(bytes), bytes) {
        let (id, again) = pack::encode_table([1; 16], &rows);
        assert_eq!(pack::decode_table(&id, &again), Ok(rows));
    }
}

/// Without the hash at its end, which is always right here.
pub fn moves(bytes: &[u8]) {
    if let Ok(moves) = Moves::decode(&PackId::of(b"p"), &hashed(bytes).into()) {
        let _ = (moves.find(&ChunkId::of(b"x")), moves.targets(), moves.len());
    }
}

/// As [`moves`].
pub fn collection(bytes: &[u8]) {
    let store = StoreId::from_bytes([7; 16]);
    if let Ok(record) = Collection::decode(store, 7, &hashed(bytes)) {
        assert_eq!(Collection::decode(store, 7, &record.encode()), Ok(record));
    }
}

pub fn lease(bytes: &[u8]) {
    if let Ok(lease) = Lease::decode(bytes) {
        assert_eq!(Lease::decode(&lease.encode()), Ok(lease));
    }
}

pub fn listing(bytes: &[u8]) {
    let _ = listed::parse(bytes);
}

pub fn signature(bytes: &[u8]) {
    if let Ok(key) = PublicKey::from_bytes(bytes) {
        assert!(key.to_string().parse::<PublicKey>().is_ok_and(|again| again == key));
        let _ = (key.kind().len(), key.fingerprint());
    }
    if let Ok(signature) = SshSignature::from_bytes(bytes) {
        assert_eq!(SshSignature::from_base64(&signature.to_base64()), Ok(signature.clone()));
        assert_eq!(SshSignature::from_armor(&signature.to_armor()), Ok(signature.clone()));
        let _ = signature.verify(b"payload");
    }
}

pub fn armored_signature(bytes: &[u8]) {
    if let Ok(found) = SshSignature::from_armor(text(bytes)) {
        let _ = found.verify(b"payload");
    }
}

pub fn signers(bytes: &[u8]) {
    let text = text(bytes);
    if let Ok(signers) = AllowedSigners::parse(text, Path::new("f")) {
        let _ = (signers.keys().count(), signers.has_principal("x"));
    }
    let _ = text.parse::<PublicKey>();
}

pub fn condition(bytes: &[u8]) {
    prints_back::<Condition>(text(bytes));
    prints_back::<Field>(text(bytes));
}

pub fn store_url(bytes: &[u8]) {
    prints_back::<StoreUrl>(text(bytes));
}

pub fn source_uri(bytes: &[u8]) {
    if let Ok(uri) = Uri::parse(text(bytes)) {
        let printed = uri.to_string();
        assert!(Uri::parse(&printed).is_ok_and(|again| again.to_string() == printed));
    }
}

pub fn names(bytes: &[u8]) {
    let text = text(bytes);
    prints_back::<ArtifactKey>(text);
    prints_back::<Reference>(text);
    prints_back::<Selector>(text);
    prints_back::<VersionNumber>(text);
    prints_back::<AliasName>(text);
    prints_back::<SessionName>(text);
    prints_back::<RunId>(text);
}

pub fn tree_path(bytes: &[u8]) {
    let _ = path::check_component(bytes);
    let Ok(path) = TreePath::new(bytes) else { return };
    assert!(
        !bytes.split(|b| *b == b'/').any(|name| [&b""[..], b".", b".."].contains(&name) || name.contains(&0))
    );
    assert_eq!(path.as_bytes(), bytes);
    if let Some(parent) = path.parent() {
        assert!(path.is_below(&parent));
        assert_eq!(parent.join(path.file_name()), Ok(path));
    }
}

pub fn object_key(bytes: &[u8]) {
    let text = text(bytes);
    if let Some(key) = Key::parse(text) {
        assert_eq!(Key::parse(&key.to_string()), Some(key));
    }
}

pub fn spans_and_sizes(bytes: &[u8]) {
    let _ = (units::parse_span(text(bytes)), units::parse_size(text(bytes)));
}

pub fn signature_rules(bytes: &[u8]) {
    let _ = (text(bytes).parse::<TrustRule>(), text(bytes).parse::<Floor>());
}

pub fn request(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<ControlRequest>(bytes) {
        assert!(
            serde_json::from_slice::<ControlRequest>(&to_line(&request)).is_ok_and(|again| again == request)
        );
    }
}

pub fn reply(bytes: &[u8]) {
    if let Ok(reply) = serde_json::from_slice::<Reply>(bytes) {
        assert!(serde_json::from_slice::<Reply>(&to_line(&reply)).is_ok_and(|again| again == reply));
    }
}

/// Behind a header for 1,000 bytes, which is always right here.
pub fn journal(bytes: &[u8]) {
    let whole = [&b"artfspm1"[..], &1000_u64.to_le_bytes(), bytes].concat();
    assert!(cache::count_journal(&whole, 1000).is_some_and(|records| records <= bytes.len() / 16));
    let _ = cache::count_journal(bytes, 1000);
}

pub fn identity(bytes: &[u8]) {
    let _ = staging::is_identity(bytes);
}

pub fn safetensors(bytes: &[u8]) {
    let _ = decoders::safetensors(bytes);
}

pub fn npy(bytes: &[u8]) {
    let _ = decoders::npy(bytes);
}

pub fn parquet(bytes: &[u8]) {
    let _ = decoders::parquet(bytes);
}

pub fn delimited(bytes: &[u8]) {
    let _ = (decoders::delimited(bytes, b','), decoders::delimited(bytes, b'\t'));
}

pub fn json_lines(bytes: &[u8]) {
    let _ = decoders::json_lines(bytes);
}

fn hashed(body: &[u8]) -> Vec<u8> {
    [body, blake3::hash(body).as_bytes()].concat()
}

fn unhashed(mut object: Vec<u8>) -> Vec<u8> {
    object.truncate(object.len() - 32);
    object
}

fn chunk_ref(n: u8) -> ChunkRef {
    let place = ChunkLocation { pack: PackId::of(b"x"), offset: 9, stored_len: 50, codec: Codec::Raw };
    ChunkRef { id: ChunkId::from_bytes([n; 32]), span: 50, raw_len: 50, place }
}

fn sample(path: &str, chunks: u8) -> Entry {
    let refs: Vec<ChunkRef> = (0..chunks).map(chunk_ref).collect();
    let content = match chunks {
        0 => FileBytes::Inline(b"hello".to_vec().into()),
        _ => FileBytes::Chunks { level: 0, refs },
    };
    let size = if chunks == 0 { 5 } else { 50 * u64::from(chunks) };
    let hash = FileHash::of(b"hello");
    let body = FileBody { size, hash, sha256: None, hole_bytes: 0, rule: chunk::ChunkRule::Text, content };
    let mtime = Mtime { seconds: 1, nanos: 2 };
    Entry {
        path: TreePath::new(path.as_bytes()).unwrap(),
        executable: true,
        mtime,
        body: EntryBody::File(body),
    }
}

fn blocks() -> Vec<Vec<u8>> {
    let row = |n: u8| IndexRow {
        first_path: vec![b'a' + n],
        block: ChunkRef { span: 0, ..chunk_ref(n) },
        entries: 5,
        bytes: 9,
    };
    let directory = Entry { body: EntryBody::Directory, ..sample("b", 0) };
    vec![
        manifest::encode_leaf(&[sample("a", 0), directory, sample("b/c", 2), sample("d", 4)]),
        manifest::encode_index(&[row(0), row(1)]),
        manifest::encode_list(&[chunk_ref(1), chunk_ref(2)]),
    ]
}

fn stored_chunks() -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new().unwrap();
    let floats: Vec<u8> = (0..4096_u32).flat_map(|n| [(n * 7 % 251) as u8, 0x3f]).collect();
    let raws = [b"abc".to_vec(), vec![0; 700], b"the same again ".repeat(50), floats];
    let stored = raws.iter().map(|raw| {
        let (codec, stored) = encoder.encode(raw);
        [&[codec.to_byte()][..], &(raw.len() as u32).to_le_bytes()[..3], &stored].concat()
    });
    stored.collect()
}

fn pack_rows(count: u8) -> Vec<u8> {
    let row = |n: u8| PackRow {
        id: ChunkId::from_bytes([n; 32]),
        offset: u64::from(n) * 50,
        stored_len: 50,
        raw_len: 50,
        codec: Codec::Raw,
    };
    pack::encode_table([3; 16], &(0..count).map(row).collect::<Vec<_>>()).1
}

fn a_collection() -> Collection {
    let mut condemned = CondemnedArtifact::new("p/a".parse().unwrap());
    condemned.manifests = vec![ManifestId::of(b"m")];
    condemned.details = vec![DetailsId::from_bytes([5; 16])];
    let mut record = Collection::new(StoreId::from_bytes([7; 16]), 7);
    record.packs = vec![(PackId::of(b"1"), PackFate::Gone)];
    record.artifacts = vec![condemned];
    record
}
