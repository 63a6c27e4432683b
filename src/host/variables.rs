//! The environment variables that the program takes its settings from, and what may stand in them.
//!
//! The clients of the clouds take what they are given for sound and panic over a key with a line end or an address that
//! is none, so everything is looked at before it reaches them.

use std::ffi::OsStr;

use url::Url;

/// What a variable holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariableKind {
    /// Part of a request's headers or address: a key, a token, a region, a name.
    Plain,
    /// The address of a server.
    Address,
    /// The address of a proxy, perhaps without a scheme.
    Proxy,
    /// The name of a file.
    File,
    /// The name of a file whose content goes into a request's headers.
    TokenFile,
    /// A text of several lines, which a client parses itself.
    Document,
    /// Read by artfs itself, which says what is wrong with it.
    Own,
    /// Any value will do.
    Free,
}

/// All variables that are read and known by name. Others that begin with `AWS_`, `GOOGLE_` or `AZURE_` and that the
/// clients know are [`VariableKind::Plain`].
pub const VARIABLES: [(&str, VariableKind); 71] = [
    ("ARTFS_STORE", VariableKind::Own),
    ("ARTFS_STATE", VariableKind::Own),
    ("ARTFS_STORE_TIMEOUT", VariableKind::Own),
    ("ARTFS_SIGN_KEY", VariableKind::Own),
    ("ARTFS_QUOTA", VariableKind::Own),
    ("ARTFS_ALLOW_REFERENCES", VariableKind::Own),
    ("ARTFS_WEBHOOK", VariableKind::Own),
    ("ARTFS_ALLOWED_SIGNERS", VariableKind::Own),
    ("ARTFS_REQUIRE_SIGNED", VariableKind::Own),
    ("ARTFS_RUN", VariableKind::Free),
    ("HOME", VariableKind::Free),
    ("XDG_DATA_HOME", VariableKind::Free),
    ("PATH", VariableKind::Free),
    ("TMPDIR", VariableKind::Free),
    ("TERM", VariableKind::Free),
    ("COLUMNS", VariableKind::Free),
    ("LINES", VariableKind::Free),
    ("LANG", VariableKind::Free),
    ("LC_ALL", VariableKind::Free),
    ("NO_COLOR", VariableKind::Free),
    ("CLICOLOR", VariableKind::Free),
    ("CLICOLOR_FORCE", VariableKind::Free),
    ("RUST_LOG", VariableKind::Free),
    ("RUST_BACKTRACE", VariableKind::Free),
    ("SSH_AUTH_SOCK", VariableKind::Free),
    ("NO_PROXY", VariableKind::Free),
    ("HTTP_PROXY", VariableKind::Proxy),
    ("http_proxy", VariableKind::Proxy),
    ("HTTPS_PROXY", VariableKind::Proxy),
    ("https_proxy", VariableKind::Proxy),
    ("ALL_PROXY", VariableKind::Proxy),
    ("all_proxy", VariableKind::Proxy),
    ("AWS_ACCESS_KEY_ID", VariableKind::Plain),
    ("AWS_SECRET_ACCESS_KEY", VariableKind::Plain),
    ("AWS_SESSION_TOKEN", VariableKind::Plain),
    ("AWS_REGION", VariableKind::Plain),
    ("AWS_DEFAULT_REGION", VariableKind::Plain),
    ("AWS_ENDPOINT_URL", VariableKind::Address),
    ("AWS_ENDPOINT_URL_S3", VariableKind::Address),
    ("AWS_ENDPOINT", VariableKind::Address),
    ("AWS_ENDPOINT_URL_STS", VariableKind::Address),
    ("AWS_METADATA_ENDPOINT", VariableKind::Address),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", VariableKind::Address),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", VariableKind::Plain),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", VariableKind::TokenFile),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", VariableKind::TokenFile),
    ("AWS_ROLE_ARN", VariableKind::Plain),
    ("AWS_ROLE_SESSION_NAME", VariableKind::Plain),
    ("AWS_PROXY_URL", VariableKind::Proxy),
    ("GOOGLE_BASE_URL", VariableKind::Address),
    ("GOOGLE_BEARER_TOKEN", VariableKind::Plain),
    ("GOOGLE_SERVICE_ACCOUNT", VariableKind::File),
    ("GOOGLE_SERVICE_ACCOUNT_PATH", VariableKind::File),
    ("GOOGLE_SERVICE_ACCOUNT_KEY", VariableKind::Document),
    ("GOOGLE_APPLICATION_CREDENTIALS", VariableKind::File),
    ("GOOGLE_PROXY_URL", VariableKind::Proxy),
    ("AZURE_STORAGE_ACCOUNT_NAME", VariableKind::Plain),
    ("AZURE_STORAGE_ACCOUNT_KEY", VariableKind::Plain),
    ("AZURE_STORAGE_ACCESS_KEY", VariableKind::Plain),
    ("AZURE_STORAGE_ENDPOINT", VariableKind::Address),
    ("AZURE_ENDPOINT", VariableKind::Address),
    ("AZURE_STORAGE_SAS_KEY", VariableKind::Plain),
    ("AZURE_STORAGE_SAS_TOKEN", VariableKind::Plain),
    ("AZURE_STORAGE_TOKEN", VariableKind::Plain),
    ("AZURE_CLIENT_ID", VariableKind::Plain),
    ("AZURE_CLIENT_SECRET", VariableKind::Plain),
    ("AZURE_TENANT_ID", VariableKind::Plain),
    ("AZURE_AUTHORITY_HOST", VariableKind::Address),
    ("AZURE_MSI_ENDPOINT", VariableKind::Address),
    ("AZURE_FEDERATED_TOKEN_FILE", VariableKind::TokenFile),
    ("AZURE_PROXY_URL", VariableKind::Proxy),
];

/// A variable whose value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("${name} cannot be used: {problem}")]
pub struct BadVariable {
    /// Its name.
    pub name: String,
    /// What is wrong with its value, without the value.
    pub problem: String,
}

/// What a variable holds.
pub fn kind(name: &str) -> VariableKind {
    let listed = VARIABLES.iter().find(|(listed, _)| *listed == name);
    listed.map_or(VariableKind::Plain, |(_, kind)| *kind)
}

/// The text of a variable of a cloud's client or a proxy, if it can be used. Nothing is read or sent.
///
/// # Errors
/// The value has a character or a form that the client would panic over; the message never has the value.
pub fn check<'a>(name: &str, value: &'a OsStr) -> Result<&'a str, BadVariable> {
    let bad = |problem: &str| BadVariable { name: name.to_owned(), problem: problem.to_owned() };
    let text = value.to_str().ok_or_else(|| bad("it is not UTF-8"))?;
    let kind = kind(name);
    let is_one_line = !text.chars().any(char::is_control);
    if !is_one_line && !matches!(kind, VariableKind::Document | VariableKind::Own | VariableKind::Free) {
        return Err(bad("it has a line end or another control character: set it without"));
    }
    match kind {
        VariableKind::Plain if !text.is_ascii() => Err(bad("it has a character that is not ASCII")),
        VariableKind::Address => address(text, &["http", "https"]).map(|()| text).map_err(|e| bad(&e)),
        VariableKind::Proxy => {
            let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
            let schemes = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];
            address(&full, &schemes).map(|()| text).map_err(|e| bad(&e))
        }
        VariableKind::Plain
        | VariableKind::File
        | VariableKind::TokenFile
        | VariableKind::Document
        | VariableKind::Own
        | VariableKind::Free => Ok(text),
    }
}

/// Whether the content of a token's file can stand in a header; says what is wrong with it.
///
/// # Errors
/// The content is empty, or has a character that no token has.
pub fn check_token(content: &[u8]) -> Result<(), &'static str> {
    match content {
        [.., b'\n' | b'\r'] => Err("it ends in a line end: write it without, as `printf %s` does"),
        [] => Err("it is empty"),
        _ if content.iter().all(u8::is_ascii_graphic) => Ok(()),
        _ => Err("it has a blank, a control character or one that is not ASCII, which no token has"),
    }
}

fn address(text: &str, schemes: &[&str]) -> Result<(), String> {
    let url = Url::parse(text).ok().filter(|url| url.has_host() && schemes.contains(&url.scheme()));
    let is_plain = |b: u8| b.is_ascii_graphic() && !br#""<>\^`{|}#"#.contains(&b);
    match url {
        Some(url) if text.bytes().all(is_plain) && url.query().is_none() => Ok(()),
        _ => Err(format!("it is no address such as {}://host:9000", schemes[0])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_a_client_would_panic_over_are_refused_by_the_name_of_their_variable() {
        let check = |name: &str, value: &str| check(name, OsStr::new(value)).map(drop).map_err(|e| e.name);
        for (name, good, bad) in [
            ("AWS_ACCESS_KEY_ID", "AKIA/+=", "AKIA\n"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9000/x/", "127.0.0.1:9000"),
            ("AWS_ENDPOINT_URL_S3", "https://[::1]:9000", "http://exa mple"),
            ("GOOGLE_BASE_URL", "http://h", "http://h/a b"),
            ("AZURE_STORAGE_ENDPOINT", "https://acc.blob.core.windows.net", "ftp://h"),
            ("GOOGLE_SERVICE_ACCOUNT_KEY", "{\n}", ""),
            ("HTTPS_PROXY", "proxy.example:3128", "http://a b"),
            ("ALL_PROXY", "socks5h://user:pw@h:1", ":::"),
            ("AWS_REQUEST_PAYER", "true", "é"),
            ("GOOGLE_SERVICE_ACCOUNT", "/srv/schlüssel.json", "/x\r"),
        ] {
            assert_eq!(check(name, good), Ok(()), "{name}");
            if !bad.is_empty() {
                assert_eq!(check(name, bad), Err(name.to_owned()));
            }
        }
        assert!(check_token(b"ey.J0").is_ok());
        for bad in ["", "x\n", "x y", "\u{1}x", "é"] {
            assert!(check_token(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
