//! The TLS implementation of this process.

/// Makes `ring` the default of the process, unless it has one. Whatever builds a client for HTTPS calls this first:
/// `reqwest` is built without a default of its own, and panics when there is none.
pub fn install_provider() {
    // The error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
