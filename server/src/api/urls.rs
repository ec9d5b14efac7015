//! What counts as a member's address.

use super::ReplicaError;

/// Every address is `http://host:port` or `https://host:port`, and there is at least one.
pub(super) fn check_urls(urls: &[String]) -> Result<(), ReplicaError> {
    if urls.is_empty() || !urls.iter().all(|url| is_url(url)) {
        return Err(ReplicaError::BadUrls);
    }
    Ok(())
}

fn is_url(url: &str) -> bool {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let Some((host, port)) = rest.and_then(|rest| rest.rsplit_once(':')) else {
        return false;
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    !host.is_empty() && host.chars().all(is_host) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_scheme_host_and_port() {
        let good = [
            "http://127.0.0.1:2380",
            "https://a.example:1",
            "http://[::1]:2380",
        ];
        for url in good {
            assert!(is_url(url), "{url}");
        }
        let bad = [
            "",
            "127.0.0.1:2380",
            "http://",
            "http://host",
            "http://host:0",
            "ftp://h:1",
            "http://host:2380/path",
            "http://:2380",
            "http://a b:1",
        ];
        for url in bad {
            assert!(!is_url(url), "{url}");
        }
        assert!(check_urls(&[]).is_err());
    }
}
