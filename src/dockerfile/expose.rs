//! Parses the ports of `EXPOSE`, after expansion.

/// Returns the ports that one word names, as `port/protocol`: a port or a range, a protocol in any case (default tcp),
/// and a host part that is checked and dropped (`8080:80`, `127.0.0.1:8080:80/udp`).
///
/// # Errors
/// BuildKit's message.
pub fn parse_port(word: &str) -> Result<Vec<String>, String> {
    let (host, container) = word.rsplit_once(':').map_or((None, word), |(host, container)| (Some(host), container));
    let (ports, protocol) = match container.split_once('/') {
        Some((ports, "")) => (ports, "tcp".to_owned()),
        Some((ports, protocol)) => (ports, protocol.to_lowercase()),
        None => (container, "tcp".to_owned()),
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    if ports.is_empty() {
        return Err(format!("no port specified: {word}<empty>"));
    }
    let (first, last) = parse_range(ports).ok_or_else(|| format!("invalid containerPort: {ports}"))?;
    if let Some(host) = host {
        check_host(host, first, last, ports)?;
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// Returns the ports of all words of an instruction without duplicates, sorted as strings as BuildKit writes them to
/// the history.
///
/// # Errors
/// BuildKit's message for the first invalid word.
pub fn parse_ports<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, String> {
    let mut ports = Vec::new();
    for word in words {
        ports.extend(parse_port(word)?);
    }
    ports.sort();
    ports.dedup();
    Ok(ports)
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => {
            let only = port(text)?;
            (only, only)
        }
    };
    (first <= last).then_some((first, last))
}

/// Checks `[ip:]ports` before the container's part; an image does not record it.
fn check_host(host: &str, first: u16, last: u16, container: &str) -> Result<(), String> {
    let (address, ports) = host.rsplit_once(':').map_or((None, host), |(address, ports)| (Some(address), ports));
    if let Some(address) = address {
        let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
        if !bare.is_empty() && bare.parse::<std::net::IpAddr>().is_err() {
            return Err(format!("invalid IP address: {address}"));
        }
    }
    if ports.is_empty() {
        return Ok(());
    }
    let (host_first, host_last) = parse_range(ports).ok_or_else(|| format!("invalid hostPort: {ports}"))?;
    if last - first != host_last - host_first && first != last {
        return Err(format!("invalid ranges specified for container and host Ports: {container} and {ports}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{parse_port, parse_ports};

    #[test]
    fn ports_ranges_and_protocols() {
        for (word, ports) in [
            ("80", &["80/tcp"][..]),
            ("53/UDP", &["53/udp"]),
            ("7/sctp", &["7/sctp"]),
            ("80/", &["80/tcp"]),
            ("8000-8002/udp", &["8000/udp", "8001/udp", "8002/udp"]),
            ("0", &["0/tcp"]),
            ("65535", &["65535/tcp"]),
            ("8080:80", &["80/tcp"]),
            ("127.0.0.1:9090:90/udp", &["90/udp"]),
            ("[::1]:9090:90", &["90/tcp"]),
            ("127.0.0.1::90", &["90/tcp"]),
            ("8000-8001:80-81", &["80/tcp", "81/tcp"]),
            ("8000-8009:80", &["80/tcp"]),
        ] {
            assert_eq!(parse_port(word).expect(word), ports, "{word}");
        }
    }

    #[test]
    fn errors_have_buildkits_messages() {
        for (word, message) in [
            ("http", "invalid containerPort: http"),
            ("90-80", "invalid containerPort: 90-80"),
            ("70000", "invalid containerPort: 70000"),
            ("+80", "invalid containerPort: +80"),
            ("80/carrier", "invalid proto: carrier"),
            ("", "no port specified: <empty>"),
            ("/tcp", "no port specified: /tcp<empty>"),
            ("x:80", "invalid hostPort: x"),
            ("host:1:80", "invalid IP address: host"),
            ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
        ] {
            assert_eq!(parse_port(word), Err(message.to_owned()), "{word}");
        }
    }

    #[test]
    fn all_words_together_are_sorted() {
        assert_eq!(
            parse_ports(["9000-9001/udp", "80/tcp", "443", "80"]),
            Ok(["443/tcp", "80/tcp", "9000/udp", "9001/udp"].map(str::to_owned).to_vec())
        );
    }
}
