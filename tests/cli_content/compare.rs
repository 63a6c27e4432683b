//! What `artfs diff` and `artfs log` tell of versions.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use super::Host;

/// Two versions with one of everything that can change, but in tensors and tables.
fn two_versions() -> Host {
    let host = Host::new();
    host.write("a/config.json", b"{\n  \"layers\": 12,\n  \"heads\": 8\n}\n");
    host.write("a/logs/vocab.txt", &[b'v'; 2_000]);
    host.write("a/run.sh", b"#!/bin/sh\n");
    host.write("a/same", &[b's'; 1_000]);
    host.write("a/gone.bin", &[0; 10]);
    symlink("same", host.path("a/link")).unwrap();
    host.write("b/config.json", b"{\n  \"layers\": 24,\n  \"heads\": 8\n}\n");
    host.write("b/data/vocab.txt", &[b'v'; 2_000]);
    let tool = host.write("b/run.sh", b"#!/bin/sh\n");
    fs::set_permissions(tool, PermissionsExt::from_mode(0o755)).unwrap();
    host.write("b/same", &[b's'; 1_000]);
    host.write("b/new\x1b[2J", b"");
    symlink("run.sh", host.path("b/link")).unwrap();
    host.ok(&["put", "a", "p/bert", "-m", "first", "--type", "model", "--meta", "f1=0.89", "--tag", "x"]);
    let said = ["-m", "twice as deep", "--type", "model", "--meta", "f1=0.91", "--meta", "lr=1e-4"];
    let more = ["--tag", "x", "--tag", "y", "--input", "p/ds:v3"];
    host.ok(&[&["put", "b", "p/bert"][..], &said, &more].concat());
    host
}

#[test]
fn diff_tells_files_bytes_and_what_is_said() {
    let host = two_versions();
    let (code, text) = host.say(&["diff", "p/bert:v0", "p/bert:v1"]);
    assert_eq!(code, Some(3), "{text}");
    assert_eq!(
        text,
        "\
p/bert:v0 -> p/bert:v1
SAID     FROM   TO
message  first  twice as deep
tags     x      x, y
inputs   -      p/ds:v3
meta.f1  0.89   0.91
meta.lr  -      1e-4

      FROM       TO   NEW  PATH
M     33 B     33 B  33 B  config.json
R  2.0 KiB  2.0 KiB   0 B  logs/vocab.txt -> data/vocab.txt
D     10 B        -     -  gone.bin
M     link     link     -  link (same -> run.sh)
D      dir        -     -  logs
A        -      0 B   0 B  new\\u{1b}[2J
M     10 B     10 B   0 B  run.sh (mode 644 -> 755)
3 changed, 1 added, 1 removed, 1 renamed, 1 directory added, 1 directory removed; 1 unchanged
3.0 KiB in p/bert:v1: 2.9 KiB shared, 33 B new

--- p/bert:v0/config.json
+++ p/bert:v1/config.json
@@ -1,4 +1,4 @@
 {
-  \"layers\": 12,
+  \"layers\": 24,
   \"heads\": 8
 }
"
    );
    let (code, stat) = host.say(&["diff", "p/bert:v0", "p/bert:v1", "--stat"]);
    assert_eq!((code, stat.as_str()), (Some(3), text.split("\n---").next().unwrap()));
    let (code, part) = host.say(&["diff", "p/bert:v0", "p/bert:v1", "--stat", "--path", "data/"]);
    assert_eq!(code, Some(3));
    assert_eq!(
        part,
        "\
p/bert:v0 -> p/bert:v1
   FROM       TO      NEW  PATH
A     -  2.0 KiB  2.0 KiB  data/vocab.txt
1 added, 1 directory added; 0 unchanged
2.0 KiB in p/bert:v1: 0 B shared, 2.0 KiB new
"
    );
}

#[test]
fn a_reference_at_another_path_is_renamed_if_it_is_to_the_same_object() {
    let host = Host::new();
    for (name, bytes) in [("one", "1111"), ("two", "22"), ("empty", "")] {
        host.write(&format!("outside/{name}"), bytes.as_bytes());
    }
    let uri = |name: &str| format!("file://{}", host.path(&format!("outside/{name}")).display());
    let commit = |tree: &str, links: &[(&str, &str)]| {
        fs::create_dir(host.path(tree)).unwrap();
        for (path, to) in links {
            symlink(uri(to), host.path(&format!("{tree}/{path}"))).unwrap();
        }
        host.ok(&["put", tree, "p/refs", "--allow-reference", &uri("")]);
    };
    commit("a", &[("early", "one"), ("gone", "two"), ("old-empty", "empty"), ("stays", "two")]);
    // One of two with the same URI is another object now.
    host.write("outside/two", b"33");
    commit("b", &[("late", "one"), ("new", "two"), ("new-empty", "empty"), ("stays", "two")]);
    let (code, text) = host.say(&["diff", "p/refs:v0", "p/refs:v1"]);
    assert_eq!(code, Some(3), "{text}");
    assert_eq!(
        text,
        "\
p/refs:v0 -> p/refs:v1
   FROM   TO  NEW  PATH
D   2 B    -    -  gone
R   4 B  4 B    -  early -> late
A     -  2 B    -  new
R   0 B  0 B    -  old-empty -> new-empty
M   2 B  2 B    -  stays
1 changed, 1 added, 1 removed, 2 renamed; 0 unchanged
8 B in p/refs:v1: 4 B shared, 4 B new
"
    );
}

#[test]
fn diff_ends_with_a_code_that_scripts_can_use() {
    let host = two_versions();
    let same = "p/bert:v1 -> p/bert:v1\nthe content is identical; 7 unchanged\n3.0 KiB in p/bert:v1: 3.0 KiB shared, 0 B new\n";
    assert_eq!(host.say(&["diff", "p/bert:v1", "p/bert"]), (Some(0), same.into()));
    let digest = host.json(&["--json", "show", "p/bert:v1"])["digest"].as_str().unwrap().to_owned();
    assert_eq!(host.say(&["diff", "p/bert", &format!("p/bert@{digest}")]).0, Some(0));
    // The same content, of which other things are said.
    host.ok(&["put", "b", "p/other"]);
    assert_eq!(host.say(&["diff", "p/bert", "p/other"]).0, Some(3));
    assert_eq!(host.say(&["diff", "p/bert", "p/other", "--path", "data"]).0, Some(0));
    assert_eq!(
        host.say(&["diff", "p/bert:v0", "p/bert:v1", "--path", "nope"]),
        (
            Some(1),
            "error: neither p/bert:v0 nor p/bert:v1 has nope\nhint: `artfs ls --files p/bert:v1` lists its paths\n"
                .into()
        )
    );
    assert_eq!(host.say(&["diff", "p/bert:v0", "p/bert:v9"]).0, Some(1));
    assert_eq!(host.say(&["diff", "p/bert:v0"]).0, Some(2));
    assert_eq!(host.say(&["diff", "p/bert:v0", "p/bert", "--path", "../x"]).0, Some(2));
}

#[test]
fn diff_is_one_object_for_machines() {
    let host = two_versions();
    host.write("a/t.csv", b"id,text\n1,a\n2,b\n");
    host.write("b/t.csv", b"id,label\n1,a\n2,b\n3,c\n");
    host.write("a/bad.npy", b"yes");
    host.write("b/bad.npy", b"no");
    host.ok(&["put", "a", "p/more"]);
    host.ok(&["put", "b", "p/more"]);
    let output = host.run(&["diff", "--json", "p/more:v0", "p/more:v1"]);
    assert_eq!(output.status.code(), Some(3));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["to"]["version"], "v1");
    assert_eq!(
        (&found["same"], &found["metadata"], &found["path"]),
        (&json!(false), &json!({}), &json!(null))
    );
    assert_eq!(
        found["summary"],
        json!({
            "added": 1, "removed": 1, "changed": 5, "renamed": 1, "directories_added": 1, "directories_removed": 1,
            "unchanged": 1, "shared_bytes": 3_010, "new_bytes": 33 + 21 + 2, "unlisted": 0, "not_looked_into": 0,
        })
    );
    let file = |path: &str| {
        let files = found["files"].as_array().unwrap();
        files.iter().find(|file| file["path"] == path).unwrap_or_else(|| panic!("{path}")).clone()
    };
    assert_eq!(file("data/vocab.txt")["change"], "renamed");
    assert_eq!(file("data/vocab.txt")["from"]["path"], "logs/vocab.txt");
    assert_eq!((&file("gone.bin")["change"], &file("gone.bin")["to"]), (&json!("removed"), &json!(null)));
    assert_eq!(file("run.sh")["to"]["mode"], "755");
    assert_eq!(file("run.sh").get("content"), None);
    assert_eq!(
        file("bad.npy")["content"],
        json!({ "note": "not an npy file: it does not start with \\x93NUMPY" })
    );
    let table = json!({
        "rows": { "from": 2, "to": 3 },
        "columns": { "from": 2, "to": 2, "added": ["label"], "removed": ["text"] },
    });
    assert_eq!(file("t.csv")["content"]["table"], table);
    let lines = &file("t.csv")["content"]["lines"];
    assert_eq!((&lines["added"], &lines["removed"]), (&json!(2), &json!(1)));
    let stat = host.run(&["diff", "--json", "--stat", "p/more:v0", "p/more:v1"]);
    let stat: serde_json::Value = serde_json::from_slice(&stat.stdout).unwrap();
    assert!(stat["files"].as_array().unwrap().iter().all(|file| file.get("content").is_none()));
    assert_eq!(stat["summary"], found["summary"]);
}

#[test]
fn an_event_that_the_log_does_not_have_is_an_error() {
    let host = two_versions();
    assert_eq!(host.ok(&["log", "p/bert", "--event", "1"]).lines().count(), 2);
    for format in [&[][..], &["--json"]] {
        let (code, said) = host.say(&[&["log", "p/bert", "--event", "99"], format].concat());
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("has 3 events, and none with number 99"), "{said}");
        let (code, said) = host.say(&[&["log", "p/bert:v0", "--event", "2"], format].concat());
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("event 2 of p/bert does not concern v0"), "{said}");
    }
}

#[test]
fn the_log_of_a_version_tells_who_edited_what_and_what_was_there_before() {
    let host = two_versions();
    host.ok(&["alias", "set", "p/bert", "best", "v0"]);
    host.ok(&["meta", "set", "p/bert:v0", "f1=0.9", "note=\"0.9\"", "-m", "better words"]);
    host.ok(&["meta", "rm", "p/bert:v0", "note"]);
    host.ok(&["tag", "add", "p/bert:v1", "unrelated"]);
    host.ok(&["ttl", "p/bert:v0", "30d"]);
    host.ok(&["ttl", "p/bert:v0", "never"]);
    // It takes the alias away.
    host.ok(&["put", "a", "p/bert", "--alias", "best"]);
    let log = host.ok(&["log", "p/bert:v0"]);
    let told = |line: &str| {
        let mut words = line.split_whitespace();
        let _time = (words.next(), words.next(), words.next());
        let who = words.next().unwrap();
        assert!(who == "BY" || who.contains('@'), "{line}");
        words.collect::<Vec<_>>().join(" ")
    };
    let told: Vec<String> = log.lines().skip(1).map(told).collect();
    let new = host.json(&["--json", "show", "p/bert:v0"])["stored_bytes"].as_u64().unwrap();
    assert!(new > 0);
    assert!(told[0].starts_with("committed v0: 5 files, 3.0 KiB ("), "{}", told[0]);
    assert!(told[0].ends_with(" new), type model, tags x, f1=0.89: first"), "{}", told[0]);
    assert_eq!(
        told[1..7],
        [
            "set best -> v0",
            "metadata of v0: f1=0.9 (was 0.89) note=\"0.9\"",
            "new message for v0: better words",
            "metadata of v0: -note (was \"0.9\")",
            "time to live of v0: 30d",
            "time to live of v0: never (was 30d)",
        ]
    );
    assert!(told[7].ends_with(", as best (was v0)"), "{}", told[7]);
    assert_eq!(told.len(), 8);
    assert!(host.ok(&["show", "p/bert:v0"]).contains("message: better words"));
    assert_eq!(
        host.json(&["--json", "log", "p/bert:v2"])["seq"],
        10,
        "machines get events as they are stored"
    );
}
