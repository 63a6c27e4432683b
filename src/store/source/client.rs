//! HTTP clients for sources: no redirects, limited times, and for web servers no link-local addresses.
//!
//! A redirect could lead to anything that this host can reach. At link-local addresses (169.254.0.0/16, fe80::/10) are the
//! cloud providers' metadata services, which hand out credentials. Such addresses are refused in a URI, and again after a
//! name is resolved, as the addresses to connect to. With a proxy in the environment the proxy resolves names, and has to
//! refuse them. The clients of buckets are not restricted: they connect to the vendor's hosts or those of this host's own
//! settings, and need the metadata service for credentials.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::{ClientConfigKey, HttpClient, HttpConnector};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;

use crate::host::tls;
use crate::store::stand_in::WithStandIns;

/// A whole request ends after this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection is made within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Configures a client; `stall_limit` is how long an answer may be without a byte.
fn builder(stall_limit: Duration) -> reqwest::ClientBuilder {
    tls::install_provider();
    let builder = reqwest::Client::builder().redirect(Policy::none()).read_timeout(stall_limit);
    let agent = concat!("artfs/", env!("CARGO_PKG_VERSION"));
    builder.timeout(REQUEST_TIMEOUT).connect_timeout(CONNECT_TIMEOUT).user_agent(agent)
}

/// Makes a client for web servers.
pub(super) fn for_web(stall_limit: Duration) -> Result<reqwest::Client, reqwest::Error> {
    builder(stall_limit).dns_resolver(Arc::new(NoLinkLocal)).build()
}

/// Connects the clients of buckets; has how long an answer may be without a byte.
#[derive(Debug, Clone, Copy)]
pub(super) struct ForBuckets(pub Duration);

impl HttpConnector for ForBuckets {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allows_plain = options.get_config_value(&ClientConfigKey::AllowHttp);
        let allows_plain = allows_plain.is_some_and(|value| value == "true");
        let client = builder(self.0).https_only(!allows_plain).build();
        client
            .map(|client| HttpClient::new(WithStandIns(client)))
            .map_err(|e| object_store::Error::Generic { store: "reference", source: Box::new(e) })
    }
}

/// Whether an address is only of this link.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => {
            // Addresses of version 4 within one of version 6, as hosts and gateways write them.
            let inner = match v6.segments() {
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
                }
                _ => v6.to_ipv4(),
            };
            v6.is_unicast_link_local() || inner.is_some_and(|v4| v4.is_link_local())
        }
    }
}

/// The system's resolver without link-local addresses.
#[derive(Debug)]
struct NoLinkLocal;

impl Resolve for NoLinkLocal {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|address| !is_link_local(address.ip())).collect();
            if allowed.is_empty() {
                return Err(format!("{host} has link-local addresses only, which are not asked").into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_addresses_are_told_in_every_writing() {
        for yes in ["169.254.169.254", "fe80::1", "febf::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"] {
            assert!(is_link_local(yes.parse().unwrap()), "{yes}");
        }
        for no in ["127.0.0.1", "10.0.0.1", "::1", "fd00::1", "2001:db8::1", "169.253.0.1"] {
            assert!(!is_link_local(no.parse().unwrap()), "{no}");
        }
    }
}
