//! Peer addresses: plain text, so loopback only.

use std::net::{IpAddr, SocketAddr};

/// Why an address cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Not `http://host:port`.
    #[error("{url} is not a peer address; write http://127.0.0.1:2380, say")]
    Invalid {
        /// What was given.
        url: String,
    },
    /// Reachable from other machines, or encrypted.
    #[error(
        "{url} is refused: members speak plain text, which is allowed on loopback addresses only \
         until TLS is there; use 127.0.0.1 or [::1]"
    )]
    NotLoopback {
        /// What was given.
        url: String,
    },
}

/// Checks an address to listen on.
///
/// # Errors
/// [`AddressError::NotLoopback`].
pub fn check_listen(address: SocketAddr) -> Result<(), AddressError> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(AddressError::NotLoopback {
        url: address.to_string(),
    })
}

/// Checks a peer's URL and returns its `host:port`.
///
/// # Errors
/// [`AddressError`], with the reason.
pub fn check_url(url: &str) -> Result<String, AddressError> {
    let invalid = || AddressError::Invalid {
        url: url.to_owned(),
    };
    let not_loopback = || AddressError::NotLoopback {
        url: url.to_owned(),
    };
    if url.starts_with("https://") {
        return Err(not_loopback());
    }
    let authority = url.strip_prefix("http://").ok_or_else(invalid)?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if let Ok(address) = authority.parse::<SocketAddr>() {
        let usable = address.port() != 0;
        return match address.ip().is_loopback() {
            true if usable => Ok(address.to_string()),
            true => Err(invalid()),
            false => Err(not_loopback()),
        };
    }
    let (host, port) = authority.rsplit_once(':').ok_or_else(invalid)?;
    let port = port
        .parse::<u16>()
        .ok()
        .filter(|&port| port != 0)
        .ok_or_else(invalid)?;
    if host == "localhost" {
        return Ok(format!("localhost:{port}"));
    }
    let is_name = !host.is_empty()
        && host.parse::<IpAddr>().is_err()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    Err(if is_name { not_loopback() } else { invalid() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_pass() {
        for (url, expected) in [
            ("http://127.0.0.1:2380", "127.0.0.1:2380"),
            ("http://127.8.0.1:1/", "127.8.0.1:1"),
            ("http://[::1]:2380", "[::1]:2380"),
            ("http://localhost:2380", "localhost:2380"),
        ] {
            assert_eq!(check_url(url).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn other_machines_and_tls_are_refused_with_the_reason() {
        for url in [
            "http://10.0.0.1:2380",
            "http://0.0.0.0:2380",
            "http://[2001:db8::1]:2380",
            "http://example.org:2380",
            "https://127.0.0.1:2380",
        ] {
            let error = check_url(url).unwrap_err();
            assert!(
                error.to_string().contains("until TLS is there"),
                "{url}: {error}"
            );
        }
        assert!(check_listen("0.0.0.0:1".parse().unwrap()).is_err());
        assert!(check_listen("127.0.0.1:1".parse().unwrap()).is_ok());
    }

    #[test]
    fn what_is_no_address_is_told_apart() {
        for url in [
            "",
            "127.0.0.1:1",
            "http://",
            "http://x",
            "http://127.0.0.1:0",
            "http://a b:1",
        ] {
            let error = check_url(url).unwrap_err();
            assert_eq!(
                error,
                AddressError::Invalid {
                    url: url.to_owned()
                }
            );
        }
    }
}
