//! Reading through packs that a collection rewrote.

use std::collections::BTreeMap;

use super::super::ReadError;
use super::super::testing::Fixture;
use super::damage::{check, read_all, sample};
use crate::format::entry::ChunkLocation;
use crate::format::id::{ChunkId, PackId};
use crate::format::pack::{
    PACK_FOOTER_BYTES, PackRow, decode_footer, decode_table, encode_footer, encode_table,
};
use crate::format::relocation::encode_moves;
use crate::store::Key;

fn rows_of(pack: &PackId, bytes: &[u8]) -> Vec<PackRow> {
    let (front, footer) = bytes.split_at(bytes.len() - PACK_FOOTER_BYTES);
    decode_table(pack, &front[front.len() - decode_footer(footer).unwrap()..]).unwrap()
}

/// Writes the chunks of a pack, turned round, into a new one with a table of moves, and deletes the old one.
async fn rewrite(fixture: &Fixture, pack: PackId, random: u8) -> (PackId, BTreeMap<ChunkId, ChunkLocation>) {
    let old = fixture.get(&Key::Pack(pack)).await;
    let (mut data, mut rows) = (vec![b'#'; 100], vec![]);
    let filler = PackRow {
        id: ChunkId::of(b"#"),
        offset: 0,
        stored_len: 100,
        raw_len: 100,
        codec: crate::format::codec::Codec::Raw,
    };
    rows.push(filler);
    for row in rows_of(&pack, &old).into_iter().rev() {
        let stored = &old[row.offset as usize..][..row.stored_len as usize];
        rows.push(PackRow { offset: data.len() as u64, ..row });
        data.extend_from_slice(stored);
    }
    let (id, table) = encode_table([random; 16], &rows);
    data.extend_from_slice(&table);
    data.extend_from_slice(&encode_footer(table.len()));
    let place = |row: &PackRow| ChunkLocation {
        pack: id,
        offset: row.offset,
        stored_len: row.stored_len,
        codec: row.codec,
    };
    let moves: BTreeMap<ChunkId, ChunkLocation> = rows[1..].iter().map(|row| (row.id, place(row))).collect();
    fixture.put(&Key::Pack(id), data).await;
    fixture.put(&Key::Moves(pack), encode_moves(&pack, &moves)).await;
    fixture.delete(&Key::Pack(pack)).await;
    (id, moves)
}

#[tokio::test]
async fn what_was_moved_is_read_from_its_new_place_as_often_as_it_was_moved() {
    let fixture = Fixture::new();
    let version = sample(&fixture).await;
    let mut packs: Vec<PackId> = version.data_packs.iter().chain(&version.block_packs).copied().collect();
    for round in 0..3 {
        for pack in &mut packs {
            *pack = rewrite(&fixture, *pack, round).await.0;
        }
        let cold = Fixture { backend: fixture.backend.clone(), ..Fixture::new() };
        let context = cold.context().await;
        let read = read_all(&context, &version).await.unwrap();
        assert!(check(&version, &read).is_empty(), "round {round}");
        let tables = context.store().counts().get;
        assert!(
            tables <= 3 + (u64::from(round) + 1) * packs.len() as u64,
            "each table is read once: {tables}"
        );
    }
}

#[tokio::test]
async fn a_chunk_that_was_not_moved_is_missing_and_the_others_are_read() {
    let fixture = Fixture::new();
    let version = sample(&fixture).await;
    let pack = version.data_packs[0];
    let (_, mut moves) = rewrite(&fixture, pack, 1).await;
    let gone = moves.pop_first().expect("there are chunks").0;
    fixture.put(&Key::Moves(pack), encode_moves(&pack, &moves)).await;
    let context = fixture.context().await;
    let errors = check(&version, &read_all(&context, &version).await.unwrap());
    assert!(!errors.is_empty(), "{gone} is missing");
    for error in &errors {
        let named =
            matches!(error, ReadError::Missing { object, .. } if *object == Key::Pack(pack).to_string());
        assert!(named, "{error}");
    }
    assert!(errors.len() < version.contents.len() / 2, "{errors:?}");
}

#[tokio::test]
async fn tables_that_lie_or_lead_in_a_circle_are_found_out() {
    let fixture = Fixture::new();
    let version = sample(&fixture).await;
    let pack = version.data_packs[0];
    let (new, moves) = rewrite(&fixture, pack, 1).await;
    // Every place is one byte off.
    let wrong: BTreeMap<ChunkId, ChunkLocation> =
        moves.iter().map(|(id, place)| (*id, ChunkLocation { offset: place.offset - 1, ..*place })).collect();
    fixture.put(&Key::Moves(pack), encode_moves(&pack, &wrong)).await;
    let errors = check(&version, &read_all(&fixture.context().await, &version).await.unwrap());
    assert!(
        !errors.is_empty() && errors.iter().all(|e| matches!(e, ReadError::Corrupt { .. })),
        "{errors:?}"
    );
    // A damaged table.
    fixture.put(&Key::Moves(pack), b"no table".to_vec()).await;
    let errors = check(&version, &read_all(&fixture.context().await, &version).await.unwrap());
    assert!(
        !errors.is_empty() && errors.iter().all(|e| matches!(e, ReadError::Corrupt { .. })),
        "{errors:?}"
    );
    // The new pack is gone, and its table leads back.
    let back: BTreeMap<ChunkId, ChunkLocation> =
        moves.iter().map(|(id, p)| (*id, ChunkLocation { pack, ..*p })).collect();
    fixture.put(&Key::Moves(pack), encode_moves(&pack, &moves)).await;
    fixture.put(&Key::Moves(new), encode_moves(&new, &back)).await;
    fixture.delete(&Key::Pack(new)).await;
    let errors = check(&version, &read_all(&fixture.context().await, &version).await.unwrap());
    assert!(
        !errors.is_empty() && errors.iter().all(|e| matches!(e, ReadError::Missing { .. })),
        "{errors:?}"
    );
}
