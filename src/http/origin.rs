//! Reads facts about a server from URLs and responses.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use reqwest::Url;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use super::network_scope::NetworkScope;

/// Reports whether `host` (without port) is by its name this machine.
pub fn is_loopback(host: &str) -> bool {
    NetworkScope::of_host(host) == Some(NetworkScope::Machine)
}

/// Reports whether `host` (without port) is an address of a private network (RFC 1918), which is not on the internet.
pub fn is_private(host: &str) -> bool {
    let address: Result<IpAddr, _> = host.trim_start_matches('[').trim_end_matches(']').parse();
    address.is_ok_and(|address| match address.to_canonical() {
        IpAddr::V4(address) => address.is_private(),
        IpAddr::V6(address) => address.is_unique_local(),
    })
}

/// Returns the `host[:port]` of a URL, for messages.
pub fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Returns the delay of `Retry-After`, in seconds or until a date (RFC 9110, section 10.2.3); zero for a date in the
/// past.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    // The date is in the server's clock, which may differ from ours; its `Date` header shows the difference.
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
    fn private_addresses_are_recognized_in_both_families() {
        for host in ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "[fd00::1]", "::ffff:10.0.0.1"] {
            assert!(is_private(host) && !is_loopback(host), "{host}");
        }
        for host in ["172.32.0.1", "11.0.0.1", "10.0.0.1.example", "8.8.8.8", "2001:db8::1", "a.local", "127.0.0.1"] {
            assert!(!is_private(host), "{host}");
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
