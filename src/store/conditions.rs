//! Proof that a store creates an object only if it is absent, which all agreement between hosts relies on.
//!
//! Some servers accept `If-None-Match` and ignore it. Every create succeeds then, and each writer of a log destroys what
//! the one before has written. So nobody writes to a store before it has once refused to create what exists: the first
//! writer creates `artfs.json` a second time, and whoever first opens a store for writing creates it again, with the
//! bytes that it has. A store that accepts that is left as it was, and is not written to.

use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::error::{StoreError, UnconditionalCause};
use super::key::Key;
use super::objects::{Created, Objects};
use super::retry::backoff;
use crate::format::id::TokenId;

/// Attempts at a proof whose answers are lost.
const MAX_ATTEMPTS: u32 = 5;

/// The result of proving a store's conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionProof {
    /// It refuses to create what exists.
    Held,
    /// It cannot be tried: these credentials may write neither the header nor a probe.
    NotAllowed,
}

/// The result of [`Store::probe`](super::Store::probe).
#[derive(Debug, Clone)]
pub enum Probed {
    /// The store refuses to create what exists.
    Held {
        /// The probe's name.
        key: String,
        /// Why the probe could not be deleted, if so.
        left: Option<StoreError>,
    },
    /// These credentials may not write.
    NotAllowed,
}

type Report = Box<dyn Fn(ConditionProof) + Send + Sync>;

/// Whether a store has to prove its conditions, and the proof.
#[derive(Default)]
pub(super) struct Conditions {
    /// Receives the proof; not set where nobody requires one.
    report: OnceLock<Report>,
    proof: OnceCell<ConditionProof>,
}

impl fmt::Debug for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conditions").field("proof", &self.proof).finish_non_exhaustive()
    }
}

impl Conditions {
    /// Requires a proof, which `report` receives once.
    pub fn demand(&self, report: impl Fn(ConditionProof) + Send + Sync + 'static) {
        if let Some(proof) = self.proof.get() {
            return report(*proof);
        }
        // The first to require it receives it.
        let _ = self.report.set(Box::new(report));
    }

    /// Has the store prove its conditions if that is required and not done yet.
    pub async fn prove(&self, objects: &Objects) -> Result<(), StoreError> {
        let Some(report) = self.report.get() else { return Ok(()) };
        let prove = async {
            // The bytes as they are: they may say more than this program knows of.
            let refused = match objects.get(&Key::Header).await {
                Ok(header) => demand_refusal(objects, &Key::Header, header).await,
                Err(e) => Err(e),
            };
            let proof = match refused {
                Ok(()) => ConditionProof::Held,
                // Credentials for artifacts only may still write a probe.
                Err(StoreError::Denied { .. }) => match probe(objects).await? {
                    Probed::Held { .. } => ConditionProof::Held,
                    Probed::NotAllowed => ConditionProof::NotAllowed,
                },
                Err(e) => return Err(e),
            };
            report(proof);
            Ok(proof)
        };
        self.proof.get_or_try_init(|| prove).await.map(drop)
    }

    /// Has a store that was just made, with this header, prove its conditions.
    pub async fn prove_new(&self, objects: &Objects, header: Bytes) -> Result<(), StoreError> {
        demand_refusal(objects, &Key::Header, header).await?;
        // Set once: nobody else has this store yet.
        let _ = self.proof.set(ConditionProof::Held);
        Ok(())
    }
}

/// Creates an empty object twice, expects the second attempt to be refused, and deletes it.
pub(super) async fn probe(objects: &Objects) -> Result<Probed, StoreError> {
    let key = Key::Clock(TokenId::from_bytes(objects.env().random16()));
    match create_certainly(objects, &key).await {
        Err(StoreError::Denied { .. }) => return Ok(Probed::NotAllowed),
        other => other?,
    }
    let refused = demand_refusal(objects, &key, Bytes::new()).await;
    let left = objects.delete(&key).await.err();
    refused.map(|()| Probed::Held { key: key.to_string(), left })
}

/// Creates an object whose name nobody else has.
async fn create_certainly(objects: &Objects, key: &Key) -> Result<(), StoreError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let unsure = match objects.create(key, Bytes::new()).await? {
            Created::Yes => return Ok(()),
            Created::Exists(answer) => match objects.get(key).await {
                Ok(_) => return Ok(()),
                Err(StoreError::NotFound { .. }) => answer.refusing(key),
                Err(e) => return Err(e),
            },
            Created::Unknown(e) => e,
        };
        if attempts == MAX_ATTEMPTS {
            return Err(unsure);
        }
        tokio::time::sleep(backoff(objects.env(), attempts)).await;
    }
}

/// Creates what exists, with the bytes that it has, and expects a refusal.
async fn demand_refusal(objects: &Objects, key: &Key, bytes: Bytes) -> Result<(), StoreError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match objects.create(key, bytes.clone()).await? {
            Created::Exists(_) => return Ok(()),
            Created::Yes => {
                let source = UnconditionalCause::Overwrites { key: key.to_string() };
                return Err(StoreError::Unconditional { source });
            }
            Created::Unknown(e) if attempts == MAX_ATTEMPTS => return Err(e),
            Created::Unknown(_) => tokio::time::sleep(backoff(objects.env(), attempts)).await,
        }
    }
}
