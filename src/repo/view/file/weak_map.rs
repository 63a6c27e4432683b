//! A map of live values: equal keys share one value for as long as anybody holds it.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

type Values<K, V> = Arc<Mutex<HashMap<K, Weak<V>>>>;

/// See the module's text.
#[derive(Debug)]
pub(super) struct WeakMap<K: Eq + Hash, V>(Values<K, V>);

/// Keeps a value in its map; the value holds it, and leaves the map when it is dropped.
#[derive(Debug)]
pub(super) struct Listed<K: Eq + Hash, V> {
    values: Values<K, V>,
    key: K,
}

impl<K: Eq + Hash, V> Default for WeakMap<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Copy + Eq + Hash, V> WeakMap<K, V> {
    /// Returns the live value of a key, or makes one. The lock is held meanwhile.
    pub fn get_or_insert(&self, key: K, make: impl FnOnce(Listed<K, V>) -> V) -> Arc<V> {
        let mut values = self.0.lock();
        if let Some(value) = values.get(&key).and_then(Weak::upgrade) {
            return value;
        }
        let value = Arc::new(make(Listed { values: self.0.clone(), key }));
        values.insert(key, Arc::downgrade(&value));
        value
    }
}

impl<K: Eq + Hash, V> Drop for Listed<K, V> {
    fn drop(&mut self) {
        let mut values = self.values.lock();
        // Another value may have taken the place since.
        if values.get(&self.key).is_some_and(|value| value.strong_count() == 0) {
            values.remove(&self.key);
        }
    }
}
