//! Stand-ins for keys of a bucket that its client cannot represent.
//!
//! The client (`object_store`) splits each listed key into names. A key that ends with a slash loses it, and one with an
//! empty name, `.`, `..` or a control character fails the whole listing. So before the client parses a listing, each such
//! key is replaced by a stand-in: `~artfs~` and the key in hex. Listings of stores skip stand-ins; references to a prefix
//! ask for the original keys.
//!
//! Nothing else in the answer changes: elements, tokens and all other keys stay byte for byte.

use async_trait::async_trait;
use futures::TryStreamExt;
use object_store::client::{
    HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::path::Path;
use reqwest::StatusCode;
use reqwest::header::CONTENT_LENGTH;

/// The beginning of a stand-in.
const MARK: &str = "~artfs~";
/// The longest listing. Vendors return at most 5,000 keys of 1,024 bytes, each of them escaped, and metadata.
const MAX_LISTING_BYTES: usize = 64 << 20;
/// The deepest nesting of elements. Vendors have five.
const MAX_DEPTH: usize = 64;
/// The elements around keys, outer and inner: of objects and groups, first for S3 and Google, then for Azure.
const PLACES: [(&[u8], &[u8]); 4] =
    [(b"Contents", b"Key"), (b"CommonPrefixes", b"Prefix"), (b"Blob", b"Name"), (b"BlobPrefix", b"Name")];

/// Returns the key that a listed path stands for; none if it is the key itself.
pub(crate) fn original(path: &str) -> Option<Vec<u8>> {
    let hex = path.strip_prefix(MARK)?.as_bytes();
    let digit = |digit: u8| char::from(digit).to_digit(16).filter(|_| !digit.is_ascii_uppercase());
    let byte = |pair: &[u8]| match *pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    };
    hex.chunks(2).map(byte).collect()
}

/// Returns the stand-in for a key that the client would change; none for others.
fn stand_in(key: &[u8], is_group: bool) -> Option<String> {
    let is_carried = std::str::from_utf8(key).is_ok_and(|key| {
        let name = if is_group { key.strip_suffix('/').unwrap_or(key) } else { key };
        Path::parse(name).is_ok_and(|path| path.as_ref() == name) && original(name).is_none()
    });
    (!is_carried).then(|| hex(key))
}

fn hex(key: &[u8]) -> String {
    let digits = key.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
    MARK.chars().chain(digits).collect()
}

/// Wraps a service, and puts stand-ins into its listings.
#[derive(Debug)]
pub(crate) struct WithStandIns<S>(pub S);

#[async_trait]
impl<S: HttpService> HttpService for WithStandIns<S> {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let lists = is_listing(request.method().as_str(), request.uri().query().unwrap_or_default());
        let response = self.0.call(request).await?;
        if !lists || response.status() != StatusCode::OK {
            return Ok(response);
        }
        let (mut parts, body) = response.into_parts();
        let (mut pieces, mut whole) = (body.bytes_stream(), Vec::new());
        while let Some(piece) = pieces.try_next().await? {
            if whole.len() + piece.len() > MAX_LISTING_BYTES {
                return Err(HttpError::new(HttpErrorKind::Decode, TooLong));
            }
            whole.extend_from_slice(&piece);
        }
        let whole = exchanged(&whole).unwrap_or(whole);
        parts.headers.remove(CONTENT_LENGTH);
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(whole)))
    }
}

/// Whether a request of the client is a listing: the first form is for S3 and Google, the second for Azure.
fn is_listing(method: &str, query: &str) -> bool {
    method == "GET" && query.split('&').any(|pair| matches!(pair, "list-type=2" | "comp=list"))
}

/// A listing that is too long to be one.
#[derive(Debug, thiserror::Error)]
#[error("one page of a listing has more than {MAX_LISTING_BYTES} bytes")]
struct TooLong;

/// Returns the listing with stand-ins; none if it needs none.
fn exchanged(body: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut copied, mut at) = (Vec::new(), 0, 0);
    let mut above: Vec<&[u8]> = vec![];
    while let Some(tag) = next_tag(body, at) {
        at = tag.end;
        match tag.kind {
            TagKind::End => drop(above.pop()),
            TagKind::Other => {}
            TagKind::Start if above.len() == MAX_DEPTH => break,
            TagKind::Start => {
                let is_key = above.last().is_some_and(|outer| PLACES.contains(&(outer, tag.name)));
                let text = if is_key { text(body, at) } else { None };
                if let Some((key, end)) = text {
                    let is_group = tag.name == b"Prefix" || above.last() == Some(&&b"BlobPrefix"[..]);
                    // Azure escapes a name that XML cannot represent, and the client does not unescape it.
                    let stand_in = match tag.is_encoded {
                        true => Some(hex(&unescaped(&key))),
                        false => stand_in(&key, is_group),
                    };
                    if let Some(stand_in) = stand_in {
                        out.extend_from_slice(&body[copied..at]);
                        out.extend_from_slice(stand_in.as_bytes());
                        copied = end;
                    }
                    at = end;
                }
                above.push(tag.name);
            }
        }
    }
    if copied == 0 {
        return None;
    }
    out.extend_from_slice(&body[copied..]);
    Some(out)
}

enum TagKind {
    Start,
    End,
    /// An empty element, a comment, a declaration.
    Other,
}

struct XmlTag<'a> {
    kind: TagKind,
    /// Without the prefix of a namespace.
    name: &'a [u8],
    is_encoded: bool,
    /// Where it ends.
    end: usize,
}

/// Finds the next tag from a position on.
fn next_tag(body: &[u8], from: usize) -> Option<XmlTag<'_>> {
    let begin = find(body, from, b"<")?;
    let other = |end: usize| XmlTag { kind: TagKind::Other, name: b"", is_encoded: false, end };
    for (open, close) in [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>"), ("<!", ">")] {
        if body[begin..].starts_with(open.as_bytes()) {
            return find(body, begin + open.len(), close.as_bytes()).map(|at| other(at + close.len()));
        }
    }
    let mut quote = None;
    let len = body[begin..].iter().position(|byte| {
        match quote {
            Some(open) if *byte == open => quote = None,
            None if matches!(byte, b'"' | b'\'') => quote = Some(*byte),
            _ => {}
        }
        quote.is_none() && *byte == b'>'
    })?;
    let (inner, end) = (&body[begin + 1..begin + len], begin + len + 1);
    if inner.ends_with(b"/") {
        return Some(other(end));
    }
    let (kind, inner) = match inner.strip_prefix(b"/") {
        Some(inner) => (TagKind::End, inner),
        None => (TagKind::Start, inner),
    };
    let name = inner.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    let name = name.rsplit(|byte| *byte == b':').next().unwrap_or_default();
    let is_encoded = find(inner, 0, b"Encoded=\"true\"").is_some();
    Some(XmlTag { kind, name, is_encoded, end })
}

/// Returns the text of an element without inner elements, and where its end tag begins.
fn text(body: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    const LITERAL: &[u8] = b"<![CDATA[";
    let mut text = vec![];
    loop {
        let end = find(body, at, b"<")?;
        resolve(&body[at..end], &mut text)?;
        if body[end..].starts_with(b"</") {
            return Some((text, end));
        }
        let begin = end + LITERAL.len();
        if !body[end..].starts_with(LITERAL) {
            return None;
        }
        let end = find(body, begin, b"]]>")?;
        text.extend_from_slice(&body[begin..end]);
        at = end + 3;
    }
}

/// Appends text with its entities resolved.
fn resolve(mut raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    while let Some(at) = find(raw, 0, b"&") {
        out.extend_from_slice(&raw[..at]);
        let end = find(raw, at, b";")?;
        let name = std::str::from_utf8(&raw[at + 1..end]).ok()?;
        let code = match name.strip_prefix('#').map(|number| (number, number.strip_prefix('x'))) {
            Some((_, Some(hex))) => u32::from_str_radix(hex, 16).ok()?,
            Some((decimal, None)) => decimal.parse().ok()?,
            None => match name {
                "amp" => '&'.into(),
                "lt" => '<'.into(),
                "gt" => '>'.into(),
                "quot" => '"'.into(),
                "apos" => '\''.into(),
                _ => return None,
            },
        };
        out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
        raw = &raw[end + 1..];
    }
    out.extend_from_slice(raw);
    Some(())
}

/// Resolves escapes such as `%41`; other text stays.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (vec![], text);
    while let [first, tail @ ..] = rest {
        let byte = tail.first_chunk::<2>().and_then(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|_| *first == b'%')?;
            u8::from_str_radix(pair, 16).ok()
        });
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    out
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(what.len()).position(|window| window == what).map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(key: &str) -> String {
        hex(key.as_bytes())
    }

    #[test]
    fn keys_that_the_client_carries_stay_and_all_others_come_back_by_their_stand_ins() {
        for key in ["a", "a/b", "é ü", "a b/ ", "a&<>\"'%41", "~artfs~x", "~artfs~61/b", "~artfs~61A0"] {
            assert_eq!(stand_in(key.as_bytes(), false), None, "{key}");
            assert_eq!(original(key), None, "{key}");
        }
        let others =
            ["", "/", "a/", "a//b", "/a", "a/../b", ".", "a\n", "a\u{1}/b", "a\0", "~artfs~61", "~artfs~"];
        for key in others {
            let stand_in = stand_in(key.as_bytes(), false);
            // The empty key is carried; there is none.
            assert_eq!(stand_in.is_none(), key.is_empty(), "{key:?}");
            if let Some(stand_in) = stand_in {
                assert_eq!(Path::parse(&stand_in).unwrap().as_ref(), stand_in);
                assert_eq!(original(&stand_in).as_deref(), Some(key.as_bytes()));
            }
        }
        assert_eq!(stand_in(b"a\xff", false).and_then(|s| original(&s)), Some(b"a\xff".to_vec()));
        assert_eq!(stand_in(b"a/b/", true), None);
        assert_eq!(stand_in(b"a//", true), Some(of("a//")));
    }

    #[test]
    fn keys_of_all_vendors_listings_are_exchanged_and_nothing_else() {
        let s3 = |one: &str, two: &str, group: &str| {
            format!(
                "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x>y\"><Prefix>k//</Prefix><StartAfter>a/</StartAfter>\
                 <NextContinuationToken>t//</NextContinuationToken><Contents><Key>{one}</Key><Owner><Key>a//</Key>\
                 </Owner><Size>1</Size></Contents><!-- <Contents><Key>a//</Key> --><Contents><Size/><Key>{two}</Key>\
                 </Contents><CommonPrefixes><Prefix>{group}</Prefix></CommonPrefixes></ListBucketResult>"
            )
        };
        let plain = s3("a/b", "a&amp;b", "a/");
        assert_eq!(exchanged(plain.as_bytes()), None);
        for (one, key) in [
            ("a/", "a/"),
            ("&lt;/&#x2f;&#10;", "<//\n"),
            ("a<![CDATA[<&amp;/]]>/", "a<&amp;//"),
            ("\u{1}", "\u{1}"),
        ] {
            let wanted = s3(&of(key), "x", &of("//"));
            assert_eq!(exchanged(s3(one, "x", "//").as_bytes()).unwrap(), wanted.as_bytes(), "{one}");
        }
        let azure = |one: &str, group: &str| {
            format!(
                "\u{feff}<EnumerationResults><Prefix>a//</Prefix><Blobs><Blob>{one}<Metadata><Name>a//</Name>\
                 </Metadata></Blob><BlobPrefix><Name>{group}</Name></BlobPrefix></Blobs><NextMarker>a//</NextMarker>\
                 </EnumerationResults>"
            )
        };
        assert_eq!(exchanged(azure("<Name>a</Name>", "b/").as_bytes()), None);
        let wanted = azure(&format!("<Name Encoded=\"true\">{}</Name>", of("a\u{fffe}%")), &of("b//"));
        let found = exchanged(azure("<Name Encoded=\"true\">a%EF%BF%BE%</Name>", "b//").as_bytes()).unwrap();
        assert_eq!(String::from_utf8(found).unwrap(), wanted);
    }

    #[test]
    fn what_is_no_listing_stays_as_it_is() {
        let deep = "<Contents>".repeat(100_000) + "<Key>a/</Key>";
        for body in [
            "",
            "<",
            "<Contents><Key>a/",
            "<Contents><Key>a/<b/></Key>",
            "<Contents><Key>&what;/</Key>",
            "<Contents><Key>&#xd800;/</Key>",
            "<Contents><Key>&/</Key>",
            "<!--",
            "</a></b>",
            "<a b='>",
            &deep,
        ] {
            assert_eq!(exchanged(body.as_bytes()), None, "{:?}", &body[..body.len().min(40)]);
        }
    }

    #[test]
    fn only_questions_for_listings_are_told_so() {
        assert!(is_listing("GET", "delimiter=%2F&list-type=2&prefix=a"));
        assert!(is_listing("GET", "restype=container&comp=list"));
        for (method, query) in
            [("GET", ""), ("PUT", "comp=list"), ("GET", "comp=blocklist"), ("GET", "a=list-type=2")]
        {
            assert!(!is_listing(method, query), "{method} {query}");
        }
    }
}
