//! The S3 operations, each one call into [`Objects`] between decoding and encoding.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use s3s::dto::*;
use s3s::{Body, S3, S3Error, S3Request, S3Response, S3Result, s3_error};

use super::listing::{ListQuery, Position};
use super::objects::{Conditions, StoredObject};
use super::uploads::NamedPart;
use super::{S3Options, Shared};

/// The most keys of one `DeleteObjects`.
const MAX_DELETED_KEYS: usize = 1000;

pub(super) struct Backend {
    options: S3Options,
    shared: Arc<Shared>,
    /// Whether answers name the object's generation as its version; a bucket of S3 has versions only if they are enabled.
    tells_generation: bool,
}

impl Backend {
    pub(super) fn new(options: S3Options, shared: Arc<Shared>, tells_generation: bool) -> Self {
        Self { options, shared, tells_generation }
    }

    fn version_of(&self, object: &StoredObject) -> Option<String> {
        self.tells_generation.then(|| object.generation.to_string())
    }

    fn check_bucket(&self, bucket: &str) -> S3Result {
        if bucket == self.options.bucket { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }

    /// The key of the object a copy is made of.
    fn source_key(&self, source: CopySource) -> S3Result<Box<str>> {
        let CopySource::Bucket { bucket, key, version_id: None } = source else {
            return Err(s3_error!(NotImplemented));
        };
        self.check_bucket(&bucket)?;
        Ok(key)
    }
}

#[async_trait::async_trait]
impl S3 for Backend {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        self.check_bucket(&input.bucket)?;
        refuse(input.write_offset_bytes.is_some())?;
        let conditions = Conditions { if_match: input.if_match, if_none_match: input.if_none_match };
        let body = receive(input.body).await?;
        let mut objects = self.shared.objects();
        let etag = objects.write(&input.key, body, &conditions)?;
        let version_id = objects.get(&input.key).and_then(|object| self.version_of(object));
        let e_tag = Some(ETag::Strong(etag));
        Ok(S3Response::new(PutObjectOutput { e_tag, version_id, ..Default::default() }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        self.check_bucket(&input.bucket)?;
        refuse(input.if_modified_since.is_some() || input.if_unmodified_since.is_some())?;
        refuse(input.part_number.is_some() || input.version_id.is_some())?;
        let conditions = Conditions { if_match: input.if_match, if_none_match: input.if_none_match };
        let object = self.shared.objects().read(&input.key, &conditions)?;

        let version_id = self.version_of(&object);
        let whole_bytes = object.body.len() as u64;
        let (body, content_range) = match input.range {
            None => (object.body, None),
            Some(range) => {
                let range = range.check(whole_bytes)?;
                let content_range = format!("bytes {}-{}/{whole_bytes}", range.start, range.end - 1);
                (object.body.slice(range.start as usize..range.end as usize), Some(content_range))
            }
        };
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(body.len() as i64),
            content_range,
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(object.modified.into()),
            version_id,
            body: Some(Body::from(body).into()),
            ..Default::default()
        }))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        self.check_bucket(&input.bucket)?;
        refuse(input.if_modified_since.is_some() || input.if_unmodified_since.is_some())?;
        refuse(input.part_number.is_some() || input.version_id.is_some() || input.range.is_some())?;
        let conditions = Conditions { if_match: input.if_match, if_none_match: input.if_none_match };
        let object = self.shared.objects().read(&input.key, &conditions)?;
        Ok(S3Response::new(HeadObjectOutput {
            version_id: self.version_of(&object),
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(object.body.len() as i64),
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(object.modified.into()),
            ..Default::default()
        }))
    }

    async fn copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        // A condition on the place copied to; s3s does not decode it.
        let if_none_match = request.headers.get(http::header::IF_NONE_MATCH).map(|header| {
            ETagCondition::parse_http_header(header.as_bytes()).map_err(|_| s3_error!(InvalidArgument))
        });
        refuse(request.headers.contains_key(http::header::IF_MATCH))?;
        let input = request.input;
        self.check_bucket(&input.bucket)?;
        let source = self.source_key(input.copy_source)?;
        refuse(
            input.copy_source_if_modified_since.is_some() || input.copy_source_if_unmodified_since.is_some(),
        )?;

        let read_if = Conditions {
            if_match: input.copy_source_if_match,
            if_none_match: input.copy_source_if_none_match,
        };
        let write_if = Conditions { if_match: None, if_none_match: if_none_match.transpose()? };
        let (etag, modified) = {
            let mut objects = self.shared.objects();
            let body = objects.read(&source, &read_if)?.body;
            let etag = objects.write(&input.key, body, &write_if)?;
            (etag, objects.get(&input.key).map(|object| object.modified.into()))
        };
        let result = CopyObjectResult {
            e_tag: Some(ETag::Strong(etag)),
            last_modified: modified,
            ..Default::default()
        };
        Ok(S3Response::new(CopyObjectOutput { copy_object_result: Some(result), ..Default::default() }))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        self.check_bucket(&input.bucket)?;
        refuse(input.version_id.is_some())?;
        refuse(input.if_match_last_modified_time.is_some() || input.if_match_size.is_some())?;
        let conditions = Conditions { if_match: input.if_match, if_none_match: None };
        let mut objects = self.shared.objects();
        objects.check_write(&input.key, &conditions)?;
        objects.remove(&input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        self.check_bucket(&input.bucket)?;
        let named = input.delete.objects;
        if named.len() > MAX_DELETED_KEYS {
            return Err(s3_error!(MalformedXML));
        }
        refuse(named.iter().any(|object| object.version_id.is_some() || object.e_tag.is_some()))?;
        let mut objects = self.shared.objects();
        let deleted = named.into_iter().map(|object| {
            objects.remove(&object.key);
            DeletedObject { key: Some(object.key), ..Default::default() }
        });
        let deleted: Vec<_> = deleted.collect();
        let deleted = if input.delete.quiet == Some(true) { None } else { Some(deleted) };
        Ok(S3Response::new(DeleteObjectsOutput { deleted, ..Default::default() }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        self.check_bucket(&input.bucket)?;
        // A continued listing goes on from its token; S3 ignores start-after then.
        let after = match (&input.continuation_token, &input.start_after) {
            (Some(token), _) => Some(Position::from_token(token).ok_or_else(|| s3_error!(InvalidArgument))?),
            (None, Some(key)) => Some(Position::Key(key.clone())),
            (None, None) => None,
        };
        let wanted = match input.max_keys {
            None => self.options.page_size,
            Some(max_keys) => usize::try_from(max_keys).map_err(|_| s3_error!(InvalidArgument))?,
        };
        let limit = wanted.min(self.options.page_size);
        let page = self.shared.objects().list(&ListQuery {
            prefix: input.prefix.as_deref().unwrap_or(""),
            delimiter: input.delimiter.as_deref(),
            after,
            limit,
        });
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter: input.delimiter,
            start_after: input.start_after,
            continuation_token: input.continuation_token,
            max_keys: Some(limit as i32),
            key_count: Some((page.objects.len() + page.groups.len()) as i32),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.as_ref().map(Position::to_token),
            contents: Some(page.objects.into_iter().map(list_entry).collect()),
            common_prefixes: Some(
                page.groups.into_iter().map(|group| CommonPrefix { prefix: Some(group) }).collect(),
            ),
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        self.check_bucket(&input.bucket)?;
        let id = self.shared.objects().uploads.create(&input.key);
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..Default::default()
        }))
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        self.check_bucket(&input.bucket)?;
        let body = receive(input.body).await?;
        let etag =
            self.shared.objects().uploads.put_part(&input.key, &input.upload_id, input.part_number, body)?;
        Ok(S3Response::new(UploadPartOutput { e_tag: Some(ETag::Strong(etag)), ..Default::default() }))
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = request.input;
        self.check_bucket(&input.bucket)?;
        let source = self.source_key(input.copy_source)?;
        refuse(input.copy_source_range.is_some())?;
        refuse(
            input.copy_source_if_modified_since.is_some() || input.copy_source_if_unmodified_since.is_some(),
        )?;
        let read_if = Conditions {
            if_match: input.copy_source_if_match,
            if_none_match: input.copy_source_if_none_match,
        };
        let mut objects = self.shared.objects();
        let source = objects.read(&source, &read_if)?;
        let etag = objects.uploads.put_part(&input.key, &input.upload_id, input.part_number, source.body)?;
        let result = CopyPartResult {
            e_tag: Some(ETag::Strong(etag)),
            last_modified: Some(source.modified.into()),
            ..Default::default()
        };
        Ok(S3Response::new(UploadPartCopyOutput { copy_part_result: Some(result), ..Default::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        self.check_bucket(&input.bucket)?;
        let conditions = Conditions { if_match: input.if_match, if_none_match: input.if_none_match };
        let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let named = parts.into_iter().map(|part| {
            let number = part.part_number.ok_or_else(|| s3_error!(MalformedXML))?;
            let etag = part.e_tag.ok_or_else(|| s3_error!(MalformedXML))?.into_value();
            Ok(NamedPart { number, etag })
        });
        let named: Vec<_> = named.collect::<S3Result<_>>()?;
        let etag = self.shared.objects().complete_upload(
            &input.key,
            &input.upload_id,
            &named,
            self.options.min_part_bytes,
            &conditions,
        )?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(etag)),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        self.check_bucket(&input.bucket)?;
        refuse(input.if_match_initiated_time.is_some())?;
        self.shared.objects().uploads.abort(&input.key, &input.upload_id)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}

fn list_entry((key, object): (String, StoredObject)) -> Object {
    Object {
        key: Some(key),
        size: Some(object.body.len() as i64),
        e_tag: Some(ETag::Strong(object.etag)),
        last_modified: Some(object.modified.into()),
        ..Default::default()
    }
}

/// The whole body; s3s checks its signed hash and length on the way.
async fn receive(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(body) = body else { return Ok(Bytes::new()) };
    let mut chunks: Vec<Bytes> = body
        .try_collect()
        .await
        .map_err(|error| S3Error::with_source(s3s::S3ErrorCode::IncompleteBody, error))?;
    Ok(if chunks.len() == 1 { chunks.remove(0) } else { chunks.concat().into() })
}

/// What the server does not do is refused: ignoring it would let a client's mistake pass.
fn refuse(asked_for: bool) -> S3Result {
    if asked_for { Err(s3_error!(NotImplemented)) } else { Ok(()) }
}
