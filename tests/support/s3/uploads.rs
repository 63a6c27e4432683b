//! Multipart uploads that are under way, and their completion.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use s3s::{S3Result, s3_error};

use super::objects::{Conditions, Objects, etag_of};

/// The highest part number S3 allows.
const MAX_PART_NUMBER: i32 = 10_000;

#[derive(Default)]
pub(super) struct Uploads {
    by_id: BTreeMap<String, Upload>,
    begun: u64,
}

struct Upload {
    key: String,
    parts: BTreeMap<i32, Bytes>,
}

/// A part as the client names it when it completes an upload.
#[derive(Debug)]
pub(super) struct NamedPart {
    pub(super) number: i32,
    pub(super) etag: String,
}

impl Uploads {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn create(&mut self, key: &str) -> String {
        self.begun += 1;
        let id = format!("upload-{}", self.begun);
        self.by_id.insert(id.clone(), Upload { key: key.to_owned(), parts: BTreeMap::new() });
        id
    }

    /// Stores a part, replacing one of the same number; answers its ETag.
    pub(super) fn put_part(&mut self, key: &str, id: &str, number: i32, body: Bytes) -> S3Result<String> {
        if !(1..=MAX_PART_NUMBER).contains(&number) {
            return Err(s3_error!(InvalidArgument));
        }
        let upload = self.by_id.get_mut(id).filter(|upload| upload.key == key);
        let upload = upload.ok_or_else(|| s3_error!(NoSuchUpload))?;
        let etag = etag_of(&body);
        upload.parts.insert(number, body);
        Ok(etag)
    }

    pub(super) fn abort(&mut self, key: &str, id: &str) -> S3Result {
        self.find(key, id)?;
        self.by_id.remove(id);
        Ok(())
    }

    fn find(&self, key: &str, id: &str) -> S3Result<&Upload> {
        self.by_id.get(id).filter(|upload| upload.key == key).ok_or_else(|| s3_error!(NoSuchUpload))
    }
}

impl Objects {
    /// Makes the object from the named parts and ends the upload; answers the object's ETag.
    ///
    /// Where it is refused the upload stays, to be completed otherwise or aborted.
    pub(super) fn complete_upload(
        &mut self,
        key: &str,
        id: &str,
        named: &[NamedPart],
        min_part_bytes: u64,
        conditions: &Conditions,
    ) -> S3Result<String> {
        let upload = self.uploads.find(key, id)?;
        if named.is_empty() {
            return Err(s3_error!(MalformedXML));
        }
        if named.windows(2).any(|pair| pair[0].number >= pair[1].number) {
            return Err(s3_error!(InvalidPartOrder));
        }
        let mut body = BytesMut::new();
        let mut part_etags = String::new();
        for (index, part) in named.iter().enumerate() {
            let bytes = upload.parts.get(&part.number).filter(|bytes| etag_of(bytes) == part.etag);
            let bytes = bytes.ok_or_else(|| s3_error!(InvalidPart))?;
            if index + 1 < named.len() && (bytes.len() as u64) < min_part_bytes {
                return Err(s3_error!(EntityTooSmall));
            }
            body.extend_from_slice(bytes);
            part_etags.push_str(&part.etag);
        }
        self.check_write(key, conditions)?;

        let etag = format!("{}-{}", etag_of(part_etags.as_bytes()), named.len());
        self.uploads.by_id.remove(id);
        self.insert_with_etag(key, body.freeze(), etag.clone());
        Ok(etag)
    }
}
