//! Byte planes: numbers of a fixed width, with the bytes of one significance brought together.
//!
//! In weights and activations the byte with sign and exponent takes few values and shrinks to a third; the mantissa
//! does not shrink at all, and mixed with it neither does the whole. Stored form:
//!
//! ```text
//! width u8 (2 or 4) | width × plane length u32 | planes
//! plane k = bytes k, k + width, k + 2·width, … as they are if its length says so, else one zstd frame
//! ```
//! The idea is that of ZipNN (arXiv:2411.05239) and of Blosc's shuffle filter.

use std::borrow::Cow;

use super::error::FormatError;
use super::wire::WireReader;
use zstd::zstd_safe::{CParameter, ParamSwitch};

/// Widths that are tried, in bytes.
const WIDTHS: [usize; 2] = [2, 4];
/// Shorter chunks are not worth a look.
const MIN_BYTES: usize = 4096;
/// Bytes looked at, in this many pieces spread over the chunk.
const SAMPLE_BYTES: usize = 4096;
const SAMPLE_PIECES: usize = 4;
/// Planes of more bits a byte are stored as they are.
const MAX_PLANE_BITS: f32 = 7.5;
/// Planes must save this part of the whole, by the sample.
const MIN_SAVING: f32 = 0.08;
/// zstd's level for planes: they hold no repetitions worth a search, so all but the entropy coding is skipped.
const LEVEL: i32 = -1000;

/// Splits chunks into planes and compresses those that shrink.
pub(super) struct PlaneEncoder {
    compressor: zstd::bulk::Compressor<'static>,
    plane: Vec<u8>,
    /// n·log2(n) for every count in a sample.
    n_log_n: Vec<f32>,
}

/// How a chunk is split: its width, and which planes are compressed.
struct PlaneLayout {
    width: usize,
    is_compressed: [bool; 4],
}

impl PlaneEncoder {
    pub fn new() -> std::io::Result<Self> {
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        compressor.set_parameter(CParameter::LiteralCompressionMode(ParamSwitch::Enable))?;
        let n_log_n = (0..=SAMPLE_BYTES).map(|n| if n < 2 { 0.0 } else { n as f32 * (n as f32).log2() });
        Ok(Self { compressor, plane: vec![], n_log_n: n_log_n.collect() })
    }

    /// The stored form, if a sample promises that it is shorter. Cost where it is not: some microseconds.
    pub fn encode(&mut self, raw: &[u8]) -> Option<Vec<u8>> {
        let PlaneLayout { width, is_compressed } = self.plan(raw)?;
        let head = 1 + 4 * width;
        let mut out = Vec::with_capacity(head + raw.len() + 64);
        out.push(width as u8);
        out.resize(head, 0);
        for plane in 0..width {
            let start = out.len();
            if is_compressed[plane] {
                self.plane.clear();
                gather(raw, width, plane, &mut self.plane);
                out.resize(start + zstd::zstd_safe::compress_bound(self.plane.len()), 0);
                let len = self.compressor.compress_to_buffer(&self.plane, &mut out[start..]).ok()?;
                out.truncate(start + len);
                if len >= self.plane.len() {
                    out.truncate(start);
                    out.extend_from_slice(&self.plane);
                }
            } else {
                gather(raw, width, plane, &mut out);
            }
            let len = (out.len() - start) as u32;
            out[1 + 4 * plane..][..4].copy_from_slice(&len.to_le_bytes());
        }
        Some(out)
    }

    fn plan(&self, raw: &[u8]) -> Option<PlaneLayout> {
        if raw.len() < MIN_BYTES {
            return None;
        }
        let counts = count(raw);
        let mut best: Option<(f32, PlaneLayout)> = None;
        for width in WIDTHS {
            let mut is_compressed = [false; 4];
            let mut bits = 0.0;
            for (plane, is_compressed) in is_compressed.iter_mut().enumerate().take(width) {
                let mut merged = [0u16; 256];
                for of_four in counts.iter().skip(plane).step_by(width) {
                    merged.iter_mut().zip(of_four).for_each(|(sum, n)| *sum += n);
                }
                let entropy = self.entropy(&merged);
                *is_compressed = entropy < MAX_PLANE_BITS;
                bits += if *is_compressed { entropy } else { 8.0 };
            }
            let share = bits / (8 * width) as f32;
            // A wider number must be better by more than chance.
            if share < 1.0 - MIN_SAVING && best.as_ref().is_none_or(|(other, _)| share < other - 0.02) {
                best = Some((share, PlaneLayout { width, is_compressed }));
            }
        }
        best.map(|(_, plan)| plan)
    }

    /// Bits a byte by these counts, with the correction for small samples of Miller and Madow.
    fn entropy(&self, counts: &[u16; 256]) -> f32 {
        let total: usize = counts.iter().map(|n| usize::from(*n)).sum();
        let kinds = counts.iter().filter(|n| **n > 0).count();
        let sum: f32 = counts.iter().map(|n| self.n_log_n[usize::from(*n)]).sum();
        let total = total as f32;
        total.log2() - sum / total + (kinds as f32 - 1.0) / (2.0 * total * std::f32::consts::LN_2)
    }
}

/// How often each byte stands at each of four places, in a sample.
fn count(raw: &[u8]) -> [[u16; 256]; 4] {
    let mut counts = [[0; 256]; 4];
    let piece = SAMPLE_BYTES / SAMPLE_PIECES;
    let last = raw.len() - piece;
    for i in 0..SAMPLE_PIECES {
        let start = (last * i / (SAMPLE_PIECES - 1)) & !3;
        for four in raw[start..start + piece].as_chunks::<4>().0 {
            counts.iter_mut().zip(four).for_each(|(counts, byte)| counts[usize::from(*byte)] += 1);
        }
    }
    counts
}

/// Appends one plane. Eight bytes of it are made by shifts of whole words: picking bytes one by one is several times
/// slower, and whether a compiler makes vector instructions of it depends on its settings.
fn gather(raw: &[u8], width: usize, plane: usize, out: &mut Vec<u8>) {
    let shift = 8 * plane as u32;
    let from = out.len();
    out.resize(from + raw.len() / width, 0);
    let (eights, rest) = out[from..].as_chunks_mut::<8>();
    let done = eights.len() * 8 * width;
    match width {
        2 => {
            for (eight, numbers) in eights.iter_mut().zip(raw.as_chunks::<16>().0) {
                let [a, b] = words(numbers);
                *eight = (every_second(a >> shift) | every_second(b >> shift) << 32).to_le_bytes();
            }
        }
        _ => {
            for (eight, numbers) in eights.iter_mut().zip(raw.as_chunks::<32>().0) {
                let [a, b, c, d] = words(numbers);
                let low = every_fourth(a >> shift) | every_fourth(b >> shift) << 16;
                let high = every_fourth(c >> shift) | every_fourth(d >> shift) << 16;
                *eight = (low | high << 32).to_le_bytes();
            }
        }
    }
    let numbers = raw[done..].chunks_exact(width);
    rest.iter_mut().zip(numbers).for_each(|(byte, number)| *byte = number[plane]);
    let tail = raw.len() - raw.len() % width;
    out.extend(raw.get(tail + plane));
}

#[inline(always)] // also where size comes first: a call for each word costs as much as the work
fn words<const BYTES: usize, const WORDS: usize>(bytes: &[u8; BYTES]) -> [u64; WORDS] {
    const { assert!(BYTES == 8 * WORDS) };
    let words = bytes.as_chunks().0;
    std::array::from_fn(|i| u64::from_le_bytes(words[i]))
}

/// Bytes 0, 2, 4 and 6, side by side.
#[inline(always)]
fn every_second(word: u64) -> u64 {
    let pairs = word & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    (fours | fours >> 16) & 0xffff_ffff
}

/// Bytes 0 and 4, side by side.
#[inline(always)]
fn every_fourth(word: u64) -> u64 {
    (word & 0xff) | (word >> 24 & 0xff00)
}

/// The inverse of [`every_second`].
#[inline(always)]
fn spread_second(bytes: u64) -> u64 {
    let fours = (bytes | bytes << 16) & 0x0000_ffff_0000_ffff;
    (fours | fours << 8) & 0x00ff_00ff_00ff_00ff
}

/// Puts all planes back in their places.
fn scatter(planes: &[Cow<'_, [u8]>], out: &mut [u8]) {
    let width = planes.len();
    match planes {
        [a, b] => {
            let (sixteens, rest) = out.as_chunks_mut::<16>();
            let ((a, a_rest), (b, b_rest)) = (a.split_at(8 * sixteens.len()), b.split_at(8 * sixteens.len()));
            let eights = a.as_chunks().0.iter().zip(b.as_chunks().0);
            for (sixteen, (a, b)) in sixteens.iter_mut().zip(eights) {
                let (a, b) = (u64::from_le_bytes(*a), u64::from_le_bytes(*b));
                let [low, high] = sixteen.as_chunks_mut::<8>().0 else { unreachable!("it is two words") };
                *low = (spread_second(a & 0xffff_ffff) | spread_second(b & 0xffff_ffff) << 8).to_le_bytes();
                *high = (spread_second(a >> 32) | spread_second(b >> 32) << 8).to_le_bytes();
            }
            let numbers = rest.as_chunks_mut().0.iter_mut();
            numbers.zip(a_rest.iter().zip(b_rest)).for_each(|(number, (a, b))| *number = [*a, *b]);
        }
        _ => {
            for (at, plane) in planes.iter().enumerate() {
                let numbers = out.as_chunks_mut::<4>().0.iter_mut();
                numbers.zip(&**plane).for_each(|(number, byte)| number[at] = *byte);
            }
        }
    }
    let whole = out.len() / width;
    for (place, plane) in out[whole * width..].iter_mut().zip(planes) {
        *place = plane[whole];
    }
}

/// The raw bytes of a stored form.
pub(super) fn decode(stored: &[u8], raw_len: usize) -> Result<Vec<u8>, FormatError> {
    let mut r = WireReader::new("byte planes", stored);
    let width = usize::from(r.u8()?);
    if !WIDTHS.contains(&width) {
        return Err(r.error(format!("numbers of {width} bytes")));
    }
    let mut lengths = [0; 4];
    for len in lengths.iter_mut().take(width) {
        *len = r.u32()? as usize;
    }
    let mut planes = Vec::with_capacity(width);
    for (plane, len) in lengths.into_iter().enumerate().take(width) {
        let want = (raw_len + width - 1 - plane) / width;
        let bytes = r.bytes(len)?;
        if len == want {
            planes.push(Cow::Borrowed(bytes));
            continue;
        }
        let mut buffer = vec![0; want];
        let got = zstd::bulk::decompress_to_buffer(bytes, &mut buffer[..])
            .map_err(|e| r.error(format!("plane {plane}: {e}")))?;
        if got != want {
            return Err(r.error(format!("plane {plane} has {got} bytes, {want} expected")));
        }
        planes.push(Cow::Owned(buffer));
    }
    r.end()?;
    let mut raw = vec![0; raw_len];
    scatter(&planes, &mut raw);
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

    /// Numbers of which only the byte at `at` has little in it.
    fn numbers(len: usize, width: usize, at: usize) -> Vec<u8> {
        let mut out = noise(len);
        out.iter_mut().skip(at).step_by(width).for_each(|byte| *byte = 60 + byte.leading_zeros() as u8);
        out
    }

    #[test]
    fn planes_round_trip_at_every_width_place_and_length() {
        let mut encoder = PlaneEncoder::new().unwrap();
        for (width, places) in [(2, 0..2), (4, 0..4)] {
            for at in places {
                for len in [4096, 4097, 4098, 4099, 100_003] {
                    let raw = numbers(len, width, at);
                    let stored = encoder.encode(&raw).expect("it shrinks");
                    assert_eq!(usize::from(stored[0]), width, "{at} {len}");
                    // 2 of 8 bits are left in one of the planes.
                    let want = len - len / width * 6 / 10;
                    assert!(stored.len() < want, "{width} {at}: {} of {len}", stored.len());
                    assert_eq!(decode(&stored, len).unwrap(), raw);
                }
            }
        }
    }

    #[test]
    fn the_stored_form_is_as_documented() {
        let stored = b"\x02\x03\0\0\0\x02\0\0\0acebd";
        assert_eq!(decode(stored, 5).unwrap(), b"abcde");
        let frame = zstd::bulk::compress(b"bbbb", 1).unwrap();
        let mut stored = [4, 4, 0, 0, 0, frame.len() as u8, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0].to_vec();
        stored.extend_from_slice(b"aaaa");
        stored.extend_from_slice(&frame);
        stored.extend_from_slice(b"ccccddd");
        assert_eq!(decode(&stored, 15).unwrap(), b"abcdabcdabcdabc");
    }

    #[test]
    fn what_has_no_planes_is_left_alone() {
        let mut encoder = PlaneEncoder::new().unwrap();
        assert!(encoder.encode(&noise(1 << 20)).is_none());
        assert!(encoder.encode(&numbers(1000, 2, 1)).is_none());
        assert!(encoder.encode(&[]).is_none());
    }

    #[test]
    fn damage_is_an_error_or_other_bytes_but_never_a_panic() {
        let mut encoder = PlaneEncoder::new().unwrap();
        let raw = numbers(5000, 2, 1);
        let stored = encoder.encode(&raw).unwrap();
        for at in 0..stored.len() {
            let mut damaged = stored.clone();
            damaged[at] ^= 0x55;
            if let Ok(other) = decode(&damaged, raw.len()) {
                assert_eq!(other.len(), raw.len());
            }
            assert!(decode(&stored[..at], raw.len()).is_err());
        }
        for len in [0, 1, 4999, 5001] {
            assert!(decode(&stored, len).is_err());
        }
    }
}
