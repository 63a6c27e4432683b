//! The OpenSSF's signatures of models, as the `model-signing` tool verifies them: a Sigstore bundle around an in-toto
//! statement that names every file with its hash.
//!
//! The hashes are SHA-256, because the tool's command line assumes them whatever the bundle says.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::Signer;
use p256::pkcs8::{DecodePrivateKey, EncodePublicKey};
use ring::digest::{SHA256, digest};
use serde_json::json;

use super::error::FormatError;
use crate::format::path::TreePath;

const WHAT: &str = "model signature";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// What the tool leaves out of a model unless it is told otherwise.
const IGNORED: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];
/// Characters on a line of PEM.
const PEM_COLUMNS: usize = 64;

/// A private key on P-256 or P-384.
#[derive(Debug)]
pub enum EcKey {
    /// Signs SHA-256.
    P256(p256::SecretKey),
    /// Signs SHA-384.
    P384(p384::SecretKey),
}

/// The files of a version, as a model.
#[derive(Debug, Default)]
pub struct Model {
    /// Path and SHA-256 of each.
    files: Vec<(String, [u8; 32])>,
    /// The paths that are left out, as the tool does.
    pub ignored: Vec<String>,
}

impl EcKey {
    /// Reads a key in PEM, as `openssl` writes it, without a passphrase.
    ///
    /// # Errors
    /// The text is not a private key in PEM, has a passphrase, or is on another curve than P-256 and P-384.
    pub fn from_pem(text: &str) -> Result<Self, FormatError> {
        let problem = "it is no private key in PEM, on P-256 or P-384 and without a passphrase";
        let wrong = || FormatError::new("private key", problem);
        let (_, text) = text.split_once("PRIVATE KEY-----").ok_or_else(wrong)?;
        let (base64, _) = text.split_once("-----END").ok_or_else(wrong)?;
        let der = STANDARD.decode(base64.split_ascii_whitespace().collect::<String>());
        let der = der.map_err(|_| wrong())?;
        // PKCS#8 and SEC1 have the same words around them but for `EC`.
        let p256 = p256::SecretKey::from_pkcs8_der(&der).or_else(|_| p256::SecretKey::from_sec1_der(&der));
        let p384 = || p384::SecretKey::from_pkcs8_der(&der).or_else(|_| p384::SecretKey::from_sec1_der(&der));
        p256.map(Self::P256).or_else(|_| p384().map(Self::P384)).map_err(|_| wrong())
    }

    /// An ASN.1 signature of `message`, with a nonce that follows from both (RFC 6979).
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = p256::ecdsa::SigningKey::from(key).sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Self::P384(key) => {
                let signature: p384::ecdsa::Signature = p384::ecdsa::SigningKey::from(key).sign(message);
                signature.to_der().as_bytes().to_vec()
            }
        }
    }

    /// The tool's name of the public key: SHA-256 of its PEM.
    fn hint(&self) -> Result<String, FormatError> {
        let der = match self {
            Self::P256(key) => key.public_key().to_public_key_der(),
            Self::P384(key) => key.public_key().to_public_key_der(),
        };
        let der = der.map_err(|_| FormatError::new(WHAT, "the key has no public form"))?;
        let base64 = STANDARD.encode(der.as_bytes());
        let lines: Vec<&str> = (0..base64.len())
            .step_by(PEM_COLUMNS)
            .map(|at| &base64[at..base64.len().min(at + PEM_COLUMNS)])
            .collect();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
        Ok(hex(digest(&SHA256, pem.as_bytes()).as_ref()))
    }
}

impl Model {
    /// Whether a path is part of a model; one that the tool leaves out is noted.
    pub fn covers(&mut self, path: &TreePath) -> bool {
        let path = path.to_string();
        let is_ignored = IGNORED.contains(&path.split('/').next().unwrap_or_default());
        if is_ignored {
            self.ignored.push(path);
        }
        !is_ignored
    }

    /// Takes a file.
    ///
    /// # Errors
    /// Its path is not UTF-8: the tool cannot name it.
    pub fn push(&mut self, path: &TreePath, sha256: [u8; 32]) -> Result<(), FormatError> {
        let text = std::str::from_utf8(path.as_bytes()).map_err(|_| {
            FormatError::new(WHAT, format!("{path} is not UTF-8, and model-signing cannot name it"))
        })?;
        self.files.push((text.to_owned(), sha256));
        Ok(())
    }

    /// The signed bundle, as it is written to a file.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn sign(mut self, name: &str, key: &EcKey) -> Result<String, FormatError> {
        self.files.sort_unstable();
        let hashes: Vec<u8> = self.files.iter().flat_map(|(_, hash)| *hash).collect();
        let root = hex(digest(&SHA256, &hashes).as_ref());
        let resource = |(path, hash): &(String, [u8; 32])| json!({ "name": path, "algorithm": "sha256", "digest": hex(hash) });
        let resources: Vec<_> = self.files.iter().map(resource).collect();
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{ "name": name, "digest": { "sha256": root } }],
            "predicateType": "https://model_signing/signature/v1.0",
            "predicate": {
                "serialization": {
                    "method": "files", "hash_type": "sha256", "allow_symlinks": false, "ignore_paths": IGNORED,
                },
                "resources": resources,
            },
        });
        let payload = statement.to_string();
        let signed = format!("DSSEv1 {} {PAYLOAD_TYPE} {} {payload}", PAYLOAD_TYPE.len(), payload.len());
        let signature = key.sign(signed.as_bytes());
        let bundle = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": { "publicKey": { "hint": key.hint()? }, "tlogEntries": [] },
            "dsseEnvelope": {
                "payload": STANDARD.encode(&payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{ "sig": STANDARD.encode(signature), "keyid": "" }],
            },
        });
        Ok(bundle.to_string() + "\n")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
