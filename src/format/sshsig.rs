//! OpenSSH's signatures of files (SSHSIG) and the public keys that verify them.
//!
//! A signature names its key; that it verifies says nothing of who holds the key: that is what
//! [`super::signers`] is for. Ed25519, ECDSA (P-256, P-384, P-521) and RSA from 2,048 bits on are known, also on security
//! keys (`sk-`), but no certificates. What is signed here always has the namespace [`NAMESPACE`].

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::digest::{SHA256, SHA512, digest};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};

use super::error::FormatError;

/// The namespace of signatures over events: one made for anything else does not count.
pub const NAMESPACE: &str = "artfs";

const KEY: &str = "public key";
const SIGNATURE: &str = "signature";
const MAGIC: &[u8; 6] = b"SSHSIG";
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// Characters on a line between them.
const ARMOR_COLUMNS: usize = 70;
/// The longest key in bytes: RSA with 16,384 bits, and its exponent.
const MAX_KEY_BYTES: usize = 4096;
/// The longest signature in bytes, with its key.
pub const MAX_SIGNATURE_BYTES: usize = 16 << 10;

/// A public key, as OpenSSH writes it: `ssh-ed25519 AAAA…`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(Vec<u8>);

/// What a key can verify.
enum Verifier<'a> {
    Ed25519(&'a [u8]),
    P256(&'a [u8]),
    P384(&'a [u8]),
    P521(&'a [u8]),
    Rsa { e: &'a [u8], n: &'a [u8] },
}

/// The algorithm of a key, and for a security key the application it was made for.
struct KeyAlgorithm<'a> {
    verifier: Verifier<'a>,
    application: Option<&'a [u8]>,
}

/// A signature, with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSignature {
    blob: Vec<u8>,
    key: PublicKey,
}

/// Its parts.
struct Parts<'a> {
    key: &'a [u8],
    namespace: &'a [u8],
    reserved: &'a [u8],
    hash: &'a [u8],
    signature: &'a [u8],
}

impl PublicKey {
    /// Reads a key's bytes.
    ///
    /// # Errors
    /// Kinds that are not known here, and bytes that are no key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() > MAX_KEY_BYTES {
            return Err(FormatError::new(KEY, format!("{} bytes are too many", bytes.len())));
        }
        open_key(bytes)?;
        Ok(Self(bytes.to_vec()))
    }

    /// What it is: `ssh-ed25519`, ….
    pub fn kind(&self) -> &str {
        let kind = SshReader { what: KEY, rest: &self.0 }.string().ok();
        kind.and_then(|kind| std::str::from_utf8(kind).ok()).unwrap_or_default()
    }

    /// Its hash, as `ssh-keygen -l` shows it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(digest(&SHA256, &self.0)))
    }
}

fn open_key(bytes: &[u8]) -> Result<KeyAlgorithm<'_>, FormatError> {
    let mut reader = SshReader { what: KEY, rest: bytes };
    let kind = reader.string()?;
    let verifier = match kind {
        b"ssh-ed25519" | b"sk-ssh-ed25519@openssh.com" => Verifier::Ed25519(reader.string()?),
        b"ecdsa-sha2-nistp256" | b"sk-ecdsa-sha2-nistp256@openssh.com" => {
            reader.string()?;
            Verifier::P256(reader.string()?)
        }
        b"ecdsa-sha2-nistp384" => {
            reader.string()?;
            Verifier::P384(reader.string()?)
        }
        b"ecdsa-sha2-nistp521" => {
            reader.string()?;
            Verifier::P521(reader.string()?)
        }
        b"ssh-rsa" => Verifier::Rsa { e: reader.number()?, n: reader.number()? },
        other => {
            let kind = String::from_utf8_lossy(other);
            return Err(FormatError::new(KEY, format!("keys of kind {kind:?} are not known here")));
        }
    };
    let application = if kind.starts_with(b"sk-") { Some(reader.string()?) } else { None };
    reader.end()?;
    Ok(KeyAlgorithm { verifier, application })
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), STANDARD.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

impl FromStr for PublicKey {
    type Err = FormatError;

    /// Reads `ssh-ed25519 AAAA…`; a comment behind it is left out.
    fn from_str(text: &str) -> Result<Self, FormatError> {
        let mut words = text.split_ascii_whitespace();
        let (Some(kind), Some(base64)) = (words.next(), words.next()) else {
            return Err(FormatError::new(KEY, "write it as `ssh-ed25519 AAAA…`"));
        };
        let bytes = STANDARD.decode(base64).map_err(|e| FormatError::new(KEY, format!("base64: {e}")))?;
        let key = Self::from_bytes(&bytes)?;
        if key.kind() != kind {
            return Err(FormatError::new(KEY, format!("it is called {kind} and is {}", key.kind())));
        }
        Ok(key)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = FormatError;

    fn try_from(text: String) -> Result<Self, FormatError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl SshSignature {
    /// Reads a signature's bytes. It is not verified yet.
    ///
    /// # Errors
    /// The bytes are too many, damaged, or of a kind of key that is not supported.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() > MAX_SIGNATURE_BYTES {
            return Err(FormatError::new(SIGNATURE, format!("{} bytes are too many", bytes.len())));
        }
        let key = PublicKey::from_bytes(parts(bytes)?.key)?;
        Ok(Self { blob: bytes.to_vec(), key })
    }

    /// Reads base64 on one line.
    ///
    /// # Errors
    /// The text is too long, not base64, or [`SshSignature::from_bytes`] refuses its bytes.
    pub fn from_base64(text: &str) -> Result<Self, FormatError> {
        if text.len() > MAX_SIGNATURE_BYTES * 2 {
            return Err(FormatError::new(SIGNATURE, format!("{} characters are too many", text.len())));
        }
        let bytes = STANDARD.decode(text).map_err(|e| FormatError::new(SIGNATURE, format!("base64: {e}")))?;
        Self::from_bytes(&bytes)
    }

    /// Base64 on one line.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.blob)
    }

    /// Reads what `ssh-keygen -Y sign` writes.
    ///
    /// # Errors
    /// The armor is absent or damaged, or [`SshSignature::from_bytes`] refuses its bytes.
    pub fn from_armor(text: &str) -> Result<Self, FormatError> {
        let inner = text.trim().strip_prefix(BEGIN).and_then(|text| text.strip_suffix(END));
        let inner = inner.ok_or_else(|| FormatError::new(SIGNATURE, "it does not begin and end as one"))?;
        Self::from_base64(&inner.split_ascii_whitespace().collect::<String>())
    }

    /// What `ssh-keygen -Y verify` reads.
    pub fn to_armor(&self) -> String {
        let base64 = self.to_base64();
        let mut text = format!("{BEGIN}\n");
        for line in base64.as_bytes().chunks(ARMOR_COLUMNS) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text + END + "\n"
    }

    /// The key it was made with.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Whether it is over these bytes, by its key, in [`NAMESPACE`].
    ///
    /// # Errors
    /// It is not, and why.
    pub fn verify(&self, payload: &[u8]) -> Result<(), FormatError> {
        let parts = parts(&self.blob)?;
        if parts.namespace != NAMESPACE.as_bytes() {
            let found = String::from_utf8_lossy(parts.namespace);
            return Err(FormatError::new(SIGNATURE, format!("it is for {found:?}, not for {NAMESPACE:?}")));
        }
        let hash = match parts.hash {
            b"sha512" => digest(&SHA512, payload),
            b"sha256" => digest(&SHA256, payload),
            other => {
                let other = String::from_utf8_lossy(other);
                return Err(FormatError::new(SIGNATURE, format!("the hash {other:?} is not known")));
            }
        };
        let mut signed = MAGIC.to_vec();
        for string in [parts.namespace, parts.reserved, parts.hash, hash.as_ref()] {
            put_string(&mut signed, string);
        }
        verify_raw(&open_key(parts.key)?, parts.signature, signed)
    }
}

/// Verifies an SSH signature (algorithm, bytes, and for a security key flags and counter) over `signed`.
fn verify_raw(key: &KeyAlgorithm<'_>, signature: &[u8], mut signed: Vec<u8>) -> Result<(), FormatError> {
    let mut reader = SshReader { what: SIGNATURE, rest: signature };
    let algorithm = reader.string()?;
    let bytes = reader.string()?;
    if let Some(application) = key.application {
        let (flags, counter) = (reader.array::<1>()?, reader.array::<4>()?);
        let message = digest(&SHA256, &signed);
        signed = digest(&SHA256, application).as_ref().to_vec();
        signed.extend_from_slice(&flags);
        signed.extend_from_slice(&counter);
        signed.extend_from_slice(message.as_ref());
    }
    reader.end()?;
    let is_good = match (&key.verifier, algorithm) {
        (Verifier::Ed25519(key), b"ssh-ed25519" | b"sk-ssh-ed25519@openssh.com") => {
            UnparsedPublicKey::new(&ED25519, key).verify(&signed, bytes)
        }
        (Verifier::P256(key), b"ecdsa-sha2-nistp256" | b"sk-ecdsa-sha2-nistp256@openssh.com") => {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(&signed, &fixed(bytes, 32)?)
        }
        (Verifier::P384(key), b"ecdsa-sha2-nistp384") => {
            UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key).verify(&signed, &fixed(bytes, 48)?)
        }
        (Verifier::P521(key), b"ecdsa-sha2-nistp521") => verify_p521(key, &signed, &fixed(bytes, 66)?),
        (Verifier::Rsa { e, n }, b"rsa-sha2-256") => {
            RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, &signed, bytes)
        }
        (Verifier::Rsa { e, n }, b"rsa-sha2-512") => {
            RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA512, &signed, bytes)
        }
        _ => {
            let algorithm = String::from_utf8_lossy(algorithm);
            return Err(FormatError::new(SIGNATURE, format!("{algorithm:?} does not go with its key")));
        }
    };
    is_good.map_err(|_| FormatError::new(SIGNATURE, "it is not over these bytes by its key"))
}

/// Verifies by P-521, which `ring` does not have.
fn verify_p521(key: &[u8], signed: &[u8], signature: &[u8]) -> Result<(), ring::error::Unspecified> {
    use p521::ecdsa::signature::Verifier;
    use p521::ecdsa::{Signature, VerifyingKey};
    let signature = Signature::from_slice(signature).map_err(|_| ring::error::Unspecified)?;
    let key = VerifyingKey::from_sec1_bytes(key).map_err(|_| ring::error::Unspecified)?;
    key.verify(signed, &signature).map_err(|_| ring::error::Unspecified)
}

/// The two numbers of an ECDSA signature, each of `len` bytes.
fn fixed(bytes: &[u8], len: usize) -> Result<Vec<u8>, FormatError> {
    let mut reader = SshReader { what: SIGNATURE, rest: bytes };
    let mut out = Vec::with_capacity(2 * len);
    for _ in 0..2 {
        let number = reader.number()?;
        let lacking = len.checked_sub(number.len());
        let lacking = lacking.ok_or_else(|| FormatError::new(SIGNATURE, "its numbers are too long"))?;
        out.resize(out.len() + lacking, 0);
        out.extend_from_slice(number);
    }
    reader.end()?;
    Ok(out)
}

fn parts(bytes: &[u8]) -> Result<Parts<'_>, FormatError> {
    let mut reader = SshReader { what: SIGNATURE, rest: bytes };
    if reader.array::<6>()? != *MAGIC || reader.array::<4>()? != 1_u32.to_be_bytes() {
        return Err(FormatError::new(SIGNATURE, "it does not begin as one, or is of a newer format"));
    }
    let parts = Parts {
        key: reader.string()?,
        namespace: reader.string()?,
        reserved: reader.string()?,
        hash: reader.string()?,
        signature: reader.string()?,
    };
    reader.end()?;
    Ok(parts)
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("parts of a signature are short");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Reads SSH's encoding: numbers are big-endian, strings have their length before them.
struct SshReader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> SshReader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(*head)
    }

    fn string(&mut self) -> Result<&'a [u8], FormatError> {
        let len = u32::from_be_bytes(self.array()?) as usize;
        let (head, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(head)
    }

    /// A whole number above zero, without zeros in front.
    fn number(&mut self) -> Result<&'a [u8], FormatError> {
        let bytes = self.string()?;
        let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        Ok(&bytes[first..])
    }

    fn end(&self) -> Result<(), FormatError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(FormatError::new(self.what, "it goes on behind its end"))
        }
    }

    fn short(&self) -> FormatError {
        FormatError::new(self.what, "it ends too early")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    fn string(bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        put_string(&mut out, bytes);
        out
    }

    fn pair(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    pub fn key(seed: u8) -> PublicKey {
        let bytes = [string(b"ssh-ed25519"), string(pair(seed).public_key().as_ref())].concat();
        PublicKey::from_bytes(&bytes).unwrap()
    }

    /// A signature by the key of `seed`, made without OpenSSH.
    pub fn sign(seed: u8, namespace: &str, payload: &[u8]) -> SshSignature {
        let hash = digest(&SHA512, payload);
        let parts = [namespace.as_bytes(), b"", b"sha512", hash.as_ref()];
        let signed = [MAGIC.to_vec(), parts.map(string).concat()].concat();
        let raw = [string(b"ssh-ed25519"), string(pair(seed).sign(&signed).as_ref())].concat();
        let parts = [&key(seed).0[..], namespace.as_bytes(), b"", b"sha512", &raw];
        let blob = [MAGIC.to_vec(), 1_u32.to_be_bytes().to_vec(), parts.map(string).concat()].concat();
        SshSignature::from_bytes(&blob).unwrap()
    }

    #[test]
    fn a_signature_is_good_for_its_bytes_key_and_namespace_only() {
        let signature = sign(1, NAMESPACE, b"payload");
        signature.verify(b"payload").unwrap();
        assert!(signature.verify(b"payloae").is_err());
        assert!(sign(1, "file", b"payload").verify(b"payload").is_err(), "another namespace");
        let mut forged = signature.blob.clone();
        let at = forged.windows(32).position(|w| w == pair(1).public_key().as_ref()).unwrap();
        forged[at..at + 32].copy_from_slice(pair(2).public_key().as_ref());
        assert!(SshSignature::from_bytes(&forged).unwrap().verify(b"payload").is_err(), "another key");
        for i in 0..signature.blob.len() {
            let mut changed = signature.blob.clone();
            changed[i] ^= 1;
            let verified = SshSignature::from_bytes(&changed).and_then(|changed| changed.verify(b"payload"));
            assert!(verified.is_err(), "byte {i} is another");
        }
    }

    #[test]
    fn security_keys_sign_flags_and_counter_too() {
        let application = b"ssh:";
        let pair = pair(3);
        let parts = [&b"sk-ssh-ed25519@openssh.com"[..], pair.public_key().as_ref(), application];
        let key = parts.map(string).concat();
        let message = b"what SSHSIG wraps".to_vec();
        let tail = [1, 0, 0, 0, 9];
        let over =
            [digest(&SHA256, application).as_ref(), &tail, digest(&SHA256, &message).as_ref()].concat();
        let raw = |signature: &[u8], tail: &[u8]| {
            [string(b"sk-ssh-ed25519@openssh.com"), string(signature), tail.to_vec()].concat()
        };
        let signature = pair.sign(&over);
        let opened = open_key(&key).unwrap();
        verify_raw(&opened, &raw(signature.as_ref(), &tail), message.clone()).unwrap();
        assert!(verify_raw(&opened, &raw(signature.as_ref(), &[1, 0, 0, 0, 8]), message.clone()).is_err());
        let plain = [string(b"ssh-ed25519"), string(pair.sign(&message).as_ref())].concat();
        assert!(verify_raw(&opened, &plain, message).is_err(), "without flags and counter");
    }

    #[test]
    fn keys_and_signatures_come_back_from_their_texts() {
        let key = key(1);
        assert_eq!(format!("{key} ann@host").parse(), Ok(key.clone()));
        assert!(key.fingerprint().starts_with("SHA256:") && key.kind() == "ssh-ed25519");
        for bad in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 ????",
            "ssh-rsa AAAA",
            &key.to_string().replace("25519 ", "25518 "),
        ] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad}");
        }
        let signature = sign(1, NAMESPACE, b"x");
        assert_eq!(SshSignature::from_armor(&signature.to_armor()), Ok(signature.clone()));
        assert_eq!(SshSignature::from_base64(&signature.to_base64()), Ok(signature.clone()));
        for len in 0..signature.blob.len() {
            assert!(SshSignature::from_bytes(&signature.blob[..len]).is_err(), "{len} bytes of it");
        }
        assert!(SshSignature::from_armor("-----BEGIN SSH SIGNATURE-----").is_err());
    }
}
