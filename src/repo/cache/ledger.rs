//! What the cache holds: one item for each file, with its size on disk, its last use and who is using it.
//!
//! Pure bookkeeping under one lock ([`CacheLedger`]); disk and database follow it. Bytes of an item that was removed
//! while someone had it open stay counted until the last user is gone, because the disk still holds them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use super::item::{Changes, ContentProof, ItemKey, ItemKind};

/// An open item that can be made to take less of the disk.
pub(super) trait Shed: std::fmt::Debug + Send + Sync {
    /// Frees about this many bytes on disk. Returns how many it freed.
    fn shed(&self, bytes: u64) -> u64;
}

#[derive(Debug)]
pub(super) struct CacheItem {
    /// Tells this item from an earlier one of the same name.
    serial: u64,
    /// The file's length in bytes.
    pub size: u64,
    /// Bytes on disk: less than `size` where there are holes.
    pub charge: u64,
    /// Milliseconds since the epoch, strictly ascending within a process.
    pub last_use: u64,
    pub proof: ContentProof,
    users: u32,
    /// The open partly fetched file, whose chunks can be dropped while it is in use.
    partial: Option<Weak<dyn Shed>>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct CacheLedger {
    items: HashMap<ItemKey, CacheItem>,
    /// Removed items that are still open: charge and users by serial.
    lingering: HashMap<u64, (u64, u32)>,
    bytes: u64,
    next_serial: u64,
    clock: u64,
    /// Not evicted, whether they are here or not.
    pinned: HashSet<ItemKey>,
    /// Rows to write and rows to delete at the next flush.
    dirty: HashSet<ItemKey>,
    removed: HashSet<ItemKey>,
}

impl CacheLedger {
    /// Bytes on disk, lingering ones included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn count(&self, kind: ItemKind) -> u64 {
        self.items.keys().filter(|(k, _)| *k == kind).count() as u64
    }

    pub fn get(&self, key: &ItemKey) -> Option<&CacheItem> {
        self.items.get(key)
    }

    fn tick(&mut self, now: u64) -> u64 {
        self.clock = now.max(self.clock + 1);
        self.clock
    }

    /// Enters an item, replacing one of the same name.
    pub fn insert(&mut self, key: ItemKey, size: u64, charge: u64, proof: ContentProof, now: u64) {
        self.remove(&key);
        let last_use = self.tick(now);
        self.insert_loaded(key, size, charge, proof, last_use);
        self.removed.remove(&key);
        self.dirty.insert(key);
    }

    /// Enters an item that the database or a scan of the disk knows; one that is here already stays.
    pub fn insert_loaded(
        &mut self,
        key: ItemKey,
        size: u64,
        charge: u64,
        proof: ContentProof,
        last_use: u64,
    ) {
        if self.items.contains_key(&key) {
            return;
        }
        self.next_serial += 1;
        let item =
            CacheItem { serial: self.next_serial, size, charge, last_use, proof, users: 0, partial: None };
        self.bytes = self.bytes.saturating_add(charge);
        self.items.insert(key, item);
    }

    /// Counts a user. Returns the serial to [`CacheLedger::leave`] with.
    pub fn enter(&mut self, key: &ItemKey, now: u64) -> Option<u64> {
        let last_use = self.tick(now);
        let item = self.items.get_mut(key)?;
        item.users += 1;
        item.last_use = last_use;
        self.dirty.insert(*key);
        Some(item.serial)
    }

    pub fn leave(&mut self, key: &ItemKey, serial: u64) {
        if let Some(item) = self.items.get_mut(key).filter(|i| i.serial == serial) {
            item.users = item.users.saturating_sub(1);
        } else if let Some((charge, users)) = self.lingering.get_mut(&serial) {
            *users -= 1;
            if *users == 0 {
                self.bytes = self.bytes.saturating_sub(*charge);
                self.lingering.remove(&serial);
            }
        }
    }

    pub fn touch(&mut self, key: &ItemKey, now: u64) {
        let last_use = self.tick(now);
        if let Some(item) = self.items.get_mut(key) {
            item.last_use = last_use;
            self.dirty.insert(*key);
        }
    }

    /// Keeps exactly these items from being evicted.
    pub fn set_pinned(&mut self, pinned: HashSet<ItemKey>) {
        self.pinned = pinned;
    }

    /// Bytes on disk of pinned items.
    pub fn pinned_bytes(&self) -> u64 {
        self.pinned.iter().filter_map(|key| self.items.get(key)).map(|item| item.charge).sum()
    }

    /// Whether an item is pinned; the fetched part of a pinned file is, too.
    fn is_pinned(&self, (kind, hash): &ItemKey) -> bool {
        let whole = if *kind == ItemKind::Partial { ItemKind::File } else { *kind };
        self.pinned.contains(&(whole, *hash))
    }

    pub fn prove(&mut self, key: &ItemKey, proof: ContentProof) {
        if let Some(item) = self.items.get_mut(key) {
            item.proof = proof;
            self.dirty.insert(*key);
        }
    }

    pub fn set_partial(&mut self, key: &ItemKey, partial: Weak<dyn Shed>) {
        if let Some(item) = self.items.get_mut(key) {
            item.partial = Some(partial);
        }
    }

    /// Adds bytes on disk to an item, or takes some away.
    pub fn charge(&mut self, key: &ItemKey, serial: u64, added: i64) {
        if let Some(item) = self.items.get_mut(key).filter(|i| i.serial == serial) {
            item.charge = item.charge.saturating_add_signed(added);
        } else if let Some((charge, _)) = self.lingering.get_mut(&serial) {
            *charge = charge.saturating_add_signed(added);
        } else {
            return;
        }
        self.bytes = self.bytes.saturating_add_signed(added);
        self.dirty.insert(*key);
    }

    /// Forgets an item. Its bytes stay counted while it has users.
    pub fn remove(&mut self, key: &ItemKey) {
        if let Some(item) = self.items.remove(key) {
            if item.users > 0 {
                self.lingering.insert(item.serial, (item.charge, item.users));
            } else {
                self.bytes = self.bytes.saturating_sub(item.charge);
            }
        }
        self.dirty.remove(key);
        self.removed.insert(*key);
    }

    /// Removes the least recently used idle items until `bytes` are at most `target`; the caller unlinks them.
    pub fn take_idle(&mut self, target: u64) -> Vec<ItemKey> {
        if self.bytes <= target {
            return vec![];
        }
        let is_idle = |(key, item): &(&ItemKey, &CacheItem)| item.users == 0 && !self.is_pinned(key);
        let mut idle: Vec<(u64, ItemKey)> =
            self.items.iter().filter(is_idle).map(|(k, i)| (i.last_use, *k)).collect();
        idle.sort_unstable();
        let mut taken = vec![];
        for (_, key) in idle {
            if self.bytes <= target {
                break;
            }
            self.remove(&key);
            taken.push(key);
        }
        taken
    }

    /// Returns the open items that can shed bytes, least recently used first.
    pub fn open_partials(&self) -> Vec<Arc<dyn Shed>> {
        let mut open: Vec<(u64, Arc<dyn Shed>)> = self
            .items
            .iter()
            .filter(|(key, i)| i.users > 0 && !self.is_pinned(key))
            .filter_map(|(_, i)| Some((i.last_use, i.partial.as_ref()?.upgrade()?)))
            .collect();
        open.sort_unstable_by_key(|(last_use, _)| *last_use);
        open.into_iter().map(|(_, partial)| partial).collect()
    }

    /// Returns the changes since the last call, for the database.
    pub fn take_changes(&mut self) -> Changes {
        let rows = std::mem::take(&mut self.dirty).into_iter().filter_map(|key| {
            let i = self.items.get(&key)?;
            Some((key, i.size, i.charge, i.proof, i.last_use))
        });
        Changes { rows: rows.collect(), removed: std::mem::take(&mut self.removed).into_iter().collect() }
    }

    /// Turns proofs of this boot into lasting ones, after a sync of everything they cover.
    pub fn mark_synced(&mut self) {
        for (key, item) in &mut self.items {
            if let ContentProof::ThisBoot(stamp) = item.proof {
                item.proof = ContentProof::Synced(stamp);
                self.dirty.insert(*key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ItemKey = (ItemKind::File, [1; 32]);
    const B: ItemKey = (ItemKind::File, [2; 32]);

    #[test]
    fn the_least_recently_used_idle_item_goes_first_and_open_or_pinned_ones_stay() {
        let mut ledger = CacheLedger::default();
        for key in [A, B] {
            ledger.insert(key, 10, 10, ContentProof::None, 5);
        }
        ledger.touch(&A, 5);
        let serial = ledger.enter(&B, 4).unwrap();
        ledger.touch(&A, 5);
        assert_eq!(ledger.take_idle(15), vec![A]);
        assert_eq!(ledger.take_idle(0), vec![]);
        ledger.leave(&B, serial);
        ledger.set_pinned([B].into());
        assert_eq!((ledger.take_idle(0), ledger.pinned_bytes()), (vec![], 10));
        ledger.set_pinned(HashSet::new());
        assert_eq!(ledger.take_idle(0), vec![B]);
        assert_eq!(ledger.bytes(), 0);
    }

    #[test]
    fn bytes_of_a_removed_item_count_until_its_last_user_leaves() {
        let mut ledger = CacheLedger::default();
        ledger.insert(A, 10, 10, ContentProof::None, 0);
        let (one, two) = (ledger.enter(&A, 0).unwrap(), ledger.enter(&A, 0).unwrap());
        ledger.remove(&A);
        ledger.insert(A, 3, 3, ContentProof::None, 0);
        assert_eq!(ledger.bytes(), 13);
        ledger.leave(&A, one);
        assert_eq!(ledger.bytes(), 13);
        ledger.leave(&A, two);
        assert_eq!(ledger.bytes(), 3);
    }
}
