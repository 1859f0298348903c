//! What a URL and an answer say about the server.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use reqwest::Url;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

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

/// Google's name for the server at the machine's own link.
const GOOGLE_METADATA: &str = "metadata.google.internal";

/// Whether `host` (without port) is an address of the machine's own link, where clouds serve the credentials of the machine.
pub fn is_link_local(host: &str) -> bool {
    host.trim_end_matches('.').eq_ignore_ascii_case(GOOGLE_METADATA)
        || address(host).is_some_and(|address| match address {
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

/// How long `Retry-After` asks to wait, in seconds or until a date (RFC 9110, section 10.2.3); a date that has passed asks for no wait.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    // The date is one of the server's clock, which need not be ours: its own `Date` tells how far they are apart.
    let now = date_of(headers).unwrap_or_else(SystemTime::now);
    Some(date.duration_since(now).unwrap_or_default())
}

fn date_of(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
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

    #[test]
    fn a_server_asks_to_wait_in_seconds_or_until_a_date() {
        const DATE_OF_ANSWER: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        let asked = |text: &'static str| {
            retry_after(&HeaderMap::from_iter([
                (RETRY_AFTER, text.parse().unwrap()),
                (DATE, DATE_OF_ANSWER.parse().unwrap()),
            ]))
        };
        for (text, seconds) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:51:07 GMT", Some(90)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30)),
            (DATE_OF_ANSWER, Some(0)),
            ("Sun, 06 Nov 1994 07:00:00 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(asked(text), seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
        let past = HeaderMap::from_iter([(RETRY_AFTER, DATE_OF_ANSWER.parse().unwrap())]);
        assert_eq!(retry_after(&past), Some(Duration::ZERO), "without a Date our own clock counts");
    }
}
