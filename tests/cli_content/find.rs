//! Versions found by `artfs ls --where`.

use serde_json::json;

use super::Host;

/// Three artifacts in two projects.
fn store() -> Host {
    let host = Host::new();
    for (n, f1) in ["0.85", "0.92", "0.95"].into_iter().enumerate() {
        host.write("in/file", &vec![b'x'; 1_000 * (n + 1)]);
        let meta = format!("f1={f1}");
        host.ok(&["put", "in", "p/bert", "--type", "model", "--tag", "bert", "--meta", &meta]);
    }
    host.ok(&["put", "in", "p/ds", "--type", "dataset", "--meta", "f1=\"0.99\"", "--ttl", "30d"]);
    let nested = ["--meta", "opt={\"lr\":0.1,\"name\":\"adam\"}", "--meta", "a.b=1"];
    host.ok(&[&["put", "in", "q/other", "--alias", "best", "--tag", "a", "--tag", "b"][..], &nested].concat());
    host
}

/// The versions, as `project/name:v7`.
fn found(host: &Host, words: &[&str]) -> Vec<String> {
    let json = host.json(&[&["ls", "--json"], words].concat());
    let name = |v: &serde_json::Value| {
        format!("{}:{}", v["artifact"].as_str().unwrap(), v["version"].as_str().unwrap())
    };
    json.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn versions_are_found_by_what_is_said_of_them() {
    let host = store();
    let created = host.json(&["--json", "show", "q/other"])["created"].as_str().unwrap().to_owned();
    let day = &created[.."2026-01-31".len()];
    let cases: &[(&[&str], &[&str])] = &[
        (&["--where", "meta.f1 > 0.9 and tag = \"bert\" and type = \"model\""], &["p/bert:v1", "p/bert:v2"]),
        (&["--where", "meta.f1 = '0.99' or has meta.opt.lr"], &["p/ds:v0", "q/other:v0"]),
        (&["--where", "meta.opt.name ~ ada and meta.a.b = 1"], &["q/other:v0"]),
        (&["p", "--where", "not has tag"], &["p/ds:v0"]),
        (&["p/bert", "--where", "bytes >= 2000"], &["p/bert:v1", "p/bert:v2"]),
        (&["p/bert:v0", "--where", "version < v1"], &["p/bert:v0"]),
        (&["--where", "alias = best and age < 1h and created > 2026-01-01"], &["q/other:v0"]),
        (&["q", "--where", &format!("created = {day}")], &["q/other:v0"]),
        (&["q", "--where", &format!("created > {day} or created < {day}")], &[]),
        (&["--where", "ttl < 60d"], &["p/ds:v0"]),
        (&["--where", "project = q or name = ds"], &["p/ds:v0", "q/other:v0"]),
        (&["--where", "tag = nothing"], &[]),
        (&["p/bert", "--sort", "-meta.f1", "--limit", "2"], &["p/bert:v2", "p/bert:v1"]),
        // Those without a value come last, whichever way round, and text among numbers counts as none.
        (&["--sort", "meta.f1", "--where", "version = 0"], &["p/bert:v0", "p/ds:v0", "q/other:v0"]),
        (&["--sort", "-meta.f1", "--where", "version = 0"], &["p/bert:v0", "p/ds:v0", "q/other:v0"]),
        (&["--sort", "type,-version"], &["p/ds:v0", "p/bert:v2", "p/bert:v1", "p/bert:v0", "q/other:v0"]),
        (&["--limit", "0"], &[]),
    ];
    for (words, want) in cases {
        assert_eq!(found(&host, words), *want, "{words:?}");
    }
}

#[test]
fn a_name_that_is_not_there_is_an_error_whatever_is_asked_of_it() {
    let host = store();
    host.ok(&["rm", "q/other", "--recursive", "--force"]);
    for name in ["nope", "p/nope", "p/bert:v9", "p/bert:nope", "q", "q/other"] {
        let (code, plain) = host.say(&["ls", name]);
        assert_eq!(code, Some(1), "{name}: {plain}");
        for words in [&["--where", "type = model"][..], &["--limit", "1"], &["--sort", "created", "--json"]] {
            assert_eq!(
                host.say(&[&["ls", name], words].concat()),
                (Some(1), plain.clone()),
                "{name} {words:?}"
            );
        }
    }
}

#[test]
fn found_versions_are_printed_for_people() {
    let host = store();
    let text = host.ok(&["ls", "--where", "meta.f1 > 0.9", "--sort", "-meta.f1"]);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let heading =
        ["ARTIFACT", "VERSION", "TYPE", "SIZE", "CREATED", "(UTC)", "BY", "TAGS", "ALIASES", "meta.f1"];
    assert_eq!(lines[0], heading);
    assert_eq!(lines[1][..5], ["p/bert", "v2", "model", "2.9", "KiB"]);
    assert_eq!(lines[1].last(), Some(&"0.95"));
    assert_eq!((lines[2][1], lines.len()), ("v1", 3));
    assert_eq!(host.say(&["ls", "--where", "tag = x"]), (Some(0), "no version matches\n".into()));
}

#[test]
fn found_versions_are_printed_for_programs() {
    let host = store();
    let versions = host.json(&["ls", "--format", "json", "--where", "tag = a"]);
    assert_eq!(versions[0]["meta"], json!({ "a.b": 1, "opt": { "lr": 0.1, "name": "adam" } }));
    assert_eq!(versions[0]["tags"], json!(["a", "b"]));
    let csv = host.ok(&["ls", "--format", "csv", "--where", "tag = a or type = dataset"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        lines[0],
        "artifact,version,aliases,type,tags,created,actor,host,entries,files,bytes,stored_bytes,ttl_seconds,inputs,\
         digest,meta.a.b,meta.f1,meta.opt"
    );
    assert!(lines[1].starts_with("p/ds,v0,latest,dataset,,2"), "{}", lines[1]);
    assert!(lines[1].ends_with(",,0.99,"), "{}", lines[1]);
    assert!(lines[2].starts_with("q/other,v0,\"latest,best\",,\"a,b\",2"), "{}", lines[2]);
    assert!(lines[2].ends_with(",1,,\"{\"\"lr\"\":0.1,\"\"name\"\":\"\"adam\"\"}\""), "{}", lines[2]);
    let artifacts = host.ok(&["ls", "--format", "csv"]);
    assert!(artifacts.starts_with("artifact,versions,latest,bytes,"), "{artifacts}");
    assert_eq!(artifacts.lines().count(), 4);
    assert!(
        host.ok(&["ls", "p/bert", "--format", "csv"])
            .lines()
            .nth(3)
            .unwrap()
            .starts_with("p/bert,v2,latest,")
    );
}

#[test]
fn wrong_conditions_are_usage_errors_that_say_where() {
    let host = store();
    let problem = |words: &[&str]| {
        let (code, text) = host.say(words);
        assert_eq!(code, Some(2), "{words:?}: {text}");
        text
    };
    let said = problem(&["ls", "--where", "type = a b"]);
    assert!(said.contains("expected `and` or `or`, not `b`, at character 10"), "{said}");
    assert!(problem(&["ls", "--where", "size > 3"]).contains("\"size\" is no field; there are meta.KEY"));
    assert!(problem(&["ls", "--sort", "size"]).contains("\"size\" is no field"));
    assert!(problem(&["ls", "--json", "--format", "csv"]).contains("--json and --format"));
    problem(&["ls", "--format", "xml"]);
    problem(&["ls", "--limit", "-1"]);
    problem(&["ls", "p/bert", "--files", "--where", "tag = a"]);
}

#[test]
fn numbers_in_metadata_keep_their_spelling_and_are_compared_by_value() {
    let host = Host::new();
    host.write("in/file", b"x");
    let spelled = [
        ("torch", "2.10"),
        ("commit", "1234e56"),
        ("id", "123456789012345678901"),
        ("f1", "0.90"),
        ("lr", "1e-3"),
        ("zero", "-0.0"),
    ];
    let words: Vec<String> =
        spelled.iter().flat_map(|(key, number)| ["--meta".into(), format!("{key}={number}")]).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let texts = ["--meta-text", "id_text=007e1", "--meta-text", "n=2.10", "--meta", "nan=NaN"];
    host.ok(&[&["put", "in", "p/a"][..], &words, &texts, &["--meta", "opt={\"lr\": 1.50}"]].concat());
    let listed = host.ok(&["meta", "ls", "p/a"]);
    let shown = host.ok(&["show", "p/a"]);
    let json = host.ok(&["show", "p/a", "--json"]);
    let logged = host.ok(&["log", "p/a", "--json"]);
    let csv = host.ok(&["ls", "p/a", "--format", "csv"]);
    for (key, number) in spelled {
        assert!(listed.contains(&format!("{key}={number}\n")), "{listed}");
        assert!(json.contains(&format!("\"{key}\": {number}")), "{json}");
        assert!(logged.replace("\": ", "\":").contains(&format!("\"{key}\":{number}")), "{logged}");
        assert!(shown.contains(number) && csv.contains(number), "{shown}{csv}");
    }
    assert!(json.contains("\"lr\": 1.50") && json.contains("\"n\": \"2.10\""), "{json}");
    assert!(json.contains("\"nan\": \"NaN\""), "{json}");
    let has = |condition: &str| !found(&host, &["--where", condition]).is_empty();
    for condition in [
        "meta.torch = 2.1 and meta.torch < 2.11 and meta.torch > 2.09",
        "meta.id > 123456789012345678900 and meta.id < 123456789012345678902",
        "meta.id = 123456789012345678901.0",
        "meta.commit = 1.234e59 and meta.commit > 1233e56",
        "meta.f1 = 0.9 and meta.f1 < 0.90000000000000000001",
        "meta.lr = 0.001 and meta.zero = 0 and meta.opt.lr = 1.5",
        "meta.n = '2.10' and not meta.n = 2.10",
    ] {
        assert!(has(condition), "{condition}");
    }
    // The same number in another spelling is what was said last.
    host.ok(&["meta", "set", "p/a", "torch=2.1", "--meta-text", "id=7"]);
    assert!(host.ok(&["meta", "ls", "p/a"]).contains("torch=2.1\n"));
    assert!(host.ok(&["show", "p/a", "--json"]).contains("\"id\": \"7\""));
}

#[test]
fn text_among_numbers_counts_as_no_value_in_an_order() {
    let host = Host::new();
    for (n, loss) in ["0.5", "NaN", "12345678901234567890.5", "-1e-3"].into_iter().enumerate() {
        host.write("in/file", &vec![b'x'; n + 1]);
        host.ok(&["put", "in", "p/a", "--meta", &format!("loss={loss}")]);
    }
    host.write("in/file", b"none");
    host.ok(&["put", "in", "p/a"]);
    let order = |key: &str| found(&host, &["p/a", "--sort", key]);
    assert_eq!(order("meta.loss"), ["p/a:v3", "p/a:v0", "p/a:v2", "p/a:v1", "p/a:v4"]);
    assert_eq!(order("-meta.loss"), ["p/a:v2", "p/a:v0", "p/a:v3", "p/a:v1", "p/a:v4"]);
}
