//! Damage in the store that is not handed on, and what stores content again.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Host;

const PACK_MIN: u64 = 100_000;

fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// `d` with content, put as `p/a:v0`.
fn filled() -> Host {
    let host = Host::new();
    host.write("d/model.bin", &noise(1, 900_000));
    host.write("d/table.csv", &noise(2, 150_000));
    host.write("d/sub/tiny", b"tiny");
    host.ok(&["put", "d", "p/a"]);
    host
}

/// Another host on the same store, which has seen nothing of it.
fn as_host(host: &Host, name: &str, words: &[&str]) -> (Option<i32>, String) {
    let output = host.command(words).env("ARTFS_STATE", host.path(name)).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn ok_as(host: &Host, name: &str, words: &[&str]) -> String {
    let (code, text) = as_host(host, name, words);
    assert_eq!(code, Some(0), "{words:?}: {text}");
    text
}

/// The packs with content.
fn packs(host: &Host) -> Vec<PathBuf> {
    let mut found = vec![];
    for folder in fs::read_dir(host.path("store/packs")).unwrap() {
        for pack in fs::read_dir(folder.unwrap().path()).unwrap() {
            let pack = pack.unwrap();
            if pack.metadata().unwrap().len() > PACK_MIN && !pack.path().to_string_lossy().ends_with(".moved")
            {
                found.push(pack.path());
            }
        }
    }
    found
}

fn flip(pack: &PathBuf, at: usize) {
    let mut bytes = fs::read(pack).unwrap();
    bytes[at] ^= 1;
    fs::remove_file(pack).unwrap();
    fs::write(pack, bytes).unwrap();
}

/// The damage of the one pack, by name.
fn harm(host: &Host, how: &str) {
    let packs = packs(host);
    assert_eq!(packs.len(), 1);
    match how {
        "deleted" => fs::remove_file(&packs[0]).unwrap(),
        "cut short" => {
            let bytes = fs::read(&packs[0]).unwrap();
            fs::remove_file(&packs[0]).unwrap();
            fs::write(&packs[0], &bytes[..bytes.len() / 2]).unwrap();
        }
        "flipped" => flip(&packs[0], 500_000),
        other => panic!("{other}"),
    }
}

/// A host that has seen nothing gets all of the version, and nothing is found wrong with it.
fn is_whole(host: &Host, reference: &str) {
    let state = tempfile::tempdir().unwrap();
    let name = state.path().to_str().unwrap();
    let target = state.path().join("out");
    ok_as(host, name, &["get", reference, target.to_str().unwrap()]);
    for file in ["model.bin", "table.csv", "sub/tiny"] {
        assert!(
            fs::read(target.join(file)).unwrap() == fs::read(host.path("d").join(file)).unwrap(),
            "{file}"
        );
    }
    let found = ok_as(host, name, &["verify", reference]);
    assert!(found.contains("is sound in the store"), "{found}");
}

#[test]
fn a_commit_on_another_host_stores_again_what_is_gone_and_the_versions_before_are_whole() {
    for how in ["deleted", "cut short"] {
        let host = filled();
        harm(&host, how);
        assert_eq!(as_host(&host, "third", &["verify", "p/a"]).0, Some(3), "{how}");
        // The same content: no new version, and yet all is there again.
        let said = ok_as(&host, "other", &["put", "d", "p/a"]);
        assert!(said.contains("v0"), "{said}");
        is_whole(&host, "p/a:v0");
        // Once more, in a new version, by the host that wrote the pack and knows it to be there.
        harm_all(&host);
        host.write("d/more", b"more");
        ok_as(&host, "fourth", &["put", "d", "p/a"]);
        is_whole(&host, "p/a:v1");
        is_whole(&host, "p/a:v0");
    }
}

fn harm_all(host: &Host) {
    packs(host).iter().for_each(|pack| fs::remove_file(pack).unwrap());
}

#[test]
fn verify_repair_stores_again_what_a_copy_has() {
    for how in ["deleted", "cut short", "flipped"] {
        let host = filled();
        harm(&host, how);
        let (code, said) = as_host(&host, "other", &["verify", "p/a"]);
        assert_eq!(code, Some(3), "{how}: {said}");
        assert!(said.contains("artfs verify --repair p/a"), "{said}");
        let (code, said) = as_host(&host, "other", &["verify", "--repair", "p/a"]);
        assert_eq!(code, Some(3), "nothing good is here: {said}");
        assert!(said.contains("cannot be repaired from here"), "{said}");
        // What only looks like a copy is no source.
        host.write("other-d/model.bin", &noise(9, 900_000));
        let wrong = ["verify", "--repair", "p/a", "--path", "other-d"];
        assert_eq!(as_host(&host, "other", &wrong).0, Some(3));
        let said = ok_as(&host, "other", &["verify", "--repair", "p/a", "--path", "d"]);
        assert!(said.contains("stored again") && said.contains("is sound in the store"), "{how}: {said}");
        is_whole(&host, "p/a");
        let said = ok_as(&host, "other", &["verify", "--repair", "p/a", "--path", "d"]);
        assert!(!said.contains("stored again"), "there is nothing left to do: {said}");
    }
}

#[test]
fn verify_repair_stores_again_what_the_cache_of_this_host_has() {
    for how in ["deleted", "cut short", "flipped"] {
        let host = filled();
        ok_as(&host, "other", &["pin", "p/a"]);
        harm(&host, how);
        let said = ok_as(&host, "other", &["verify", "--repair", "p/a"]);
        assert!(said.contains("stored again"), "{how}: {said}");
        is_whole(&host, "p/a");
    }
}

#[test]
fn a_lost_block_of_the_manifest_and_its_root_come_back_from_a_cache() {
    let host = Host::new();
    for i in 0..3000 {
        host.write(&format!("d/f{i:04}"), format!("{i}").as_bytes());
    }
    for (name, bytes) in [("model.bin", noise(1, 900_000)), ("table.csv", noise(2, 150_000))] {
        host.write(&format!("d/{name}"), &bytes);
    }
    host.write("d/sub/tiny", b"tiny");
    host.ok(&["put", "d", "p/a"]);
    ok_as(&host, "other", &["pin", "p/a"]);
    fs::remove_dir_all(host.path("store/packs")).unwrap();
    fs::remove_dir_all(host.path("store/artifacts/p/a/manifests")).unwrap();
    let said = ok_as(&host, "other", &["verify", "--repair", "p/a"]);
    assert!(said.contains("stored again, and 1 manifest"), "{said}");
    is_whole(&host, "p/a");
}

#[test]
fn put_repair_stores_again_what_has_other_bytes() {
    let host = filled();
    harm(&host, "flipped");
    // A put that does not read cannot know.
    ok_as(&host, "other", &["put", "d", "p/a"]);
    assert_eq!(as_host(&host, "third", &["verify", "p/a"]).0, Some(3));
    let said = ok_as(&host, "other", &["put", "--repair", "d", "p/a"]);
    assert!(said.contains("stored again"), "{said}");
    is_whole(&host, "p/a");
}

#[test]
fn what_a_read_found_damaged_is_stored_again_by_the_next_commit_of_that_host() {
    let host = filled();
    harm(&host, "flipped");
    let (code, said) = as_host(&host, "other", &["get", "p/a", host.path("out").to_str().unwrap()]);
    assert_eq!(code, Some(1), "{said}");
    ok_as(&host, "other", &["put", "d", "p/a"]);
    is_whole(&host, "p/a");
}

/// What doctor says of the packs on another host.
fn packs_check(host: &Host, name: &str) -> Value {
    // The other checks are of this machine.
    let output = host.command(&["doctor", "--json"]).env("ARTFS_STATE", host.path(name)).output().unwrap();
    let checks: Value = serde_json::from_slice(&output.stdout).unwrap();
    let check = checks.as_array().unwrap().iter().find(|check| check["name"] == "packs").unwrap().clone();
    assert!(check["health"] != "failed" || output.status.code() == Some(1), "{output:?}");
    check
}

/// The number of packs, of which none is missed.
fn whole_packs(host: &Host, name: &str) -> u64 {
    let check = packs_check(host, name);
    assert_eq!((&check["health"], &check["mend"]), (&"ok".into(), &Value::Null), "{check}");
    let (count, rest) = check["found"].as_str().unwrap().split_once(' ').unwrap();
    assert!(rest.ends_with("; all those that this host knows are complete"), "{check}");
    count.parse().unwrap()
}

fn key_of(pack: &Path) -> String {
    let parts: Vec<_> = pack.iter().rev().take(3).map(|part| part.to_str().unwrap()).collect();
    format!("{}/{}/{}", parts[2], parts[1], parts[0])
}

#[test]
fn doctor_names_packs_that_are_gone_or_cut_short() {
    let host = filled();
    let first = packs(&host).remove(0);
    host.write("e/model.bin", &noise(3, 900_000));
    host.ok(&["put", "e", "p/b"]);
    let second = packs(&host).into_iter().find(|pack| *pack != first).unwrap();
    // Another host that knows the packs, and one that knows nothing.
    for (content, artifact) in [("d", "p/a"), ("e", "p/b")] {
        ok_as(&host, "other", &["put", content, artifact]);
    }
    let whole = whole_packs(&host, "state");
    assert!(whole >= 2);
    assert_eq!(["other", "third"].map(|name| whole_packs(&host, name)), [whole; 2]);

    fs::remove_file(&first).unwrap();
    let bytes = fs::read(&second).unwrap();
    fs::remove_file(&second).unwrap();
    fs::write(&second, &bytes[..bytes.len() / 2]).unwrap();
    for name in ["state", "other"] {
        let check = packs_check(&host, name);
        assert_eq!(check["health"], "failed", "{check}");
        let found = check["found"].as_str().unwrap();
        assert!(found.starts_with("content is lost from 2 packs that this host knows: "), "{found}");
        for named in [format!("{} (gone)", key_of(&first)), format!("{} (cut short)", key_of(&second))] {
            assert!(found.contains(&named), "{named}: {found}");
        }
        assert!(check["mend"].as_str().unwrap().contains("artfs verify --repair"), "{check}");
    }
    assert_eq!(whole_packs(&host, "third"), whole - 1);

    for (content, artifact) in [("d", "p/a"), ("e", "p/b")] {
        assert_eq!(packs_check(&host, "state")["health"], "failed");
        ok_as(&host, "state", &["verify", "--repair", artifact, "--path", content]);
    }
    let mended = ["state", "other", "third"].map(|name| whole_packs(&host, name));
    assert_eq!(mended, [mended[0]; 3]);

    // What a collection deletes is missed by nobody.
    ok_as(&host, "third", &["rm", "-r", "p/b"]);
    ok_as(&host, "third", &["gc", "--grace", "0s"]);
    let left = ["state", "other", "third"].map(|name| whole_packs(&host, name));
    assert!(left[0] < mended[0], "{left:?} {mended:?}");
    assert_eq!(left, [left[0]; 3]);
}

#[test]
fn doctor_names_packs_that_a_read_found_damaged_until_they_are_stored_again() {
    let host = filled();
    let pack = packs(&host).remove(0);
    flip(&pack, 500_000);
    whole_packs(&host, "other");
    let out = host.path("out");
    assert_eq!(as_host(&host, "other", &["get", "p/a", out.to_str().unwrap()]).0, Some(1));
    let check = packs_check(&host, "other");
    let named = format!("{} (damaged, as a read found)", key_of(&pack));
    assert!(check["found"].as_str().unwrap().contains(&named), "{check}");
    assert_eq!(check["health"], "warning");
    // By another host, with a table of moves.
    ok_as(&host, "third", &["verify", "--repair", "p/a", "--path", "d"]);
    whole_packs(&host, "other");
}
