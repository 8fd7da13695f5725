//! Networks that a key may be used from.

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
}
