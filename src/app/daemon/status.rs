//! What every mount says of itself.

use serde_json::{Value, json};

use super::options::DaemonServices;
use crate::host::process::limits;

/// What every mount says of itself; the file system adds to it.
pub fn status(services: &DaemonServices) -> Value {
    let options = &services.options;
    let store = services.catalog.store();
    let (counts, outage) = (store.counts(), store.outage());
    json!({
        "pid": std::process::id(),
        "mountpoint": options.mountpoint.to_string_lossy(),
        "store": store.url(),
        "store_offline_since": outage.as_ref().map(|outage| outage.since),
        "store_offline_reason": outage.as_ref().map(|outage| outage.cause.to_string()),
        "state": options.state.to_string_lossy(),
        "read_only": options.read_only,
        "allow_other": options.allow_other,
        "version": env!("CARGO_PKG_VERSION"),
        "since": services.started,
        "open_files": {
            "open": limits::open_files(),
            "limit": limits::raise().now,
            "hard_limit": limits::raise().hard,
        },
        "requests": counts,
        "bytes_fetched": counts.bytes_fetched,
    })
}

/// Members of two objects in one; those of `more` count.
pub fn merged(mut status: Value, more: Value) -> Value {
    if let (Value::Object(status), Value::Object(more)) = (&mut status, more) {
        status.extend(more);
    }
    status
}
