//! The text of a condition, and of the name of a field.
//!
//! ```text
//! or      = and { "or" and }
//! and     = not { "and" not }
//! not     = "not" not | "(" or ")" | "has" field | field op value
//! field   = a name of Plain | "meta" { "." (name | quoted) }
//! value   = quoted | word, read as the field's values are written
//! quoted  = "…" or '…', with \ before a quote or \ that belongs to the text
//! ```

use std::str::FromStr;

use super::condition::{Condition, Op};
use super::error::QueryError;
use super::field::{Field, FieldKind, Plain};
use super::value::{FieldValue, Length};
use crate::format::clock::Timestamp;
use crate::format::event::NEVER_SECONDS;
use crate::format::exact;
use crate::format::units::{parse_size, parse_span};

/// The longest condition in bytes.
const MAX_BYTES: usize = 16 << 10;
/// Parentheses and `not` inside of each other.
const MAX_DEPTH: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    /// The name of a field of metadata, in parts.
    Meta(Vec<String>),
    Quoted(String),
    Op(Op),
    Open,
    Close,
}

/// A part of the text with the number of its first character.
type Placed = (usize, Token);

impl FromStr for Condition {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let tokens = tokens(text)?;
        let mut parser =
            QueryParser { end: text.chars().count() + 1, tokens: tokens.into_iter().peekable(), depth: 0 };
        let condition = parser.or()?;
        match parser.tokens.next() {
            None => Ok(condition),
            Some((at, token)) => Err(error(at, format!("expected `and` or `or`, not {}", shown(&token)))),
        }
    }
}

impl FromStr for Field {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        match tokens(text)?.as_slice() {
            [(at, token)] => field(*at, token),
            _ => Err(error(1, format!("{text:?} is no field; {}", fields()))),
        }
    }
}

struct QueryParser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Placed>>,
    /// Behind the last character.
    end: usize,
    depth: usize,
}

impl QueryParser {
    fn or(&mut self) -> Result<Condition, QueryError> {
        let mut all = vec![self.and()?];
        while self.takes("or") {
            all.push(self.and()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::Or(all) })
    }

    fn and(&mut self) -> Result<Condition, QueryError> {
        let mut all = vec![self.not()?];
        while self.takes("and") {
            all.push(self.not()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::And(all) })
    }

    fn not(&mut self) -> Result<Condition, QueryError> {
        let (at, token) = self.next("a condition")?;
        match &token {
            Token::Word(word) if is_keyword(word, "not") => {
                self.enter(at)?;
                let condition = self.not()?;
                self.depth -= 1;
                Ok(Condition::Not(Box::new(condition)))
            }
            Token::Open => {
                self.enter(at)?;
                let condition = self.or()?;
                self.depth -= 1;
                match self.tokens.next() {
                    Some((_, Token::Close)) => Ok(condition),
                    other => Err(error(other.map_or(self.end, |(at, _)| at), "expected `)`")),
                }
            }
            Token::Word(word) if is_keyword(word, "has") => {
                let (at, token) = self.next("a field")?;
                field(at, &token).map(Condition::Has)
            }
            _ => self.compare(field(at, &token)?),
        }
    }

    fn compare(&mut self, field: Field) -> Result<Condition, QueryError> {
        let (at, token) = self.next("`=`, `!=`, `<`, `<=`, `>`, `>=` or `~`")?;
        let Token::Op(op) = token else {
            let problem = format!("expected `=`, `!=`, `<`, `<=`, `>`, `>=` or `~`, not {}", shown(&token));
            return Err(error(at, problem));
        };
        let (at, token) = self.next("a value")?;
        let value = value(&field, op, &token).map_err(|problem| error(at, problem))?;
        Ok(Condition::Compare(field, op, value))
    }

    fn enter(&mut self, at: usize) -> Result<(), QueryError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(error(at, format!("more than {MAX_DEPTH} parentheses inside of each other")));
        }
        Ok(())
    }

    fn takes(&mut self, keyword: &str) -> bool {
        let is_next = |(_, token): &Placed| matches!(token, Token::Word(word) if is_keyword(word, keyword));
        self.tokens.next_if(is_next).is_some()
    }

    fn next(&mut self, what: &str) -> Result<Placed, QueryError> {
        self.tokens.next().ok_or_else(|| error(self.end, format!("expected {what}")))
    }
}

fn field(at: usize, token: &Token) -> Result<Field, QueryError> {
    match token {
        Token::Meta(path) => Ok(Field::Meta(path.clone())),
        Token::Word(word) => {
            let plain = Plain::ALL.iter().find(|plain| plain.name() == word);
            plain.map(|plain| Field::Plain(*plain)).ok_or_else(|| {
                let advice = match word.as_str() {
                    "message" | "note" => {
                        "messages stand in objects of their own and are not searched".into()
                    }
                    _ => fields(),
                };
                error(at, format!("{word:?} is no field; {advice}"))
            })
        }
        other => Err(error(at, format!("expected a field, not {}", shown(other)))),
    }
}

fn fields() -> String {
    let names: Vec<&str> = Plain::ALL.iter().map(|plain| plain.name()).collect();
    format!("there are meta.KEY, {}", names.join(", "))
}

/// A value as those of the field are written.
fn value(field: &Field, op: Op, token: &Token) -> Result<FieldValue, String> {
    let kind = match field {
        Field::Plain(plain) => plain.kind(),
        Field::Meta(_) => FieldKind::Any,
    };
    let (text, is_quoted) = match token {
        Token::Quoted(text) => (text.clone(), true),
        Token::Word(text) => (text.clone(), false),
        // A value may look like the name of a field.
        Token::Meta(path) => (format!("meta.{}", path.join(".")), false),
        other => return Err(format!("expected a value, not {}", shown(other))),
    };
    if !is_quoted && ["and", "or", "not", "has"].iter().any(|keyword| is_keyword(&text, keyword)) {
        return Err(format!("expected a value, not `{text}`; quote it if it is one"));
    }
    if op == Op::Like {
        return Ok(FieldValue::Text(text));
    }
    let wrong = |what: &str| format!("{text:?} is no {what}; {field} is compared with one");
    match kind {
        FieldKind::Text => Ok(FieldValue::Text(text)),
        FieldKind::Any if is_quoted => Ok(FieldValue::Text(text)),
        FieldKind::Any => Ok(match text.as_str() {
            "true" => FieldValue::Bool(true),
            "false" => FieldValue::Bool(false),
            "null" => FieldValue::Null,
            word => match exact::parse(word) {
                Ok(serde_json::Value::Number(number)) => FieldValue::Number(number),
                _ => FieldValue::Text(text),
            },
        }),
        FieldKind::Number => serde_json::from_str(&text).map(FieldValue::Number).map_err(|_| wrong("number")),
        FieldKind::Version => {
            let number = text.strip_prefix('v').unwrap_or(&text).parse::<u64>();
            number.map(|number| FieldValue::Number(number.into())).map_err(|_| wrong("version, as v7"))
        }
        FieldKind::Size => {
            parse_size(&text).map(|bytes| FieldValue::Number(bytes.into())).map_err(|_| wrong("size, as 10G"))
        }
        FieldKind::Span if text == "never" => Ok(FieldValue::Span(NEVER_SECONDS)),
        FieldKind::Span => parse_span(&text)
            .map(|span| FieldValue::Span(span.as_secs()))
            .map_err(|_| wrong("span of time, as 30d")),
        FieldKind::Time => period(&text).ok_or_else(|| wrong("date, as 2026-01-31")),
    }
}

/// A date, or date and time, of UTC where no zone is named. It means all that it leaves open.
fn period(text: &str) -> Option<FieldValue> {
    let full = text.replacen(' ', "T", 1);
    // A fraction stands behind a dot, and nothing else does.
    let finest = if full.contains('.') { Length::Millisecond } else { Length::Second };
    let forms = [
        (full.clone(), finest),
        (format!("{full}Z"), finest),
        (format!("{full}:00Z"), Length::Minute),
        (format!("{full}T00:00:00Z"), Length::Day),
    ];
    forms.iter().find_map(|(form, length)| Some(FieldValue::Period(form.parse::<Timestamp>().ok()?, *length)))
}

fn tokens(text: &str) -> Result<Vec<Placed>, QueryError> {
    if text.len() > MAX_BYTES {
        return Err(error(1, format!("a condition of {} bytes is too long", text.len())));
    }
    let mut lexer = Lexer { chars: text.chars().enumerate().peekable() };
    let mut tokens = vec![];
    while let Some((i, c)) = lexer.chars.next() {
        let token = match c {
            c if c.is_whitespace() => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            '"' | '\'' => Token::Quoted(lexer.quoted(i, c)?),
            '~' => Token::Op(Op::Like),
            // As in other languages.
            '=' => {
                lexer.takes('=');
                Token::Op(Op::Equal)
            }
            '<' => Token::Op(if lexer.takes('=') { Op::LessOrEqual } else { Op::Less }),
            '>' => Token::Op(if lexer.takes('=') { Op::GreaterOrEqual } else { Op::Greater }),
            '!' if lexer.takes('=') => Token::Op(Op::NotEqual),
            '!' => return Err(error(i + 1, "expected `!=`; the opposite is written `not`")),
            first => lexer.word(first)?,
        };
        tokens.push((i + 1, token));
    }
    Ok(tokens)
}

struct Lexer<'a> {
    chars: std::iter::Peekable<std::iter::Enumerate<std::str::Chars<'a>>>,
}

impl Lexer<'_> {
    fn takes(&mut self, wanted: char) -> bool {
        self.chars.next_if(|(_, c)| *c == wanted).is_some()
    }

    /// The text up to the closing quote.
    fn quoted(&mut self, begin: usize, quote: char) -> Result<String, QueryError> {
        let mut text = String::new();
        while let Some((_, c)) = self.chars.next() {
            match c {
                c if c == quote => return Ok(text),
                '\\' => match self.chars.next() {
                    Some((_, c @ ('\\' | '"' | '\''))) => text.push(c),
                    Some((_, c)) => text.extend(['\\', c]),
                    None => break,
                },
                c => text.push(c),
            }
        }
        Err(error(begin + 1, "a quote that is not closed"))
    }

    fn word(&mut self, first: char) -> Result<Token, QueryError> {
        let mut word = String::from(first);
        while let Some((_, c)) = self.chars.next_if(|(_, c)| is_word(*c)) {
            word.push(c);
        }
        let is_quote = |(_, c): &(usize, char)| matches!(c, '"' | '\'');
        let Some(path) = word.strip_prefix("meta.") else { return Ok(Token::Word(word)) };
        let mut path: Vec<String> = path.split('.').map(str::to_owned).collect();
        // A part in quotes stands where a name would, and more parts may follow.
        while path.last().is_some_and(String::is_empty) {
            let Some((i, quote)) = self.chars.next_if(is_quote) else { break };
            path.pop();
            path.push(self.quoted(i, quote)?);
            if !self.takes('.') {
                return Ok(Token::Meta(path));
            }
            let mut rest = String::new();
            while let Some((_, c)) = self.chars.next_if(|(_, c)| is_word(*c)) {
                rest.push(c);
            }
            path.extend(rest.split('.').map(str::to_owned));
        }
        Ok(if path.iter().any(String::is_empty) { Token::Word(word) } else { Token::Meta(path) })
    }
}

/// What stands in words without quotes.
fn is_word(c: char) -> bool {
    !c.is_whitespace() && !matches!(c, '(' | ')' | '"' | '\'' | '=' | '!' | '<' | '>' | '~')
}

fn is_keyword(word: &str, keyword: &str) -> bool {
    word.eq_ignore_ascii_case(keyword)
}

fn shown(token: &Token) -> String {
    match token {
        Token::Word(word) => format!("`{word}`"),
        Token::Meta(path) => format!("`meta.{}`", path.join(".")),
        Token::Quoted(text) => format!("{text:?}"),
        Token::Op(op) => format!("`{op}`"),
        Token::Open => "`(`".into(),
        Token::Close => "`)`".into(),
    }
}

fn error(at: usize, problem: impl Into<String>) -> QueryError {
    QueryError { problem: problem.into(), at }
}
