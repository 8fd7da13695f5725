//! Who reads, and who writes as more than the public (design: "Where the documents differ"). A handler that reads takes a
//! [`ReadAccess`]; there is no other way to make one than a proof.

use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use metastore::{CredentialTable, Legacy, Project, sha256};
use model::{AccessRight, ProjectId, Role, Timestamp};
use subtle::ConstantTimeEq;
use wire::params::Params;
use wire::signature::{self, SignatureError};

use crate::app::App;
use crate::ingest::Unread;
use crate::listen::AsSent;
use crate::queue::Place;
use crate::{clock, compress, ingest};

/// A read's parameters are no longer than this.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The proof that a request may read a project, with its parameters.
pub(crate) struct ReadAccess {
    pub project: Project,
    pub params: Params,
    /// Path and query, for error bodies.
    pub request: String,
    /// The key of a signed request or secret; its revocation ends a running export.
    pub api_key: Option<String>,
    /// Whether the client takes gzip.
    pub gzip: bool,
    /// A place among the project's running reports.
    _place: Place,
    pub app: Arc<App>,
}

impl ReadAccess {
    /// Whether the key that proved this access is still live.
    pub(crate) fn is_live(&self) -> bool {
        let table = self.app.credentials();
        self.api_key.as_ref().is_none_or(|key| table.keys.get(key).is_some_and(|key| key.revoked_at.is_none()))
    }
}

/// A refusal: status and text.
pub(crate) struct Refusal(pub u16, pub String);

/// What a client is asked for with a 401.
pub(crate) const CHALLENGE: &str = "Basic realm=\"sluice\"";

const BAD_SECRET: &str = "Unauthorized, invalid project secret. See docs for more information: https://developer.mixpanel.com/reference/authentication#project-secret";

impl FromRequest<Arc<App>> for ReadAccess {
    type Rejection = Response;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let uri = parts.extensions.get::<axum::extract::OriginalUri>().map_or(&parts.uri, |original| &original.0);
        let sent = parts.extensions.get::<AsSent>().map_or(uri, |sent| &sent.0);
        let shown = sent.path_and_query().map(ToString::to_string).unwrap_or_default();
        let body = ingest::collect(app, body, BODY_BYTES_MAX).await.map_err(|unread| match unread {
            Unread::TooLarge => error(413, &shown, &format!("request exceeds max limit of {BODY_BYTES_MAX} bytes")),
            Unread::Broken => error(408, &shown, "the body did not arrive in time"),
        })?;
        let params = Params::parse(uri.query().unwrap_or_default(), Some(&body).filter(|body| !body.is_empty()).map(|body| &body[..]));
        let (names, right) = crate::routes::knows(uri.path());
        let table = app.credentials();
        let proof = prove_read(&table, &parts.headers, &params, names, right, clock::now());
        let (project, api_key) = proof.map_err(|Refusal(status, text)| error(status, &shown, &text))?;
        let Some(project) = table.projects.get(&project).cloned() else { return Err(error(403, &shown, "unknown project")) };
        let queue = if right == AccessRight::Export { &app.exports } else { &app.queries };
        let place = queue.place(project.id).await.map_err(|text| {
            let mut response = error(429, &shown, &text);
            for (name, value) in queue.headers() {
                response
                    .headers_mut()
                    .extend(value.parse().ok().map(|value| (axum::http::HeaderName::from_bytes(name.as_bytes()).ok(), value)));
            }
            response
        })?;
        let gzip = compress::is_asked(&parts.headers);
        Ok(Self { project, params, request: shown, api_key, gzip, _place: place, app: app.clone() })
    }
}

/// `{"request": …, "error": …}` with a status.
pub(crate) fn error(status: u16, request: &str, text: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], wire::error::body(request, text)).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, axum::http::HeaderValue::from_static(CHALLENGE));
    }
    response
}

fn prove_read(
    table: &CredentialTable,
    headers: &HeaderMap,
    params: &Params,
    names: &[&str],
    right: AccessRight,
    now: Timestamp,
) -> Result<(ProjectId, Option<String>), Refusal> {
    if params.get("sig").is_some() {
        return signed(table, params, names, right, now).map(|(project, key)| (project, Some(key)));
    }
    match basic(headers) {
        None => Err(Refusal(401, "a signature, an API secret or a service account is needed".to_owned())),
        Some(credential) => match credential {
            Basic::Secret(secret) => {
                let (project, api_key) = secret_of(table, &secret, params, now)?;
                if !table.keys.get(&api_key).is_some_and(|key| key.rights.contains(&right)) {
                    return Err(Refusal(403, format!("this API key has no right `{}`", right.as_str())));
                }
                Ok((project, Some(api_key)))
            }
            Basic::Account(user, secret) => account(table, &user, &secret, params.filled("project_id"), now).map(|project| (project, None)),
        },
    }
}

fn signed(
    table: &CredentialTable,
    params: &Params,
    names: &[&str],
    right: AccessRight,
    now: Timestamp,
) -> Result<(ProjectId, String), Refusal> {
    let invalid = || Refusal(400, SignatureError::Invalid.to_string());
    let api_key = params.get("api_key").unwrap_or_default().to_owned();
    let Some(key) = table.keys.get(&api_key) else {
        // The same work as for a known key, so that timing names none.
        let _ = signature::fits(params, "unknown");
        return Err(invalid());
    };
    if let Some(at) = key.revoked_at {
        return Err(revoked(at));
    }
    let Some(secret) = &key.secret else {
        return Err(if key.legacy == Legacy::Off {
            invalid()
        } else {
            Refusal(503, "signatures cannot be checked: the key file is missing".to_owned())
        });
    };
    signature::check(params, names, secret.expose(), now, key.lifetime_max_ms).map_err(|error| Refusal(400, error.to_string()))?;
    if key.expires_at.is_some_and(|at| at <= now) {
        return Err(Refusal(401, "this API key has expired".to_owned()));
    }
    if params.filled("project_id").is_some_and(|id| id != key.project.to_string()) {
        return Err(Refusal(403, "Credentials in request did not match project_id URL parameter".to_owned()));
    }
    if !key.rights.contains(&right) {
        return Err(Refusal(403, format!("this API key has no right `{}`", right.as_str())));
    }
    Ok((key.project, api_key))
}

fn revoked(at: Timestamp) -> Refusal {
    let day = model::profile::wall_time(at);
    Refusal(401, format!("credential revoked on {}; ask the project's owner", &day[..10]))
}

fn secret_of(table: &CredentialTable, secret: &str, params: &Params, now: Timestamp) -> Result<(ProjectId, String), Refusal> {
    let Some(entry) = table.secrets.get(&sha256(secret.as_bytes())) else { return Err(Refusal(401, BAD_SECRET.to_owned())) };
    if let Some(at) = entry.revoked_at {
        return Err(revoked(at));
    }
    if table.keys.get(&entry.api_key).and_then(|key| key.expires_at).is_some_and(|at| at <= now) {
        return Err(Refusal(401, "this API key has expired".to_owned()));
    }
    if params.filled("project_id").is_some_and(|id| id != entry.project.to_string()) {
        return Err(Refusal(403, "Credentials in request did not match project_id URL parameter".to_owned()));
    }
    Ok((entry.project, entry.api_key.clone()))
}

fn account(table: &CredentialTable, user: &str, secret: &str, project_id: Option<&str>, now: Timestamp) -> Result<ProjectId, Refusal> {
    let found = table.service_accounts.get(user);
    let given = sha256(secret.as_bytes());
    let proven = bool::from(found.map_or([0; 32], |account| account.secret_sha256).ct_eq(&given)) && found.is_some();
    let live = |account: &&metastore::ServiceAccountEntry| account.revoked_at.is_none() && account.expires_at.is_none_or(|at| at > now);
    let Some(account) = found.filter(|_| proven).filter(live) else {
        return Err(Refusal(401, "Invalid service account credentials".to_owned()));
    };
    match project_id {
        None => Err(Refusal(400, "project_id is a required parameter".to_owned())),
        Some(id) if id == account.project.to_string() => Ok(account.project),
        Some(_) => Err(Refusal(403, "the service account is not a project member".to_owned())),
    }
}

/// A Basic credential as it was meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Basic {
    /// A project's API secret, or on `/import` its token.
    Secret(String),
    /// A service account with its secret.
    Account(String, String),
}

/// Reads `Authorization: Basic` in all the spellings that clients use (`contract/read.md` 2.1).
pub(crate) fn basic(headers: &HeaderMap) -> Option<Basic> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("basic").then(|| parse_basic(rest.trim()))
}

fn parse_basic(text: &str) -> Basic {
    // Un-encoded service accounts are documented; a colon is no base64 digit.
    let plain = if text.contains(':') { Some(text.to_owned()) } else { wire::body::base64_text(text) };
    let plain = plain.unwrap_or_else(|| text.to_owned());
    match plain.split_once(':') {
        None => Basic::Secret(plain),
        Some((user, password)) if password.is_empty() || password == user => Basic::Secret(user.to_owned()),
        Some((user, password)) => Basic::Account(user.to_owned(), password.to_owned()),
    }
}

/// Who writes to `/import`.
pub(crate) struct Writer {
    /// The project that the credential names; the public's records name their own.
    pub project: Option<ProjectId>,
    /// Beyond the public token.
    pub authenticated: bool,
}

/// Proves a writer of `/import`. `options` may come from the query or from the form body.
pub(crate) fn prove_import(
    table: &CredentialTable,
    headers: &HeaderMap,
    api_key: Option<&str>,
    project_id: Option<&str>,
    now: Timestamp,
) -> Result<Writer, Refusal> {
    let authenticated = |project| Writer { project: Some(project), authenticated: true };
    let public = |project| Writer { project: Some(project), authenticated: false };
    let params = Params::parse(&project_id.map(|id| format!("project_id={}", wire::params::encode(id))).unwrap_or_default(), None);
    match basic(headers) {
        Some(Basic::Secret(value)) => match table.tokens.get(&value) {
            Some(project) => Ok(public(*project)),
            None => secret_of(table, &value, &params, now).map(|(project, _)| authenticated(project)),
        },
        Some(Basic::Account(user, secret)) => match account(table, &user, &secret, project_id, now) {
            Err(Refusal(400, _)) => Err(Refusal(401, BAD_SECRET.to_owned())),
            Err(Refusal(401, _)) => Err(Refusal(401, "Invalid credentials".to_owned())),
            Ok(_) if table.service_accounts.get(&user).is_some_and(|account| account.role < Role::Admin) => {
                Err(Refusal(403, "the service account needs the role admin or owner to import".to_owned()))
            }
            other => other.map(authenticated),
        },
        None => match api_key.and_then(|key| table.keys.get(key)) {
            Some(key) => match key.revoked_at {
                Some(at) => Err(revoked(at)),
                None => Ok(public(key.project)),
            },
            None => Err(Refusal(401, "Invalid credentials".to_owned())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_is_read_in_every_spelling() {
        let secret = || Basic::Secret("test_secret".to_owned());
        for text in ["dGVzdF9zZWNyZXQ6", "dGVzdF9zZWNyZXQ=", "dGVzdF9zZWNyZXQ", "dGVzdF9zZWNyZXQ6dGVzdF9zZWNyZXQ="] {
            assert_eq!(parse_basic(text), secret(), "{text}");
        }
        assert_eq!(parse_basic("sa.x:s3cr3t"), Basic::Account("sa.x".to_owned(), "s3cr3t".to_owned()));
    }
}
