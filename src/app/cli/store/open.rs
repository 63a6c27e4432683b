//! Opening the store of a command.

use std::path::Path;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::remembered::{ProvenConditions, RememberedHeader, recall, remember, remembered_file};
use super::settings::{endpoint, settings};
use crate::app::cli::error::CliError;
use crate::format::clock;
use crate::store::{OnMissing, OpenError, Store, StoreError, StoreUrl};

/// Opens the store at `url`, or makes it as `on_missing` says; `limit` is how long it may take to answer.
///
/// # Errors
/// There is no store and none may be made; it cannot be used; it does not keep its conditions.
pub fn open(
    runtime: &Runtime,
    state: &Path,
    url: &StoreUrl,
    limit: Duration,
    on_missing: OnMissing,
) -> Result<Store, CliError> {
    let file = remembered_file(state, url);
    let recalled = recall(&file, url);
    let remembered = recalled.as_ref().map(|recalled| &recalled.header);
    let is_for_writing = on_missing != OnMissing::Fail;
    // Where a store has been, an empty place is a disk that is not mounted and not the wish for a new store.
    let make = is_for_writing && remembered.is_none();
    let wants_sha256 = on_missing == OnMissing::CreateWithSha256;
    let on_missing = if make { on_missing } else { OnMissing::Fail };
    let for_good = || format!("if it was deleted for good, remove {}", file.display());
    let gone = |error: OpenError| match (&error, &remembered) {
        (OpenError::NotAStore { .. }, Some(_)) => {
            CliError::failed(error.to_string()).with_hint(format!("there was a store before; {}", for_good()))
        }
        _ => error.into(),
    };
    let env = clock::system();
    if recalled.is_none() {
        refuse_moved(runtime, url)?;
    }
    let settings = settings(url)?;
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
        tracing::warn!(store = %url, problem = %outage.cause, "the store cannot be reached: using what this host knows");
        if url.directory().is_some() {
            tracing::warn!("if its disk is not mounted, mount it; {}", for_good());
        }
        demand_conditions(&store, &file, url, recalled.as_ref());
        return Ok(store);
    }
    if wants_sha256 && !store.header().has_sha256() {
        let message = format!("{url} was created without --sha256, which cannot be changed later");
        return Err(CliError::failed(message).with_hint("omit --sha256, or use a new store"));
    }
    let is_known = remembered == Some(store.header());
    if !is_known && remembered.is_some() {
        tracing::warn!(store = %url, "this is not the store that was here before");
    }
    demand_conditions(&store, &file, url, recalled.as_ref());
    // One that is known here is asked when something is written: these credentials may be a reader's.
    if is_for_writing && recalled.is_none() {
        let proved = runtime.block_on(store.prove_conditions());
        // All other trouble shows when something is written.
        if let Err(source @ StoreError::Unconditional { .. }) = proved {
            return Err(OpenError::Store { url: url.to_string(), source }.into());
        }
    }
    if !is_known && recall(&file, url).is_none_or(|now| now.header != *store.header()) {
        remember(&file, url, store.header(), None);
    }
    Ok(store)
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
            "{url} is now taken literally, but there is a store at {formerly}, where it pointed before"
        ))
        .with_hint(format!("use {formerly}, or move the objects"))),
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
