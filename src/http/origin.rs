//! What a URL and an answer say about the server.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// Whether `host` (without port) is this machine.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost") || address(host).is_some_and(|address| address.is_loopback())
}

/// Whether `host` (without port) is an address of a private network (RFC 1918), which names no server of the internet.
pub fn is_private(host: &str) -> bool {
    address(host).is_some_and(|address| match address {
        IpAddr::V4(address) => address.is_private(),
        IpAddr::V6(address) => address.is_unique_local(),
    })
}

/// Whether `host` (without port) is an address of the machine's own link, where clouds serve the credentials of the machine.
pub fn is_link_local(host: &str) -> bool {
    address(host).is_some_and(|address| match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_unspecified(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.is_unspecified(),
    })
}

fn address(host: &str) -> Option<IpAddr> {
    let address: IpAddr = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some(address.to_canonical())
}

/// `host[:port]` of a URL, for messages.
pub fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// `Retry-After` in seconds; the form with a date is left to our own pauses.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_this_machine_only() {
        for host in ["localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]", "r.localhost"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example.com", "10.0.0.1", "127.example.com", "::2", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn addresses_that_only_mean_something_here() {
        for host in ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "[fd00::1]", "::ffff:10.0.0.1"] {
            assert!(is_private(host) && !is_link_local(host), "{host}");
        }
        for host in ["169.254.169.254", "[fe80::1]", "0.0.0.0", "::"] {
            assert!(is_link_local(host) && !is_private(host), "{host}");
        }
        for host in ["172.32.0.1", "11.0.0.1", "10.0.0.1.example", "8.8.8.8", "2001:db8::1", "a.local"] {
            assert!(!is_private(host) && !is_link_local(host), "{host}");
        }
    }
}
