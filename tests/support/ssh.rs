//! Keys of OpenSSH, made by `ssh-keygen`: what users have.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use artfs::format::sshsig::PublicKey;
use artfs::host::signing::SshKey;
use tempfile::TempDir;

/// A folder of keys, deleted on drop.
pub struct Keys(TempDir);

impl Keys {
    /// These keys, each an Ed25519 key without a passphrase.
    pub fn new(names: &[&str]) -> Self {
        let keys = Self(tempfile::tempdir().expect("a temporary directory"));
        names.iter().for_each(|name| keys.make(name, &["-t", "ed25519"], ""));
        keys
    }

    /// Creates another key.
    pub fn make(&self, name: &str, kind: &[&str], passphrase: &str) {
        let file = self.file(name);
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-N", passphrase, "-C", name, "-f"]).arg(&file).args(kind);
        let output = command.stdin(Stdio::null()).output().expect("ssh-keygen (OpenSSH) is installed");
        assert!(output.status.success(), "{output:?}");
    }

    /// The private key's file.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns a signer for it.
    pub fn signer(&self, name: &str) -> Arc<SshKey> {
        Arc::new(SshKey::open(&self.file(name)).expect("a key"))
    }

    /// The public key.
    pub fn public(&self, name: &str) -> PublicKey {
        self.public_text(name).parse().expect("a public key")
    }

    fn public_text(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name).with_extension("pub")).expect("a public key")
    }

    /// The text of an allowed_signers file: principal, options, key.
    pub fn allowed(&self, lines: &[(&str, &str, &str)]) -> String {
        let line = |(principal, options, key): &(&str, &str, &str)| {
            format!("{principal} {options} {}", self.public_text(key))
        };
        lines.iter().map(line).collect()
    }

    /// The same as a file of that name.
    pub fn allowed_file(&self, name: &str, lines: &[(&str, &str, &str)]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, self.allowed(lines)).expect("a file");
        path
    }

    /// What `ssh-keygen -Y verify` says of a payload and a signature's file.
    pub fn judge(&self, allowed: &Path, principal: &str, payload: &Path, signature: &Path) -> Output {
        Command::new("ssh-keygen")
            .args(["-Y", "verify", "-n", "artfs", "-I", principal, "-f"])
            .arg(allowed)
            .arg("-s")
            .arg(signature)
            .stdin(std::fs::File::open(payload).expect("the payload"))
            .output()
            .expect("ssh-keygen runs")
    }
}
