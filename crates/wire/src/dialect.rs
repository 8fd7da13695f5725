//! The four answer dialects of the write endpoints, byte for byte (`contract/write.md` 0, 1.2).

use crate::body::{BodyError, Options};
use crate::json::write_string;
use crate::track::Rejection;

/// Which endpoint answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/track`
    Track,
    /// `/import`
    Import,
    /// `/engage`
    Engage,
    /// `/groups`
    Groups,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Its type.
    pub content_type: &'static str,
    /// Its body.
    pub body: Vec<u8>,
}

const PIXEL: [u8; 43] = *b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

impl Reply {
    pub(crate) fn json(status: u16, body: String) -> Self {
        Self { status, content_type: "application/json", body: body.into_bytes() }
    }

    /// `{"code":…,"error":…,"status":…}`, the form of refusals on `/import`.
    pub fn refused(status: u16, error: &str) -> Self {
        let word = match status {
            401 => "Unauthorized",
            403 => "Forbidden",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            413 => "Request Entity Too Large",
            429 => "Too Many Requests",
            503 => "Service Unavailable",
            _ => "Bad Request",
        };
        let mut body = format!("{{\"code\":{status},\"error\":");
        write_string(error, &mut body);
        body.push_str(&format!(",\"status\":\"{word}\"}}"));
        Self::json(status, body)
    }
}

/// Refuses a whole strict batch that holds identity verbs (`contract/write.md` 1.2).
pub fn identity_refused() -> Reply {
    let text = "identity events are not allowed when project is using simplified identity management";
    let error = "some data points in the request failed validation";
    Reply::json(
        400,
        format!(
            "{{\"code\":400,\"error\":\"{error}\",\"failed_records\":[\"{text}\"],\"num_records_imported\":0,\"status\":\"Bad Request\"}}"
        ),
    )
}

/// Answers a request of which nothing was taken now; it may come again.
pub fn unavailable(endpoint: Endpoint, options: &Options) -> Reply {
    const REASON: &str = "a temporary failure occurred";
    if endpoint == Endpoint::Import || options.strict {
        return Reply::refused(503, REASON);
    }
    match options.verbose {
        true => Reply::json(503, format!("{{\"error\":\"{REASON}\",\"status\":0}}")),
        false => Reply { status: 503, content_type: "text/plain", body: b"0".to_vec() },
    }
}

/// Answers a request of which `accepted` records were taken.
pub fn reply(endpoint: Endpoint, options: &Options, accepted: usize, rejections: &[Rejection], error: Option<&BodyError>) -> Reply {
    // The browser SDK halves a batch on 413 and drops it on `0`; apps send for ever what is answered 4xx.
    if endpoint == Endpoint::Import || options.from_page && !options.img {
        match error {
            Some(BodyError::TooLarge(max)) => return Reply::refused(413, &format!("request exceeds max limit of {max} bytes")),
            Some(BodyError::TooMany(max)) => return Reply::refused(413, &format!("request exceeds max limit of {max} events")),
            Some(BodyError::Malformed(_)) | None => {}
        }
    }
    if options.img {
        return Reply { status: 200, content_type: "image/gif", body: PIXEL.to_vec() };
    }
    let good = accepted > 0 && error.is_none();
    if options.strict {
        return strict(accepted, rejections, error);
    }
    let reason = match error {
        _ if good => None,
        Some(BodyError::Malformed(reason)) => Some(reason.clone()),
        Some(BodyError::TooLarge(max)) => Some(format!("request exceeds max limit of {max} bytes")),
        Some(BodyError::TooMany(max)) => Some(format!("request exceeds max limit of {max} records")),
        None => Some(rejections.first().map_or("data, missing or empty", |rejection| rejection.verbose).to_owned()),
    };
    let body = if options.verbose {
        let mut body = String::from("{\"error\":");
        match &reason {
            None => body.push_str("null"),
            Some(reason) => write_string(reason, &mut body),
        }
        if good && matches!(endpoint, Endpoint::Engage | Endpoint::Groups) {
            body.push_str(&format!(",\"num_good_events\":{accepted}"));
        }
        body.push_str(&format!(",\"status\":{}}}", u8::from(good)));
        body
    } else {
        u8::from(good).to_string()
    };
    if let Some(callback) = &options.callback {
        return Reply { status: 200, content_type: "text/javascript", body: format!("{callback}({body});").into_bytes() };
    }
    let content_type = if options.verbose { "application/json" } else { "text/plain" };
    Reply { status: 200, content_type, body: body.into_bytes() }
}

fn strict(accepted: usize, rejections: &[Rejection], error: Option<&BodyError>) -> Reply {
    if let Some(error) = error {
        let text = match error {
            BodyError::Malformed(_) => "request body is not valid JSON",
            BodyError::TooLarge(_) | BodyError::TooMany(_) => "request exceeds max limit",
        };
        return Reply::json(
            400,
            format!("{{\"code\":400,\"error\":\"{text}\",\"failed_records\":[],\"num_records_imported\":0,\"status\":\"Bad Request\"}}"),
        );
    }
    if rejections.is_empty() {
        return Reply::json(200, format!("{{\"code\":200,\"num_records_imported\":{accepted},\"status\":\"OK\"}}"));
    }
    let mut body = String::from("{\"code\":400,\"error\":\"some data points in the request failed validation\",\"failed_records\":[");
    for (index, rejection) in rejections.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        body.push_str(&format!("{{\"index\":{},\"insert_id\":", rejection.index));
        write_string(&rejection.insert_id, &mut body);
        body.push_str(",\"field\":");
        write_string(&rejection.field, &mut body);
        body.push_str(",\"message\":");
        write_string(&rejection.message, &mut body);
        body.push('}');
    }
    body.push_str(&format!("],\"num_records_imported\":{accepted},\"status\":\"Bad Request\"}}"));
    Reply::json(400, body)
}
