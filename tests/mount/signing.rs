//! What a host that demands signatures serves, and what it refuses.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use artfs::format::clock;
use artfs::format::codec::Encoder;
use artfs::format::event::{Commit, EventBody};
use artfs::format::id::{Digest, EventId};
use artfs::format::manifest::Root;
use artfs::format::name::ArtifactKey;
use artfs::repo::catalog::{Actor, AppendStep, Catalog, CatalogError};
use artfs::store::{Key, OnMissing, Store, StoreUrl};

use super::host::{Host, names, need, program, refused, wait_until};
use super::support::environment::noise;
use super::support::ssh::Keys;

pub const TESTS: &[(&str, fn())] = &[
    ("names_are_served_only_with_the_signatures_that_they_need", signatures),
    ("get_and_export_signature_give_out_only_what_a_mount_would", without_a_mount),
    ("a_version_that_is_signed_later_is_served_from_then_on", signed_later),
    ("a_log_that_was_rolled_back_or_forked_is_not_served", rolled_back),
    ("a_version_is_served_only_when_its_manifest_yields_the_signed_digest", wrong_digest),
    ("a_file_of_a_signed_version_is_served_only_when_it_is_whole", whole_files),
    ("changes_through_a_mount_are_signed_with_its_key", signing_mount),
    ("model_signing_verifies_a_copy_out_of_the_mount_and_no_other_directory", model_signing),
    ("an_agent_signs_for_a_key_that_is_not_on_the_disk", agent),
];

const ARTIFACT: &str = "p/a";

/// A writer's command line with a key to sign with.
struct Writer<'a> {
    host: &'a Host,
    keys: &'a Keys,
}

impl Writer<'_> {
    fn run(&self, key: Option<&str>, words: &[&str]) -> String {
        let mut all: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        all.extend(key.map(|key| format!("--sign={}", self.keys.file(key).display())));
        self.host.ok(&all)
    }

    /// A new version with one file.
    fn put(&self, key: Option<&str>, content: &[u8], more: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), content).unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        self.run(key, &[&["put", &path, ARTIFACT], more].concat());
    }

    fn set(&self, key: Option<&str>, alias: &str, version: &str) {
        self.run(key, &["alias", "set", ARTIFACT, alias, version]);
    }
}

/// A host that is not mounted, to write with.
fn writer_host() -> Host {
    Host::unmounted(None, &[])
}

fn reader(writer: &Host, allowed: &str, rules: &str) -> Host {
    writer.beside(&[
        "--read-only",
        "--refresh",
        "20ms",
        "--allowed-signers",
        allowed,
        "--require-signed",
        rules,
    ])
}

fn at(host: &Host, name: &str) -> PathBuf {
    host.path(ARTIFACT).join(name)
}

fn is_read(host: &Host, name: &str, content: &str) {
    let file = at(host, name).join("file");
    assert_eq!(fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display())), content);
}

fn is_refused(host: &Host, name: &str, why: &str) {
    refused(name, fs::read_link(at(host, name)), libc::EACCES);
    refused(name, fs::read(at(host, name).join("file")), libc::EACCES);
    assert!(host.log().contains(why), "{why:?} is not in the log:\n{}", host.log());
}

fn signatures() {
    need("ssh-keygen");
    let keys = Keys::new(&["release", "trainer", "expired", "stranger"]);
    let lines = [
        ("release@x", "", "release"),
        ("trainer@x", "namespaces=\"artfs\"", "trainer"),
        ("release@x", "valid-before=\"20200101Z\"", "expired"),
    ];
    let allowed = keys.allowed_file("allowed", &lines);
    let host = writer_host();
    let writer = Writer { host: &host, keys: &keys };
    writer.put(Some("trainer"), b"one", &[]);
    writer.put(None, b"two", &[]);
    writer.put(Some("trainer"), b"three", &[]);
    writer.set(Some("release"), "production", "v0");
    writer.set(None, "free", "v1");
    let rules = "production=release@x,latest=trainer@x,v*=trainer@x";
    let reader = reader(&host, allowed.to_str().unwrap(), rules);
    for (name, content) in [("production", "one"), ("latest", "three"), ("v0", "one"), ("v2", "three")] {
        is_read(&reader, name, content);
    }
    refused("an unsigned version", fs::read(at(&reader, "v1").join("file")), libc::EACCES);
    assert_eq!(fs::read_link(at(&reader, "free")).unwrap().to_str(), Some("v1"), "no rule covers it");
    assert!(names(&reader.path(ARTIFACT)).contains(&"v1".to_owned()), "names are listed all the same");

    // Each wrong move is refused, and the right one after it is served again.
    let wrong = [
        (None, "production is not served: event 6 is not signed"),
        (Some("stranger"), "is not among the allowed signers"),
        (Some("trainer"), "is allowed for trainer@x, not for release@x"),
        (Some("expired"), "is not valid at"),
    ];
    for (key, why) in wrong {
        writer.set(key, "production", "v2");
        wait_until("the move is seen", || fs::read_link(at(&reader, "production")).is_err());
        is_refused(&reader, "production", why);
        writer.set(Some("release"), "production", "v0");
        wait_until("the move is seen", || fs::read_link(at(&reader, "production")).is_ok());
        is_read(&reader, "production", "one");
    }
    // The move is signed, the version it leads to is not.
    writer.set(Some("release"), "production", "v1");
    wait_until("the move is seen", || fs::read_link(at(&reader, "production")).is_err());
    is_refused(&reader, "production", "production is not served: event 2 is not signed");
    // A commit moves it along: the one event is both.
    writer.put(Some("trainer"), b"four", &["--alias", "production"]);
    writer.run(Some("release"), &["alias", "rm", ARTIFACT, "production"]);
    wait_until("it is gone", || {
        fs::symlink_metadata(at(&reader, "production")).is_err_and(|e| e.raw_os_error() == Some(libc::ENOENT))
    });
    is_read(&reader, "latest", "four");
    // Whoever deletes the newest version makes an older one the latest.
    writer.run(None, &["rm", &format!("{ARTIFACT}:v3")]);
    wait_until("the deletion is seen", || fs::read_link(at(&reader, "latest")).is_err());
    is_refused(&reader, "latest", "latest is not served");
}

fn without_a_mount() {
    need("ssh-keygen");
    let keys = Keys::new(&["release", "trainer"]);
    let lines = [("release@x", "", "release"), ("trainer@x", "", "trainer")];
    let allowed = keys.allowed_file("allowed", &lines);
    let host = writer_host();
    let writer = Writer { host: &host, keys: &keys };
    writer.put(Some("release"), b"one", &[]);
    writer.put(None, b"two", &[]);
    writer.put(Some("trainer"), b"three", &[]);
    writer.set(None, "production", "v0");
    let reader = Host::unmounted(Some(format!("file://{}", host.store_folder().display())), &[]);
    let rules = "production=release@x,v*=release@x|trainer@x";
    let get = |reference: &str, more: &[&str]| {
        let target = tempfile::tempdir().unwrap();
        let path = target.path().join("out");
        let words = [&["get", reference, path.to_str().unwrap()], more].concat();
        let output = reader.run(&words);
        let content = fs::read_to_string(path.join("file")).ok();
        (content, String::from_utf8(output.stderr).unwrap(), output.status.code())
    };
    let signed = ["--allowed-signers", allowed.to_str().unwrap(), "--require-signed", rules];
    let refused = |reference: &str, why: &str| {
        let (content, error, code) = get(reference, &signed);
        assert_eq!((content, code), (None, Some(1)), "{reference}: {error}");
        assert!(error.contains(why) && error.contains("hint: "), "{reference}: {error}");
    };
    let given = |reference: &str, content: &str| {
        let (found, error, _) = get(reference, &signed);
        assert_eq!(found.as_deref(), Some(content), "{reference}: {error}");
    };
    // Without rules all is given, as before.
    assert_eq!(get("p/a:production", &[]).0.as_deref(), Some("one"));
    refused("p/a:production", "p/a:production is not served: event 4 is not signed");
    writer.set(Some("trainer"), "production", "v0");
    refused("p/a:production", "is allowed for trainer@x, not for release@x");
    writer.set(Some("release"), "production", "v0");
    given("p/a:production", "one");
    given("p/a:v2", "three");
    refused("p/a:v1", "p/a:v1 is not served: event 2 is not signed");
    // A signed move to a version that is not.
    writer.set(Some("release"), "production", "v1");
    refused("p/a:production", "event 2 is not signed");
    let key = reader.folder().join("key.pem");
    program(
        &reader.folder(),
        &["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key.pem"],
    );
    let bundle = reader.folder().join("bundle");
    let export = [
        "export-signature",
        "p/a:v1",
        "--key",
        key.to_str().unwrap(),
        "--model-signing",
        bundle.to_str().unwrap(),
    ];
    let output = reader.run(&[&export[..], &signed].concat());
    assert!(!output.status.success() && !bundle.exists(), "{output:?}");
    // The host's own rules, for whoever forgets them.
    let output = reader
        .command(&["get", "p/a:v1", reader.folder().join("x").to_str().unwrap()])
        .envs([("ARTFS_ALLOWED_SIGNERS", allowed.to_str().unwrap()), ("ARTFS_REQUIRE_SIGNED", rules)])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("event 2 is not signed"), "{output:?}");
    // Rules need to know whose signatures count.
    assert_eq!(get("p/a:v0", &["--require-signed", rules]).2, Some(2));
}

fn signed_later() {
    need("ssh-keygen");
    let keys = Keys::new(&["release", "trainer"]);
    let lines = [("release@x", "", "release"), ("trainer@x", "", "trainer")];
    let allowed = keys.allowed_file("allowed", &lines);
    let host = writer_host();
    let writer = Writer { host: &host, keys: &keys };
    writer.put(None, b"one", &[]);
    writer.put(None, b"two", &[]);
    writer.set(Some("release"), "production", "v0");
    let reader = reader(&host, allowed.to_str().unwrap(), "production=release@x,v*=release@x");
    is_refused(&reader, "production", "event 1 is not signed");
    // Neither a commit of the same content without a signature, nor one by another, nor one of another version.
    writer.run(Some("trainer"), &["sign", "p/a:v0"]);
    writer.run(Some("release"), &["sign", "p/a:v1"]);
    wait_until("v1 is served", || fs::read(at(&reader, "v1").join("file")).is_ok());
    refused("v0", fs::read(at(&reader, "v0").join("file")), libc::EACCES);
    let record: serde_json::Value = serde_json::from_str(&host.ok(&["show", "--json", "p/a:v0"])).unwrap();
    let by_digest = format!("p/a@{}", record["digest"].as_str().unwrap());
    assert!(writer.run(Some("release"), &["sign", &by_digest]).contains("p/a:v0 is signed: "));
    wait_until("production is served", || fs::read_link(at(&reader, "production")).is_ok());
    is_read(&reader, "production", "one");
    is_read(&reader, "v0", "one");
    // Content that is put again, signed and with something to say, is such an event, too.
    writer.put(None, b"three", &[]);
    refused("v2", fs::read(at(&reader, "v2").join("file")), libc::EACCES);
    writer.put(Some("release"), b"three", &["-m", "again"]);
    wait_until("v2 is served", || fs::read(at(&reader, "v2").join("file")).is_ok());
    // Nothing is said without a key.
    let output = host.run(&["sign", "p/a:v0"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    host.ok(&["verify", "--log", "p/a"]);
}

fn rolled_back() {
    need("ssh-keygen");
    let keys = Keys::new(&["release"]);
    let allowed = keys.allowed_file("allowed", &[("release@x", "", "release")]);
    let allowed = allowed.to_str().unwrap();
    let host = writer_host();
    let writer = Writer { host: &host, keys: &keys };
    writer.put(Some("release"), b"one", &["--alias", "production"]);
    writer.put(Some("release"), b"two", &[]);
    let log = host.store_folder().join("artifacts").join(ARTIFACT).join("log");
    let old: Vec<String> = names(&log);
    writer.set(Some("release"), "production", "v1");
    let reader = reader(&host, allowed, "production");
    is_read(&reader, "production", "two");
    let head = host.ok(&["verify", "--log", "--json", ARTIFACT]);
    let head: serde_json::Value = serde_json::from_str(&head).unwrap();
    let state =
        format!("{ARTIFACT}={}:{}", head["events"].as_u64().unwrap() - 1, head["head"].as_str().unwrap());
    reader.umount();

    // The store is as it was; the host's cache is lost, what it has seen is not.
    let newest = names(&log).into_iter().find(|name| !old.contains(name)).unwrap();
    let kept = fs::read(log.join(&newest)).unwrap();
    fs::remove_file(log.join(&newest)).unwrap();
    for name in names(&reader.state).iter().filter(|name| name.starts_with("cache.db")) {
        fs::remove_file(reader.state.join(name)).unwrap();
    }
    reader.mount();
    is_refused(&reader, "production", "was rolled back or forked: its log ends at event");
    // A host that has seen nothing serves a rolled-back log, unless its rules demand more.
    let options = ["--read-only", "--allowed-signers", allowed, "--require-signed", "production"];
    let fresh = host.beside(&options);
    is_read(&fresh, "production", "one");
    let told = host.beside(&[&options[..], &["--min-state", &state]].concat());
    is_refused(&told, "production", "and this host requires event");
    // Another event under the same number, by the same signer.
    for name in names(&host.state).iter().filter(|name| name.starts_with("cache.db")) {
        fs::remove_file(host.state.join(name)).unwrap();
    }
    writer.run(Some("release"), &["tag", "add", &format!("{ARTIFACT}:v0"), "fork"]);
    reader.remount();
    is_refused(&reader, "production", "and this host has seen");
    // The true log again.
    fs::write(log.join(&newest), kept).unwrap();
    for host in [&reader, &told] {
        host.umount();
        for name in names(&host.state).iter().filter(|name| name.starts_with("cache.db")) {
            fs::remove_file(host.state.join(name)).unwrap();
        }
        host.mount();
        is_read(host, "production", "two");
    }
}

/// Appends a signed commit that names a manifest root which claims another digest than its entries have.
async fn commit_lie(host: &Host, keys: &Keys) {
    let url: StoreUrl = format!("file://{}", host.store_folder().display()).parse().unwrap();
    let backend = url.connect(&[], false).unwrap();
    let store = Store::open(backend, url.to_string(), OnMissing::Fail, clock::system()).await.unwrap();
    let catalog = Catalog::new(Arc::new(store), None).signing(keys.signer("release"));
    let key: ArtifactKey = ARTIFACT.parse().unwrap();
    let state = catalog.existing(&key, std::time::Duration::ZERO).await.unwrap();
    let v0 = state.latest().unwrap().clone();
    let bytes = catalog.store().get(&Key::Manifest(key.clone(), v0.manifest)).await.unwrap();
    let digest = Digest::of(b"a lie");
    let root = Root { digest, ..Root::decode(&v0.manifest, &bytes).unwrap() };
    let (manifest, bytes) = root.encode([7; 16], &mut Encoder::new().unwrap());
    catalog.store().put(&Key::Manifest(key.clone(), manifest), vec![bytes.into()]).await.unwrap();
    let commit = Commit {
        version: state.next_version(),
        digest,
        manifest,
        entries: v0.entries,
        files: v0.files,
        bytes: v0.bytes,
        stored_bytes: 0,
        root: None,
        settings: Default::default(),
    };
    let plan = |_: &_| Ok::<_, CatalogError>(AppendStep::Append(EventBody::Commit(commit.clone())));
    let actor = Actor { user: "eve".into(), host: "h".into() };
    catalog.append(&key, EventId::from_bytes([7; 16]), &actor, plan).await.unwrap();
}

fn wrong_digest() {
    need("ssh-keygen");
    let keys = Keys::new(&["release"]);
    let allowed = keys.allowed_file("allowed", &[("release@x", "", "release")]);
    let host = writer_host();
    let writer = Writer { host: &host, keys: &keys };
    writer.put(Some("release"), b"one", &[]);
    tokio::runtime::Runtime::new().unwrap().block_on(commit_lie(&host, &keys));
    let reader = reader(&host, allowed.to_str().unwrap(), "latest");
    is_read(&reader, "v0", "one");
    is_refused(&reader, "latest", "yields the digest");
    refused("by its number", fs::metadata(at(&reader, "v1")), libc::EACCES);
    let trusting = host.beside(&["--read-only"]);
    is_read(&trusting, "v1", "one");
}

fn whole_files() {
    need("ssh-keygen");
    let keys = Keys::new(&["release"]);
    let allowed = keys.allowed_file("allowed", &[("release@x", "", "release")]);
    let host = writer_host();
    let writer = Writer { host: &host, keys: &keys };
    writer.put(Some("release"), &noise(5, 0, 8 << 20), &[]);
    // The last chunk's bytes are others; what comes before them is as it was.
    let mut damaged = 0;
    for folder in names(&host.store_folder().join("packs")) {
        let folder = host.store_folder().join("packs").join(folder);
        for pack in names(&folder) {
            let mut bytes = fs::read(folder.join(&pack)).unwrap();
            if bytes.len() > 8 << 20 {
                let end = (8 << 20) - 1000;
                bytes[end..end + 100].fill(0);
                fs::write(folder.join(&pack), bytes).unwrap();
                damaged += 1;
            }
        }
    }
    assert_eq!(damaged, 1);
    let trusting = host.beside(&["--read-only"]);
    let mut first = [0; 1000];
    File::open(at(&trusting, "latest").join("file")).unwrap().read_exact(&mut first).unwrap();
    assert_eq!(first[..], noise(5, 0, 8 << 20)[..1000]);
    let reader = reader(&host, allowed.to_str().unwrap(), "latest");
    assert!(fs::read_link(at(&reader, "latest")).is_ok(), "the version itself is as it was signed");
    refused("the damaged file", File::open(at(&reader, "latest").join("file")), libc::EIO);
    // Also where the kernel opens files without asking.
    let allowed = allowed.to_str().unwrap();
    let rules = ["--allowed-signers", allowed, "--require-signed", "latest"];
    let unopened = host.beside(&[&["--read-only", "--no-open"], &rules[..]].concat());
    let read = File::open(at(&unopened, "latest").join("file")).and_then(|mut file| file.read(&mut first));
    refused("the damaged file, not opened", read, libc::EIO);
}

fn signing_mount() {
    need("ssh-keygen");
    let keys = Keys::new(&["release", "other"]);
    let allowed = keys.allowed_file("allowed", &[("release@x", "", "release")]);
    let allowed = allowed.to_str().unwrap();
    let host = Host::with(&[&format!("--sign={}", keys.file("release").display())]);
    host.version(ARTIFACT, &[("file", b"one")]);
    std::os::unix::fs::symlink("v0", host.path(ARTIFACT).join("production")).unwrap();
    let verified = host.ok(&["verify", "--log", "--allowed-signers", allowed, ARTIFACT]);
    assert!(verified.contains("is sound and signed: 3 events"), "{verified}");
    let log = host.ok(&["log", "--verify-signatures", "--allowed-signers", allowed, ARTIFACT]);
    assert_eq!(
        log.matches(&format!("{} (release@x)", keys.public("release").fingerprint())).count(),
        3,
        "{log}"
    );
    let shown = host.ok(&["show", "--allowed-signers", allowed, ARTIFACT]);
    assert!(shown.contains("(release@x)"), "{shown}");
    let audit: serde_json::Value = serde_json::from_str(&host.ok(&["audit", ARTIFACT, "--json"])).unwrap();
    let release = keys.public("release").fingerprint();
    let signers = [&audit["signed_by"], &audit["history"]["aliases"][0]["signed_by"]];
    assert_eq!(signers, [release.as_str(), release.as_str()]);
    let told = host.ok(&["audit", ARTIFACT]);
    assert!(told.contains(&release) && told.contains("verify --log --allowed-signers FILE"), "{told}");
    // `artfs commit` asks the mount, which signs with its own key.
    fs::write(host.path(ARTIFACT).join("staging/file"), b"two").unwrap();
    let other = format!("--sign={}", keys.file("other").display());
    let failure = host.failure(&["commit", ARTIFACT, &other]);
    assert!(
        failure.contains("signs with SHA256:") && failure.contains("hint: mount with --sign"),
        "{failure}"
    );
    host.ok(&["commit", ARTIFACT, &format!("--sign={}", keys.file("release").display())]);
    // An event for the stock tool.
    let folder = host.folder().join("exported");
    let folder = folder.to_str().unwrap();
    let command = host.ok(&["log", ARTIFACT, "--event", "2", "--export", folder]);
    let command = command.replace("ALLOWED_SIGNERS", allowed).replace("PRINCIPAL", "release@x");
    let judged = Command::new("sh").args(["-c", &command]).output().unwrap();
    assert!(String::from_utf8_lossy(&judged.stdout).starts_with("Good \"artfs\" signature"), "{judged:?}");
    // One unsigned event, and the verdict is another.
    host.ok(&["tag", "add", &format!("{ARTIFACT}:v0"), "x"]);
    let output = host.run(&["verify", "--log", "--allowed-signers", allowed, ARTIFACT]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("event 4: it is not signed"), "{output:?}");
    // A protection holds in the mount, too.
    host.ok(&[
        "protect",
        ARTIFACT,
        "production",
        "--signers",
        allowed,
        &format!("--sign={}", keys.file("release").display()),
    ]);
    host.umount();
    host.set_options(&[]);
    host.mount();
    let moved = fs::remove_file(host.path(ARTIFACT).join("production"));
    refused("a protected alias", moved, libc::EACCES);
    assert!(host.ok(&["protect", "--list", ARTIFACT]).starts_with("production SHA256:"));
    // What this mount would not serve it does not make.
    host.umount();
    host.set_options(&["--allowed-signers", allowed, "--require-signed", "free"]);
    host.mount();
    let made = std::os::unix::fs::symlink("v0", host.path(ARTIFACT).join("free"));
    refused("a covered alias without a key", made, libc::EACCES);
    assert!(host.log().contains("this mount does not sign"));
    assert!(!host.ok(&["alias", "ls", ARTIFACT]).contains("free"));
}

fn model_signing() {
    need("model_signing");
    need("openssl");
    let host = Host::with(&[]);
    let big = noise(9, 0, 3 << 20);
    let files: [(&str, &[u8]); 4] =
        [("config.json", b"{}"), ("sub/weights.bin", &big), ("sub/a b%", b""), ("sub.x/y", b"y")];
    host.version(ARTIFACT, &files);
    let folder = host.folder();
    let signature = folder.join("model.sig");
    for curve in ["P-256", "P-384"] {
        let curve = format!("ec_paramgen_curve:{curve}");
        program(&folder, &["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", &curve, "-out", "key.pem"]);
        program(&folder, &["openssl", "pkey", "-in", "key.pem", "-pubout", "-out", "key.pub.pem"]);
        let key = folder.join("key.pem");
        let signature = signature.to_str().unwrap();
        host.ok(&[
            "export-signature",
            ARTIFACT,
            "--key",
            key.to_str().unwrap(),
            "--model-signing",
            signature,
        ]);
        let copy = folder.join("copy");
        program(&folder, &["cp", "-r", at(&host, "latest/.").to_str().unwrap(), copy.to_str().unwrap()]);
        let judge = || {
            Command::new("model_signing")
                .args(["verify", "key", "--signature", signature, "--public_key"])
                .arg(folder.join("key.pub.pem"))
                .arg(&copy)
                .output()
                .unwrap()
        };
        let judged = judge();
        assert!(judged.status.success(), "{judged:?}");
        assert!(!String::from_utf8_lossy(&judged.stdout).contains("WARNING"), "{judged:?}");
        fs::write(copy.join("more"), b"").unwrap();
        assert!(!judge().status.success(), "a file more");
        fs::remove_file(copy.join("more")).unwrap();
        fs::write(copy.join("config.json"), b"{ }").unwrap();
        assert!(!judge().status.success(), "another content");
        fs::remove_dir_all(&copy).unwrap();
    }
    // What cannot be verified there is not signed.
    let staging = host.artifact(ARTIFACT);
    std::os::unix::fs::symlink("x", staging.join("link")).unwrap();
    host.commit(ARTIFACT).unwrap();
    let key = folder.join("key.pem");
    let words =
        ["export-signature", ARTIFACT, "--key", key.to_str().unwrap(), "--model-signing", "/dev/null"];
    assert!(host.failure(&words).contains("link is a symbolic link"));
}

fn agent() {
    need("ssh-agent");
    let keys = Keys::new(&["release"]);
    let allowed = keys.allowed_file("allowed", &[("release@x", "", "release")]);
    let host = writer_host();
    let socket = host.folder().join("agent");
    let mut agent =
        Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
    wait_until("the agent listens", || socket.exists());
    let added =
        Command::new("ssh-add").arg("-q").arg(keys.file("release")).env("SSH_AUTH_SOCK", &socket).status();
    let added = added.unwrap().success();
    fs::remove_file(keys.file("release")).unwrap();
    host.set_variable("SSH_AUTH_SOCK", socket.to_str().unwrap());
    let writer = Writer { host: &host, keys: &keys };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), b"one").unwrap();
    let put = host.run(&[
        "put",
        folder.path().to_str().unwrap(),
        ARTIFACT,
        &format!("--sign={}", writer.keys.file("release.pub").display()),
    ]);
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(added && put.status.success(), "{put:?}");
    host.ok(&["verify", "--log", "--allowed-signers", allowed.to_str().unwrap(), ARTIFACT]);
}
