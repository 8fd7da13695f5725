//! The web page: one document for every address of it, the files that it loads, and the browser SDK for other sites. All of it lies in the
//! binary. The document may run nothing but its own files, and nothing of it is kept; a file whose name has its hash is kept for ever.

use std::io::Read;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;

/// A file of the page, packed when the page was built.
struct File {
    name: &'static str,
    brotli: &'static [u8],
    gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// Where the page's document has the word that its style elements are known by.
const NONCE: &str = "__NONCE__";
/// The folder whose files have their hash in their name.
const HASHED: &str = "assets/";
/// The SDK among the files.
const SDK: &str = "sdk/mixpanel.js";
const KEPT: &str = "public, max-age=31536000, immutable";
/// Sites that load the SDK from here have a new one within an hour.
const KEPT_SHORTLY: &str = "public, max-age=3600";

/// What is shown where no page was built.
const MISSING: &str = r#"<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sluice</title>
<style>body{font:16px/1.5 system-ui;max-width:40rem;margin:3rem auto;padding:0 1rem}</style>
<h1>Sluice runs</h1><p>This binary was built without its web page. With Node 20.19 or newer, <code>make web</code> builds the page;
build the server again after it, or say <code>make run</code>, which does both.</p>
<p>Until then the command line does what the page does: <code>sluice setup</code>, <code>sluice account</code>, <code>sluice project</code>,
<code>sluice help</code>. Events are taken and reports answered all the same.</p></html>"#;

/// The document, whatever address of the page was asked for.
pub(crate) async fn document() -> Response {
    let mut bytes = [0; 18];
    if getrandom::fill(&mut bytes).is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let nonce = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let html = INDEX.unwrap_or(MISSING).replace(NONCE, &nonce).replace("<style>", &format!("<style nonce=\"{nonce}\">"));
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self'; font-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    let mut response = (headers, html).into_response();
    response.headers_mut().extend(policy.parse().ok().map(|policy| (header::CONTENT_SECURITY_POLICY, policy)));
    response
}

/// A file of the page.
pub(crate) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let kept = if name.starts_with(HASHED) { KEPT } else { "no-cache" };
    serve(&name, kept, "same-origin", &headers)
}

/// The browser SDK, which pages of other sites load.
pub(crate) async fn sdk(headers: HeaderMap) -> Response {
    serve(SDK, KEPT_SHORTLY, "cross-origin", &headers)
}

fn serve(name: &str, kept: &'static str, readers: &'static str, asked: &HeaderMap) -> Response {
    let Some(file) = FILES.iter().find(|file| file.name == name) else { return StatusCode::NOT_FOUND.into_response() };
    let tag = format!("\"{}\"", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&metastore::sha256(file.gzip)[..12]));
    let mut headers = HeaderMap::new();
    let mut put = |name: header::HeaderName, value: &str| headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
    put(header::CONTENT_TYPE, content_type(name));
    put(header::CACHE_CONTROL, kept);
    put(header::ETAG, &tag);
    put(header::VARY, "Accept-Encoding");
    put(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(header::HeaderName::from_static("cross-origin-resource-policy"), readers);
    let known = asked.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let body = if takes(asked, "br") {
        put(header::CONTENT_ENCODING, "br");
        file.brotli.into()
    } else if takes(asked, "gzip") {
        put(header::CONTENT_ENCODING, "gzip");
        file.gzip.into()
    } else {
        let mut plain = Vec::new();
        if flate2::read::GzDecoder::new(file.gzip).read_to_end(&mut plain).is_err() {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        std::borrow::Cow::Owned(plain)
    };
    (headers, axum::body::Body::from(bytes::Bytes::from(body.into_owned()))).into_response()
}

/// What a file is, by how its name ends.
fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        Some("woff2") => "font/woff2",
        Some("png") => "image/png",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Whether whoever asks takes an encoding (RFC 9110, 12.5.3).
fn takes(asked: &HeaderMap, encoding: &str) -> bool {
    let lines = asked.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|offer| {
        let mut parts = offer.split(';').map(str::trim);
        let is_it = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(encoding));
        let is_refused = |weight: &str| weight.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()).is_some_and(|q| q <= 0.0);
        is_it && !parts.any(is_refused)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_is_taken_where_it_is_named_and_not_refused() {
        let takes = |line: &'static str| {
            let asked = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(line))]);
            super::takes(&asked, "br")
        };
        assert!(takes("gzip, deflate, br") && takes("BR;q=0.5"));
        assert!(!takes("gzip") && !takes("") && !takes("br;q=0, gzip") && !takes("brotli"));
    }

    #[tokio::test]
    async fn a_document_has_a_nonce_of_its_own_and_is_kept_by_nobody() {
        let (first, second) = (document().await, document().await);
        let policy = |response: &Response| response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert_ne!(policy(&first), policy(&second));
        assert!(!policy(&first).contains("unsafe"));
        assert_eq!(first.headers()[header::CACHE_CONTROL], "no-store");
    }

    #[tokio::test]
    async fn every_file_has_a_type_and_is_the_same_in_each_encoding() {
        for known in FILES {
            assert_ne!(content_type(known.name), "application/octet-stream", "{}", known.name);
            let plain = file(Path(known.name.to_owned()), HeaderMap::new()).await;
            assert!(plain.headers().get(header::CONTENT_ENCODING).is_none());
            let asked = HeaderMap::from_iter([(header::IF_NONE_MATCH, plain.headers()[header::ETAG].clone())]);
            assert_eq!(file(Path(known.name.to_owned()), asked).await.status(), StatusCode::NOT_MODIFIED);
            assert!(!known.brotli.is_empty());
        }
        assert_eq!(file(Path("assets/../index.html".to_owned()), HeaderMap::new()).await.status(), StatusCode::NOT_FOUND);
    }
}
