//! Sources outside of the store: what a web server may say, and what of it is believed.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use artfs::format::reference::{ReferenceBody, Validator};
use artfs::store::source::{Allowed, DescribedUri, Facts, SourceDenial, SourceError, Sources, Uri};

/// What the server has at a path.
#[derive(Clone, Default)]
struct Page {
    body: Vec<u8>,
    tag: Option<&'static str>,
    changed: Option<&'static str>,
    location: Option<String>,
    /// Whether it gives ranges and heeds conditions.
    is_plain: bool,
    pace: Pace,
}

/// How a body comes.
#[derive(Clone, Copy, Default)]
enum Pace {
    #[default]
    AtOnce,
    /// So many bytes, and then nothing more.
    Stalls(usize),
    /// A byte after each such time.
    Drips(Duration),
}

/// A web server on this host, for as long as the test runs.
struct Web {
    address: SocketAddr,
    pages: Arc<Mutex<HashMap<String, Page>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Web {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let web = Self { address, pages: Arc::default(), requests: Arc::default() };
        let (pages, requests) = (web.pages.clone(), web.requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (pages, requests) = (pages.clone(), requests.clone());
                std::thread::spawn(move || serve(stream, &pages, &requests));
            }
        });
        web
    }

    fn put(&self, path: &str, page: Page) {
        self.pages.lock().unwrap().insert(path.to_owned(), page);
    }

    fn uri(&self, path: &str) -> Uri {
        Uri::parse(&format!("http://{}{path}", self.address)).unwrap()
    }

    fn sources(&self) -> Sources {
        let prefix = self.uri("/data").to_string();
        Sources::new(Allowed::new([prefix.as_str()]).unwrap(), None)
    }
}

fn serve(stream: TcpStream, pages: &Mutex<HashMap<String, Page>>, requests: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let headers: HashMap<String, String> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": ").map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned())))
        .collect();
    requests.lock().unwrap().push(first.clone());
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let page = pages.lock().unwrap().get(path).cloned();
    let Some(page) = page else { return answer(stream, "404 Not Found", &[], b"") };
    let mut given = vec![];
    given.extend(page.tag.map(|tag| format!("ETag: {tag}")));
    given.extend(page.changed.map(|time| format!("Last-Modified: {time}")));
    given.extend(page.location.as_ref().map(|to| format!("Location: {to}")));
    if page.location.is_some() {
        return answer(stream, "302 Found", &given, b"");
    }
    if !page.is_plain && headers.get("if-match").is_some_and(|tag| Some(tag.as_str()) != page.tag) {
        return answer(stream, "412 Precondition Failed", &given, b"");
    }
    if method == "HEAD" {
        given.push(format!("Content-Length: {}", page.body.len()));
        return write_head(stream, "200 OK", &given);
    }
    let range = headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    match range {
        Some((from, to)) if !page.is_plain => {
            let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
            given.push(format!("Content-Range: bytes {from}-{to}/{}", page.body.len()));
            match page.body.get(from..=to) {
                Some(part) => paced(stream, "206 Partial Content", &given, part, page.pace),
                None => answer(stream, "416 Range Not Satisfiable", &[], b""),
            }
        }
        _ => answer(stream, "200 OK", &given, &page.body),
    }
}

fn answer(stream: TcpStream, status: &str, headers: &[String], body: &[u8]) {
    paced(stream, status, headers, body, Pace::AtOnce);
}

fn paced(mut stream: TcpStream, status: &str, headers: &[String], body: &[u8], pace: Pace) {
    let mut headers = headers.to_vec();
    headers.push(format!("Content-Length: {}", body.len()));
    write_head(stream.try_clone().unwrap(), status, &headers);
    match pace {
        Pace::AtOnce => drop(stream.write_all(body)),
        Pace::Stalls(sent) => {
            let _ = stream.write_all(&body[..sent.min(body.len())]);
            // Until the client goes away.
            let _ = stream.read(&mut [0]);
        }
        Pace::Drips(every) => body.chunks(1).for_each(|byte| {
            std::thread::sleep(every);
            let _ = stream.write_all(byte);
        }),
    }
}

fn write_head(mut stream: TcpStream, status: &str, headers: &[String]) {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\n\r\n").as_bytes());
}

fn page(body: &[u8], tag: Option<&'static str>) -> Page {
    Page { body: body.to_vec(), tag, ..Page::default() }
}

async fn refer(sources: &Sources, uri: &Uri) -> ReferenceBody {
    match sources.describe(uri, &mut vec![]).await.expect("it is there") {
        DescribedUri::Object(facts) => {
            let Facts { size, validator, .. } = facts;
            ReferenceBody { uri: uri.to_string(), size, validator, hash: None, sha256: None }
        }
        DescribedUri::Prefix => panic!("{uri} is a prefix"),
    }
}

#[tokio::test]
async fn a_file_of_a_web_server_is_read_in_ranges_and_not_when_it_changed() {
    let web = Web::new();
    let sources = web.sources();
    web.put("/data/f", page(b"0123456789", Some("\"one\"")));
    let uri = web.uri("/data/f");
    let recorded = refer(&sources, &uri).await;
    assert_eq!((recorded.size, &recorded.validator), (10, &Validator::Tag("\"one\"".into())));
    assert_eq!(&sources.read(&recorded, 3..6).await.unwrap()[..], b"345");
    assert_eq!(&sources.read(&recorded, 8..99).await.unwrap()[..], b"89");
    assert_eq!(&sources.read(&recorded, 50..99).await.unwrap()[..], b"");
    sources.check(&recorded).await.unwrap();
    // Other bytes of the same length, from a server that heeds conditions, and from one that does not.
    for is_plain in [false, true] {
        web.put("/data/f", Page { is_plain, ..page(b"9876543210", Some("\"two\"")) });
        let changed = sources.read(&recorded, 3..6).await;
        assert!(matches!(changed, Err(SourceError::Changed { .. })), "{changed:?}");
        assert!(matches!(sources.check(&recorded).await, Err(SourceError::Changed { .. })));
    }
    web.pages.lock().unwrap().remove("/data/f");
    assert!(matches!(sources.read(&recorded, 0..1).await, Err(SourceError::Missing { .. })));
    let missing = sources.describe(&uri, &mut vec![]).await.expect_err("it is gone").to_string();
    assert!(missing.ends_with("/data/f is not there"), "{missing}");
    let listing = sources
        .describe(&web.uri("/data/"), &mut vec![])
        .await
        .expect_err("there are no listings")
        .to_string();
    assert!(listing.contains("ends with a slash") && listing.contains("link to single files"), "{listing}");
}

#[tokio::test]
async fn a_server_without_tags_or_ranges_is_read_by_time_and_length() {
    let web = Web::new();
    let sources = web.sources();
    let time = Some("Wed, 21 Oct 2026 07:28:00 GMT");
    web.put("/data/f", Page { changed: time, is_plain: true, ..page(b"0123456789", None) });
    let recorded = refer(&sources, &web.uri("/data/f")).await;
    assert!(matches!(recorded.validator, Validator::Changed(_)));
    assert_eq!(&sources.read(&recorded, 3..6).await.unwrap()[..], b"345");
    let later = Some("Wed, 21 Oct 2026 07:28:01 GMT");
    web.put("/data/f", Page { changed: later, is_plain: true, ..page(b"0123456789", None) });
    assert!(matches!(sources.read(&recorded, 3..6).await, Err(SourceError::Changed { .. })));
    web.put("/data/f", Page { changed: time, is_plain: true, ..page(b"01234567890", None) });
    assert!(matches!(sources.read(&recorded, 3..6).await, Err(SourceError::Changed { .. })));
}

#[tokio::test]
async fn no_redirect_is_followed_and_nothing_else_is_asked() {
    let (web, other) = (Web::new(), Web::new());
    let sources = web.sources();
    other.put("/secret", page(b"secret", None));
    for location in [other.uri("/secret").to_string(), "/data/there".to_owned()] {
        web.put("/data/here", Page { location: Some(location), ..page(b"", None) });
        let answer = sources.describe(&web.uri("/data/here"), &mut vec![]).await;
        assert!(
            matches!(answer, Err(SourceError::Denied { source: SourceDenial::Redirect(_), .. })),
            "{answer:?}"
        );
    }
    assert_eq!(other.requests.lock().unwrap().len(), 0);
    // Beside the prefix nothing is asked at all.
    let before = web.requests.lock().unwrap().len();
    for path in ["/database", "/", "/data/../secret"] {
        let answer = sources.describe(&web.uri(path), &mut vec![]).await;
        assert!(matches!(answer, Err(SourceError::NotAllowed { .. })), "{path}: {answer:?}");
    }
    let none = Sources::default();
    assert!(matches!(
        none.describe(&web.uri("/data/f"), &mut vec![]).await,
        Err(SourceError::NotAllowed { .. })
    ));
    assert_eq!(web.requests.lock().unwrap().len(), before);
}

#[tokio::test]
async fn link_local_addresses_are_not_asked_even_if_they_are_allowed() {
    let prefixes = ["http://169.254.169.254/", "http://[fe80::1]/", "http://[::ffff:169.254.169.254]:80/"];
    let sources = Sources::new(Allowed::new(prefixes).unwrap(), None);
    for prefix in prefixes {
        let uri = Uri::parse(&format!("{prefix}latest")).unwrap();
        let answer = sources.describe(&uri, &mut vec![]).await;
        assert!(
            matches!(answer, Err(SourceError::Denied { source: SourceDenial::LinkLocal, .. })),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_stalls_is_given_up_and_a_slow_one_is_not() {
    let web = Web::new();
    let limit = Duration::from_millis(400);
    let sources = web.sources().with_stall_limit(limit);
    web.put("/data/f", page(b"0123456789", Some("\"1\"")));
    let reference = refer(&sources, &web.uri("/data/f")).await;
    let gets = || web.requests.lock().unwrap().iter().filter(|request| request.starts_with("GET")).count();
    for sent in [0, 3] {
        let before = gets();
        web.put("/data/f", Page { pace: Pace::Stalls(sent), ..page(b"0123456789", Some("\"1\"")) });
        let error = sources.read(&reference, 0..10).await.unwrap_err();
        assert!(matches!(error, SourceError::Unavailable { .. }), "{error}");
        assert!((1..=2).contains(&(gets() - before)), "asked once more, and then given up");
    }
    // All of it takes longer than the limit, and no byte does.
    web.put("/data/f", Page { pace: Pace::Drips(limit / 8), ..page(b"0123456789", Some("\"1\"")) });
    assert_eq!(sources.read(&reference, 0..10).await.unwrap(), "0123456789");
}
