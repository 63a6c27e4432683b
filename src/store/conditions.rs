//! Whether a store creates an object only where there is none: what all agreement between hosts stands on.
//!
//! Some servers take `If-None-Match` and ignore it. Every create succeeds then, and each writer of a log destroys what
//! the one before has written. So nobody writes to a store before it has refused once to create what is there already:
//! the first writer creates `artfs.json` a second time, and who opens a store for writing that it has not seen creates
//! it again, with the bytes that it has. A store that takes that is left as it was, and is not written to.

use std::fmt;

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::{Created, Key, Store, StoreError, backoff};
use crate::format::id::TokenId;

/// Attempts at a proof whose answers are lost.
const MAX_ATTEMPTS: u32 = 5;

/// What is known of a store's conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionProof {
    /// It refused to create what is there.
    Held,
    /// It cannot be asked: these credentials may write neither its header nor a probe.
    NotAllowed,
}

/// What [`Store::probe`] found.
#[derive(Debug, Clone)]
pub enum Probed {
    /// The store refused to create what is there. The probe of this name is gone, or is not and why.
    Held {
        /// The probe's name.
        key: String,
        /// Why it could not be deleted.
        left: Option<StoreError>,
    },
    /// These credentials may not write.
    NotAllowed,
}

type Told = Box<dyn Fn(ConditionProof) + Send + Sync>;

/// Whether a store has to prove itself before it is written to.
#[derive(Default)]
pub(super) struct Conditions {
    /// Not set where nobody demands a proof.
    demanded: std::sync::OnceLock<Told>,
    proof: OnceCell<ConditionProof>,
}

impl fmt::Debug for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conditions").field("proof", &self.proof).finish_non_exhaustive()
    }
}

impl Store {
    /// Demands a proof of the store's conditions before it is first written to; `told` hears of it once. Without a
    /// call of this they are taken for granted, except in a store that is only being made.
    pub fn demand_conditions(&self, told: impl Fn(ConditionProof) + Send + Sync + 'static) {
        if let Some(proof) = self.conditions.proof.get() {
            return told(*proof);
        }
        // Who demanded first hears of it.
        let _ = self.conditions.demanded.set(Box::new(told));
    }

    /// Has the store prove its conditions, if that is demanded and was not done. Cost: two requests, once.
    ///
    /// # Errors
    /// [`StoreError::Unconditional`] of a store that must not be written to.
    pub async fn prove_conditions(&self) -> Result<(), StoreError> {
        let Some(told) = self.conditions.demanded.get() else { return Ok(()) };
        let prove = async {
            // The bytes as they stand: they may say more than this program knows of.
            let refused = match self.get(&Key::Header).await {
                Ok(header) => self.demand_refusal(&Key::Header, header).await,
                Err(e) => Err(e),
            };
            let proof = match refused {
                Ok(()) => ConditionProof::Held,
                // Who may write artifacts only may perhaps write a probe.
                Err(StoreError::Denied { .. }) => match self.probe().await? {
                    Probed::Held { .. } => ConditionProof::Held,
                    Probed::NotAllowed => ConditionProof::NotAllowed,
                },
                Err(e) => return Err(e),
            };
            told(proof);
            Ok(proof)
        };
        self.conditions.proof.get_or_try_init(|| prove).await.map(drop)
    }

    /// The same for the writer that just made the store.
    pub(super) async fn prove_new(&self) -> Result<(), StoreError> {
        self.demand_refusal(&Key::Header, self.header.encode().into()).await?;
        // Set once: nobody else has this store yet.
        let _ = self.conditions.proof.set(ConditionProof::Held);
        Ok(())
    }

    /// Creates an empty object twice, demands that the second time is refused, and deletes it. Cost: three requests.
    pub async fn probe(&self) -> Result<Probed, StoreError> {
        let key = Key::Clock(TokenId::from_bytes(self.env.random16()));
        match self.create_certainly(&key).await {
            Err(StoreError::Denied { .. }) => return Ok(Probed::NotAllowed),
            other => other?,
        }
        let refused = self.demand_refusal(&key, Bytes::new()).await;
        let left = self.delete(&key).await.err();
        refused.map(|()| Probed::Held { key: key.to_string(), left })
    }

    /// Creates an object whose name nobody else has.
    async fn create_certainly(&self, key: &Key) -> Result<(), StoreError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let unsure = match self.create_unproved(key, Bytes::new()).await? {
                Created::Yes => return Ok(()),
                Created::Exists(answer) => match self.get(key).await {
                    Ok(_) => return Ok(()),
                    Err(StoreError::NotFound { .. }) => answer.refusing(key),
                    Err(e) => return Err(e),
                },
                Created::Unknown(e) => e,
            };
            if attempts == MAX_ATTEMPTS {
                return Err(unsure);
            }
            tokio::time::sleep(backoff(&self.env, attempts)).await;
        }
    }

    /// Creates what is there, with the bytes that it has, and demands that this is refused.
    async fn demand_refusal(&self, key: &Key, bytes: Bytes) -> Result<(), StoreError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.create_unproved(key, bytes.clone()).await? {
                Created::Exists(_) => return Ok(()),
                Created::Yes => return Err(StoreError::overwritten(key)),
                Created::Unknown(e) if attempts == MAX_ATTEMPTS => return Err(e),
                Created::Unknown(_) => tokio::time::sleep(backoff(&self.env, attempts)).await,
            }
        }
    }
}
