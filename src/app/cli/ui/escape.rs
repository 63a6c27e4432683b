//! Text from outside without what a terminal would obey, or show as another text: control characters, and characters
//! that turn the direction, end lines or have no width.

use std::fmt::Write as _;

/// The control sequences of the program's own styles; [`text`] lets them pass.
pub const STYLES: [&str; 5] = ["\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[m"];

/// Escapes a text of lines for people; newlines, tabs and the program's own [`STYLES`] stay.
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let style = STYLES.iter().find(|style| rest.starts_with(**style));
        let taken = style.map_or(c.len_utf8(), |style| style.len());
        match style {
            Some(style) => out.push_str(style),
            None if is_harmful(c) && !matches!(c, '\n' | '\t') => out.extend(c.escape_unicode()),
            None => out.push(c),
        }
        rest = &rest[taken..];
    }
    out
}

/// Escapes JSON: harmful characters become `\uXXXX`, so a parser reads the same values.
pub fn json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // Outside of strings; inside they are escaped already.
            '\n' | '\t' => out.push(c),
            c if is_harmful(c) => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Escapes text that must stay on one line.
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Escapes each line of a text as [`line()`] does.
pub fn lines(text: &str) -> String {
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Returns whether a text can go to a terminal as it is.
pub fn is_safe(text: &str) -> bool {
    !text.contains(|c| is_harmful(c) && !matches!(c, '\n' | '\t'))
}

fn is_harmful(c: char) -> bool {
    let is_invisible =
        matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' | '\u{2028}' | '\u{2029}');
    c.is_control() || is_invisible || turns_direction(c)
}

/// Returns whether a character changes the direction in which text is shown, so that it can look like another text.
pub fn turns_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_printed_and_json_loses_nothing() {
        let harmful = "\u{1b}]0;x\u{7}\u{9b}\u{7f}\r\u{202a}\u{202e}\u{2066}\u{2069}\u{200e}\u{200f}\u{61c}\u{2028}\u{2029}\u{feff}";
        let shown = text(&format!("{}a{harmful}b\n{}", STYLES[1], STYLES[4]));
        assert!(shown.starts_with("\u{1b}[31ma\\u{1b}]0;x\\u{7}\\u{9b}"), "{shown}");
        assert!(!shown[5..shown.len() - 3].contains(|c| c != '\n' && is_harmful(c)), "{shown:?}");
        assert!(!line(harmful).contains(is_harmful));
        let value = serde_json::json!({ harmful: [harmful, "é"] });
        let text = json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!text.contains(|c| c != '\n' && is_harmful(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
