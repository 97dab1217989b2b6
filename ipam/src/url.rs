//! Where the store is, as the configuration says it.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

/// Consul's port for plain HTTP.
const HTTP_PORT: u16 = 8500;
/// Consul's port for HTTPS.
const HTTPS_PORT: u16 = 8501;

/// A parsed `sqlite:///…`, `consul://…` or `consul+https://…`.
///
/// It never holds a token: that comes from a file that it names, or from `CONSUL_HTTP_TOKEN`,
/// when the registry is opened. What is shown of it can be read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `sqlite:///path`: a file on this host, for the agents of this host.
    Sqlite(PathBuf),
    /// `consul://host[:port]` or `consul+https://host[:port]`, with `?token-file=PATH` and
    /// `?ca-file=PATH`.
    Consul {
        /// Over TLS.
        tls: bool,
        /// Name or address; an IPv6 address stands without its brackets.
        host: String,
        /// 8500, with TLS 8501, unless the URL says otherwise.
        port: u16,
        /// Holds the ACL token; None: `CONSUL_HTTP_TOKEN`, or none.
        token_file: Option<PathBuf>,
        /// PEM certificates to trust beside the public ones; only with TLS.
        ca_file: Option<PathBuf>,
    },
}

impl FromStr for StoreUrl {
    type Err = ParseStoreUrlError;

    fn from_str(text: &str) -> Result<StoreUrl, ParseStoreUrlError> {
        let plain = text.bytes().all(|b| (0x21..0x7f).contains(&b));
        match text.split_once("://") {
            Some(("sqlite", path)) => sqlite(path),
            Some(("consul", rest)) if plain => consul(rest, false),
            Some(("consul+https", rest)) if plain => consul(rest, true),
            Some(("consul" | "consul+https", _)) => Err(ParseStoreUrlError::Host),
            Some(_) | None => Err(ParseStoreUrlError::Scheme),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            StoreUrl::Consul { tls, host, port, token_file, ca_file } => {
                let scheme = if *tls { "consul+https" } else { "consul" };
                write!(f, "{scheme}://{}:{port}", bracketed(host))?;
                let files = [("token-file", token_file), ("ca-file", ca_file)];
                let set = files.iter().filter_map(|(key, file)| Some((key, file.as_ref()?)));
                for (separator, (key, file)) in ["?", "&"].iter().zip(set) {
                    write!(f, "{separator}{key}={}", file.display())?;
                }
                Ok(())
            }
        }
    }
}

/// Not the URL of a store. What was given is not repeated: it might hold a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseStoreUrlError {
    /// None of the three.
    #[error("the store's URL begins with sqlite:///, consul:// or consul+https://")]
    Scheme,
    /// No absolute path, or one that a URL cannot say.
    #[error(
        "a SQLite store's URL is sqlite:// and an absolute path without \"?\" or \"#\", as sqlite:///var/lib/ovl/registry.db"
    )]
    Path,
    /// No host, or not one.
    #[error(
        "a Consul store's URL is consul://HOST or consul://HOST:PORT, as consul://127.0.0.1:8500"
    )]
    Host,
    /// A secret in a URL ends up in logs and process lists.
    #[error(
        "a Consul store's URL holds no user, password or token: name a file with ?token-file=PATH, or set CONSUL_HTTP_TOKEN"
    )]
    Secret,
    /// Not one of the two, twice the same, or not an absolute path.
    #[error(
        "after \"?\" a Consul store's URL takes token-file= and ca-file= (with consul+https) and absolute paths, once each, joined with \"&\""
    )]
    Option,
}

/// As a URL has it.
pub(crate) fn bracketed(host: &str) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host.to_owned(),
    }
}

fn sqlite(path: &str) -> Result<StoreUrl, ParseStoreUrlError> {
    let legal = path.starts_with('/')
        && !path.ends_with('/')
        && !path.contains(|c: char| c == '?' || c == '#' || c.is_control());
    match legal {
        true => Ok(StoreUrl::Sqlite(path.into())),
        false => Err(ParseStoreUrlError::Path),
    }
}

fn consul(rest: &str, tls: bool) -> Result<StoreUrl, ParseStoreUrlError> {
    let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains('@') {
        return Err(ParseStoreUrlError::Secret);
    }
    let (host, port) = host_and_port(authority, if tls { HTTPS_PORT } else { HTTP_PORT })?;
    let (mut token_file, mut ca_file) = (None, None);
    for option in query.split('&').filter(|o| !o.is_empty()) {
        let slot = match option.split_once('=') {
            Some(("token-file", path)) => (&mut token_file, path),
            Some(("ca-file", path)) if tls => (&mut ca_file, path),
            Some(("token", _)) => return Err(ParseStoreUrlError::Secret),
            Some(_) | None => return Err(ParseStoreUrlError::Option),
        };
        if slot.0.is_some() || !slot.1.starts_with('/') {
            return Err(ParseStoreUrlError::Option);
        }
        *slot.0 = Some(PathBuf::from(slot.1));
    }
    Ok(StoreUrl::Consul { tls, host, port, token_file, ca_file })
}

fn host_and_port(authority: &str, default: u16) -> Result<(String, u16), ParseStoreUrlError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(ParseStoreUrlError::Host)?;
            let address: Ipv6Addr = host.parse().map_err(|_| ParseStoreUrlError::Host)?;
            (address.to_string(), port)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, port) = authority.split_at(end);
            if !is_host_name(host) {
                return Err(ParseStoreUrlError::Host);
            }
            (host.to_owned(), port)
        }
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|p| *p != 0).ok_or(ParseStoreUrlError::Host)?,
        None if port.is_empty() => default,
        None => return Err(ParseStoreUrlError::Host),
    };
    Ok((host, port))
}

fn is_host_name(text: &str) -> bool {
    let label = |l: &str| {
        !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_url_is_shown_as_it_can_be_read_again() {
        let urls = [
            ("sqlite:///var/lib/ovl/r.db", "sqlite:///var/lib/ovl/r.db"),
            ("sqlite:///with space/r.db", "sqlite:///with space/r.db"),
            ("consul://127.0.0.1", "consul://127.0.0.1:8500"),
            ("consul://consul.example:1/", "consul://consul.example:1"),
            ("consul://[::1]:8500", "consul://[::1]:8500"),
            ("consul+https://[::1]", "consul+https://[::1]:8501"),
            ("consul://c?token-file=/a", "consul://c:8500?token-file=/a"),
            (
                "consul+https://c?ca-file=/b&token-file=/a",
                "consul+https://c:8501?token-file=/a&ca-file=/b",
            ),
        ];
        for (given, shown) in urls {
            let url: StoreUrl = given.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(shown.parse::<StoreUrl>().unwrap(), url);
        }
    }

    #[test]
    fn what_is_not_a_store_is_refused_with_what_to_write() {
        use ParseStoreUrlError::{Host, Option, Path, Scheme, Secret};
        let cases = [
            ("", Scheme),
            ("/var/lib/x", Scheme),
            ("etcd://h:1", Scheme),
            ("http://h:8500", Scheme),
            ("sqlite://relative", Path),
            ("sqlite://", Path),
            ("sqlite:///", Path),
            ("sqlite:///a?b", Path),
            ("consul://", Host),
            ("consul://:8500", Host),
            ("consul://h:0", Host),
            ("consul://h:65536", Host),
            ("consul://h:", Host),
            ("consul://h/path", Host),
            ("consul://h h", Host),
            ("consul://h\n", Host),
            ("consul://[::1", Host),
            ("consul://[::1]x", Host),
            ("consul://a..b", Host),
            ("consul://user:secret@h", Secret),
            ("consul://h?token=secret", Secret),
            ("consul://h?ca-file=/a", Option),
            ("consul://h?token-file=a", Option),
            ("consul://h?token-file=/a&token-file=/b", Option),
            ("consul://h?x=/a", Option),
        ];
        for (given, expected) in cases {
            let error = given.parse::<StoreUrl>().unwrap_err();
            assert_eq!(error, expected, "{given:?}");
            assert!(!error.to_string().contains("secret"));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(consul|consul\\+https|sqlite)://\\PC*") {
            if let Ok(url) = text.parse::<StoreUrl>() {
                prop_assert_eq!(url.to_string().parse::<StoreUrl>().unwrap(), url);
            }
        }
    }
}
