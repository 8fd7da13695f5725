//! Networks that a key may be used from, and origins that a project token may be used on.

use core::net::IpAddr;

use ipnet::IpNet;

/// Networks in CIDR form; none means everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Reads networks and single addresses, parted by commas; the piece that is neither, where there is one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let pieces = text.split(',').map(str::trim).filter(|piece| !piece.is_empty());
        let network = |piece: &str| {
            let network = piece.parse::<IpNet>().or_else(|_| piece.parse::<IpAddr>().map(IpNet::from));
            network.map(|network| network.trunc()).map_err(|_| piece.to_owned())
        };
        pieces.map(network).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an address lies in one of them. An IPv4 address in IPv6's clothes counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for Networks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pieces: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&pieces.join(","))
    }
}

/// Origins in the form of a browser's `Origin` header: scheme, host and port, exactly; or `https://*.example.com` for every host below.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Reads origins, parted by commas; the piece that is none, where there is one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let pieces = text.split(',').map(str::trim).filter(|piece| !piece.is_empty());
        pieces.map(|piece| normal(piece, true).ok_or_else(|| piece.to_owned())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a request with this `Origin` header is allowed. Without a list, everything is.
    pub fn allows(&self, origin: &str) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let Some(origin) = normal(origin, false) else { return false };
        self.0.iter().any(|allowed| match allowed.split_once("://*.") {
            None => *allowed == origin,
            // The part that the star stands for ends where a host's label does, and is not empty.
            Some((scheme, below)) => origin
                .split_once("://")
                .filter(|(given, _)| *given == scheme)
                .and_then(|(_, host)| host.strip_suffix(below)?.strip_suffix('.'))
                .is_some_and(|label| !label.is_empty()),
        })
    }
}

impl std::fmt::Display for Origins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// An origin in lower case without the port that its scheme implies.
fn normal(text: &str, may_have_star: bool) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, rest) = text.split_once("://")?;
    let implied = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return None,
    };
    let host = rest.strip_suffix(implied).unwrap_or(rest);
    let bare = if may_have_star { host.strip_prefix("*.").unwrap_or(host) } else { host };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    (!bare.is_empty() && !bare.starts_with('.') && bare.bytes().all(is_host)).then(|| format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lie_in_networks() {
        let networks = Networks::parse("10.0.0.0/8, 192.168.1.7,2001:db8::/32").unwrap();
        let inside = |text: &str| networks.contains(text.parse().unwrap());
        assert!(inside("10.255.0.1") && inside("192.168.1.7") && inside("2001:db8::1") && inside("::ffff:10.1.1.1"));
        assert!(!inside("11.0.0.1") && !inside("192.168.1.8") && !inside("2001:db9::1"));
        assert_eq!(Networks::parse("10.0.0.1/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(Networks::parse("10.0.0.0/33").unwrap_err(), "10.0.0.0/33");
    }

    /// P7 of the security bar: who looks like an allowed origin and is none.
    #[test]
    fn p7_origins_match_whole_hosts() {
        let origins = Origins::parse("https://a.ok.example, https://*.wide.example, http://localhost:3000").unwrap();
        for origin in
            ["https://a.ok.example", "HTTPS://A.OK.EXAMPLE", "https://a.ok.example:443", "https://x.wide.example", "http://localhost:3000"]
        {
            assert!(origins.allows(origin), "{origin}");
        }
        for origin in [
            "https://a.ok.example.evil.test",
            "http://a.ok.example",
            "https://a.ok.example:8443",
            "https://evila.ok.example",
            "https://wide.example",
            "https://evilwide.example",
            "https://.wide.example",
            "https://a.ok.example.",
            "null",
            "",
            "https://a.ok.example@evil.test",
            "https://a.ok.example/",
            "http://localhost",
        ] {
            assert!(!origins.allows(origin), "{origin}");
        }
        assert!(Origins::default().allows("https://anywhere.example"));
        assert!(Origins::parse("ftp://x").is_err() && Origins::parse("https://").is_err() && Origins::parse("a.example").is_err());
    }
}
