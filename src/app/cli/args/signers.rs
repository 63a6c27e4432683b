//! Options that say whose signatures count, and what must be signed.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use crate::app::cli::error::CliError;
use crate::format::signers::{AllowedSigners, MAX_SIGNERS_BYTES};
use crate::repo::trust::{Floor, TrustPolicy, TrustRule};

/// Whose signatures count; shared by `mount`, `log`, `show` and `verify`.
#[derive(Debug, Clone, Default, Args)]
pub struct SignersArgs {
    /// Whose signatures count: a file in the format of OpenSSH's allowed_signers (see docs/signing.md)
    #[arg(long, value_name = "FILE", env = "ARTFS_ALLOWED_SIGNERS", hide_env_values = true)]
    pub allowed_signers: Option<PathBuf>,
}

impl SignersArgs {
    /// The file, read; none if none is named.
    pub fn load(&self) -> Result<Option<AllowedSigners>, CliError> {
        self.allowed_signers.as_deref().map(load).transpose()
    }
}

fn load(path: &std::path::Path) -> Result<AllowedSigners, CliError> {
    let shown = path.display();
    let unread = |e| CliError::io(format!("cannot read the allowed signers {shown}"), &e);
    let bytes = fs::metadata(path).map_err(unread)?.len();
    if bytes > MAX_SIGNERS_BYTES as u64 {
        return Err(CliError::failed(format!(
            "the file of allowed signers {shown} is too large ({bytes} bytes)"
        )));
    }
    let text = fs::read_to_string(path).map_err(unread)?;
    AllowedSigners::parse(&text, path).map_err(|e| {
        CliError::failed(format!("{}: {}", e.what, e.problem)).with_hint(
            "write each line as `principal ssh-ed25519 AAAA…`; see ALLOWED SIGNERS in ssh-keygen(1)",
        )
    })
}

/// What may be read only if it is signed; shared by `mount` and the commands that read content.
#[derive(Debug, Clone, Default, Args)]
pub struct PolicyArgs {
    #[command(flatten)]
    signers: SignersArgs,
    /// Serve these aliases, latest or v* only if an allowed signer signed them, or one of the named
    /// principals: production, latest=release|ci (repeatable, or separated by commas)
    #[arg(long, value_name = "NAME[=PRINCIPAL|…]", value_delimiter = ',', env = "ARTFS_REQUIRE_SIGNED")]
    require_signed: Vec<TrustRule>,
    /// With --require-signed: serve an artifact only if its log has this event: proj/name=17:HASH (repeatable)
    #[arg(long, value_name = "ARTIFACT=SEQ:HASH")]
    min_state: Vec<Floor>,
}

impl PolicyArgs {
    /// The policy; none if nothing must be signed.
    pub fn policy(&self) -> Result<Option<TrustPolicy>, CliError> {
        if self.require_signed.is_empty() && !self.min_state.is_empty() {
            let message =
                "--min-state needs --require-signed: an event that need not be signed proves nothing";
            return Err(CliError::usage(message).with_hint(
                "add --require-signed NAME for each name that is served: production, latest or v*",
            ));
        }
        if self.require_signed.is_empty() {
            return Ok(None);
        }
        let signers = self.signers.load()?.ok_or_else(|| {
            CliError::usage("--require-signed needs --allowed-signers FILE: whose signatures count")
        })?;
        let roles = self.require_signed.iter().flat_map(TrustRule::roles).filter(|role| *role != "*");
        for role in roles {
            if !signers.has_principal(role) {
                let message = format!("the allowed signers do not list {role}, which --require-signed names");
                return Err(CliError::failed(message));
            }
        }
        let (rules, floors) = (self.require_signed.iter().cloned().collect(), self.min_state.clone());
        Ok(Some(TrustPolicy { signers, rules, floors }))
    }

    /// Returns them as words of a command line.
    pub fn to_words(&self) -> Result<Vec<std::ffi::OsString>, CliError> {
        let mut words: Vec<std::ffi::OsString> = vec![];
        if let Some(path) = &self.signers.allowed_signers {
            let absolute = std::path::absolute(path);
            let absolute =
                absolute.map_err(|e| CliError::io(format!("cannot use {}", path.display()), &e))?;
            words.extend(["--allowed-signers".into(), absolute.into()]);
        }
        let mut add = |option: &str, value: String| words.extend([option.into(), value.into()]);
        self.require_signed.iter().for_each(|rule| add("--require-signed", rule.to_string()));
        self.min_state.iter().for_each(|floor| add("--min-state", floor.to_string()));
        Ok(words)
    }
}
