//! Comma-separated values, as RFC 4180 has them, but with plain newlines.

use csv::Writer;
use serde_json::Value;

/// Returns a heading and a line for each object. A member that is missing or null is an empty cell, a list of texts its
/// texts between commas, any other value that is not text its JSON.
pub fn text(columns: &[String], rows: &[Value]) -> String {
    let mut writer = Writer::from_writer(Vec::new());
    let mut write = |cells: Vec<String>| {
        writer.write_record(cells).expect("a vector takes all, and rows are equally long")
    };
    write(columns.to_vec());
    rows.iter().for_each(|row| write(columns.iter().map(|column| cell(row.get(column))).collect()));
    let bytes = writer.into_inner().expect("a vector takes all");
    String::from_utf8(bytes).expect("cells are text")
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
            list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        let columns = ["a", "b,c", "d"].map(str::to_owned);
        let rows =
            [json!({ "a": "x\"y", "b,c": ["t", "u"], "d": 1.5 }), json!({ "a": null, "d": { "e": true } })];
        assert_eq!(text(&columns, &rows), "a,\"b,c\",d\n\"x\"\"y\",\"t,u\",1.5\n,,\"{\"\"e\"\":true}\"\n");
    }
}
