//! What commands work with: places, the store, the catalog, the user.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::Globals;
use super::args::parse_span;
use super::error::CliError;
use super::output::Format;
use crate::app::daemon::client::{self, Client};
use crate::app::daemon::wire::ControlRequest;
use crate::format::clock;
use crate::format::header::StoreHeader;
use crate::format::name::{ArtifactKey, RunId};
use crate::host::durable;
use crate::host::process::rule::RUN_VARIABLE;
use crate::host::signing::SshKey;
use crate::host::sys;
use crate::host::variables::{self, VariableKind};
use crate::repo::catalog::{Actor, Catalog};
use crate::store::{ANSWER_LIMIT, ConditionProof, OnMissing, OpenError, Store, StoreError, StoreUrl};

/// Digits of the hash of a store's URL that name the file with its header.
const URL_HASH_DIGITS: usize = 16;
/// No store answers faster, and a shorter limit would only make it look as if it were away.
const MIN_STORE_TIMEOUT: Duration = Duration::from_millis(100);
/// Keys that are tried where none is named, in `~/.ssh`.
const DEFAULT_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];
/// Environment variables that clients of the clouds take their settings from.
const SETTINGS: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// The environment of one command. Opens nothing until it is asked to.
#[derive(Debug)]
pub struct Context {
    globals: Globals,
}

/// A runtime with the catalog of a store.
#[derive(Debug)]
pub struct OpenedStore {
    /// The runtime the store is used in.
    pub runtime: Runtime,
    /// The catalog.
    pub catalog: Arc<Catalog>,
}

/// A store's header, remembered so that the store can be used without being asked.
#[derive(Debug, Serialize, Deserialize)]
struct RememberedHeader {
    url: String,
    header: StoreHeader,
    /// What the store answered when it had to prove its conditions; not asked yet if there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conditions: Option<ProvenConditions>,
}

/// How a store proved that it creates objects only where there are none, and the endpoint that did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ProvenConditions {
    endpoint: String,
    held: bool,
}

impl ProvenConditions {
    fn new(endpoint: String, proof: ConditionProof) -> Self {
        Self { endpoint, held: proof == ConditionProof::Held }
    }
}

impl Context {
    /// The context that the global options describe.
    pub fn new(globals: &Globals) -> Self {
        Self { globals: globals.clone() }
    }

    /// Whom to print for.
    pub fn format(&self) -> Format {
        if self.globals.json { Format::Json } else { Format::Text }
    }

    /// How much is said of what is done.
    pub fn verbose(&self) -> u8 {
        self.globals.verbose
    }

    /// Where the store is.
    pub fn store_url(&self) -> Result<StoreUrl, CliError> {
        let named = self.globals.store.clone().map(OsString::from).or_else(|| set("ARTFS_STORE"));
        match named {
            Some(url) => {
                let url = url.into_string().map_err(|_| {
                    CliError::usage("the URL of the store is not UTF-8 (--store, $ARTFS_STORE)")
                })?;
                Ok(url.parse::<StoreUrl>()?)
            }
            None => Ok(StoreUrl::Directory(data_folder("--store or $ARTFS_STORE")?.join("artfs/store"))),
        }
    }

    /// How long a store may take to answer.
    pub fn store_timeout(&self) -> Result<Duration, CliError> {
        let limit = match (self.globals.store_timeout, set("ARTFS_STORE_TIMEOUT")) {
            (Some(limit), _) => limit,
            (None, None) => ANSWER_LIMIT,
            (None, Some(text)) => parse_span(&text.to_string_lossy())
                .map_err(|e| CliError::usage(format!("$ARTFS_STORE_TIMEOUT is not a span of time: {e}")))?,
        };
        if limit < MIN_STORE_TIMEOUT {
            let least = MIN_STORE_TIMEOUT.as_millis();
            return Err(CliError::usage(format!(
                "--store-timeout or $ARTFS_STORE_TIMEOUT is too short: a store needs {least} ms at least to answer"
            )));
        }
        Ok(limit)
    }

    /// Where the state folder is; it may not be there yet.
    pub fn state_path(&self) -> Result<PathBuf, CliError> {
        let named = self.globals.state.clone().or_else(|| set("ARTFS_STATE").map(PathBuf::from));
        let path = match named {
            Some(path) => path,
            None => data_folder("--state or $ARTFS_STATE")?.join("artfs/state"),
        };
        let absolute = std::path::absolute(&path);
        absolute.map_err(|e| {
            CliError::io(format!("cannot use the state folder {}", path.display()), &e)
                .with_hint("--state DIR or $ARTFS_STATE puts it elsewhere")
        })
    }

    /// The state folder, made for this user alone if it was not there.
    pub fn state(&self) -> Result<PathBuf, CliError> {
        let path = self.state_path()?;
        if path.is_dir() {
            check_owner(&path)?;
            make_private(&path);
            return Ok(path);
        }
        durable::create_private_directory(&path).map_err(|e| {
            CliError::io(format!("cannot make the state folder {}", path.display()), &e)
                .with_hint("--state DIR or $ARTFS_STATE puts it elsewhere")
        })?;
        Ok(path)
    }

    /// A runtime for asynchronous work.
    pub fn runtime(&self) -> Result<Runtime, CliError> {
        Runtime::new().map_err(|e| CliError::io("cannot start threads", &e))
    }

    /// Opens the store for reading and changing what is in it; there must be one.
    pub fn open(&self) -> Result<OpenedStore, CliError> {
        self.open_or(OnMissing::Fail)
    }

    /// Opens the store; `on_missing` says what to do if there is none.
    pub fn open_or(&self, on_missing: OnMissing) -> Result<OpenedStore, CliError> {
        let runtime = self.runtime()?;
        let catalog = self.catalog(&runtime, on_missing)?;
        Ok(OpenedStore { runtime, catalog })
    }

    /// Opens the store in a runtime that is there.
    pub fn catalog(&self, runtime: &Runtime, on_missing: OnMissing) -> Result<Arc<Catalog>, CliError> {
        let state = self.state()?;
        let store = Arc::new(self.open_store(runtime, &state, on_missing)?);
        let catalog = Catalog::new(store, Some(&state.join("cache.db")));
        Ok(Arc::new(match self.sign_key()? {
            Some(file) => catalog.signing(Arc::new(SshKey::open(&file)?)),
            None => catalog,
        }))
    }

    fn open_store(&self, runtime: &Runtime, state: &Path, on_missing: OnMissing) -> Result<Store, CliError> {
        let url = self.store_url()?;
        let file = remembered_file(state, &url);
        let recalled = recall(&file, &url);
        let remembered = recalled.as_ref().map(|recalled| &recalled.header);
        let is_for_writing = on_missing != OnMissing::Fail;
        // Where a store has been, an empty place is a disk that is not mounted and not the wish for a new store.
        let make = is_for_writing && remembered.is_none();
        let wants_sha256 = on_missing == OnMissing::CreateWithSha256;
        let on_missing = if make { on_missing } else { OnMissing::Fail };
        let for_good = || format!("if it was deleted for good, remove {}", file.display());
        let gone = |error: OpenError| match (&error, &remembered) {
            (OpenError::NotAStore { .. }, Some(_)) => CliError::failed(error.to_string())
                .with_hint(format!("it was a store before; {}", for_good())),
            _ => error.into(),
        };
        let (env, limit) = (clock::system(), self.store_timeout()?);
        if recalled.is_none() {
            refuse_moved(runtime, &url)?;
        }
        let settings = settings(&url)?;
        let opened = runtime.block_on(async {
            match remembered.cloned() {
                Some(header) => {
                    let backend = url.connect_again(&settings)?;
                    Store::open_known(backend, url.to_string(), header, env, limit).await
                }
                None => {
                    let backend = url.connect(&settings, make)?;
                    Store::open_within(backend, url.to_string(), on_missing, env, limit).await
                }
            }
        });
        let store = opened.map_err(gone)?;
        if let Some(outage) = store.outage() {
            tracing::warn!(store = %url, problem = %outage.cause, "the store cannot be reached: using what is known here");
            if url.directory().is_some() {
                tracing::warn!("if its disk is not mounted, mount it; {}", for_good());
            }
            demand_conditions(&store, &file, &url, recalled.as_ref());
            return Ok(store);
        }
        if wants_sha256 && !store.header().has_sha256() {
            let message = format!("{url} was made without --sha256, and that cannot be changed");
            return Err(CliError::failed(message).with_hint("leave --sha256 out, or use a new store"));
        }
        let is_known = remembered == Some(store.header());
        if !is_known && remembered.is_some() {
            tracing::warn!(store = %url, "this is another store than the one that was here before");
        }
        demand_conditions(&store, &file, &url, recalled.as_ref());
        // One that is known here is asked when something is written: these credentials may be a reader's.
        if is_for_writing && recalled.is_none() {
            let proved = runtime.block_on(store.prove_conditions());
            // All other trouble shows when something is written.
            if let Err(source @ StoreError::Unconditional { .. }) = proved {
                return Err(OpenError::Store { url: url.to_string(), source }.into());
            }
        }
        if !is_known && recall(&file, &url).is_none_or(|now| now.header != *store.header()) {
            remember(&file, &url, store.header(), None);
        }
        Ok(store)
    }

    /// The user on whose behalf a command works.
    pub fn actor(&self) -> Actor {
        let uid = sys::effective_uid();
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim();
        Actor {
            user: sys::user_name(uid).unwrap_or_else(|| format!("uid{uid}")),
            host: if host.is_empty() { "localhost".to_owned() } else { host.to_owned() },
        }
    }

    /// The file of the key that events are signed with, if they are.
    pub fn sign_key(&self) -> Result<Option<PathBuf>, CliError> {
        let Some(named) = self.globals.sign.clone().or_else(|| set("ARTFS_SIGN_KEY")) else {
            return Ok(None);
        };
        if !named.is_empty() {
            return Ok(Some(named.into()));
        }
        if let Some(named) = set("ARTFS_SIGN_KEY") {
            return Ok(Some(named.into()));
        }
        let folder = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".ssh"));
        let kept = DEFAULT_KEYS.iter().filter_map(|name| Some(folder.as_ref()?.join(name)));
        let found = kept.into_iter().find(|file| file.with_extension("pub").is_file());
        found.map(Some).ok_or_else(|| {
            CliError::usage("there is no key to sign with in ~/.ssh")
                .with_hint("name one with --sign=KEY or $ARTFS_SIGN_KEY; `ssh-keygen -t ed25519` makes one")
        })
    }

    /// The run that this command is of, if the environment names one.
    pub fn declared_run(&self) -> Option<RunId> {
        let named = std::env::var(RUN_VARIABLE).ok()?;
        named.parse().inspect_err(|e| tracing::warn!("${RUN_VARIABLE} is not taken: {e}")).ok()
    }

    /// The daemon that runs on the state folder, if one does.
    pub fn daemon(&self) -> Result<Option<Client>, CliError> {
        let state = self.state_path()?;
        client::connect(&state)
            .map_err(|e| CliError::io(format!("cannot talk to the daemon of {}", state.display()), &e))
    }

    /// Tells the daemon, if there is one, that an artifact was changed: its mount shows it at once.
    pub fn changed(&self, artifact: &ArtifactKey) {
        if let Ok(Some(client)) = self.daemon() {
            let request = ControlRequest::Refresh { artifact: artifact.clone() };
            // It would find out by itself a little later.
            if let Err(error) = client.call(&request, |_| {}) {
                tracing::debug!(%error, "the daemon was not told");
            }
        }
    }
}

/// Refuses a state folder of another user, who could lead what is written there elsewhere. Root's is no danger.
fn check_owner(state: &Path) -> Result<(), CliError> {
    let shown = state.display();
    let meta =
        fs::metadata(state).map_err(|e| CliError::io(format!("cannot use the state folder {shown}"), &e))?;
    match stranger(&meta) {
        None => Ok(()),
        Some(owner) => Err(CliError::failed(format!("the state folder {shown} belongs to {owner}"))
            .with_hint(format!(
                "run this as {owner}, or name a folder of your own with --state or $ARTFS_STATE"
            ))),
    }
}

/// The owner of a folder, if that is neither this user nor root.
pub fn stranger(meta: &fs::Metadata) -> Option<String> {
    let uid = meta.uid();
    let own = uid == sys::effective_uid() || uid == 0;
    (!own).then(|| sys::user_name(uid).unwrap_or_else(|| format!("uid{uid}")))
}

/// Closes an empty folder that was made to become a state folder. One with things in it is the user's to judge.
fn make_private(state: &Path) {
    let open = fs::metadata(state).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0);
    if !open {
        return;
    }
    let empty = fs::read_dir(state).is_ok_and(|mut entries| entries.next().is_none());
    let closed = empty && fs::set_permissions(state, Permissions::from_mode(0o700)).is_ok();
    if !closed {
        let state = state.display();
        tracing::warn!("the state folder {state} is open to other users; `chmod 700 {state}` closes it");
    }
}

/// An environment variable; an empty one counts as none.
fn set(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The settings of the clouds' clients in this process's environment, for a store at `url`; empty ones count as none.
fn settings(url: &StoreUrl) -> Result<Vec<(String, String)>, CliError> {
    if url.directory().is_some() {
        return Ok(vec![]);
    }
    let mut settings = vec![];
    for (name, value) in std::env::vars_os().filter(|(_, value)| !value.is_empty()) {
        let Ok(name) = name.into_string() else { continue };
        let is_proxy = variables::kind(&name) == VariableKind::Proxy;
        let is_setting = SETTINGS.iter().any(|prefix| name.starts_with(prefix));
        if is_proxy && !is_setting {
            variables::check(&name, &value).map_err(OpenError::from)?;
        }
        if !is_setting {
            continue;
        }
        match value.into_string() {
            Ok(value) => settings.push((name, value)),
            // The clients of other stores may be set up as they like.
            Err(value) if url.takes(&name) => {
                variables::check(&name, &value).map_err(OpenError::from)?;
            }
            Err(_) => {}
        }
    }
    Ok(settings)
}

/// `$XDG_DATA_HOME`, or `~/.local/share`.
fn data_folder(instead: &str) -> Result<PathBuf, CliError> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share"))).ok_or_else(|| {
        CliError::usage("there is no data folder: neither $XDG_DATA_HOME nor $HOME is an absolute path")
            .with_hint(format!("say where with {instead}"))
    })
}

fn remembered_file(state: &Path, url: &StoreUrl) -> PathBuf {
    let hash = blake3::hash(url.to_string().as_bytes()).to_hex();
    state.join("stores").join(format!("{}.json", &hash[..URL_HASH_DIGITS]))
}

fn recall(file: &Path, url: &StoreUrl) -> Option<RememberedHeader> {
    let remembered: RememberedHeader = serde_json::from_slice(&durable::read(file).ok()?).ok()?;
    (remembered.url == url.to_string()).then_some(remembered)
}

/// An error if earlier versions made the store of this URL elsewhere: an empty one here would look as if all were lost.
fn refuse_moved(runtime: &Runtime, url: &StoreUrl) -> Result<(), CliError> {
    let Some(formerly) = url.formerly() else { return Ok(()) };
    let opened = Store::open(
        formerly.connect(&settings(&formerly)?, false)?,
        formerly.to_string(),
        OnMissing::Fail,
        clock::system(),
    );
    match runtime.block_on(opened) {
        Ok(_) => Err(CliError::failed(format!(
            "{url} is now taken as it is written, and there is a store at {formerly}, where it led before"
        ))
        .with_hint(format!("write {formerly}, or move the objects"))),
        // Whatever is wrong with the place shows when the store itself is opened.
        Err(_) => Ok(()),
    }
}

/// Has the store prove before the first write that it creates objects only where there are none, unless it did for this
/// state folder before.
fn demand_conditions(store: &Store, file: &Path, url: &StoreUrl, recalled: Option<&RememberedHeader>) {
    // What cannot be read was refused when the store was connected.
    let endpoint = endpoint(&settings(url).unwrap_or_default());
    let known = recalled.filter(|recalled| recalled.header == *store.header());
    if known.and_then(|known| known.conditions.as_ref()).is_some_and(|known| known.endpoint == endpoint) {
        return;
    }
    let (file, url, header) = (file.to_owned(), url.clone(), store.header().clone());
    store.demand_conditions(move |proof| {
        remember(&file, &url, &header, Some(ProvenConditions::new(endpoint.clone(), proof)));
    });
}

/// Where buckets are asked: another server behind the same name has to prove itself again.
fn endpoint(settings: &[(String, String)]) -> String {
    let named = |name: &str| name.contains("ENDPOINT") || name == "GOOGLE_BASE_URL";
    let mut named: Vec<_> = settings.iter().filter(|(name, _)| named(name)).collect();
    named.sort_unstable();
    named.into_iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" ")
}

/// Keeps a header. Without it the store is asked again next time, so failing is no failure.
fn remember(file: &Path, url: &StoreUrl, header: &StoreHeader, conditions: Option<ProvenConditions>) {
    let remembered = RememberedHeader { url: url.to_string(), header: header.clone(), conditions };
    let text = serde_json::to_vec_pretty(&remembered).expect("plain data");
    let folder = file.parent().expect("the file stands in a folder of the state folder");
    let kept =
        durable::create_private_directory(folder).and_then(|()| durable::write_atomically(file, &text));
    if let Err(error) = kept {
        tracing::warn!(file = %file.display(), %error, "cannot remember the store");
    }
}
