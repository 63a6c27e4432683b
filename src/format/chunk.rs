//! Content-defined chunking: FastCDC's normalised cut points over a gear hash.
//!
//! Source: W. Xia et al., "FastCDC: a Fast and Efficient Content-Defined Chunking Approach for Data
//! Deduplication", USENIX ATC 2016. One difference: the hash at a position is always that of the 64 bytes before
//! it, also just after a cut, so cut candidates do not depend on where the chunk began and can be searched in
//! several places at once. The rules here are frozen with format version 1.

/// How a file is cut; recorded with each file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkRule {
    /// Text and tables: 16 KiB on average, because edits are small and scattered.
    Text,
    /// Everything else: 256 KiB on average.
    Binary,
}

impl ChunkRule {
    /// The stored number.
    pub fn to_byte(self) -> u8 {
        match self {
            ChunkRule::Text => 1,
            ChunkRule::Binary => 2,
        }
    }

    /// From the stored number.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(ChunkRule::Text),
            2 => Some(ChunkRule::Binary),
            _ => None,
        }
    }

    /// The rule for a file, from its name's extension, and where that says nothing from its first bytes.
    ///
    /// Both stay the same over a file's versions, so that its unchanged parts are cut in the same places.
    pub fn choose(file_name: &[u8], head: &[u8]) -> ChunkRule {
        let extension = match file_name.iter().rposition(|b| *b == b'.') {
            Some(dot) => file_name[dot + 1..].to_ascii_lowercase(),
            None => Vec::new(),
        };
        match extension.as_slice() {
            b"csv" | b"tsv" | b"json" | b"jsonl" | b"ndjson" | b"txt" | b"xml" | b"html" | b"md"
            | b"yaml" | b"yml" | b"toml" | b"sql" | b"log" | b"py" | b"ipynb" | b"conll" | b"vcf"
            | b"svg" => ChunkRule::Text,
            b"safetensors" | b"pt" | b"pth" | b"bin" | b"ckpt" | b"onnx" | b"gguf" | b"h5" | b"npy"
            | b"npz" | b"parquet" | b"arrow" | b"tar" | b"zip" | b"gz" | b"zst" | b"png" | b"jpg"
            | b"jpeg" | b"mp4" | b"wav" | b"flac" | b"db" | b"sqlite" | b"pkl" | b"joblib" | b"tfrecord" => {
                ChunkRule::Binary
            }
            _ if looks_like_text(&head[..head.len().min(HEAD_BYTES)]) => ChunkRule::Text,
            _ => ChunkRule::Binary,
        }
    }

    /// The shortest, average and longest chunk in bytes. A file's last chunk may be shorter.
    pub const fn sizes(self) -> Sizes {
        match self {
            ChunkRule::Text => Sizes { min: 4 << 10, average: 16 << 10, max: 64 << 10 },
            ChunkRule::Binary => Sizes { min: 64 << 10, average: 256 << 10, max: 1 << 20 },
        }
    }
}

/// How many of a file's first bytes [`ChunkRule::choose`] looks at.
pub const HEAD_BYTES: usize = 4 << 10;

fn looks_like_text(head: &[u8]) -> bool {
    let control = |b: &u8| *b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b);
    match std::str::from_utf8(head) {
        Ok(_) => !head.iter().any(control),
        // A character may be cut in two at the end of what was read.
        Err(e) => e.error_len().is_none() && e.valid_up_to() + 4 > head.len() && !head.iter().any(control),
    }
}

/// Chunk lengths of a rule, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// No cut before this many bytes.
    pub min: usize,
    /// Where the mask becomes permissive; a power of two.
    pub average: usize,
    /// A cut here at the latest.
    pub max: usize,
}

/// Bytes that determine the hash at a position: a 64-bit hash shifted by one bit a byte forgets the rest.
const WINDOW_BYTES: usize = 64;
/// How many bits stricter before the average and laxer after it (the paper's normalisation level).
const NORMALISATION_BITS: u32 = 2;

/// Cuts byte streams by one rule.
pub struct Chunker {
    sizes: Sizes,
    strict: u64,
    lax: u64,
    gear: [u64; 256],
}

impl Chunker {
    /// Computes the tables of a rule (some microseconds).
    pub fn new(rule: ChunkRule) -> Self {
        let sizes = rule.sizes();
        let bits = sizes.average.trailing_zeros();
        let mask = |bits: u32| !0u64 << (64 - bits);
        Self {
            sizes,
            strict: mask(bits + NORMALISATION_BITS),
            lax: mask(bits - NORMALISATION_BITS),
            gear: gear_table(),
        }
    }

    /// The rule's lengths.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// The length of the first chunk of `data`, which must hold the longest chunk's length or reach the file's
    /// end. Cost: one table look-up a byte beyond the shortest length.
    pub fn cut(&self, data: &[u8]) -> usize {
        let Sizes { min, average, max } = self.sizes;
        if data.len() <= min {
            return data.len();
        }
        let end = data.len().min(max);
        // Zeros match neither mask (a test holds that), so a run of them ends at the longest length.
        if data[0] == 0 && data[..end].iter().all(|b| *b == 0) {
            return end;
        }
        let middle = end.min(average);
        let mut hash = 0u64;
        for byte in &data[min - WINDOW_BYTES..min] {
            hash = (hash << 1).wrapping_add(self.gear[usize::from(*byte)]);
        }
        for (range, mask) in [(min..middle, self.strict), (middle..end, self.lax)] {
            let start = range.start;
            let (pairs, last) = data[range].as_chunks::<2>();
            // Two bytes a step, as in FastCDC's second paper (2020): each hash waits for the one before it, and the
            // second one of a pair does not wait for the first.
            for (i, [first, second]) in pairs.iter().enumerate() {
                let first = self.gear[usize::from(*first)];
                let both = (first << 1).wrapping_add(self.gear[usize::from(*second)]);
                if (hash << 1).wrapping_add(first) & mask == 0 {
                    return start + 2 * i + 1;
                }
                hash = (hash << 2).wrapping_add(both);
                if hash & mask == 0 {
                    return start + 2 * i + 2;
                }
            }
            if let [byte] = last {
                hash = (hash << 1).wrapping_add(self.gear[usize::from(*byte)]);
                if hash & mask == 0 {
                    return start + 2 * pairs.len() + 1;
                }
            }
        }
        end
    }
}

/// 256 random words: BLAKE3's extended output for a fixed label, read as little-endian numbers.
fn gear_table() -> [u64; 256] {
    let mut bytes = [0u8; 256 * 8];
    blake3::Hasher::new().update(b"artfs gear table v1").finalize_xof().fill(&mut bytes);
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|i| u64::from_le_bytes(words[i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u8, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut out);
        out
    }

    fn cuts(rule: ChunkRule, data: &[u8]) -> Vec<usize> {
        let chunker = Chunker::new(rule);
        let mut at = 0;
        let mut out = vec![];
        while at < data.len() {
            at += chunker.cut(&data[at..]);
            out.push(at);
        }
        out
    }

    #[test]
    fn the_cut_points_of_format_1_are_frozen() {
        let data = noise(1, 3 << 20);
        let text = cuts(ChunkRule::Text, &data);
        let binary = cuts(ChunkRule::Binary, &data);
        let summary = |cuts: &[usize]| {
            let bytes: Vec<u8> = cuts.iter().flat_map(|c| (*c as u64).to_le_bytes()).collect();
            (cuts.len(), blake3::hash(&bytes).to_hex()[..16].to_owned())
        };
        assert_eq!(summary(&text), (FROZEN_TEXT.0, FROZEN_TEXT.1.to_owned()));
        assert_eq!(summary(&binary), (FROZEN_BINARY.0, FROZEN_BINARY.1.to_owned()));
    }
    const FROZEN_TEXT: (usize, &str) = (167, "10ea1c6fca852707");
    const FROZEN_BINARY: (usize, &str) = (13, "adb594c753d66fa6");

    #[test]
    fn lengths_keep_their_bounds_and_the_average_is_near_its_name() {
        for rule in [ChunkRule::Text, ChunkRule::Binary] {
            let data = noise(2, 32 << 20);
            let cuts = cuts(rule, &data);
            let sizes = rule.sizes();
            let lengths: Vec<usize> =
                std::iter::once(&0).chain(&cuts).zip(&cuts).map(|(a, b)| b - a).collect();
            let (last, inner) = lengths.split_last().unwrap();
            assert!(inner.iter().all(|l| (sizes.min..=sizes.max).contains(l)) && *last <= sizes.max);
            let mean = data.len() / lengths.len();
            assert!((sizes.average / 2..sizes.average * 2).contains(&mean), "{rule:?}: {mean}");
        }
    }

    #[test]
    fn zeros_are_cut_by_length_alone() {
        for rule in [ChunkRule::Text, ChunkRule::Binary] {
            let Chunker { gear, strict, lax, .. } = Chunker::new(rule);
            let hash = (0..WINDOW_BYTES).fold(0u64, |h, _| (h << 1).wrapping_add(gear[0]));
            assert!(hash & strict != 0 && hash & lax != 0);
            assert_eq!(Chunker::new(rule).cut(&vec![0; 4 << 20]), rule.sizes().max);
        }
    }

    #[test]
    fn inserted_bytes_change_only_the_chunks_they_touch() {
        let data = noise(3, 16 << 20);
        let shifted = [&noise(4, 137)[..], &data].concat();
        let chunk_ids = |data: &[u8]| {
            let mut at = 0;
            let mut ids = std::collections::BTreeSet::new();
            for cut in cuts(ChunkRule::Binary, data) {
                ids.insert(crate::format::id::ChunkId::of(&data[at..cut]));
                at = cut;
            }
            ids
        };
        let (a, b) = (chunk_ids(&data), chunk_ids(&shifted));
        assert!(b.difference(&a).count() <= 2, "{} of {} chunks are new", b.difference(&a).count(), b.len());
    }

    #[test]
    fn a_file_keeps_its_rule_when_it_changes() {
        assert_eq!(ChunkRule::choose(b"t.csv", b"\0\x01"), ChunkRule::Text);
        assert_eq!(ChunkRule::choose(b"m.PTH", b"text"), ChunkRule::Binary);
        assert_eq!(ChunkRule::choose(b"README", "grüße\n".as_bytes()), ChunkRule::Text);
        assert_eq!(ChunkRule::choose(b"README", &"ü".as_bytes()[..1]), ChunkRule::Text);
        assert_eq!(ChunkRule::choose(b"data", b"\x7fELF\x02\x01\0"), ChunkRule::Binary);
    }
}
