//! Audit reports, copies that are checked without the store, and hooks.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Host, overwrite};

/// Only what never comes takes this long.
const NEVER: Duration = Duration::from_secs(60);

/// `p/m` with two versions, made from others; aliases and metadata have moved.
fn history(host: &Host) {
    host.write("in/a", b"one");
    host.ok(&["put", "in", "p/raw"]);
    host.ok(&["put", "in", "p/ds", "--input", "p/raw:v0", "--input", "p/gone:v3"]);
    host.write("in/b", b"two");
    host.ok(&[
        "put", "in", "p/m", "-m", "first", "--input", "p/ds:v0", "--alias", "best", "--meta", "f1=0.5",
    ]);
    host.ok(&["alias", "set", "p/m", "prod", "v0"]);
    host.ok(&["meta", "set", "p/m:v0", "f1=0.9"]);
    host.ok(&["tag", "add", "p/m:v0", "ok"]);
    host.ok(&["ttl", "p/m:v0", "30d"]);
    host.ok(&["put", "in", "p/m", "-m", "again", "--tag", "twice", "--input", "p/ds:v7"]);
    host.write("in/c", b"three");
    host.ok(&["put", "in", "p/m"]);
    host.ok(&["alias", "set", "p/m", "prod", "v1"]);
    host.ok(&["rm", "p/m:v1", "--force"]);
}

#[test]
fn an_audit_tells_every_alias_and_every_edit_with_who_and_when() {
    let host = Host::new();
    history(&host);
    let report = host.json(&["audit", "p/m:v0", "--json"]);
    let held: Vec<Value> = report["history"]["aliases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|held| {
            let until = &held["until"];
            json!([held["alias"], held["from_seq"], until["seq"], until["to"]])
        })
        .collect();
    // `latest` comes back when the version above is deleted.
    assert_eq!(
        json!(held),
        json!([
            ["latest", 1, 7, "v1"],
            ["best", 1, null, null],
            ["prod", 2, 8, "v1"],
            ["latest", 9, null, null],
        ])
    );
    let changes: Vec<Value> = report["history"]["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| json!([change["seq"], change["what"], change["old"], change["new"]]))
        .collect();
    assert_eq!(
        json!(changes),
        json!([
            [3, "meta.f1", 0.5, 0.9],
            [4, "tags", null, ["ok"]],
            [5, "ttl", null, 2_592_000],
            [6, "tags", ["ok"], ["ok", "twice"]],
        ])
    );
    assert_eq!(
        (&report["head"]["seq"], &report["retention"]["kept_by"]),
        (&json!(9), &json!(["latest", "best"]))
    );
    let log = host.ok(&["log", "--json", "p/m"]);
    let last = blake3::hash(log.lines().last().unwrap().as_bytes()).to_hex().to_string();
    assert_eq!(report["head"]["hash"], json!(last));
    let labels: Vec<&str> =
        report["lineage"]["nodes"].as_array().unwrap().iter().map(|n| n["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["p/m:v0", "p/ds:v0", "p/raw:v0", "p/gone:v3"]);
    assert_eq!(report["lineage"]["edges"], json!([[0, 1], [1, 2], [1, 3]]));
    assert_eq!(report["lineage"]["nodes"][3]["standing"], "unknown");
    assert_eq!(report["record"]["producers"].as_array().unwrap().len(), 1);
    let again = &report["made_again"][0];
    assert_eq!((&again["seq"], &again["message"]), (&json!(6), &json!("again")));
    assert_eq!(again["inputs"], json!(["p/ds:v7"]), "each says by itself what it was made from");

    let text = host.ok(&["audit", "p/m:v0"]);
    for part in [
        "b3sum --check",
        report["record"]["digest"].as_str().unwrap(),
        "p/ds:v0 <- p/raw:v0",
        "from p/ds:v7",
        &last,
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(
        (&report["signed_by"], &report["history"]["aliases"][1]["signed_by"]),
        (&Value::Null, &Value::Null)
    );
    let deleted = host.json(&["audit", "p/m:v1", "--json"]);
    assert_eq!(deleted["retention"]["state"], "deleted");
    assert_eq!(deleted["history"]["aliases"][1]["until"]["to"], Value::Null, "prod went with it");
    assert_eq!(deleted["history"]["changes"][0]["what"], "deleted");
    assert_eq!(host.say(&["audit", "p/m:v7"]).0, Some(1));
    host.ok(&["meta", "set", "p/m:v0", "x=1"]);
    assert_ne!(host.json(&["audit", "p/m:v0", "--json"])["head"]["hash"], json!(last));
}

#[test]
fn an_audit_says_whether_the_store_was_asked_and_refuses_a_log_that_it_took_back() {
    let host = Host::new();
    history(&host);
    let report = host.json(&["audit", "p/m:v0", "--json"]);
    assert_eq!(report["checked"]["against"], "store");
    assert!(report["checked"]["time"].is_string(), "{report}");
    assert!(host.ok(&["audit", "p/m:v0"]).contains("against the store on "));
    // Offline: the same page, and it says so.
    fs::rename(host.path("store"), host.path("away")).unwrap();
    let alone: Value = serde_json::from_slice(&host.run(&["audit", "p/m:v0", "--json"]).stdout).unwrap();
    assert_eq!((&alone["checked"]["against"], &alone["head"]), (&json!("this_host"), &report["head"]));
    assert_eq!(host.say(&["audit", "p/m:v0", "--html", "page.html"]).0, Some(0));
    let page = fs::read_to_string(host.path("page.html")).unwrap();
    assert!(page.contains("only against what this host knows"), "{page}");
    fs::rename(host.path("away"), host.path("store")).unwrap();
    // An event that this host has, and the store has otherwise.
    let log = host.path("store/artifacts/p/m/log");
    let mut events: Vec<_> = fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path()).collect();
    events.sort();
    let kept = fs::read(&events[3]).unwrap();
    overwrite(&events[3], &[b"{}".as_slice(), &kept[2..]].concat());
    let (code, said) = host.say(&["audit", "p/m:v0"]);
    assert_eq!((code, said.contains("event 3")), (Some(3), true), "{said}");
    overwrite(&events[3], &kept);
    fs::remove_file(events.last().unwrap()).unwrap();
    let (code, said) = host.say(&["audit", "p/m:v0"]);
    assert_eq!((code, said.contains("seen 1 event more")), (Some(3), true), "{said}");
}

#[test]
fn a_lineage_that_is_deep_or_wide_is_cut_and_says_so() {
    let host = Host::new();
    host.write("in/a", b"one");
    host.ok(&["put", "in", "p/a0"]);
    for i in 1..12 {
        host.ok(&["put", "in", &format!("p/a{i}"), "--input", &format!("p/a{}:v0", i - 1)]);
    }
    let deep = host.json(&["audit", "p/a11", "--json"]);
    assert_eq!(
        (deep["lineage"]["nodes"].as_array().unwrap().len(), &deep["lineage"]["left_out"]),
        (9, &json!(1))
    );
    let many: Vec<String> = (0..80).map(|i| format!("p/none:v{i}")).collect();
    let mut words = vec!["put", "in", "p/wide"];
    many.iter().for_each(|input| words.extend(["--input", input]));
    host.ok(&words);
    let wide = host.json(&["audit", "p/wide", "--json"]);
    assert_eq!(
        (wide["lineage"]["nodes"].as_array().unwrap().len(), &wide["lineage"]["left_out"]),
        (64, &json!(17))
    );
    host.ok(&["audit", "p/wide", "--html", "page.html"]);
    let page = fs::read_to_string(host.path("page.html")).unwrap();
    assert!(page.contains("17 more inputs not drawn"), "{page}");
    assert_eq!(page.matches("<rect").count(), 64);
}

/// The names of a page's elements.
fn elements(page: &str) -> Vec<String> {
    let tags = page.split('<').skip(1).map(|rest| rest.trim_start_matches('/'));
    let name = |tag: &str| tag.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '!').collect();
    let mut names: Vec<String> = tags.map(name).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn nothing_that_was_said_of_a_version_is_markup_on_its_page() {
    let host = Host::new();
    host.write("in/a", b"one");
    host.ok(&[
        "put", "in", "p/plain", "-m", "harmless", "--tag", "t", "--meta", "k=1", "--type", "x", "--input",
        "p/a:v0",
    ]);
    host.ok(&["meta", "set", "p/plain", "k=2"]);
    host.ok(&["put", "in", "p/plain", "-m", "again", "--input", "p/b:v0"]);
    host.ok(&["audit", "p/plain", "--html", "plain.html"]);
    let plain = fs::read_to_string(host.path("plain.html")).unwrap();

    let evil =
        "</td></title></style></svg><script>alert(1)</script><img src=x onerror='a()'>\"&amp;<!--\u{202e}";
    host.ok(&[
        "put",
        "in",
        "p/evil",
        "-m",
        evil,
        "--tag",
        evil,
        "--meta",
        &format!("{evil}={evil}"),
        "--type",
        evil,
        "--input",
        "p/a:v0",
    ]);
    host.ok(&["meta", "set", "p/evil", &format!("{evil}={evil}{evil}")]);
    host.ok(&["put", "in", "p/evil", "-m", evil, "--input", "p/b:v0"]);
    host.ok(&["audit", "p/evil", "--html", "evil.html"]);
    let page = fs::read_to_string(host.path("evil.html")).unwrap();
    assert_eq!(elements(&page), elements(&plain));
    assert_eq!(page.matches('<').count(), plain.matches('<').count());
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && !page.contains('\u{202e}'));
    // Nothing is loaded and nothing is run, even if there were something.
    assert!(page.contains("default-src 'none'") && !page.contains("<script") && !page.contains("http://"));
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
}

#[test]
fn a_copy_is_checked_without_the_store_by_listing_record_or_digest() {
    let host = Host::new();
    host.tree();
    host.ok(&["put", "in", "p/a"]);
    let record = host.ok(&["show", "--json", "p/a"]);
    host.write("kept/v0.json", record.as_bytes());
    let digest = serde_json::from_str::<Value>(&record).unwrap()["digest"].as_str().unwrap().to_owned();
    // What `cp -r` makes, of the tree that was committed.
    assert!(
        Command::new("cp")
            .args(["-r", "in", "copy"])
            .current_dir(host.dir.path())
            .status()
            .unwrap()
            .success()
    );
    fs::rename(host.path("store"), host.path("away")).unwrap();
    let by_digest = format!("p/a@{digest}");
    let without = |words: &[&str]| {
        let mut all = vec!["--store", "nowhere", "--state", "fresh", "verify"];
        all.extend(words);
        host.say(&all)
    };
    let (code, said) = without(&[&by_digest, "--path", "copy", "--no-store"]);
    assert_eq!((code, said.contains("is sound in copy: 6 files")), (Some(0), true), "{said}");
    let (code, said) = without(&["p/a:v0", "--path", "copy", "--record", "kept/v0.json"]);
    assert_eq!((code, said.contains("p/a:v0 is sound in copy")), (Some(0), true), "{said}");
    for other in ["p/b:v0", "p/a:v1", &format!("p/a@{}", "0".repeat(64))] {
        let (code, said) = without(&[other, "--path", "copy", "--record", "kept/v0.json"]);
        assert_eq!((code, said.contains("is the record of p/a:v0")), (Some(3), true), "{said}");
    }
    let (code, said) = without(&["p/a:v0", "--path", "copy", "--no-store"]);
    assert_eq!((code, said.contains("--record")), (Some(2), true), "{said}");
    overwrite(&host.path("copy/a.txt"), b"TINY\n");
    let (code, said) = without(&[&by_digest, "--path", "copy", "--no-store"]);
    assert_eq!((code, said.contains("different")), (Some(3), true), "{said}");
    assert!(!host.path("fresh").exists(), "nothing was kept either");
}

#[test]
fn events_are_delivered_at_least_once_and_go_on_behind_the_cursor() {
    let host = Host::new();
    host.write("in/a", b"one");
    host.ok(&["put", "in", "p/a", "--alias", "best"]);
    let lines = |words: &[&str]| -> Vec<Value> {
        host.ok(words).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = lines(&["watch", "--once", "--cursor", "c"]);
    assert_eq!(all.iter().map(|e| &e["kind"]).collect::<Vec<_>>(), ["create", "commit"]);
    assert_eq!((&all[1]["ref"], &all[1]["body"]["aliases"]), (&json!("p/a:v0"), &json!(["best"])));
    // But for `ref`, it is what is stored.
    let stored: Value =
        serde_json::from_str(host.ok(&["log", "--json", "p/a"]).lines().last().unwrap()).unwrap();
    let mut same = all[1].clone();
    same.as_object_mut().unwrap().remove("ref");
    assert_eq!(same, stored);
    assert_eq!(lines(&["watch", "--once", "--cursor", "c"]), [Value::Null; 0]);
    host.ok(&["put", "in", "p/b"]);
    host.ok(&["alias", "set", "p/a", "prod", "v0"]);
    let kinds = lines(&["watch", "--once", "--cursor", "c", "--kind", "alias,commit"]);
    assert_eq!(kinds.iter().map(|e| &e["ref"]).collect::<Vec<_>>(), ["p/a:v0", "p/b:v0"]);
    assert_eq!(
        lines(&["watch", "--once", "--cursor", "c"]).len(),
        0,
        "what was not wanted is behind the cursor"
    );
    assert_eq!(lines(&["watch", "--once", "p/a", "--from", "2"]).len(), 1);
    assert_eq!(lines(&["watch", "--once", "p/a", "--from", "new"]).len(), 0);
    assert_eq!(lines(&["watch", "--once", "p/a", "--from", "99"]).len(), 0);
    assert_eq!(host.say(&["watch", "--once", "--from", "2"]).0, Some(2));
    assert_eq!(host.say(&["watch", "--once", "p/a:v0"]).0, Some(2));
    host.write("c", b"{}");
    assert!(host.say(&["watch", "--once", "--cursor", "c"]).1.contains("is not a cursor"));
}

#[test]
fn a_command_gets_each_event_and_one_that_fails_keeps_the_cursor_before_it() {
    let host = Host::new();
    host.write("in/a", b"one");
    host.ok(&["put", "in", "p/a", "--alias", "best"]);
    host.ok(&["alias", "set", "p/a", "prod", "v0"]);
    let note =
        "echo \"$ARTFS_SEQ $ARTFS_KIND $ARTFS_REF $ARTFS_VERSION $ARTFS_ALIAS\" >> seen; cat >> events; ";
    let failing = format!("{note} test $ARTFS_SEQ != 1");
    let watch = |command: &str, more: &[&str]| {
        let mut words =
            vec!["watch", "--once", "--cursor", "c", "--tries", "2", "--pause", "1ms", "--exec", command];
        words.extend(more);
        host.say(&words)
    };
    let (code, said) = watch(&failing, &[]);
    assert_eq!((code, said.contains("event 1 of p/a was not delivered")), (Some(1), true), "{said}");
    let seen =
        || fs::read_to_string(host.path("seen")).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(seen(), ["0 create p/a  ", "1 commit p/a:v0 v0 best", "1 commit p/a:v0 v0 best"]);
    fs::remove_file(host.path("seen")).unwrap();
    fs::remove_file(host.path("events")).unwrap();
    assert_eq!(watch(note, &[]).0, Some(0));
    assert_eq!(seen(), ["1 commit p/a:v0 v0 best", "2 alias p/a:v0 v0 prod"], "the next one goes on there");
    let events = fs::read_to_string(host.path("events")).unwrap();
    let first: Value = serde_json::from_str(events.lines().next().unwrap()).unwrap();
    assert_eq!((&first["seq"], &first["ref"]), (&json!(1), &json!("p/a:v0")));
    fs::remove_file(host.path("c")).unwrap();
    let (code, said) = watch(&failing, &["--keep-going"]);
    assert_eq!((code, said.contains("skipped: event 1 of p/a")), (Some(0), true), "{said}");
    assert_eq!(seen().len(), 2 + 4);
}

#[test]
fn a_command_that_does_not_end_is_killed_with_what_it_started() {
    let host = Host::new();
    host.write("in/a", b"one");
    host.ok(&["put", "in", "p/a"]);
    let command = "sh -c 'echo $$ > child; exec sleep 1000' & wait";
    let (code, said) =
        host.say(&["watch", "--once", "--tries", "1", "--time-limit", "2s", "--exec", command]);
    assert_eq!((code, said.contains("it took longer than 2s")), (Some(1), true), "{said}");
    let child = fs::read_to_string(host.path("child")).unwrap();
    let begun = Instant::now();
    let is_gone = || match fs::read_to_string(format!("/proc/{}/stat", child.trim())) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    while !is_gone() {
        assert!(begun.elapsed() < NEVER, "{child} lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Answers one request with a status, and gives its head and body.
fn answer(listener: &TcpListener, status: &str) -> (String, Value) {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(NEVER)).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    let length =
        head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    (head.to_lowercase(), serde_json::from_slice(&body).unwrap())
}

#[test]
fn a_webhook_is_told_again_until_it_says_yes_and_its_address_is_not_shown() {
    let host = Host::new();
    host.write("in/a", b"one");
    host.ok(&["put", "in", "p/a"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/secret-path", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let answers = ["503 Busy", "302 Found", "200 OK", "204 No Content"];
        answers.map(|status| answer(&listener, status))
    });
    let (code, said) =
        host.say(&["watch", "--once", "--webhook", &url, "--pause", "1ms", "--cursor", "c", "--tries", "3"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the server says 503") && !said.contains("secret-path"), "{said}");
    let told = server.join().unwrap();
    let seqs: Vec<&Value> = told.iter().map(|(_, body)| &body["seq"]).collect();
    assert_eq!(seqs, [0, 0, 0, 1]);
    let (head, body) = &told[3];
    assert!(head.starts_with("post /secret-path http/1.1"), "{head}");
    assert!(
        head.contains("artfs-event: commit") && head.contains("content-type: application/json"),
        "{head}"
    );
    assert!(head.contains(&format!("artfs-delivery: {}", body["id"].as_str().unwrap())), "{head}");
    let (code, said) = host.say(&["watch", "--once", "--webhook", "ftp://x/secret-path"]);
    assert_eq!((code, said.contains("secret-path")), (Some(2), false), "{said}");
}

#[test]
fn a_watch_sees_what_comes_and_two_do_not_share_a_cursor() {
    let host = Host::new();
    host.write("in/a", b"one");
    host.ok(&["put", "in", "p/a"]);
    let watch = ["watch", "--from", "new", "--refresh", "100ms", "--cursor", "c"];
    let mut watch = host.command(&watch).stdout(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !host.path("c").exists() {
        assert!(begun.elapsed() < NEVER, "the watch does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    let (code, said) = host.say(&["watch", "--once", "--cursor", "c"]);
    assert_eq!((code, said.contains("is used by another")), (Some(1), true), "{said}");
    host.ok(&["alias", "set", "p/a", "prod", "v0"]);
    let mut out = BufReader::new(watch.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&event["seq"], &event["kind"], &event["ref"]),
        (&json!(2), &json!("alias"), &json!("p/a:v0"))
    );
    assert!(Command::new("kill").args(["-INT", &watch.id().to_string()]).status().unwrap().success());
    assert_eq!(watch.wait().unwrap().code(), Some(0));
    assert_eq!(host.ok(&["watch", "--once", "--cursor", "c"]), "", "the cursor was kept");
}

#[test]
fn a_changed_last_event_is_found_by_the_host_that_has_seen_it() {
    let host = Host::new();
    history(&host);
    host.ok(&["log", "p/m"]);
    let last = host.stored("/p/m/log/00000000000000000009");
    let good = fs::read(&last).unwrap();
    let value: Value = serde_json::from_slice(&good).unwrap();
    let names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
    for name in names {
        let mut forged = value.clone();
        forged[&name] = match &value[&name] {
            Value::String(text) => json!(format!("{text}0")),
            Value::Number(number) => json!(number.as_u64().unwrap() + 1),
            Value::Bool(yes) => json!(!yes),
            _ => json!({ "versions": ["v1"], "cause": "expired", "aliases": ["prod"] }),
        };
        overwrite(&last, &serde_json::to_vec(&forged).unwrap());
        let (code, said) = host.say(&["verify", "--log", "p/m"]);
        let names_it = said.contains("at event 9") || said.contains("was rewritten: its last event");
        assert_eq!((code, names_it), (Some(3), true), "{name}: {said}");
    }
    overwrite(&last, &good);
    host.ok(&["verify", "--log", "p/m"]);
}

#[test]
fn a_changed_message_or_run_is_found_and_an_erased_one_is_none() {
    let host = Host::new();
    host.write("in/a", b"one");
    host.ok(&["put", "in", "p/m", "-m", "as it was said"]);
    host.ok(&["verify", "p/m"]);
    let details = host.stored("/p/m/details/");
    let good = fs::read(&details).unwrap();
    overwrite(&details, &String::from_utf8(good).unwrap().replace("was", "is ").into_bytes());
    let (code, said) = host.say(&["verify", "p/m"]);
    assert_eq!((code, said.contains("the message and run of v0")), (Some(3), true), "{said}");
    fs::remove_file(&details).unwrap();
    host.ok(&["verify", "p/m"]);
}

#[test]
fn a_watch_takes_only_kinds_that_there_are() {
    let host = Host::new();
    host.write("in/a", b"one");
    host.ok(&["put", "in", "p/m"]);
    let (code, said) = host.say(&["watch", "--once", "--kind", "comit"]);
    assert_eq!((code, said.contains("commit")), (Some(2), true), "{said}");
    assert_eq!(host.ok(&["watch", "--once", "--kind", "commit"]).lines().count(), 1);
}

#[test]
fn a_watch_of_what_is_not_there_ends_or_waits_if_it_should() {
    let host = Host::new();
    host.write("in/a", b"one");
    host.ok(&["put", "in", "p/m"]);
    for (name, what) in [("p/nope", "no artifact p/nope"), ("nope", "no project nope")] {
        for words in [&["--once"][..], &[]] {
            let (code, said) = host.say(&[&["watch", name], words].concat());
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains(what) && said.contains("--wait"), "{said}");
        }
        assert_eq!(host.ok(&["watch", "--once", "--wait", name]), "");
    }
    let waiting = ["watch", "--wait", "p/later", "--refresh", "100ms", "--kind", "commit"];
    let waiting = [&waiting[..], &["--exec", "/bin/mkdir $ARTFS_VERSION"]].concat();
    let mut waiting = host.command(&waiting).spawn().unwrap();
    host.ok(&["put", "in", "p/later"]);
    let begun = Instant::now();
    while !host.path("v0").exists() {
        assert!(begun.elapsed() < NEVER, "what was waited for was not delivered");
        std::thread::sleep(Duration::from_millis(5));
    }
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    // What was deleted was there.
    host.ok(&["rm", "p/m", "--recursive"]);
    assert_eq!(host.ok(&["watch", "--once", "p/m"]).lines().count(), 3);
}

#[test]
fn a_copy_of_a_reference_without_a_checksum_is_kept_by_its_time_and_not_called_sound() {
    let host = Host::new();
    host.write("src/file", b"outside");
    host.write("in/own", b"inside");
    let prefix = format!("file://{}/", host.path("src").canonicalize().unwrap().display());
    std::os::unix::fs::symlink(format!("{prefix}file"), host.path("in/link")).unwrap();
    host.ok(&["put", "in", "p/r", "--allow-reference", &prefix]);
    for _ in 0..2 {
        host.ok(&["get", "p/r:v0", "copy", "--allow-reference", &prefix]);
    }
    let (code, said) = host.say(&["verify", "p/r:v0", "--path", "copy"]);
    assert_eq!((code, said.contains("link: it is a copy of a reference")), (Some(3), true), "{said}");
    overwrite(&host.path("copy/link"), b"changed");
    let (code, said) = host.say(&["get", "p/r:v0", "copy", "--allow-reference", &prefix]);
    assert_eq!((code, said.contains("--force")), (Some(1), true), "{said}");
}

/// What writes a file that its user names, and what then is in it.
const WRITERS: [(&[&str], &str); 2] = [
    (&["audit", "p/m:v0", "--html"], "<html"),
    (&["export-signature", "p/raw:v0", "--key", "key.pem", "--model-signing"], "dsseEnvelope"),
];

/// A private key on P-256 that signs nothing but test data.
const EC_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgxWzK457NfpTyASRp
CJPZatnR0ts9qRZUHlRCyhQJzvKhRANCAASFrcuVtAHgHe7quegAj7qP7G51fVZK
VBXzinm1Z28PBMF5rsXt2WZOgYXcGF19V8rNLfNfr7OUGwllmi0Go3g6
-----END PRIVATE KEY-----
";

#[test]
fn a_file_that_a_user_names_is_written_through_what_it_is() {
    let host = Host::new();
    history(&host);
    host.write("key.pem", EC_KEY.as_bytes());
    fs::create_dir(host.path("d")).unwrap();
    symlink("d/target", host.path("link")).unwrap();
    symlink("link", host.path("link2")).unwrap();
    assert!(Command::new("mkfifo").arg(host.path("pipe")).status().unwrap().success());
    for (words, want) in WRITERS {
        let say = |path: &str| host.say(&[words, &[path]].concat());
        let written = |path: &str| {
            let (code, said) = say(path);
            assert_eq!(code, Some(0), "{said}");
            assert!(said.contains(path), "{said}");
            let read = if path == "link2" { "d/target" } else { path };
            assert!(fs::read_to_string(host.path(read)).unwrap().contains(want), "{path}");
            fs::metadata(host.path(path)).unwrap().permissions().mode() & 0o777
        };
        // A new file, and one that is there, which keeps its mode.
        assert_eq!(written("new"), 0o644);
        host.write("old", b"before");
        fs::set_permissions(host.path("old"), PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(written("old"), 0o600);
        // Links stay, and what they lead to is written; the first time it is not there yet.
        written("link2");
        assert!(["link", "link2"].iter().all(|link| host.path(link).is_symlink()));
        // A pipe.
        let pipe = host.path("pipe");
        let reader = std::thread::spawn(move || fs::read_to_string(pipe).unwrap());
        let (code, said) = say("pipe");
        assert_eq!(code, Some(0), "{said}");
        assert!(fs::symlink_metadata(host.path("pipe")).unwrap().file_type().is_fifo());
        assert!(reader.join().unwrap().contains(want));
        // The standard output, by any name, has nothing else in it.
        for path in ["-", "/dev/stdout", "/proc/self/fd/1"] {
            let (code, said) = say(path);
            assert_eq!(code, Some(0), "{said}");
            match want {
                "<html" => assert!(said.trim_end().ends_with("</html>"), "{said}"),
                _ => assert!(serde_json::from_str::<Value>(&said).unwrap()[want].is_object()),
            }
        }
        let (code, said) = say("d");
        assert_eq!(code, Some(1), "a directory is refused");
        assert!(said.contains("cannot write d"), "{said}");
        fs::remove_file(host.path("d/target")).unwrap();
        fs::remove_file(host.path("new")).unwrap();
    }
    let mut left: Vec<_> = fs::read_dir(host.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["d", "in", "key.pem", "link", "link2", "old", "pipe", "state", "store"]);
}

#[test]
fn a_full_device_is_an_error_and_stays_a_device() {
    let host = Host::new();
    history(&host);
    host.write("key.pem", EC_KEY.as_bytes());
    // The same device as /dev/full, under a name of this test's own.
    let made = Command::new("mknod").arg(host.path("full")).args(["c", "1", "7"]).status().unwrap();
    let open = || fs::File::options().write(true).open(host.path("full"));
    if !made.success() || open().is_err() {
        eprintln!("NOT TESTED: device nodes cannot be made and used here");
        return;
    }
    for (words, _) in WRITERS {
        let (code, said) = host.say(&[words, &["full"]].concat());
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("cannot write full"), "{said}");
        assert!(fs::symlink_metadata(host.path("full")).unwrap().file_type().is_char_device());
        // As the standard output, too.
        let status = host.command(&[words, &["-"]].concat()).stdout(open().unwrap()).status().unwrap();
        assert_eq!(status.code(), Some(1));
    }
}

#[test]
fn a_cursor_behind_a_link_stays_behind_it_and_is_locked_by_either_name() {
    let host = Host::new();
    history(&host);
    fs::create_dir(host.path("d")).unwrap();
    symlink("d/c", host.path("link")).unwrap();
    assert_ne!(host.ok(&["watch", "--once", "--cursor", "link"]), "");
    assert!(host.path("link").is_symlink() && host.path("d/c").is_file());
    assert!(!host.path("link.lock").exists());
    assert_eq!(host.ok(&["watch", "--once", "--cursor", "d/c"]), "");
    // What keeps no position is refused before anything is made beside it.
    assert!(Command::new("mkfifo").arg(host.path("pipe")).status().unwrap().success());
    let (code, said) = host.say(&["watch", "--once", "--cursor", "pipe"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("not a regular file"), "{said}");
    assert!(!host.path("pipe.lock").exists());
    assert!(fs::symlink_metadata(host.path("pipe")).unwrap().file_type().is_fifo());
}
