//! Classifies addresses: on this machine, on its own link, where clouds keep its metadata and credentials, or
//! elsewhere.
//!
//! The first two mean a different server on every machine. A remote server must not choose one for us (the class of
//! go-containerregistry #2440 and CVE-2026-48978).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The location of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetworkScope {
    /// This machine: loopback and unspecified addresses.
    Machine,
    /// The machine's own link, and the services that clouds offer to the machine alone, whatever their addresses.
    Link,
    /// Everywhere else: the internet, and private networks, which have the token servers and storage of many clusters.
    Elsewhere,
}

/// Common names of this machine, next to `*.localhost` (RFC 6761).
const MACHINE_NAMES: &[&str] =
    &["localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"];
/// Google's name for the metadata service.
const METADATA_NAME: &str = "metadata.google.internal";

/// Metadata services outside 169.254.0.0/16: Alibaba's, Azure's, Oracle's first.
const METADATA_V4: &[Ipv4Addr] =
    &[Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// Metadata services with their own IPv6 addresses: Google's, Scaleway's. Amazon's are a network, see [`of_v6`].
const METADATA_V6: &[Ipv6Addr] =
    &[Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)];

impl NetworkScope {
    /// Returns the scope of an address. An embedded IPv4 address (IPv4-mapped, NAT64, 6to4) decides.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => of_v6(address),
        }
    }

    /// Returns the scope of a URL's host (without port) if it is known without resolving it: an address, or a name with
    /// a special meaning.
    pub fn of_host(host: &str) -> Option<Self> {
        let host = normalized(host);
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            return Some(Self::of(address));
        }
        if MACHINE_NAMES.contains(&host.as_str()) || host.ends_with(".localhost") {
            return Some(Self::Machine);
        }
        (host == METADATA_NAME).then_some(Self::Link)
    }
}

impl fmt::Display for NetworkScope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Machine => "this machine",
            Self::Link => "this machine's own link, where clouds keep its credentials",
            Self::Elsewhere => "another machine",
        })
    }
}

/// Returns a host as names are compared: in lower case, without the root's dot.
pub(super) fn normalized(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

fn of_v4(address: Ipv4Addr) -> NetworkScope {
    // All of 0.0.0.0/8 is "this host" (RFC 791).
    if address.is_loopback() || address.octets()[0] == 0 {
        NetworkScope::Machine
    } else if address.is_link_local() || METADATA_V4.contains(&address) {
        NetworkScope::Link
    } else {
        NetworkScope::Elsewhere
    }
}

fn of_v6(address: Ipv6Addr) -> NetworkScope {
    if address.is_loopback() || address.is_unspecified() {
        return NetworkScope::Machine;
    }
    let [first, second, third, .., last_but_one, last] = address.segments();
    let carried = |high: u16, low: u16| of_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match (first, second) {
        // ::a.b.c.d and ::ffff:a.b.c.d
        (0, 0) if third == 0 && address.segments()[3..5] == [0, 0] && matches!(address.segments()[5], 0 | 0xffff) => {
            carried(last_but_one, last)
        }
        // NAT64: the well-known prefix and the one for networks' own use.
        (0x64, 0xff9b) => carried(last_but_one, last),
        // 6to4
        (0x2002, high) => carried(high, third),
        // Amazon's services for an instance.
        (0xfd00, 0xec2) => NetworkScope::Link,
        _ if address.is_unicast_link_local() || METADATA_V6.contains(&address) => NetworkScope::Link,
        // Several clouds use 169.254.169.254 at the end of their own addresses.
        _ if (last_but_one, last) == (0xa9fe, 0xa9fe) => NetworkScope::Link,
        _ => NetworkScope::Elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use reqwest::Url;

    use super::*;

    fn scope(host: &str) -> Option<NetworkScope> {
        NetworkScope::of_host(host)
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for host in [
            "localhost",
            "LOCALHOST.",
            "r.localhost",
            "r.localhost.",
            "ip6-localhost",
            "127.0.0.1",
            "127.1.2.3",
            "0.0.0.0",
            "0.1.2.3",
            "::1",
            "[::1]",
            "::",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::7f00:1",
            "2002:7f00:1::1",
        ] {
            assert_eq!(scope(host), Some(NetworkScope::Machine), "{host}");
        }
        for host in ["localhost.example.com", "127.example.com", "notlocalhost", "", "example.com"] {
            assert_eq!(scope(host), None, "{host}");
        }
    }

    #[test]
    fn metadata_services_of_clouds_are_on_the_own_link() {
        for host in [
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fe80::1",
            "[fe80::a9fe:a9fe]",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:42::42",
            "fd00:c1::a9fe:a9fe",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::6464:64c8",
            "2002:a9fe:a9fe::",
            "metadata.google.internal.",
            "Metadata.Google.Internal",
        ] {
            assert_eq!(scope(host), Some(NetworkScope::Link), "{host}");
        }
    }

    #[test]
    fn private_networks_are_elsewhere() {
        for host in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "8.8.8.8",
            "fd00::1",
            "2001:db8::1",
            "64:ff9b::808:808",
            "::ffff:10.0.0.1",
            "100.100.100.201",
        ] {
            assert_eq!(scope(host), Some(NetworkScope::Elsewhere), "{host}");
        }
    }

    #[test]
    fn urls_normalize_odd_spellings_of_an_address() {
        for (text, expected) in [
            ("http://2130706433/", NetworkScope::Machine),
            ("http://0x7f.1/", NetworkScope::Machine),
            ("http://0177.0.0.1./", NetworkScope::Machine),
            ("http://127.1/", NetworkScope::Machine),
            ("http://%31%32%37.0.0.1/", NetworkScope::Machine),
            ("http://①②⑦.0.0.1/", NetworkScope::Machine),
            ("http://[::ffff:7f00:1]/", NetworkScope::Machine),
            ("http://0/", NetworkScope::Machine),
            ("http://2852039166/", NetworkScope::Link),
            ("http://0xa9fea9fe/", NetworkScope::Link),
            ("http://0251.0376.0251.0376/", NetworkScope::Link),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(scope(url.host_str().unwrap()), Some(expected), "{text}");
        }
    }
}
