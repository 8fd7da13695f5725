//! Error bodies of the read endpoints (`contract/read.md` 1.7, 2.2).

use crate::json::write_string;

/// `{"request": …, "error": …}`, the request without its credentials.
pub fn body(path_and_query: &str, error: &str) -> String {
    let mut out = String::from("{\"request\": ");
    write_string(&redacted(path_and_query), &mut out);
    out.push_str(", \"error\": ");
    write_string(error, &mut out);
    out.push('}');
    out
}

/// What stands where there is nothing.
pub fn not_found(path: &str) -> String {
    let mut out = String::from("{\"status\": \"error\", \"error\": ");
    write_string(&format!("Not found: {path}"), &mut out);
    out.push('}');
    out
}

/// The request with `sig`, `api_key`, `token`, `data` and everything secret-shaped as `…`.
pub fn redacted(path_and_query: &str) -> String {
    let Some((path, query)) = path_and_query.split_once('?') else { return path_and_query.to_owned() };
    let piece = |piece: &str| {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let longest_run = value.split(|char: char| !char.is_ascii_alphanumeric()).map(str::len).max().unwrap_or(0);
        let hidden =
            matches!(name, "sig" | "api_key" | "token" | "data" | "api_secret" | "secret") || value.contains("slcs_") || longest_run >= 30;
        if hidden { format!("{name}=…") } else { piece.to_owned() }
    };
    let pieces: Vec<String> = query.split('&').map(piece).collect();
    format!("{path}?{}", pieces.join("&"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_echoed_request_holds_no_credential() {
        assert_eq!(
            super::body("/api/2.0/events?api_key=abc&sig=123&unit=day", "x"),
            r#"{"request": "/api/2.0/events?api_key=…&sig=…&unit=day", "error": "x"}"#
        );
    }
}
