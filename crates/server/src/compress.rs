//! gzip on answers, for whoever asks for it and where it pays (`contract/read.md` 3.4).

use std::io::Write;

use axum::http::{HeaderMap, header};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Answers up to here go out as they are.
pub(crate) const PLAIN_BYTES_MAX: usize = 1400;

/// Whether the client takes gzip.
pub(crate) fn is_asked(headers: &HeaderMap) -> bool {
    let accepted =
        headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    accepted.map(|coding| coding.split(';').map(str::trim).collect::<Vec<_>>()).any(|coding| {
        let refused = coding.iter().skip(1).any(|weight| matches!(*weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        coding.first().is_some_and(|name| name.eq_ignore_ascii_case("gzip")) && !refused
    })
}

/// A gzip stream that is fed piece by piece.
pub(crate) struct Gzip(GzEncoder<Vec<u8>>);

impl Gzip {
    pub(crate) fn new() -> Self {
        Self(GzEncoder::new(Vec::new(), Compression::fast()))
    }

    /// What can go out after this piece; may be empty.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.0.write_all(piece).expect("memory takes every write");
        std::mem::take(self.0.get_mut())
    }

    /// The end of the stream.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.finish().expect("memory takes every write")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_those_who_ask() {
        let asked = |value: &'static str| is_asked(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, value.parse().unwrap())]));
        assert!(asked("gzip") && asked("deflate, GZIP;q=0.5") && !asked("br") && !asked("gzip;q=0") && !is_asked(&HeaderMap::new()));
    }
}
