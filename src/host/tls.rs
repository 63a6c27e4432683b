//! The TLS implementation of this process.

use std::sync::Once;

static INSTALLED: Once = Once::new();

/// Makes `ring` the default of the process, unless it has one. Whatever builds a client for HTTPS calls this first:
/// `reqwest` is built without a default of its own, and panics when there is none.
pub fn install_provider() {
    INSTALLED.call_once(|| {
        // The error says that the process has chosen one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
