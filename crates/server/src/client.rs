//! Who is at the other end: the address that it comes from, whether anybody can listen, what it calls itself. Forwarding headers are believed
//! from proxies that the settings name, and from nobody else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use metastore::{CallerKey, Outcome};
use model::{Networks, ProjectId, Timestamp};

use crate::app::App;
use crate::config::Proxies;
use crate::listen::Peer;

/// A credential in use: of which project, which one, and how it was presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use {
    pub project: ProjectId,
    pub credential: String,
    pub scheme: &'static str,
}

/// Who is at the other end.
pub(crate) struct Client {
    pub address: IpAddr,
    /// Over TLS, here or at a trusted proxy.
    pub is_secure: bool,
    /// Over TLS, or straight from this machine.
    pub is_private: bool,
    user_agent: String,
}

impl Client {
    /// Whoever sent a request: the other end of the connection, or what a trusted proxy says that it is. Hops are read from the right, and
    /// the first that is no trusted proxy is the client: what stands left of it, anybody can write.
    pub(crate) fn of(parts: &Parts, proxies: &Proxies) -> Self {
        let peer = parts.extensions.get::<Peer>().copied();
        let (connected, is_tls) = peer.map_or((Ipv4Addr::UNSPECIFIED.into(), false), |peer| (peer.address.ip(), peer.is_tls));
        let Proxies(trusted) = proxies;
        let (address, is_secure) = match trusted.contains(connected) {
            true => {
                (forwarded_for(&parts.headers, connected, trusted), is_tls || last(&parts.headers, "x-forwarded-proto") == Some("https"))
            }
            false => (connected, is_tls),
        };
        // A proxy that nobody trusts may stand between: then loopback says nothing of the client.
        let is_private = is_secure || connected.is_loopback() && !FORWARDING.iter().any(|name| parts.headers.contains_key(*name));
        let user_agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self { address, is_secure, is_private, user_agent: user_agent.chars().take(200).collect() }
    }

    /// What the client calls itself, without what may be a secret.
    pub(crate) fn user_agent(&self) -> String {
        wire::error::cleared(&self.user_agent)
    }

    /// The address for limits: a network of IPv6 counts as one, and so do all whom a proxy brings that nobody named.
    pub(crate) fn limited_address(&self) -> IpAddr {
        match self.address.to_canonical() {
            address if address.is_loopback() && !self.is_private => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
            v4 => v4,
        }
    }

    /// Counts a use of a credential.
    pub(crate) fn note(&self, app: &App, by: Use, outcome: Outcome, endpoint: &str, now: Timestamp) {
        let Use { project, credential, scheme } = by;
        let (address, user_agent) = (self.address.to_string(), self.user_agent());
        let endpoint = crate::routes::counted(endpoint).to_owned();
        app.callers.note(CallerKey { project, credential, outcome, scheme, endpoint, address, user_agent }, now);
    }
}

/// The name under which a client called the server, without its port. An address is no name, and no address is stored.
pub(crate) fn host(parts: &Parts) -> Option<String> {
    let sent = parts.uri.host().or_else(|| parts.headers.get(header::HOST)?.to_str().ok())?;
    let name = sent.split_once(':').map_or(sent, |(name, _)| name).trim_end_matches('.').to_ascii_lowercase();
    let is_name = name.len() <= 253 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    let has_letter = name.rsplit('.').next().is_some_and(|label| label.bytes().any(|byte| byte.is_ascii_alphabetic()));
    (is_name && has_letter).then_some(name)
}

/// Headers that only a proxy writes.
const FORWARDING: [&str; 6] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "via", "x-real-ip"];

/// The last of a header's values.
fn last<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get_all(name).iter().next_back()?.to_str().ok()?.rsplit(',').next().map(str::trim)
}

/// Whom trusted proxies speak for.
fn forwarded_for(headers: &HeaderMap, connected: IpAddr, trusted: &Networks) -> IpAddr {
    let lines = headers.get_all("x-forwarded-for").iter();
    if !headers.contains_key("x-forwarded-for") {
        // The other way in which proxies say it: one address, of whom they speak for.
        return headers.get_all("x-real-ip").iter().next_back().map_or(connected, read_hop);
    }
    let hops: Vec<&[u8]> = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).collect();
    let mut address = connected;
    for before in hops.into_iter().rev() {
        if !trusted.contains(address) {
            break;
        }
        address = read_hop(before);
    }
    address
}

/// Who stands in a hop. Who cannot be read is nobody: in no network, and not this machine.
fn read_hop(text: impl AsRef<[u8]>) -> IpAddr {
    std::str::from_utf8(text.as_ref()).ok().and_then(hop).unwrap_or(Ipv4Addr::UNSPECIFIED.into())
}

/// An address as proxies write it, with a port or without.
fn hop(text: &str) -> Option<IpAddr> {
    let bare = text.trim().trim_matches('"');
    bare.parse()
        .ok()
        .or_else(|| bare.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).and_then(|address| address.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(headers: &[(&'static str, &str)]) -> Parts {
        let mut request = axum::http::Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn an_address_is_no_name_of_the_server() {
        let named = [("a.example", "a.example"), ("A.Example.:8080", "a.example"), ("localhost:1", "localhost")];
        for (sent, expected) in named {
            assert_eq!(host(&parts(&[("host", sent)])).as_deref(), Some(expected));
        }
        for sent in ["", "127.0.0.1", "127.0.0.1:8080", "[::1]:8080", "::1", "a b", "a/b", &"a".repeat(254)] {
            assert_eq!(host(&parts(&[("host", sent)])), None, "{sent}");
        }
    }

    #[test]
    fn a_trusted_proxy_says_it_in_one_of_two_ways() {
        let (proxy, trusted) = (IpAddr::from([10, 0, 0, 1]), Networks::parse("10.0.0.0/8").unwrap());
        let said = |headers: &[(&'static str, &str)]| forwarded_for(&parts(headers).headers, proxy, &trusted).to_string();
        assert_eq!(said(&[]), "10.0.0.1");
        assert_eq!(said(&[("x-real-ip", "203.0.113.7")]), "203.0.113.7");
        assert_eq!(said(&[("x-real-ip", "203.0.113.7"), ("x-real-ip", "203.0.113.8")]), "203.0.113.8");
        assert_eq!(said(&[("x-real-ip", "rubbish")]), "0.0.0.0");
        assert_eq!(said(&[("x-real-ip", "203.0.113.7"), ("x-forwarded-for", "203.0.113.9, 10.0.0.2")]), "203.0.113.9");
    }
}
