//! The objects of the bucket and the conditions of reading and writing them. It knows nothing of HTTP.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::SystemTime;

use bytes::Bytes;
use s3s::dto::{ETag, ETagCondition};
use s3s::{S3Result, s3_error};

use super::uploads::Uploads;

#[derive(Debug, Clone)]
pub(super) struct StoredObject {
    pub(super) body: Bytes,
    pub(super) etag: String,
    pub(super) modified: SystemTime,
    /// Another number for every write, greater for a later one.
    pub(super) generation: u64,
}

/// Every object and every open multipart upload; one lock around it makes each method one step.
#[derive(Default)]
pub(super) struct Objects {
    by_key: BTreeMap<String, StoredObject>,
    written: u64,
    /// Writes succeed whatever their conditions are.
    pub(super) ignores_conditions: bool,
    pub(super) uploads: Uploads,
}

/// The `If-Match` and `If-None-Match` of a request.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
}

impl Objects {
    pub(super) fn get(&self, key: &str) -> Option<&StoredObject> {
        self.by_key.get(key)
    }

    /// The objects from `first` on, in byte order.
    pub(super) fn starting_at(&self, first: &str) -> impl Iterator<Item = (&str, &StoredObject)> {
        self.by_key
            .range::<str, _>((Bound::Included(first), Bound::Unbounded))
            .map(|(key, object)| (key.as_str(), object))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.by_key.keys().map(String::as_str)
    }

    /// The object, if there is one and the conditions of this read hold.
    pub(super) fn read(&self, key: &str, conditions: &Conditions) -> S3Result<StoredObject> {
        let object = self.get(key).ok_or_else(|| s3_error!(NoSuchKey))?;
        if conditions.if_match.as_ref().is_some_and(|condition| !matches(condition, &object.etag)) {
            return Err(s3_error!(PreconditionFailed));
        }
        if conditions.if_none_match.as_ref().is_some_and(|condition| matches(condition, &object.etag)) {
            return Err(s3_error!(NotModified));
        }
        Ok(object.clone())
    }

    /// Refuses a write whose conditions do not hold for what is there.
    pub(super) fn check_write(&self, key: &str, conditions: &Conditions) -> S3Result {
        if self.ignores_conditions {
            return Ok(());
        }
        let existing = self.get(key);
        match &conditions.if_none_match {
            None => {}
            Some(ETagCondition::Any) if existing.is_none() => {}
            Some(ETagCondition::Any) => return Err(s3_error!(PreconditionFailed)),
            // S3 knows no other form in a write.
            Some(ETagCondition::ETag(_)) => return Err(s3_error!(NotImplemented)),
        }
        match (&conditions.if_match, existing) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(s3_error!(NoSuchKey)),
            (Some(condition), Some(object)) if matches(condition, &object.etag) => Ok(()),
            (Some(_), Some(_)) => Err(s3_error!(PreconditionFailed)),
        }
    }

    /// Stores the body if the conditions hold; answers its ETag.
    pub(super) fn write(&mut self, key: &str, body: Bytes, conditions: &Conditions) -> S3Result<String> {
        self.check_write(key, conditions)?;
        Ok(self.insert(key, body))
    }

    pub(super) fn insert(&mut self, key: &str, body: Bytes) -> String {
        let etag = etag_of(&body);
        self.insert_with_etag(key, body, etag.clone());
        etag
    }

    #[expect(clippy::disallowed_methods, reason = "objects get the time of day")]
    pub(super) fn insert_with_etag(&mut self, key: &str, body: Bytes, etag: String) {
        self.written += 1;
        let object = StoredObject { body, etag, modified: SystemTime::now(), generation: self.written };
        self.by_key.insert(key.to_owned(), object);
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<StoredObject> {
        self.by_key.remove(key)
    }

    pub(super) fn set_last_modified(&mut self, key: &str, time: SystemTime) -> bool {
        self.by_key.get_mut(key).map(|object| object.modified = time).is_some()
    }
}

/// The ETag of a body written in one piece: equal for equal bytes, as with S3.
///
/// It is longer than S3's MD5, so that no client takes it for one and checks it.
pub(super) fn etag_of(body: &[u8]) -> String {
    blake3::hash(body).to_hex().to_string()
}

fn matches(condition: &ETagCondition, etag: &str) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(ETag::Strong(wanted)) => wanted == etag,
        ETagCondition::ETag(ETag::Weak(_)) => false,
    }
}
