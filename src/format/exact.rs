//! JSON whose numbers keep their spelling.
//!
//! `serde_json` keeps the digits of a number, but not how its power of ten is written (`1e5` becomes `1e+5`). So values
//! of users are read here, and go into larger values through [`to_value`].

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use super::metadata::Metadata;

/// Levels of lists and objects, as `serde_json` has them.
const MAX_LEVELS: usize = 127;

/// Reads a JSON value.
///
/// # Errors
/// The text is no JSON, or is nested too deep.
pub fn parse(text: &str) -> serde_json::Result<Value> {
    let raw: &RawValue = serde_json::from_str(text)?;
    let mut parser = JsonParser { rest: raw.get() };
    parser.value(0)
}

/// A value as JSON.
///
/// # Errors
/// It cannot be serialised.
pub fn to_value(value: &impl Serialize) -> serde_json::Result<Value> {
    parse(&serde_json::to_string(value)?)
}

/// Reads metadata, for `deserialize_with`.
///
/// # Errors
/// Those of the deserializer, and a value that is not JSON.
pub fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Metadata, D::Error> {
    let raw = std::collections::BTreeMap::<String, Box<RawValue>>::deserialize(deserializer)?;
    let exact = |(name, raw): (String, Box<RawValue>)| Ok((name, parse(raw.get())?));
    raw.into_iter().map(exact).collect::<serde_json::Result<_>>().map_err(D::Error::custom)
}

/// Goes through a text that is known to be JSON.
struct JsonParser<'a> {
    rest: &'a str,
}

impl<'a> JsonParser<'a> {
    fn value(&mut self, level: usize) -> serde_json::Result<Value> {
        if level > MAX_LEVELS {
            return Err(serde_json::Error::custom("it is nested too deep"));
        }
        match self.peek() {
            Some('{') => self.object(level),
            Some('[') => self.list(level),
            Some('"') => self.string().map(Value::String),
            Some('-' | '0'..='9') => {
                let number = self.token(|c| !matches!(c, '-' | '+' | '.' | 'e' | 'E' | '0'..='9'));
                Ok(Value::Number(Number::from_string_unchecked(number.to_owned())))
            }
            _ => serde_json::from_str(self.token(|c| !c.is_ascii_lowercase())),
        }
    }

    fn list(&mut self, level: usize) -> serde_json::Result<Value> {
        let mut list = vec![];
        self.skip();
        while self.peek().is_some_and(|c| c != ']') {
            list.push(self.value(level + 1)?);
            self.comma();
        }
        self.skip();
        Ok(Value::Array(list))
    }

    fn object(&mut self, level: usize) -> serde_json::Result<Value> {
        let mut object = Map::new();
        self.skip();
        while self.peek().is_some_and(|c| c != '}') {
            let name = self.string()?;
            // The colon.
            self.peek();
            self.skip();
            object.insert(name, self.value(level + 1)?);
            self.comma();
        }
        self.skip();
        Ok(Value::Object(object))
    }

    fn string(&mut self) -> serde_json::Result<String> {
        self.peek();
        let mut is_escaped = true;
        let end = self.rest.bytes().position(|b| {
            let is_end = b == b'"' && !is_escaped;
            is_escaped = b == b'\\' && !is_escaped;
            is_end
        });
        let (text, rest) = self.rest.split_at(end.map_or(self.rest.len(), |end| end + 1));
        self.rest = rest;
        serde_json::from_str(text)
    }

    /// The next character that is no blank.
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.rest.chars().next()
    }

    /// Passes over the character that was looked at.
    fn skip(&mut self) {
        let mut chars = self.rest.chars();
        chars.next();
        self.rest = chars.as_str();
    }

    fn comma(&mut self) {
        if self.peek() == Some(',') {
            self.skip();
        }
    }

    /// What comes before a character that ends it.
    fn token(&mut self, is_end: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(is_end).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_they_were_written_and_all_else_as_serde_json_has_it() {
        for number in ["2.10", "1234e56", "1E5", "1e+5", "1e-05", "-0", "-0.0e0", "123456789012345678901.0"] {
            assert_eq!(parse(number).unwrap().to_string(), number);
            let inside = format!("{{\"a\":[{number},{{\"b\":{number}}}]}}");
            assert_eq!(parse(&inside).unwrap().to_string(), inside);
            assert_eq!(to_value(&parse(&inside).unwrap()).unwrap().to_string(), inside);
        }
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let texts = [
            r#" { "a" : [ ] , "b\"\\" : { } , "a" : [ 1 , true , null , "x,]}\u00e9\\" ] , "ä" : false } "#,
            r#""\\""#,
            "[[[1,2],[]],[{}]]",
            "null",
            "\t7\n",
            &deep(100),
        ];
        for text in texts {
            assert_eq!(parse(text).unwrap(), serde_json::from_str::<Value>(text).unwrap(), "{text}");
        }
        for text in
            ["", "NaN", "007", "1.", "+1", "1e", "{", "[1,]", "{\"a\"}", "\"", "1 2", "tru", &deep(200)]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
