//! What conditions mean, and that no text breaks the parser.

use proptest::prelude::*;
use serde_json::Number;

use super::value::is_match;
use super::*;
use crate::format::clock::Timestamp;

struct Bert;

impl Fields for Bert {
    fn values(&self, field: &Field) -> Vec<FieldValue> {
        let text = |text: &str| FieldValue::Text(text.into());
        let number = |n: u64| FieldValue::Number(n.into());
        match field {
            Field::Plain(Plain::Tag) => vec![text("bert"), text("nightly")],
            Field::Plain(Plain::Type) => vec![text("model")],
            Field::Plain(Plain::Version) => vec![number(7)],
            Field::Plain(Plain::Bytes) => vec![number(3 << 30)],
            Field::Plain(Plain::Created) => vec![FieldValue::Time("2026-01-15T10:30:00Z".parse().unwrap())],
            Field::Plain(Plain::Age) => vec![FieldValue::Span(5 * 86_400)],
            Field::Plain(_) => vec![],
            Field::Meta(path) => match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["f1"] => FieldValue::of_json(&serde_json::json!(0.91)),
                ["epochs"] => FieldValue::of_json(&serde_json::json!(12)),
                ["ok"] => FieldValue::of_json(&serde_json::json!(true)),
                ["labels"] => FieldValue::of_json(&serde_json::json!(["a", "b"])),
                ["none"] => FieldValue::of_json(&serde_json::json!([])),
                ["opt", "lr"] => FieldValue::of_json(&serde_json::json!(1e-4)),
                ["a b", "c.d"] => FieldValue::of_json(&serde_json::json!("x")),
                _ => vec![],
            },
        }
    }
}

fn holds(text: &str) -> bool {
    text.parse::<Condition>().unwrap_or_else(|e| panic!("{text}: {e}")).holds(&Bert)
}

fn problem(text: &str) -> String {
    text.parse::<Condition>().expect_err(text).to_string()
}

#[test]
fn values_are_compared_by_their_types() {
    for text in [
        r#"meta.f1 > 0.9 and tag = "bert" and type = "model""#,
        "meta.epochs = 12 and meta.epochs = 12.0 and meta.epochs < 1e2",
        "meta.ok = true and meta.opt.lr <= 0.0001",
        "meta.labels = b and not meta.labels = c",
        "version >= v7 and version < 8",
        "bytes > 2.5G and bytes <= 3GiB",
        "created > 2026-01-14 and created < 2026-01-16 and created < '2026-01-15 10:31'",
        // What is left open is meant as a whole: it was at 10:30:00.
        "created = 2026-01-15 and created >= 2026-01-15 and created <= 2026-01-15 and created != 2026-01-14",
        "not created > 2026-01-15 and not created < 2026-01-15 and not created != 2026-01-15",
        "created = '2026-01-15 10:30' and created = 2026-01-15T10:30:00 and created = 2026-01-15T12:30:00+02:00",
        "created = 2026-01-15T10:30:00.000Z and created != 2026-01-15T10:30:00.001Z and created != '2026-01-15 10:29'",
        "created ~ 2026-01 and age < 7d and age >= 120h",
        "tag ~ b*t and tag ~ ight and not tag ~ 'ber?t'",
        "has meta.f1 and has meta.none and not has meta.f2 and not has ttl",
        "meta.'a b'.\"c.d\" = x",
        "type = dataset or (type = model and (tag = x or tag == nightly))",
        "NOT type = dataset AND version=7",
        // Text and number are neither equal nor ordered.
        "not meta.f1 = '0.91' and not meta.f1 < 'z' and meta.f1 != '0.91'",
        // Without a value only != holds.
        "meta.f2 != 1 and not meta.f2 = 1 and not meta.f2 < 1 and host != x",
        "tag != other and not tag != bert",
    ] {
        assert!(holds(text), "{text}");
    }
}

#[test]
fn and_binds_more_than_or() {
    assert!(holds("type = model or type = x and type = y"));
    assert!(!holds("(type = model or type = x) and type = y"));
}

#[test]
fn errors_say_what_and_where() {
    assert_eq!(problem(""), "expected a condition, at character 1");
    assert_eq!(problem("type"), "expected `=`, `!=`, `<`, `<=`, `>`, `>=` or `~`, at character 5");
    assert_eq!(problem("type = "), "expected a value, at character 8");
    assert_eq!(problem("type = a b"), "expected `and` or `or`, not `b`, at character 10");
    assert_eq!(problem("(type = a"), "expected `)`, at character 10");
    assert_eq!(problem("tag = 'a"), "a quote that is not closed, at character 7");
    assert_eq!(problem("tag = and"), "expected a value, not `and`; quote it if it is one, at character 7");
    assert_eq!(problem("files > many"), "\"many\" is no number; files is compared with one, at character 9");
    assert_eq!(
        problem("age < 3y"),
        "\"3y\" is no span of time, as 30d; age is compared with one, at character 7"
    );
    assert!(problem("created > soon").contains("is no date"));
    assert!(problem("version = best").contains("is no version"));
    assert!(problem("bytes > x").contains("is no size"));
    assert!(problem("a ! b").contains("expected `!=`"));
    assert!(problem("size > 1").starts_with("\"size\" is no field; there are meta.KEY, project, name,"));
    assert!(problem("message ~ x").contains("are not searched"));
    assert!(problem("meta. = 1").contains("is no field"));
    assert!(problem(&"(".repeat(1000)).contains("more than 64"));
    assert!(problem(&"not ".repeat(1000)).contains("more than 64"));
    assert!(problem(&"x".repeat(20_000)).contains("too long"));
}

#[test]
fn globs_match_the_whole_text_in_bounded_time() {
    let long = "a".repeat(5_000);
    for (pattern, text, want) in [
        ("*", "", true),
        ("a*c", "abbc", true),
        ("a*c", "abbcd", false),
        ("?é?", "xéy", true),
        ("?", "", false),
        ("**a**", "bab", true),
        ("*a*a*a*a*a*a*a*b", long.as_str(), false),
    ] {
        assert_eq!(is_match(pattern, text), want, "{pattern} {text:.10}");
    }
}

fn conditions() -> impl Strategy<Value = Condition> {
    let text = "[a-z \"'\\\\()=.*é]{0,6}";
    let meta = proptest::collection::vec("[a-z \"'.é]{1,5}", 1..3).prop_map(Field::Meta);
    let number = prop_oneof![any::<i64>().prop_map(Number::from), any::<u64>().prop_map(Number::from)];
    let op = prop_oneof![Just(Op::Equal), Just(Op::NotEqual), Just(Op::Less), Just(Op::GreaterOrEqual)];
    let length =
        prop_oneof![Just(Length::Millisecond), Just(Length::Second), Just(Length::Minute), Just(Length::Day)];
    let json = prop_oneof![
        text.prop_map(FieldValue::Text),
        number.prop_map(FieldValue::Number),
        any::<bool>().prop_map(FieldValue::Bool),
        Just(FieldValue::Null),
    ];
    let leaf = prop_oneof![
        (meta.clone(), op.clone(), json).prop_map(|(f, o, v)| Condition::Compare(f, o, v)),
        (meta.clone(), text).prop_map(|(f, v)| Condition::Compare(f, Op::Like, FieldValue::Text(v))),
        (op.clone(), text).prop_map(|(o, v)| Condition::Compare(
            Field::Plain(Plain::Tag),
            o,
            FieldValue::Text(v)
        )),
        (op.clone(), any::<u32>()).prop_map(|(o, n)| Condition::Compare(
            Field::Plain(Plain::Age),
            o,
            FieldValue::Span(n.into())
        )),
        (op, 0..4_000_000_000_000i64, length).prop_map(|(o, n, length)| {
            let millis = length.span().as_millis() as i64;
            let from = Timestamp::from_unix_millis(n / millis * millis);
            Condition::Compare(Field::Plain(Plain::Created), o, FieldValue::Period(from, length))
        }),
        meta.prop_map(Condition::Has),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let list = proptest::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            list.clone().prop_map(Condition::And),
            list.prop_map(Condition::Or),
            inner.prop_map(|c| Condition::Not(Box::new(c))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_parsed_back(condition in conditions()) {
        let text = condition.to_string();
        prop_assert_eq!(text.parse::<Condition>().map_err(|e| format!("{text}: {e}")), Ok(condition));
    }

    #[test]
    fn no_text_breaks_the_parser(text in ".{0,60}") {
        let _ = text.parse::<Condition>();
    }

    #[test]
    fn no_text_of_its_own_words_breaks_the_parser(
        words in proptest::collection::vec(
            prop_oneof![
                Just("and"), Just("or"), Just("not"), Just("has"), Just("("), Just(")"), Just("="), Just("~"),
                Just("!="), Just("meta."), Just("meta.a"), Just("."), Just("\""), Just("'"), Just("\\"), Just("tag"),
                Just("v7"), Just("1"), Just(" "), Just("é"), Just("!"), Just("<"),
            ],
            0..20,
        )
    ) {
        if let Ok(condition) = words.concat().parse::<Condition>() {
            let again = condition.to_string().parse::<Condition>();
            prop_assert_eq!(again.as_ref().ok(), Some(&condition), "{}", condition);
            condition.holds(&Bert);
        }
    }
}
