//! The environment of a command: its places, store, catalog and user.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::error::CliError;
use super::globals::Globals;
use super::state_folder::{check_owner, make_private};
use super::store;
use super::ui::{Format, Ui};
use crate::app::daemon::client::{self, Client};
use crate::app::daemon::wire::ControlRequest;
use crate::format::name::{ArtifactKey, RunId};
use crate::format::units::parse_span;
use crate::host::durable;
use crate::host::process::rule::RUN_VARIABLE;
use crate::host::signing::SshKey;
use crate::host::sys;
use crate::repo::catalog::{Actor, Catalog};
use crate::store::{ANSWER_LIMIT, OnMissing, StoreUrl};

/// No store answers faster, and a shorter limit would only make it look as if it were away.
const MIN_STORE_TIMEOUT: Duration = Duration::from_millis(100);
/// Keys that are tried where none is named, in `~/.ssh`.
const DEFAULT_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// The environment of one command. Opens nothing until asked to.
#[derive(Debug)]
pub struct Context {
    globals: Globals,
    ui: Ui,
}

/// A runtime with the catalog of a store.
#[derive(Debug)]
pub struct OpenedStore {
    /// The runtime the store is used in.
    pub runtime: Runtime,
    /// The catalog.
    pub catalog: Arc<Catalog>,
}

impl Context {
    /// The context that the global options describe.
    pub fn new(globals: &Globals) -> Self {
        let format = if globals.json { Format::Json } else { Format::Text };
        Self { globals: globals.clone(), ui: Ui::new(format) }
    }

    /// Returns what the command prints through.
    pub fn ui(&self) -> Ui {
        self.ui
    }

    /// Returns whom to print for.
    pub fn format(&self) -> Format {
        self.ui.format()
    }

    /// Returns how verbose diagnostics are.
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
                "--store-timeout or $ARTFS_STORE_TIMEOUT is too short: use at least {least} ms"
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
                .with_hint("put it elsewhere with --state DIR or $ARTFS_STATE")
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
                .with_hint("put it elsewhere with --state DIR or $ARTFS_STATE")
        })?;
        Ok(path)
    }

    /// A runtime for asynchronous work.
    pub fn runtime(&self) -> Result<Runtime, CliError> {
        Runtime::new().map_err(|e| CliError::io("cannot start threads", &e))
    }

    /// Opens an existing store.
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
        let store =
            Arc::new(store::open(runtime, &state, &self.store_url()?, self.store_timeout()?, on_missing)?);
        let catalog = Catalog::new(store, Some(&state.join("cache.db")));
        Ok(Arc::new(match self.sign_key()? {
            Some(file) => catalog.signing(Arc::new(SshKey::open(&file)?)),
            None => catalog,
        }))
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
            CliError::usage("there is no signing key in ~/.ssh").with_hint(
                "name one with --sign=KEY or $ARTFS_SIGN_KEY, or create one with `ssh-keygen -t ed25519`",
            )
        })
    }

    /// Returns the run that this command belongs to, if the environment names one.
    pub fn declared_run(&self) -> Option<RunId> {
        let named = std::env::var(RUN_VARIABLE).ok()?;
        named.parse().inspect_err(|e| tracing::warn!("${RUN_VARIABLE} is ignored: {e}")).ok()
    }

    /// The daemon that runs on the state folder, if one does.
    pub fn daemon(&self) -> Result<Option<Client>, CliError> {
        let state = self.state_path()?;
        client::connect(&state)
            .map_err(|e| CliError::io(format!("cannot talk to the daemon of {}", state.display()), &e))
    }

    /// Notifies the daemon, if one runs, that an artifact changed, so that its mount shows the change at once.
    pub fn changed(&self, artifact: &ArtifactKey) {
        if let Ok(Some(client)) = self.daemon() {
            let request = ControlRequest::Refresh { artifact: artifact.clone() };
            // The daemon finds out by itself a little later.
            if let Err(error) = client.call(&request, |_| {}) {
                tracing::debug!(%error, "the daemon was not notified");
            }
        }
    }
}

/// An environment variable; an empty one counts as none.
fn set(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// `$XDG_DATA_HOME`, or `~/.local/share`.
fn data_folder(instead: &str) -> Result<PathBuf, CliError> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share"))).ok_or_else(|| {
        CliError::usage("cannot find the data folder: neither $XDG_DATA_HOME nor $HOME is an absolute path")
            .with_hint(format!("name the folder with {instead}"))
    })
}
