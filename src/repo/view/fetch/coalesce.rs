//! Groups stored chunks that are neighbours in a pack into range requests.

use std::ops::Range;

use crate::format::entry::ChunkLocation;
use crate::format::id::PackId;

/// Bytes between two wanted chunks that are fetched and thrown away rather than paid for with another request.
pub(crate) const GAP_BYTES: u64 = 64 << 10;
/// No request is longer unless a single chunk is; several of these in parallel fill a fast link.
pub(crate) const REQUEST_BYTES: u64 = 4 << 20;

/// One range request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RangeRequest {
    pub pack: PackId,
    pub range: Range<u64>,
    /// The places that lie in it, by their index.
    pub members: Vec<usize>,
}

/// Groups places (none of them a chunk of zeros) into as few requests as the limits allow.
pub(super) fn group(places: &[ChunkLocation]) -> Vec<RangeRequest> {
    group_up_to(places, REQUEST_BYTES)
}

/// Groups places into requests of at most `request_bytes`, unless a single chunk is longer.
pub(crate) fn group_up_to(places: &[ChunkLocation], request_bytes: u64) -> Vec<RangeRequest> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by_key(|i| (places[*i].pack, places[*i].offset, *i));
    let mut groups: Vec<RangeRequest> = vec![];
    for i in order {
        let place = &places[i];
        let end = place.offset + u64::from(place.stored_len);
        if let Some(last) = groups.last_mut()
            && last.pack == place.pack
            && place.offset <= last.range.end + GAP_BYTES
            && end.max(last.range.end) - last.range.start <= request_bytes
        {
            last.range.end = last.range.end.max(end);
            last.members.push(i);
        } else {
            groups.push(RangeRequest { pack: place.pack, range: place.offset..end, members: vec![i] });
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::codec::Codec;

    fn place(pack: u8, offset: u64, stored_len: u32) -> ChunkLocation {
        ChunkLocation { pack: PackId::from_bytes([pack; 32]), offset, stored_len, codec: Codec::Raw }
    }

    #[test]
    fn neighbours_share_a_request_and_distant_ones_do_not() {
        let mib = 1 << 20;
        let places = [
            place(1, 10, 90),
            place(1, 0, 10),
            place(2, 100, 5),
            place(1, 100 + GAP_BYTES, 7),
            place(1, 109 + 2 * GAP_BYTES, 7),
            place(3, 0, 3 * mib),
            place(3, u64::from(3 * mib), mib),
            place(3, u64::from(4 * mib), mib),
            place(4, 0, 9 * mib),
        ];
        let groups: Vec<_> = group(&places).into_iter().map(|g| (g.range, g.members)).collect();
        let gap = GAP_BYTES;
        let m = u64::from(mib);
        assert_eq!(
            groups,
            [
                (0..107 + gap, vec![1, 0, 3]),
                (109 + 2 * gap..116 + 2 * gap, vec![4]),
                (100..105, vec![2]),
                (0..4 * m, vec![5, 6]),
                (4 * m..5 * m, vec![7]),
                (0..9 * m, vec![8]),
            ]
        );
    }
}
