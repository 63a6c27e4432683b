//! URLs and hosts.

use super::path::{TemporaryNames, names};
use super::spelling::{MAX_JOINED_IN_PATH, is_words};

/// Returns a URL without user, query and fragment, and with the secret-like names of its path hidden; `None` if it is not
/// understood.
pub fn url(text: &str) -> Option<String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        // git@host:path
        let (host, path) = text.split_once(':')?;
        let host = host.rsplit('@').next()?;
        let is_ok = is_host(host) && path.split('/').all(|part| is_words(part, MAX_JOINED_IN_PATH));
        return is_ok.then(|| format!("{host}:{path}"));
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    // A password may contain a slash, and then its `@` comes after that.
    if path.is_some_and(|path| path.contains('@')) {
        return None;
    }
    let host = host.rsplit('@').next().unwrap_or_default();
    let is_scheme = scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'+');
    if scheme.is_empty() || !is_scheme || !(is_host(host) || scheme == "file" && host.is_empty()) {
        return None;
    }
    Some(match path {
        None => format!("{scheme}://{host}"),
        Some(path) => format!("{scheme}://{host}/{}", names(path, TemporaryNames::Hidden)),
    })
}

/// Returns whether a text is the name or address of a host, perhaps with a port.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_port =
        |port: &str| !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    let is_v6 = host.starts_with('[')
        && host.ends_with(']')
        && host[1..host.len() - 1].bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    port.is_none_or(is_port) && !host.is_empty() && (is_v6 || is_words(host, MAX_JOINED_IN_PATH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_lose_their_credentials() {
        for (given, want) in [
            ("https://ann:pw@git.example.org/team/x.git?a=b", Some("https://git.example.org/team/x.git")),
            ("https://oauth2:glpat-1234567@gitlab.com/t/x", Some("https://gitlab.com/t/x")),
            ("git@github.com:team/x.git", Some("github.com:team/x.git")),
            ("ssh://git@host:22/x", Some("ssh://host:22/x")),
            ("/srv/git/x", None),
        ] {
            assert_eq!(url(given).as_deref(), want, "{given}");
        }
    }
}
