//! The fields that conditions name.

use std::fmt;

/// A property of a version that a condition asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// One that every version has, or may have.
    Plain(Plain),
    /// Metadata by name, and what lies inside of it.
    Meta(Vec<String>),
}

macro_rules! plain_fields {
    ($($variant:ident $name:literal $kind:ident,)*) => {
        /// A field with a name of its own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Plain {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Plain {
            /// All of them.
            pub const ALL: &'static [Plain] = &[$(Plain::$variant,)*];

            /// As it is written.
            pub fn name(self) -> &'static str {
                match self { $(Plain::$variant => $name,)* }
            }

            pub(super) fn kind(self) -> FieldKind {
                match self { $(Plain::$variant => FieldKind::$kind,)* }
            }
        }
    };
}

plain_fields! {
    Project "project" Text,
    Name "name" Text,
    Artifact "artifact" Text,
    Version "version" Version,
    Type "type" Text,
    Tag "tag" Text,
    Alias "alias" Text,
    Input "input" Text,
    Actor "actor" Text,
    Host "host" Text,
    Created "created" Time,
    Age "age" Span,
    Files "files" Number,
    Bytes "bytes" Size,
    Stored "stored" Size,
    Digest "digest" Text,
    Ttl "ttl" Span,
}

/// How the values of a field are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldKind {
    Text,
    Number,
    Size,
    Version,
    Time,
    Span,
    /// Any JSON value.
    Any,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Plain(plain) => f.write_str(plain.name()),
            Field::Meta(path) => {
                f.write_str("meta")?;
                path.iter().try_for_each(|name| {
                    let is_plain = !name.is_empty() && name.chars().all(is_name);
                    if is_plain { write!(f, ".{name}") } else { write!(f, ".{}", Quoted(name)) }
                })
            }
        }
    }
}

/// Whether a character may stand in the name of metadata without quotes.
pub(super) fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/' | ':' | '@')
}

/// Text between quotes, as the parser takes it back.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""))
    }
}
