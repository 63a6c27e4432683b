//! How a chunk's raw bytes are stored: as they are, zstd, in byte planes, or not at all (zeros).
//!
//! The codec is decided for each chunk by trying: a sample is compressed at zstd's fastest level, and only when
//! that pays is the whole chunk compressed in earnest. What does not shrink so is looked at for byte planes, which
//! float weights have. Random bytes cost 3 % of the time of compressing them for nothing.

use std::borrow::Cow;

use super::error::FormatError;
use super::planes::{self, PlaneEncoder};

/// The longest raw form of anything that is stored as a chunk (data chunks end at 1 MiB, manifest blocks at less
/// than this); bounds what a decoder allocates.
pub const MAX_RAW_BYTES: u32 = 16 << 20;

/// How a chunk is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// The raw bytes.
    Raw,
    /// One zstd frame.
    Zstd,
    /// Nothing is stored: the chunk is zeros.
    Zero,
    /// Byte planes, of which some are zstd frames.
    Planes,
}

impl Codec {
    /// The stored number.
    pub fn to_byte(self) -> u8 {
        match self {
            Codec::Raw => 0,
            Codec::Zstd => 1,
            Codec::Zero => 2,
            Codec::Planes => 3,
        }
    }

    /// From the stored number.
    ///
    /// # Errors
    /// The number is not that of a codec.
    pub fn from_byte(byte: u8) -> Result<Self, FormatError> {
        match byte {
            0 => Ok(Codec::Raw),
            1 => Ok(Codec::Zstd),
            2 => Ok(Codec::Zero),
            3 => Ok(Codec::Planes),
            other => Err(FormatError::new("codec", format!("{other} is not known to this version of artfs"))),
        }
    }
}

/// Bytes of a chunk that are tried first.
const SAMPLE_BYTES: usize = 16 << 10;
/// zstd's level for the sample: no entropy coding of literals, 3 GB/s on what does not shrink.
const SAMPLE_LEVEL: i32 = -1;
/// zstd's level for chunks that shrink.
const LEVEL: i32 = 3;

/// Compresses chunks; one for each worker thread, because zstd's working memory is reused.
pub struct Encoder {
    sample: zstd::bulk::Compressor<'static>,
    whole: zstd::bulk::Compressor<'static>,
    planes: PlaneEncoder,
}

impl Encoder {
    /// Allocates the working memory (a few MiB).
    ///
    /// # Errors
    /// Out of memory.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            sample: zstd::bulk::Compressor::new(SAMPLE_LEVEL)?,
            whole: zstd::bulk::Compressor::new(LEVEL)?,
            planes: PlaneEncoder::new()?,
        })
    }

    /// Chooses a codec for these bytes and gives their stored form, never longer than the raw one.
    pub fn encode<'a>(&mut self, raw: &'a [u8]) -> (Codec, Cow<'a, [u8]>) {
        if is_zero(raw) {
            return (Codec::Zero, Cow::Borrowed(&[]));
        }
        let sample = &raw[..raw.len().min(SAMPLE_BYTES)];
        let promising = self.sample.compress(sample).is_ok_and(|c| pays(c.len(), sample.len()));
        if promising
            && let Ok(stored) = self.whole.compress(raw)
            && pays(stored.len(), raw.len())
        {
            return (Codec::Zstd, Cow::Owned(stored));
        }
        if let Some(stored) = self.planes.encode(raw)
            && pays(stored.len(), raw.len())
        {
            return (Codec::Planes, Cow::Owned(stored));
        }
        (Codec::Raw, Cow::Borrowed(raw))
    }
}

/// Compression must save at least a twentieth to be worth the decoder's time.
fn pays(stored: usize, raw: usize) -> bool {
    stored < raw - raw / 20
}

/// Whether all bytes are zero; an empty slice is not worth a codec of its own.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (words, tail) = bytes.as_chunks::<64>();
    !bytes.is_empty()
        && tail.iter().all(|b| *b == 0)
        && words.iter().all(|w| w.iter().fold(0, |a, b| a | b) == 0)
}

/// The raw bytes of a stored chunk; exactly `raw_len` of them.
///
/// # Errors
/// The stored bytes are not what the codec wrote, or yield another length. The caller checks the hash.
pub fn decode(codec: Codec, stored: &[u8], raw_len: u32) -> Result<Cow<'_, [u8]>, FormatError> {
    decode_within(codec, stored, raw_len, MAX_RAW_BYTES)
}

/// The same for raw forms of up to `max_raw_bytes`.
pub(super) fn decode_within(
    codec: Codec,
    stored: &[u8],
    raw_len: u32,
    max_raw_bytes: u32,
) -> Result<Cow<'_, [u8]>, FormatError> {
    let error = |problem: String| FormatError::new("chunk", problem);
    if raw_len > max_raw_bytes {
        return Err(error(format!("raw length {raw_len} is over the limit of {max_raw_bytes}")));
    }
    let raw = match codec {
        Codec::Raw => Cow::Borrowed(stored),
        Codec::Zstd => {
            let raw = zstd::bulk::decompress(stored, raw_len as usize);
            Cow::Owned(raw.map_err(|e| error(format!("zstd: {e}")))?)
        }
        Codec::Planes => Cow::Owned(planes::decode(stored, raw_len as usize)?),
        Codec::Zero if stored.is_empty() => Cow::Owned(vec![0; raw_len as usize]),
        Codec::Zero => return Err(error("a chunk of zeros has stored bytes".into())),
    };
    if raw.len() != raw_len as usize {
        return Err(error(format!("{} raw bytes, {raw_len} expected", raw.len())));
    }
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut out);
        out
    }

    #[test]
    fn each_kind_of_content_takes_its_codec_and_comes_back() {
        let mut encoder = Encoder::new().unwrap();
        let text = b"the quick brown fox ".repeat(1000);
        for (raw, want) in [
            (noise(100_000), Codec::Raw),
            (text, Codec::Zstd),
            (vec![0; 70_001], Codec::Zero),
            (vec![], Codec::Raw),
        ] {
            let (codec, stored) = encoder.encode(&raw);
            assert_eq!(codec, want);
            assert!(stored.len() <= raw.len());
            assert_eq!(decode(codec, &stored, raw.len() as u32).unwrap(), raw);
        }
    }

    #[test]
    fn a_frame_that_inflates_beyond_its_stated_length_is_refused() {
        let bomb = zstd::bulk::compress(&vec![7u8; 10 << 20], 3).unwrap();
        assert!(decode(Codec::Zstd, &bomb, 1000).is_err());
        assert!(decode(Codec::Zstd, &bomb, u32::MAX).is_err());
        assert!(decode(Codec::Raw, b"abc", 4).is_err());
        assert!(decode(Codec::Zero, b"abc", 3).is_err());
        assert!(Codec::from_byte(200).is_err());
    }

    #[test]
    fn one_set_bit_anywhere_is_not_zero() {
        for len in [1, 63, 64, 65, 1000] {
            assert!(is_zero(&vec![0; len]));
            for at in [0, len / 2, len - 1] {
                let mut bytes = vec![0; len];
                bytes[at] = 1;
                assert!(!is_zero(&bytes), "{len} {at}");
            }
        }
        assert!(!is_zero(&[]));
    }
}
