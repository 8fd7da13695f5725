//! What browsers bring that others do not: our cookies, and the word of which site asks.

use axum::http::{HeaderMap, HeaderName, header};

/// A cookie of ours. Over TLS its name starts with `__Host-`, so that no other host can set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cookie {
    /// The session.
    Session,
    /// A browser that signed in before.
    Device,
}

impl Cookie {
    /// What it is called.
    pub(crate) fn name(self, is_secure: bool) -> &'static str {
        match (self, is_secure) {
            (Self::Session, true) => "__Host-sluice_session",
            (Self::Session, false) => "sluice_session",
            (Self::Device, true) => "__Host-sluice_device",
            (Self::Device, false) => "sluice_device",
        }
    }

    /// How long the browser keeps it.
    pub(crate) fn seconds(self) -> u32 {
        match self {
            Self::Session => 14 * 86_400,
            Self::Device => 180 * 86_400,
        }
    }

    /// Its value in a request.
    pub(crate) fn read(self, headers: &HeaderMap, is_secure: bool) -> Option<String> {
        let all = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
        let name = self.name(is_secure);
        let mut found = all.filter_map(|pair| pair.trim().split_once('=')).filter(|(given, _)| *given == name);
        found.next().map(|(_, value)| value.to_owned())
    }
}

/// Whether a browser says that the page which asks is one of this server; what is no browser says nothing.
/// `public_url` is how the settings call the server, where a proxy gives it another `Host`.
pub(crate) fn is_same_origin(headers: &HeaderMap, public_url: &str) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let by_site = text(HeaderName::from_static("sec-fetch-site")).is_none_or(|site| site == "same-origin" || site == "none");
    let host = text(header::HOST).unwrap_or_default();
    let is_own = |origin: &str| {
        let from = origin.split_once("://").map_or("", |(_, from)| from);
        let is_public = !public_url.is_empty() && origin.eq_ignore_ascii_case(public_url.trim_end_matches('/'));
        is_public || !from.is_empty() && from.eq_ignore_ascii_case(host)
    };
    let by_origin = text(header::ORIGIN).is_none_or(is_own);
    by_site && by_origin
}
