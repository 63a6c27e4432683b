//! One page of a listing: keys under a prefix, grouped by a delimiter, from where the last page ended.

use std::fmt::Write;

use super::objects::{Objects, StoredObject};

pub(super) struct ListQuery<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: Option<&'a str>,
    pub(super) after: Option<Position>,
    /// Most keys and common prefixes together.
    pub(super) limit: usize,
}

/// A place in a listing: what comes after it was not listed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Position {
    Key(String),
    /// A common prefix: it stands for every key that begins with it.
    Group(String),
}

#[derive(Default)]
pub(super) struct Page {
    pub(super) objects: Vec<(String, StoredObject)>,
    pub(super) groups: Vec<String>,
    /// Where this page ended, if there is more.
    pub(super) next: Option<Position>,
}

impl Objects {
    pub(super) fn list(&self, query: &ListQuery<'_>) -> Page {
        let mut page = Page::default();
        if query.limit == 0 {
            return page;
        }
        let mut last = query.after.clone();
        let first = query.prefix.max(query.after.as_ref().map_or("", Position::as_str));
        for (key, object) in self.starting_at(first).take_while(|(key, _)| key.starts_with(query.prefix)) {
            if last.as_ref().is_some_and(|last| last.covers(key)) {
                continue;
            }
            if page.objects.len() + page.groups.len() == query.limit {
                page.next = last;
                break;
            }
            last = Some(match group_of(key, query) {
                Some(group) => {
                    page.groups.push(group.to_owned());
                    Position::Group(group.to_owned())
                }
                None => {
                    page.objects.push((key.to_owned(), object.clone()));
                    Position::Key(key.to_owned())
                }
            });
        }
        page
    }
}

/// The key up to and with the first delimiter after the prefix.
fn group_of<'a>(key: &'a str, query: &ListQuery<'_>) -> Option<&'a str> {
    let delimiter = query.delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let at = key[query.prefix.len()..].find(delimiter)?;
    Some(&key[..query.prefix.len() + at + delimiter.len()])
}

impl Position {
    fn as_str(&self) -> &str {
        match self {
            Self::Key(key) => key,
            Self::Group(group) => group,
        }
    }

    fn covers(&self, key: &str) -> bool {
        match self {
            Self::Key(last) => key <= last.as_str(),
            Self::Group(last) => key.starts_with(last.as_str()) || key < last.as_str(),
        }
    }

    /// As a continuation token: hex, so that nobody is tempted to read a key in it.
    pub(super) fn to_token(&self) -> String {
        let tag = match self {
            Self::Key(_) => 'k',
            Self::Group(_) => 'g',
        };
        self.as_str().bytes().fold(tag.to_string(), |mut token, byte| {
            write!(token, "{byte:02x}").expect("writing to a string cannot fail");
            token
        })
    }

    pub(super) fn from_token(token: &str) -> Option<Self> {
        let (tag, hex) = token.split_at_checked(1)?;
        let bytes = hex.as_bytes().chunks(2).map(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        let text = String::from_utf8(bytes.collect::<Option<_>>()?).ok()?;
        match tag {
            "k" => Some(Self::Key(text)),
            "g" => Some(Self::Group(text)),
            _ => None,
        }
    }
}
