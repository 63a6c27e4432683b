//! Unusable environment variables: refused by name, never a panic.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, Stdio};

use artfs::host::variables::{VARIABLES, VariableKind};

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Settings of all three clouds, which are in order.
const SOUND: [(&str, &str); 8] = [
    ("AWS_ACCESS_KEY_ID", "key"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
    ("AWS_REGION", "us-east-1"),
    ("AWS_ENDPOINT_URL", NOWHERE),
    ("GOOGLE_BASE_URL", NOWHERE),
    ("AZURE_STORAGE_ACCOUNT_NAME", "account"),
    ("AZURE_STORAGE_ACCOUNT_KEY", "a2V5"),
    ("AZURE_STORAGE_ENDPOINT", NOWHERE),
];

/// Values that a variable cannot take, and whether the message must name the variable.
fn bad_values(kind: VariableKind, folder: &str) -> Vec<(Vec<u8>, bool)> {
    let refused = |values: &[&[u8]]| values.iter().map(|value| (value.to_vec(), true)).collect::<Vec<_>>();
    match kind {
        VariableKind::Plain => refused(&[b"x\n", b"\rx", b"a\x01b", b"\xff", "schlüssel".as_bytes()]),
        VariableKind::Address => refused(&[
            b"127.0.0.1:9000",
            b"http://exa mple",
            b"http://",
            b"x",
            b"http://127.0.0.1:9\n",
            b"http://h/a b",
            b"http://h:99999",
            b"\xff",
        ]),
        VariableKind::Proxy => refused(&[b":::", b"http://a b", b"http://h:9\n", b"x://y", b"\xff"]),
        VariableKind::File => refused(&[b"/x\n", b"\xff"]),
        VariableKind::TokenFile => {
            let mut bad = refused(&[b"/x\n", b"\xff", b"/no/such/file"]);
            bad.push((format!("{folder}/token-with-line-end").into_bytes(), true));
            bad.push((folder.as_bytes().to_vec(), true));
            bad
        }
        VariableKind::Document => vec![(b"{".to_vec(), true), (b"\xff".to_vec(), true)],
        VariableKind::Own | VariableKind::Free => {
            let any: [&[u8]; 9] =
                [b"\xff", b"\n", b"x", b"0", b"-1", b"/dev/null", b"99999999999999999999", b"%", b"="];
            any.iter().map(|value| (value.to_vec(), false)).collect()
        }
    }
}

#[test]
fn no_value_of_any_variable_makes_a_panic_and_what_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    fs::write(dir.path().join("token-with-line-end"), "token\n").unwrap();
    fs::write(dir.path().join("f"), "content").unwrap();
    let run = |words: &[&str], name: &str, value: &[u8], without: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_artfs"))
            .args(words)
            .current_dir(dir.path())
            .env_clear()
            .envs(SOUND.into_iter().filter(|(known, _)| !without.contains(known)))
            .env("HOME", dir.path())
            .env("ARTFS_STATE", dir.path().join("state"))
            .env("ARTFS_STORE_TIMEOUT", "200ms")
            .env(name, OsString::from_vec(value.to_vec()))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let shown =
            format!("{name}={:?}, {words:?}: {:?}: {said}", String::from_utf8_lossy(value), output.status);
        assert!(!said.contains("artfs has a bug") && !said.contains("panicked"), "{shown}");
        assert!(matches!(output.status.code(), Some(0..=3)), "{shown}");
        (output.status.code().unwrap(), said, shown)
    };
    let store = format!("{folder}/store");
    assert_eq!(run(&["put", "f", "p/a", "--store", &store], "LANG", b"C", &[]).0, 0);
    for (name, kind) in VARIABLES {
        let bucket = match name.split('_').next() {
            Some("GOOGLE") => "gs://bucket/team",
            Some("AZURE") => "az://bucket/team",
            _ => "s3://bucket/team",
        };
        // A token's file is read only where no key stands for it.
        let without: &[&str] = if kind == VariableKind::TokenFile { &["AWS_ACCESS_KEY_ID"] } else { &[] };
        // The store of a directory has no use for most.
        if let Some((value, true)) = bad_values(kind, folder).first() {
            assert_eq!(run(&["ls", "--store", &store], name, value, without).0, 0, "{name}");
        }
        for (value, is_named) in bad_values(kind, folder) {
            if is_named {
                let (code, said, shown) = run(&["ls", "--store", bucket], name, &value, without);
                assert!(matches!(code, 1 | 2) && said.contains(&format!("${name}")), "{shown}");
            } else {
                let store: &[&str] = if name == "ARTFS_STORE" { &[] } else { &["--store", &store] };
                let (code, said, shown) = run(&[&["put", "f", "p/b"], store].concat(), name, &value, &[]);
                if code == 2 && kind == VariableKind::Own {
                    let option = name.trim_start_matches("ARTFS_").to_lowercase().replace('_', "-");
                    assert!(
                        said.contains(name) || said.contains(&format!("--{}", option.trim_end_matches('s'))),
                        "{shown}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_key_is_never_shown_in_the_message_that_refuses_it() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_artfs"))
        .args(["ls", "--store", "s3://b/x"])
        .env_clear()
        .env("ARTFS_STATE", dir.path().join("state"))
        .env("AWS_SECRET_ACCESS_KEY", "very-secret\n")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.starts_with("error: $AWS_SECRET_ACCESS_KEY cannot be used: it has a line end"), "{said}");
    assert!(!said.contains("very-secret"), "{said}");
}
