//! Error bodies of the read endpoints (`contract/read.md` 1.7, 2.2).

use crate::json::write_string;

/// `{"request": …, "error": …}`, both without credentials.
pub fn body(path_and_query: &str, error: &str) -> String {
    let mut out = String::from("{\"request\": ");
    write_string(&redacted(path_and_query), &mut out);
    out.push_str(", \"error\": ");
    write_string(&cleared(error), &mut out);
    out.push('}');
    out
}

/// What stands where there is nothing.
pub fn not_found(path: &str) -> String {
    let mut out = String::from("{\"status\": \"error\", \"error\": ");
    write_string(&format!("Not found: {}", redacted(path)), &mut out);
    out.push('}');
    out
}

/// The request with `sig`, `api_key`, `token`, `data` and everything secret-shaped as `…`.
pub fn redacted(path_and_query: &str) -> String {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let path: Vec<&str> = path.split('/').map(|segment| if is_secret_shaped(&decoded(segment)) { "…" } else { segment }).collect();
    let path = path.join("/");
    if !path_and_query.contains('?') {
        return path;
    }
    let piece = |piece: &str| {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        // Names and values are judged as the server reads them, however they are spelled.
        let known = decoded(name);
        if is_secret_shaped(&known) {
            return "…".to_owned();
        }
        let hidden = matches!(known.as_str(), "sig" | "api_key" | "token" | "data" | "api_secret" | "secret");
        if hidden || is_secret_shaped(&decoded(value)) { format!("{name}=…") } else { piece.to_owned() }
    };
    let pieces: Vec<String> = query.split('&').map(piece).collect();
    format!("{path}?{}", pieces.join("&"))
}

/// A text with `…` in the place of every word that may be a secret.
pub fn cleared(text: &str) -> String {
    let ends_word = |char: char| char.is_whitespace() || "`'\"".contains(char);
    let word = |word: &str| {
        let end = word.trim_end_matches(ends_word);
        if is_secret_shaped(&decoded(end)) { format!("…{}", &word[end.len()..]) } else { word.to_owned() }
    };
    text.split_inclusive(ends_word).map(word).collect()
}

fn decoded(text: &str) -> String {
    // The form's decoder takes names and values; without `=` all of it is a name.
    let text = text.replace('=', "%3D");
    crate::params::form(text.as_bytes()).into_iter().map(|(name, _)| name).collect()
}

/// Whether a text holds what may be a secret: our prefix, or a run of letters and digits as long as a key.
fn is_secret_shaped(text: &str) -> bool {
    text.contains("slcs_") || text.split(|char: char| !char.is_ascii_alphanumeric()).any(|run| run.len() >= 30)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_secret_is_hidden_however_it_is_spelled() {
        let secret = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";
        let bent = secret.replacen("f9", "%66%39", 1);
        for request in [
            format!("/a?{secret}"),
            format!("/a/{secret}"),
            format!("/a?x={bent}"),
            format!("/a?x=1&y={secret}&z=2"),
            format!("/a/{bent}?x"),
        ] {
            let shown = super::redacted(&request);
            assert!(!shown.contains("0a1b2c3d") && shown.starts_with("/a") && shown.contains('…'), "{request}: {shown}");
        }
        assert_eq!(super::redacted("/a?%61pi_key=k&%73ecret=abcd&unit=day"), "/a?%61pi_key=…&%73ecret=…&unit=day");
    }

    #[test]
    fn an_error_names_no_secret() {
        let secret = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";
        assert_eq!(super::cleared(&format!("invalid date `{secret}`, expected YYYY-MM-DD")), "invalid date `…`, expected YYYY-MM-DD");
        assert_eq!(super::cleared(&format!("curl/8 {secret}")), "curl/8 …");
        assert!(super::not_found(&format!("/x/{secret}")).contains("Not found: /x/…"));
        for text in [
            "",
            "unknown unit `year`, expected `day`, `week` or `month`",
            "See docs: https://h.example/reference/authentication#project-secret",
        ] {
            assert_eq!(super::cleared(text), text);
        }
    }

    #[test]
    fn an_echoed_request_holds_no_credential() {
        assert_eq!(
            super::body("/api/2.0/events?api_key=abc&sig=123&unit=day", "x"),
            r#"{"request": "/api/2.0/events?api_key=…&sig=…&unit=day", "error": "x"}"#
        );
    }
}
