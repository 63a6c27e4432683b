//! The S3 server the tests stand on keeps its promises, as seen through the client that artfs uses.

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3CopyIfNotExists};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt,
    PutMode, RetryConfig, UpdateVersion,
};

use support::s3::{Fault, REGION, RequestKind, S3Options, S3Server};

const MIB: usize = 1024 * 1024;

fn builder(server: &S3Server) -> AmazonS3Builder {
    artfs::host::tls::install_provider();
    AmazonS3Builder::new()
        .with_endpoint(server.endpoint())
        .with_bucket_name(server.bucket())
        .with_access_key_id(server.access_key())
        .with_secret_access_key(server.secret_key())
        .with_region(REGION)
        .with_allow_http(true)
        .with_retry(RetryConfig { max_retries: 0, ..Default::default() })
}

/// A client that never retries, so that each test sees the answer itself.
fn client(server: &S3Server) -> AmazonS3 {
    builder(server).build().expect("the server's own settings")
}

async fn read(client: &AmazonS3, key: &str) -> Result<Bytes, Error> {
    client.get(&Path::from(key)).await?.bytes().await
}

fn status(error: &Error) -> String {
    // The client keeps the status in its message only.
    format!("{error:?}")
}

fn pattern(length: usize) -> Bytes {
    (0..length).map(|at| (at % 251) as u8).collect()
}

// Objects

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "objects have the time of day")]
async fn what_was_put_is_got_headed_and_deleted() {
    let server = S3Server::start().await;
    let client = client(&server);
    let key = Path::from("a dir/ü+%&=.bin");

    let put = client.put(&key, "hello".into()).await.expect("put");
    let head = client.head(&key).await.expect("head");
    assert_eq!(head.size, 5);
    assert_eq!(head.e_tag, put.e_tag);
    let age = std::time::SystemTime::now().duration_since(head.last_modified.into()).expect("a past time");
    assert!(age < Duration::from_secs(3600), "the object is {age:?} old");

    let got = client.get(&key).await.expect("get");
    assert_eq!(got.meta.e_tag, put.e_tag);
    assert_eq!(got.bytes().await.expect("body"), "hello");

    // Through DeleteObject; the client's default is DeleteObjects.
    let client = builder(&server).with_disable_bulk_delete(true).build().expect("a client");
    client.delete(&key).await.expect("delete");
    assert!(matches!(client.get(&key).await, Err(Error::NotFound { .. })));
    assert!(matches!(client.head(&key).await, Err(Error::NotFound { .. })));
    client.delete(&key).await.expect("S3 deletes what is not there");
    assert_eq!(server.count(RequestKind::Delete), 2);
}

#[tokio::test]
async fn the_test_and_the_client_see_the_same_objects() {
    let server = S3Server::start().await;
    let client = client(&server);

    client.put(&Path::from("b"), "from the client".into()).await.expect("put");
    server.put_object("a", "from the test");
    assert_eq!(server.keys(), ["a", "b"]);
    assert_eq!(server.object("b").expect("b"), "from the client");
    assert_eq!(read(&client, "a").await.expect("a"), "from the test");

    assert!(server.remove_object("b"));
    assert!(!server.remove_object("b"));
    assert!(matches!(read(&client, "b").await, Err(Error::NotFound { .. })));

    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    assert!(server.set_last_modified("a", long_ago));
    let head = client.head(&Path::from("a")).await.expect("head");
    assert_eq!(std::time::SystemTime::from(head.last_modified), long_ago);
}

#[tokio::test]
async fn a_range_read_answers_exactly_its_bytes() {
    let server = S3Server::start().await;
    let client = client(&server);
    let key = Path::from("k");
    let body = pattern(1000);
    server.put_object("k", body.clone());

    assert_eq!(client.get_range(&key, 10..20).await.expect("middle"), body[10..20]);
    assert_eq!(client.get_range(&key, 990..2000).await.expect("past the end"), body[990..]);
    for (asked, answered) in [(GetRange::Offset(900), 900..1000), (GetRange::Suffix(7), 993..1000)] {
        let options = GetOptions { range: Some(asked.clone()), ..Default::default() };
        let got = client.get_opts(&key, options).await.expect("get");
        assert_eq!(got.range, answered, "{asked}");
        let expected = body.slice(answered.start as usize..answered.end as usize);
        assert_eq!(got.bytes().await.expect("body"), expected, "{asked}");
    }
    let beyond = client.get_range(&key, 1000..1010).await.expect_err("nothing is there");
    assert!(status(&beyond).contains("416"), "{beyond:?}");

    let ranges: Vec<_> =
        server.requests().into_iter().map(|request| (request.range, request.bytes)).collect();
    assert_eq!(
        ranges,
        [
            (Some((10, 20)), 10),
            (Some((990, 1000)), 10),
            (Some((900, 1000)), 100),
            (Some((993, 1000)), 7),
            (Some((1000, 1010)), 0),
        ]
    );
}

#[tokio::test]
async fn a_read_is_refused_when_its_condition_fails() {
    let server = S3Server::start().await;
    let client = client(&server);
    let key = Path::from("k");
    let etag = client.put(&key, "one".into()).await.expect("put").e_tag.expect("an ETag");
    let if_match = |etag: &str| GetOptions { if_match: Some(etag.to_owned()), ..Default::default() };
    let if_none_match =
        |etag: &str| GetOptions { if_none_match: Some(etag.to_owned()), ..Default::default() };

    client.get_opts(&key, if_match(&etag)).await.expect("it matches");
    client.get_opts(&key, if_none_match("\"other\"")).await.expect("it differs");
    let refused = client.get_opts(&key, if_match("\"other\"")).await;
    assert!(matches!(refused, Err(Error::Precondition { .. })), "{refused:?}");
    let unchanged = client.get_opts(&key, if_none_match(&etag)).await;
    assert!(matches!(unchanged, Err(Error::NotModified { .. })), "{unchanged:?}");
    let unchanged = client.get_opts(&key, GetOptions { head: true, ..if_none_match(&etag) }).await;
    assert!(matches!(unchanged, Err(Error::NotModified { .. })), "{unchanged:?}");
}

// Conditional writes

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_eight_concurrent_creators_exactly_one_wins() {
    let server = S3Server::start().await;
    let client = client(&server);
    for round in 0..50 {
        let key = Path::from(format!("race/{round}"));
        let creators = (0..8).map(|creator| {
            let (client, key) = (client.clone(), key.clone());
            tokio::spawn(async move {
                let body = format!("creator {creator}");
                client.put_opts(&key, body.clone().into(), PutMode::Create.into()).await.map(|_| body)
            })
        });
        let creators: Vec<_> = creators.collect();
        let mut winners = Vec::new();
        for creator in creators {
            match creator.await.expect("no panic") {
                Ok(body) => winners.push(body),
                Err(error) => {
                    assert!(matches!(error, Error::AlreadyExists { .. }), "round {round}: {error:?}")
                }
            }
        }
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        assert_eq!(server.object(key.as_ref()).expect("the winner's"), winners[0], "round {round}");
    }
    assert_eq!(server.count(RequestKind::Put), 400);
}

#[tokio::test]
async fn an_update_needs_the_etag_of_what_is_there() {
    let server = S3Server::start().await;
    let client = client(&server);
    let key = Path::from("k");
    let update = |e_tag| PutMode::Update(UpdateVersion { e_tag, version: None }).into();

    let first = client.put(&key, "one".into()).await.expect("put").e_tag;
    client.put_opts(&key, "two".into(), update(first.clone())).await.expect("the ETag is current");
    let stale = client.put_opts(&key, "three".into(), update(first.clone())).await;
    assert!(matches!(stale, Err(Error::Precondition { .. })), "{stale:?}");
    assert_eq!(server.object("k").expect("k"), "two");
    let absent = client.put_opts(&Path::from("absent"), "x".into(), update(first)).await;
    assert!(matches!(absent, Err(Error::Precondition { .. })), "{absent:?}");
}

#[tokio::test]
async fn a_copy_that_must_create_leaves_what_is_there() {
    let server = S3Server::start().await;
    let header = S3CopyIfNotExists::Header("if-none-match".to_owned(), "*".to_owned());
    for mode in [header, S3CopyIfNotExists::Multipart] {
        let client = builder(&server).with_copy_if_not_exists(mode.clone()).build().expect("a client");
        server.put_object("from", "new");
        server.put_object("taken", "old");
        server.remove_object("free");
        let create = || CopyOptions { mode: CopyMode::Create, ..Default::default() };
        let (from, taken, free) = (Path::from("from"), Path::from("taken"), Path::from("free"));

        client.copy_opts(&from, &free, create()).await.expect("nothing is there");
        assert_eq!(server.object("free").expect("free"), "new", "{mode:?}");
        let refused = client.copy_opts(&from, &taken, create()).await;
        assert!(matches!(refused, Err(Error::AlreadyExists { .. })), "{mode:?}: {refused:?}");
        assert_eq!(server.object("taken").expect("taken"), "old", "{mode:?}");
        client.copy(&from, &taken).await.expect("a plain copy replaces");
        assert_eq!(server.object("taken").expect("taken"), "new", "{mode:?}");
    }
    assert_eq!(server.open_uploads(), 0);
}

// Listings

#[tokio::test]
async fn a_listing_of_many_pages_names_every_key_once_and_in_order() {
    let server = S3Server::spawn_with(S3Options { page_size: 7, ..Default::default() });
    let client = client(&server);
    let keys: Vec<_> = (0..50).map(|n| format!("p/{:02}", n)).collect();
    for key in keys.iter().chain(&["o".to_owned(), "p-".to_owned(), "q/1".to_owned()]) {
        server.put_object(key, "x");
    }

    let listed: Vec<_> = client.list(Some(&Path::from("p"))).try_collect().await.expect("a listing");
    let listed: Vec<_> = listed.into_iter().map(|meta| meta.location.to_string()).collect();
    assert_eq!(listed, keys);
    assert_eq!(server.count(RequestKind::List), 8, "50 keys at 7 a page");
    assert!(server.requests().iter().all(|request| request.key == "p/"), "{:?}", server.requests());

    let offset = Path::from("p/29");
    let rest: Vec<_> =
        client.list_with_offset(Some(&Path::from("p")), &offset).try_collect().await.expect("a listing");
    let rest: Vec<_> = rest.into_iter().map(|meta| meta.location.to_string()).collect();
    assert_eq!(rest, keys[30..]);
}

#[tokio::test]
async fn a_delimiter_shows_each_directory_once_however_pages_fall() {
    for page_size in 1..=9 {
        let server = S3Server::spawn_with(S3Options { page_size, ..Default::default() });
        let client = client(&server);
        for key in ["r/a", "r/b/1", "r/b/2", "r/b/3", "r/b/c/4", "r/ba", "r/d/5", "r/e", "s/6"] {
            server.put_object(key, "x");
        }
        let listed = client.list_with_delimiter(Some(&Path::from("r"))).await.expect("a listing");
        let objects: Vec<_> = listed.objects.iter().map(|meta| meta.location.as_ref()).collect();
        let directories: Vec<_> = listed.common_prefixes.iter().map(Path::as_ref).collect();
        assert_eq!(objects, ["r/a", "r/ba", "r/e"], "{page_size} a page");
        assert_eq!(directories, ["r/b", "r/d"], "{page_size} a page");
        assert_eq!(server.count(RequestKind::List), 5_usize.div_ceil(page_size), "{page_size} a page");
    }
}

#[tokio::test]
async fn a_thousand_keys_are_deleted_by_one_request() {
    let server = S3Server::start().await;
    let client = client(&server);
    let keys: Vec<_> = (0..1000).map(|n| Path::from(format!("k/{n}"))).collect();
    for key in &keys {
        server.put_object(key.as_ref(), "x");
    }
    server.put_object("kept", "x");
    let deleted: Vec<_> = client
        .delete_stream(futures::stream::iter(keys.clone()).map(Ok).boxed())
        .try_collect()
        .await
        .expect("deletes");
    assert_eq!(deleted.len(), keys.len());
    assert_eq!(server.keys(), ["kept"]);
    assert_eq!(server.counts().into_iter().collect::<Vec<_>>(), [(RequestKind::DeleteMany, 1)]);
}

// Multipart uploads

#[tokio::test]
async fn a_multipart_upload_appears_whole_when_completed_and_not_before() {
    let server = S3Server::start().await;
    let client = client(&server);
    let key = Path::from("big");
    let body = pattern(11 * MIB + 5);

    let mut upload = client.put_multipart(&key).await.expect("an upload");
    for part in [body.slice(..5 * MIB), body.slice(5 * MIB..11 * MIB), body.slice(11 * MIB..)] {
        upload.put_part(part.into()).await.expect("a part");
    }
    assert_eq!(server.keys(), [""; 0]);
    assert_eq!(server.open_uploads(), 1);
    let put = upload.complete().await.expect("completion");
    assert!(server.object("big").expect("big") == body, "the parts make the body");
    assert_eq!(client.head(&key).await.expect("head").e_tag, put.e_tag);
    assert_eq!(server.open_uploads(), 0);
    assert_eq!(
        server.counts().into_iter().collect::<Vec<_>>(),
        [
            (RequestKind::Head, 1),
            (RequestKind::CreateUpload, 1),
            (RequestKind::UploadPart, 3),
            (RequestKind::CompleteUpload, 1),
        ]
    );
}

#[tokio::test]
async fn an_aborted_upload_leaves_nothing() {
    let server = S3Server::start().await;
    let mut upload = client(&server).put_multipart(&Path::from("k")).await.expect("an upload");
    upload.put_part("x".into()).await.expect("a part");
    upload.abort().await.expect("abort");
    assert_eq!((server.keys().len(), server.open_uploads()), (0, 0));
}

#[tokio::test]
async fn a_part_below_the_least_size_is_refused_unless_last() {
    let server = S3Server::start().await;
    let client = client(&server);
    let mut upload = client.put_multipart(&Path::from("k")).await.expect("an upload");
    upload.put_part("too small".into()).await.expect("a part");
    upload.put_part("last".into()).await.expect("a part");
    let refused = upload.complete().await.expect_err("the first part is too small");
    assert!(status(&refused).contains("EntityTooSmall"), "{refused:?}");
    assert_eq!(server.keys(), [""; 0]);

    let lenient = S3Server::spawn_with(S3Options { min_part_bytes: 1, ..Default::default() });
    let client = self::client(&lenient);
    let mut upload = client.put_multipart(&Path::from("k")).await.expect("an upload");
    upload.put_part("one ".into()).await.expect("a part");
    upload.put_part("two".into()).await.expect("a part");
    upload.complete().await.expect("completion");
    assert_eq!(lenient.object("k").expect("k"), "one two");
}

// Who may do what

#[tokio::test]
async fn wrong_credentials_are_refused_and_have_no_effect() {
    let server = S3Server::start().await;
    let wrong_secret = builder(&server).with_secret_access_key("wrong");
    let wrong_key = builder(&server).with_access_key_id("AKIDNOBODY");
    let unsigned = builder(&server).with_skip_signature(true);
    let cases = [
        (wrong_secret, "SignatureDoesNotMatch"),
        (wrong_key, "InvalidAccessKeyId"),
        (unsigned, "AccessDenied"),
    ];
    for (client, code) in cases {
        let client = client.build().expect("a client");
        let refused = client.put(&Path::from("k"), "x".into()).await.expect_err(code);
        assert!(matches!(refused, Error::PermissionDenied { .. }), "{refused:?}");
        assert!(status(&refused).contains(code), "{refused:?}");
    }
    assert_eq!(server.keys(), [""; 0]);
    assert!(server.requests().iter().all(|request| request.status == Some(403)), "{:?}", server.requests());
}

#[tokio::test]
async fn another_bucket_does_not_exist() {
    let server = S3Server::spawn_with(S3Options { bucket: "mine".to_owned(), ..Default::default() });
    let client = builder(&server).with_bucket_name("other").build().expect("a client");
    let key = Path::from("k");
    server.put_object("k", "x");
    for refused in [
        client.put(&key, "x".into()).await.map(drop),
        client.get(&key).await.map(drop),
        client.list_with_delimiter(None).await.map(drop),
    ] {
        let refused = refused.expect_err("no such bucket");
        assert!(status(&refused).contains("NoSuchBucket"), "{refused:?}");
    }
}

#[test]
fn the_environment_it_gives_is_enough_for_a_client() {
    let server = S3Server::spawn();
    let mut builder = AmazonS3Builder::new().with_bucket_name(server.bucket());
    for (name, value) in server.env() {
        let key: AmazonS3ConfigKey = name.to_ascii_lowercase().parse().expect("a name the client knows");
        builder = builder.with_config(key, value);
    }
    let client = builder.build().expect("a client");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(client.put(&Path::from("k"), "x".into())).expect("put");
    assert_eq!(server.keys(), ["k"]);
}

#[tokio::test]
async fn a_dropped_server_answers_nobody() {
    let server = S3Server::start().await;
    let client = client(&server);
    client.put(&Path::from("k"), "x".into()).await.expect("put");
    drop(server);
    let refused = read(&client, "k").await.expect_err("the server is gone");
    assert!(matches!(refused, Error::Generic { .. }), "{refused:?}");
}

// The log

#[tokio::test]
async fn the_log_tells_each_request_in_order_with_its_answer() {
    let server = S3Server::start().await;
    let client = client(&server);
    let key = Path::from("d/k");
    client.put(&key, "hello".into()).await.expect("put");
    read(&client, "d/k").await.expect("get");
    client.head(&Path::from("none")).await.expect_err("not there");
    server.set_fault(|_| Fault::DropAfter);
    client.delete(&key).await.expect_err("the answer is lost");

    let logged = server.requests().into_iter();
    let logged: Vec<_> = logged.map(|r| (r.kind, r.key, r.bytes, r.status)).collect();
    let entry = |kind, key: &str, bytes, status| (kind, key.to_owned(), bytes, status);
    assert_eq!(
        logged[..3],
        [
            entry(RequestKind::Put, "d/k", 5, Some(200)),
            entry(RequestKind::Get, "d/k", 5, Some(200)),
            entry(RequestKind::Head, "none", 0, Some(404)),
        ]
    );
    // The client deletes through DeleteObjects, which names its keys in the body.
    assert_eq!(logged[3..], [entry(RequestKind::DeleteMany, "", 0, None)]);

    server.clear_requests();
    assert_eq!(server.requests(), []);
    assert_eq!(server.count(RequestKind::Get), 0);
}

// Faults

#[tokio::test]
async fn the_hook_sees_number_kind_and_key_of_every_request() {
    let server = S3Server::start().await;
    let client = client(&server);
    client.put(&Path::from("before"), "x".into()).await.expect("put");
    server.set_fault(|request| {
        if request.n == 1 && request.kind == RequestKind::Get && request.key == "k" {
            Fault::ErrorBefore(500)
        } else {
            Fault::None
        }
    });
    client.put(&Path::from("k"), "x".into()).await.expect("number 0");
    read(&client, "k").await.expect_err("number 1");
    read(&client, "k").await.expect("number 2");
    server.clear_requests();
    read(&client, "k").await.expect("number 0 again");
    read(&client, "k").await.expect_err("number 1 again");
    server.clear_fault();
    read(&client, "k").await.expect("number 0");
    read(&client, "k").await.expect("number 1, without a hook");
}

#[tokio::test]
async fn an_error_before_has_no_effect_and_an_error_after_has_it() {
    let server = S3Server::start().await;
    let client = client(&server);
    for code in [403, 409, 412, 500, 503] {
        for (fault, stored) in [(Fault::ErrorBefore(code), false), (Fault::ErrorAfter(code), true)] {
            server.remove_object("k");
            server.set_fault(move |_| fault);
            let error = client.put(&Path::from("k"), "x".into()).await.expect_err("a fault");
            assert!(status(&error).contains(&code.to_string()), "{fault:?}: {error:?}");
            assert_eq!(server.object("k").is_some(), stored, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn a_drop_before_has_no_effect_and_a_drop_after_has_it() {
    let server = S3Server::start().await;
    let client = client(&server);
    for (fault, stored) in [(Fault::DropBefore, false), (Fault::DropAfter, true)] {
        server.clear_fault();
        server.remove_object("k");
        // The fault strikes a connection that was in use and one that was not.
        read(&client, "other").await.expect_err("not there");
        server.clear_requests();
        server.set_fault(move |_| fault);
        for _ in 0..2 {
            let error = client.put(&Path::from("k"), "x".into()).await.expect_err("no answer");
            assert!(matches!(error, Error::Generic { .. }), "{fault:?}: {error:?}");
            assert_eq!(server.object("k").is_some(), stored, "{fault:?}");
        }
        let answers: Vec<_> = server.requests().into_iter().map(|request| request.status).collect();
        assert_eq!(answers, [None, None], "{fault:?}: each is sent once and never answered");
    }
}

#[tokio::test]
async fn a_truncated_body_is_an_error_after_its_first_bytes() {
    let server = S3Server::start().await;
    let client = client(&server);
    let body = pattern(300_000);
    server.put_object("k", body.clone());
    for missing in [1, 1000, 299_999, 300_000, u64::MAX] {
        server.set_fault(move |_| Fault::Truncate(missing));
        let got = client.get(&Path::from("k")).await.expect("the headers are whole");
        assert_eq!(got.meta.size, 300_000);
        let mut stream = got.into_stream();
        let mut received = Vec::new();
        let end = loop {
            match stream.next().await {
                Some(Ok(bytes)) => received.extend_from_slice(&bytes),
                end => break end,
            }
        };
        assert!(matches!(end, Some(Err(_))), "{missing} missing: {end:?}");
        let kept = 300_000 - missing.min(300_000) as usize;
        assert!(received == body[..kept], "{missing} missing: {} of {kept} bytes came", received.len());
    }
}

#[tokio::test]
async fn a_shortened_body_looks_whole() {
    let server = S3Server::start().await;
    let client = client(&server);
    server.put_object("k", "hello");
    server.set_fault(|_| Fault::Shorten(2));
    assert_eq!(read(&client, "k").await.expect("it looks whole"), "hel");
}

#[tokio::test]
async fn a_flipped_byte_is_the_only_change() {
    let server = S3Server::start().await;
    let client = client(&server);
    let body = pattern(1000);
    server.put_object("k", body.clone());
    server.set_fault(|_| Fault::FlipByte(7));
    let mut damaged = body.to_vec();
    damaged[7] = !damaged[7];
    assert_eq!(read(&client, "k").await.expect("get"), damaged);
    assert_eq!(server.object("k").expect("k"), body, "the object itself is whole");
    server.set_fault(|_| Fault::FlipByte(1000));
    assert_eq!(read(&client, "k").await.expect("there is no such byte"), body);
}

#[tokio::test]
async fn a_delayed_request_takes_effect_after_the_delay() {
    let server = S3Server::start().await;
    let client = client(&server);
    let delay = Duration::from_millis(200);
    server.set_fault(move |_| Fault::Delay(delay));
    let started = Instant::now();
    client.put(&Path::from("k"), "x".into()).await.expect("put");
    assert!(started.elapsed() >= delay);
    assert_eq!(server.object("k").expect("k"), "x");
}

#[tokio::test]
async fn a_delayed_write_lands_though_its_client_gave_up() {
    let server = S3Server::start().await;
    let client = client(&server);
    server.set_fault(|_| Fault::Delay(Duration::from_millis(300)));
    let put = tokio::spawn(async move { client.put(&Path::from("k"), "late".into()).await });
    while server.requests().iter().all(|request| request.bytes == 0) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    put.abort();
    assert!(put.await.expect_err("aborted").is_cancelled());
    while server.object("k").is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(server.object("k").expect("k"), "late");
}
