//! Signing events with a key that its owner has already: by `ssh-keygen -Y sign`, as git does.
//!
//! Private keys are never read here: `ssh-keygen` takes them from a file, from the agent of `$SSH_AUTH_SOCK`, or from
//! a security key. What it returns is verified before it is used. Verifying needs no program
//! ([`crate::format::sshsig`]).

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::format::sshsig::{NAMESPACE, PublicKey, SshSignature};

/// How long a signature may take: somebody may have to touch a security key.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why nothing was signed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the event cannot be signed with {key}: {problem}")]
pub struct SignError {
    /// The key's file.
    pub key: String,
    /// What is wrong.
    pub problem: String,
}

/// Signs events. One for each catalog, shared by all who append; signatures are made as often as an append is tried.
pub trait Signer: fmt::Debug + Send + Sync {
    /// A signature in [`NAMESPACE`] over exactly these bytes.
    fn sign<'a>(&'a self, payload: &'a [u8]) -> BoxFuture<'a, Result<SshSignature, SignError>>;
    /// The key that it signs with.
    fn key(&self) -> &PublicKey;
}

/// A key of OpenSSH, private or (with an agent) public, by its file.
#[derive(Debug)]
pub struct SshKey {
    file: PathBuf,
    key: PublicKey,
}

impl SshKey {
    /// The key in a file, or in the one of that name with `.pub`. Signs nothing yet.
    ///
    /// # Errors
    /// Neither file is a public key.
    pub fn open(file: &Path) -> Result<Self, SignError> {
        let error = |problem: String| SignError { key: file.display().to_string(), problem };
        let file = std::path::absolute(file).map_err(|e| error(e.to_string()))?;
        let mut public = file.clone().into_os_string();
        if file.extension().is_none_or(|extension| extension != "pub") {
            public.push(".pub");
        }
        let text = std::fs::read_to_string(&public).map_err(|e| {
            error(format!("its public key {} cannot be read: {e}", Path::new(&public).display()))
        })?;
        let key = text.parse().map_err(|e: crate::format::FormatError| error(e.problem))?;
        Ok(Self { file, key })
    }

    async fn ask(&self, payload: &[u8]) -> Result<SshSignature, String> {
        let mut command = Command::new("ssh-keygen");
        // With an empty passphrase given, none is asked for: a daemon has nobody to ask.
        command.args(["-Y", "sign", "-n", NAMESPACE, "-P", "", "-f"]).arg(&self.file);
        command.env("SSH_ASKPASS_REQUIRE", "never").env("LC_ALL", "C").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("ssh-keygen (OpenSSH) cannot be run: {e}"))?;
        let mut input = child.stdin.take().ok_or("ssh-keygen has no input")?;
        // It reads all before it writes. Where it ends early, its exit says why.
        let write = async move {
            let _ = input.write_all(payload).await;
        };
        let (_, output) = tokio::join!(write, child.wait_with_output());
        let output = output.map_err(|e| e.to_string())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let hint = if said.contains("passphrase") {
                " (`ssh-add` gives a key with a passphrase to an agent)"
            } else {
                ""
            };
            return Err(format!("ssh-keygen says: {}{hint}", said.trim()));
        }
        let signature = String::from_utf8_lossy(&output.stdout);
        let signature = SshSignature::from_armor(&signature).map_err(|e| e.to_string())?;
        signature.verify(payload).map_err(|e| e.to_string())?;
        if *signature.key() != self.key {
            return Err(format!("it was signed with {} instead", signature.key().fingerprint()));
        }
        Ok(signature)
    }
}

impl Signer for SshKey {
    fn sign<'a>(&'a self, payload: &'a [u8]) -> BoxFuture<'a, Result<SshSignature, SignError>> {
        Box::pin(async move {
            let done = tokio::time::timeout(PATIENCE, self.ask(payload)).await;
            let late = || Err(format!("ssh-keygen did not sign within {} s", PATIENCE.as_secs()));
            done.unwrap_or_else(|_| late())
                .map_err(|problem| SignError { key: self.file.display().to_string(), problem })
        })
    }

    fn key(&self) -> &PublicKey {
        &self.key
    }
}
