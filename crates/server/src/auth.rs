//! Who reads, and who writes as more than the public (design: "Where the documents differ"). A handler that reads takes a
//! [`ReadAccess`]; there is no other way to make one than a proof.

use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use metastore::{Credential, CredentialTable, Legacy, Outcome, Project, Session, sha256};
use model::{AccessRight, AccountId, ProjectId, Role, Timestamp};
use subtle::ConstantTimeEq;
use wire::params::Params;
use wire::signature::{self, Names, SignatureError};

use crate::app::App;
use crate::browser::{Cookie, is_same_origin};
use crate::client::{Client, Use};
use crate::ingest::Unread;
use crate::leaks;
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
    /// What opened it; its revocation ends a running export.
    credential: Credential,
    /// What it is for.
    right: AccessRight,
    /// The session that opened it, where one did.
    session: Option<i64>,
    /// Its name in the audit log.
    pub actor: String,
    /// From where.
    pub address: std::net::IpAddr,
    /// What is said of a legacy signature that will end.
    deprecation: Option<Deprecation>,
    /// Whether the client takes gzip.
    pub gzip: bool,
    /// A place among the project's running reports.
    _place: Place,
    pub app: Arc<App>,
}

impl ReadAccess {
    /// Whether the credential that proved this access still opens the project.
    pub(crate) fn is_live(&self) -> bool {
        let now = clock::latest();
        let session_lives = |id| self.app.metastore.is_live_session(id, now).unwrap_or(false);
        self.session.is_none_or(session_lives) && self.app.credentials().is_live(&self.credential, self.project.id, self.right, now)
    }

    /// What every answer to it says beside the answer: that nobody may keep it, and that a legacy signature will end.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(deprecation) = self.deprecation {
            deprecation.tell(headers);
        }
    }

    /// The answer to a request whose credential died while it waited or ran.
    pub(crate) fn ended(&self) -> Response {
        let day = &model::profile::wall_time(clock::now())[..10];
        error(401, &self.request, &format!("credential revoked on {day}; ask the project's owner"))
    }
}

/// A refusal: status and text, and which revoked credential knocked, where one did.
pub(crate) struct Refusal {
    pub status: u16,
    pub text: String,
    pub knocked: Option<Use>,
}

impl Refusal {
    fn new(status: u16, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), knocked: None }
    }
}

/// What proved itself.
struct Proof {
    project: ProjectId,
    credential: Credential,
    by: Use,
}

/// What a client is asked for with a 401.
pub(crate) const CHALLENGE: &str = "Basic realm=\"sluice\"";

/// What a signature is computed with where there is no secret: as long as one, so that it takes as long.
const NO_SECRET: &str = "00000000000000000000000000000000";

/// How a legacy signature is called among the schemes.
pub(crate) const SIGNATURE: &str = "signature";

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
        let params = Params::parse(uri.query().unwrap_or_default(), Some(&body[..]).filter(|body| !body.is_empty()));
        drop(body);
        let (client, now) = (Client::of(&parts, &app.settings.listen.trusted_proxies), clock::latest());
        let table = app.credentials();
        if let Some(leaked) = leaks::in_params(&table, &params, now) {
            let in_url = leaks::in_params(&table, &Params::parse(uri.query().unwrap_or_default(), None), now).is_some();
            let place = if in_url { leaks::Place::Url } else { leaks::Place::Body };
            app.note_leak(leaked, place, client.address, now);
            return Err(error(400, &shown, place.refusal()));
        }
        if let Some(leaked) = leaks::as_api_key(&table, params.get("api_key"), now) {
            app.note_leak(leaked, leaks::Place::Url, client.address, now);
        }
        let (names, right) = crate::routes::knows(uri.path());
        let session = session_of(app, &client, &parts.headers, &params, now).await?;
        let proof = match &session {
            Some(session) => member(&table, &client, session, params.filled("project_id"), right),
            None => prove_read(&table, &client, &parts.headers, &params, names, right, now),
        };
        let Proof { project, credential, by } = proof.map_err(|Refusal { status, text, knocked }| {
            knocked.into_iter().for_each(|by| client.note(app, by, Outcome::Revoked, uri.path(), now));
            error(status, &shown, &text)
        })?;
        let (actor, address) = (by.credential.clone(), client.address);
        let deprecation = deprecation(&table, &credential, by.scheme);
        client.note(app, by, Outcome::Accepted, uri.path(), now);
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
        let session = session.map(|session| session.id);
        let access = Self {
            project,
            params,
            request: shown,
            credential,
            right,
            session,
            actor,
            address,
            deprecation,
            gzip,
            _place: place,
            app: app.clone(),
        };
        // It may have waited for its place longer than its credential lived.
        if access.is_live() { Ok(access) } else { Err(access.ended()) }
    }
}

/// `{"request": …, "error": …}` with a status.
pub(crate) fn error(status: u16, request: &str, text: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    let mut response = (status, headers, wire::error::body(request, text)).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, axum::http::HeaderValue::from_static(CHALLENGE));
    }
    response
}

fn prove_read(
    table: &CredentialTable,
    client: &Client,
    headers: &HeaderMap,
    params: &Params,
    names: &Names,
    right: AccessRight,
    now: Timestamp,
) -> Result<Proof, Refusal> {
    let project_id = params.filled("project_id");
    if params.get("sig").is_some() {
        return signed(table, client, params, names, right, now);
    }
    if let Some(token) = bearer(headers) {
        return bearer_of(table, client, token, project_id, right, now);
    }
    match basic(headers) {
        None => Err(Refusal::new(401, "a signature, an API secret or a service account is needed")),
        Some(Basic::Secret(secret)) => secret_of(table, client, &secret, project_id, right, now),
        Some(Basic::Account(user, secret)) => account(table, client, &user, &secret, project_id, Some(right), now),
    }
}

/// The session of a request that brings nothing else, from a page of this server.
async fn session_of(
    app: &Arc<App>,
    client: &Client,
    headers: &HeaderMap,
    params: &Params,
    now: Timestamp,
) -> Result<Option<Session>, Response> {
    if params.get("sig").is_some()
        || headers.contains_key(header::AUTHORIZATION)
        || !is_same_origin(headers, &app.settings.listen.public_url)
    {
        return Ok(None);
    }
    let Some(token) = Cookie::Session.read(headers, client.is_secure) else { return Ok(None) };
    let reading = app.clone();
    let found = tokio::task::spawn_blocking(move || reading.metastore.session(&token, now)).await;
    match found {
        Ok(Ok(session)) => Ok(session),
        _ => Err(error(503, "", "sessions cannot be read")),
    }
}

/// A person who signed in, as a member of the project.
fn member(
    table: &CredentialTable,
    client: &Client,
    session: &Session,
    project_id: Option<&str>,
    right: AccessRight,
) -> Result<Proof, Refusal> {
    let Some(project) = project_id.and_then(|id| id.parse().ok()).map(ProjectId) else {
        return Err(Refusal::new(400, "project_id is a required parameter"));
    };
    let Some(role) = table.members.get(&(session.account, project)) else {
        return Err(Refusal::new(403, "the account is not a project member"));
    };
    may_enter(table, client, project)?;
    has_right(role.rights(), right, &format!("the role {}", role.as_str()))?;
    let by = Use { project, credential: format!("account {}", session.account), scheme: "session" };
    Ok(Proof { project, by, credential: Credential::Member(session.account) })
}

/// That a legacy signature was taken which will not be taken for ever (RFC 9745, RFC 8594).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deprecation {
    since: Timestamp,
    ends_at: Option<Timestamp>,
}

impl Deprecation {
    /// Says so in an answer.
    pub(crate) fn tell(self, headers: &mut HeaderMap) {
        let mut put =
            |name: &'static str, value: String| headers.extend(value.parse().ok().map(|value| (HeaderName::from_static(name), value)));
        put("deprecation", format!("@{}", self.since.seconds()));
        if let Some(at) = self.ends_at {
            put("sunset", model::time::http_date(at));
        }
    }
}

fn deprecation(table: &CredentialTable, credential: &Credential, scheme: &str) -> Option<Deprecation> {
    let Credential::Key(api_key) = credential else { return None };
    let key = table.keys.get(api_key).filter(|key| key.legacy == Legacy::Warn && scheme == SIGNATURE)?;
    let ends_at = [key.expires_at, key.retires_at].into_iter().flatten().min();
    Some(Deprecation { since: key.legacy_since, ends_at })
}

/// What holds for every credential, once it proved itself.
fn may_enter(table: &CredentialTable, client: &Client, project: ProjectId) -> Result<(), Refusal> {
    let Some(project) = table.projects.get(&project) else { return Err(Refusal::new(403, "unknown project")) };
    if project.suspended_at.is_some() {
        let text = "credentials wait since a backup was restored; the project's owner has to confirm or reset them";
        return Err(Refusal::new(401, text));
    }
    if project.requires_tls && !client.is_private {
        return Err(Refusal::new(403, "this project takes secrets over TLS only"));
    }
    Ok(())
}

fn has_right(rights: &[AccessRight], right: AccessRight, what: &str) -> Result<(), Refusal> {
    if rights.contains(&right) { Ok(()) } else { Err(Refusal::new(403, format!("{what} has no right `{}`", right.as_str()))) }
}

fn key_use(key: &metastore::KeyEntry, scheme: &'static str) -> Use {
    Use { project: key.project, credential: format!("key {}", key.key_id), scheme }
}

/// What holds for a key, once its secret proved itself.
fn key_may(
    table: &CredentialTable,
    client: &Client,
    key: &metastore::KeyEntry,
    project_id: Option<&str>,
    right: AccessRight,
    now: Timestamp,
) -> Result<(), Refusal> {
    if key.expires_at.is_some_and(|at| at <= now) {
        return Err(Refusal::new(401, "this API key has expired"));
    }
    if project_id.is_some_and(|id| id != key.project.to_string()) {
        return Err(Refusal::new(403, "Credentials in request did not match project_id URL parameter"));
    }
    may_enter(table, client, key.project)?;
    if !key.networks.is_empty() && !key.networks.contains(client.address) {
        return Err(Refusal::new(403, "this API key may not be used from this network"));
    }
    has_right(&key.rights, right, "this API key")
}

fn signed(
    table: &CredentialTable,
    client: &Client,
    params: &Params,
    names: &Names,
    right: AccessRight,
    now: Timestamp,
) -> Result<Proof, Refusal> {
    let invalid = || Refusal::new(400, SignatureError::Invalid.to_string());
    let api_key = params.get("api_key").unwrap_or_default().to_owned();
    let Some(key) = table.keys.get(&api_key) else {
        // The same work as for a known key, so that timing names none.
        let _ = signature::fits(params, NO_SECRET);
        return Err(invalid());
    };
    if let Some(at) = key.dead_since(now) {
        return Err(revoked(at, key_use(key, SIGNATURE)));
    }
    let Some(secret) = &key.secret else {
        let _ = signature::fits(params, NO_SECRET);
        return Err(if key.legacy == Legacy::Off {
            invalid()
        } else {
            Refusal::new(503, "signatures cannot be checked: the key file is missing")
        });
    };
    signature::check(params, names, secret.expose(), clock::now(), key.lifetime_max_ms)
        .map_err(|error| Refusal::new(400, error.to_string()))?;
    key_may(table, client, key, params.filled("project_id"), right, now)?;
    Ok(Proof { project: key.project, by: key_use(key, SIGNATURE), credential: Credential::Key(api_key) })
}

fn revoked(at: Timestamp, by: Use) -> Refusal {
    let day = model::profile::wall_time(at);
    Refusal { knocked: Some(by), ..Refusal::new(401, format!("credential revoked on {}; ask the project's owner", &day[..10])) }
}

fn secret_of(
    table: &CredentialTable,
    client: &Client,
    secret: &str,
    project_id: Option<&str>,
    right: AccessRight,
    now: Timestamp,
) -> Result<Proof, Refusal> {
    let found = table.secrets.get(&sha256(secret.as_bytes())).and_then(|entry| Some((entry, table.keys.get(&entry.api_key)?)));
    let Some((entry, key)) = found else { return Err(Refusal::new(401, BAD_SECRET)) };
    if let Some(at) = key.dead_since(now) {
        return Err(revoked(at, key_use(key, "basic")));
    }
    key_may(table, client, key, project_id, right, now)?;
    Ok(Proof { project: key.project, by: key_use(key, "basic"), credential: Credential::Key(entry.api_key.clone()) })
}

/// A service account; without `right` whatever it is for.
fn account(
    table: &CredentialTable,
    client: &Client,
    user: &str,
    secret: &str,
    project_id: Option<&str>,
    right: Option<AccessRight>,
    now: Timestamp,
) -> Result<Proof, Refusal> {
    let found = table.service_accounts.get(user);
    let given = sha256(secret.as_bytes());
    let proven = bool::from(found.map_or([0; 32], |account| account.secret_sha256).ct_eq(&given)) && found.is_some();
    let Some(account) = found.filter(|_| proven) else {
        return Err(Refusal::new(401, "Invalid service account credentials"));
    };
    let by = Use { project: account.project, credential: format!("service account {user}"), scheme: "basic" };
    if let Some(at) = account.revoked_at {
        return Err(revoked(at, by));
    }
    if account.expires_at.is_some_and(|at| at <= now) {
        return Err(Refusal::new(401, "Invalid service account credentials"));
    }
    match project_id {
        None => return Err(Refusal::new(400, "project_id is a required parameter")),
        Some(id) if id != account.project.to_string() => {
            return Err(Refusal::new(403, "the service account is not a project member"));
        }
        Some(_) => {}
    }
    may_enter(table, client, account.project)?;
    if let Some(right) = right {
        has_right(account.role.rights(), right, &format!("the role {}", account.role.as_str()))?;
    }
    Ok(Proof { project: account.project, by, credential: Credential::ServiceAccount(user.to_owned()) })
}

pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A person's bearer token, which may what the person may in the project.
fn bearer_of(
    table: &CredentialTable,
    client: &Client,
    token: &str,
    project_id: Option<&str>,
    right: AccessRight,
    now: Timestamp,
) -> Result<Proof, Refusal> {
    let hash = sha256(token.as_bytes());
    let Some(entry) = table.bearer_tokens.get(&hash) else { return Err(Refusal::new(401, "Invalid bearer token")) };
    let project = project_id.and_then(|id| id.parse().ok()).map(ProjectId);
    if let Some(at) = entry.revoked_at {
        let by = |project| Use { project, credential: format!("bearer token {}", entry.id), scheme: "bearer" };
        let known = project.filter(|project| table.members.contains_key(&(entry.account, *project)));
        return Err(Refusal { knocked: known.map(by), ..revoked(at, by(ProjectId(0))) });
    }
    if entry.expires_at.is_some_and(|at| at <= now) {
        return Err(Refusal::new(401, "Invalid bearer token"));
    }
    let Some(project) = project else { return Err(Refusal::new(400, "project_id is a required parameter")) };
    let Some(role) = table.members.get(&(entry.account, project)) else {
        return Err(Refusal::new(403, "the account is not a project member"));
    };
    may_enter(table, client, project)?;
    has_right(role.rights(), right, &format!("the role {}", role.as_str()))?;
    let by = Use { project, credential: format!("bearer token {}", entry.id), scheme: "bearer" };
    Ok(Proof { project, by, credential: Credential::Bearer(hash) })
}

/// Who calls the app API.
pub(crate) enum AppCaller {
    ServiceAccount {
        username: String,
        project: ProjectId,
        role: Role,
    },
    /// By a bearer token.
    Account(AccountId),
}

/// Proves a caller of the app API, where the project stands in the path or nowhere.
pub(crate) fn prove_app(
    table: &CredentialTable,
    client: &Client,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<(AppCaller, Use), Refusal> {
    if let Some(token) = bearer(headers) {
        let account = table.account_of_bearer(&sha256(token.as_bytes()), now);
        let account = account.ok_or_else(|| Refusal::new(401, "Invalid bearer token"))?;
        let project = table.members.keys().find(|(member, _)| *member == account).map_or(ProjectId(0), |(_, project)| *project);
        let by = Use { project, credential: format!("account {account}"), scheme: "bearer" };
        return Ok((AppCaller::Account(account), by));
    }
    let Some(Basic::Account(user, secret)) = basic(headers) else {
        return Err(Refusal::new(401, "Invalid service account credentials"));
    };
    let own = table.service_accounts.get(&user).map(|account| account.project.to_string());
    let proof = account(table, client, &user, &secret, own.as_deref(), None, now)?;
    let role = table.service_accounts.get(&user).map_or(Role::Consumer, |account| account.role);
    Ok((AppCaller::ServiceAccount { username: user, project: proof.project, role }, proof.by))
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
    /// The credential, where there is one beyond the public token.
    pub by: Option<Use>,
}

impl Writer {
    /// Whoever has the token and nothing else.
    pub(crate) const PUBLIC: Self = Self { project: None, authenticated: false, by: None };

    fn authenticated(proof: Proof) -> Self {
        Self { project: Some(proof.project), authenticated: true, by: Some(proof.by) }
    }
}

/// Proves a writer where the token alone is enough: whoever shows no credential is the public.
pub(crate) fn prove_writer(
    table: &CredentialTable,
    client: &Client,
    headers: &HeaderMap,
    project_id: Option<&str>,
    right: AccessRight,
    now: Timestamp,
) -> Result<Writer, Refusal> {
    if let Some(token) = bearer(headers) {
        return bearer_of(table, client, token, project_id, right, now).map(Writer::authenticated);
    }
    match basic(headers) {
        None => Ok(Writer::PUBLIC),
        Some(Basic::Secret(secret)) => secret_of(table, client, &secret, project_id, right, now).map(Writer::authenticated),
        Some(Basic::Account(user, secret)) => {
            let own = table.service_accounts.get(&user).map(|account| account.project.to_string());
            let project_id = project_id.or(own.as_deref());
            account(table, client, &user, &secret, project_id, Some(right), now).map(Writer::authenticated)
        }
    }
}

/// Proves who lists and replaces lookup tables: a secret, a service account or a bearer token with the right to import or to change the schema.
pub(crate) fn prove_tables(
    table: &CredentialTable,
    client: &Client,
    headers: &HeaderMap,
    project_id: Option<&str>,
    now: Timestamp,
) -> Result<Proven, Refusal> {
    let prove = |right| match (bearer(headers), basic(headers)) {
        (Some(token), _) => bearer_of(table, client, token, project_id, right, now),
        (None, None) => Err(Refusal::new(401, "an API secret or a service account is needed")),
        (None, Some(Basic::Secret(secret))) => secret_of(table, client, &secret, project_id, right, now),
        (None, Some(Basic::Account(user, secret))) => account(table, client, &user, &secret, project_id, Some(right), now),
    };
    let proven = match prove(AccessRight::Import) {
        Err(refusal) if refusal.status == 403 => prove(AccessRight::Schema).map_err(|_| refusal),
        other => other,
    };
    proven.map(|Proof { project, by, .. }| Proven { project, by })
}

/// A project that a credential opened, and which credential.
pub(crate) struct Proven {
    pub project: ProjectId,
    pub by: Use,
}

/// Proves a writer of `/import`. `options` may come from the query or from the form body.
pub(crate) fn prove_import(
    table: &CredentialTable,
    client: &Client,
    headers: &HeaderMap,
    api_key: Option<&str>,
    project_id: Option<&str>,
    now: Timestamp,
) -> Result<Writer, Refusal> {
    const RIGHT: AccessRight = AccessRight::Import;
    let public = |project: ProjectId, by| {
        let needs_secret = table.projects.get(&project).is_some_and(|project| project.token_options.backfill_needs_secret);
        if needs_secret {
            return Err(Refusal::new(403, "this project takes imports with a secret or a service account only"));
        }
        Ok(Writer { project: Some(project), authenticated: false, by })
    };
    if let Some(token) = bearer(headers) {
        return bearer_of(table, client, token, project_id, RIGHT, now).map(Writer::authenticated);
    }
    match basic(headers) {
        Some(Basic::Secret(value)) => match table.project_of_token(&value, now) {
            Some(project) => public(project, None),
            None => secret_of(table, client, &value, project_id, RIGHT, now).map(Writer::authenticated),
        },
        Some(Basic::Account(user, secret)) => match account(table, client, &user, &secret, project_id, None, now) {
            Err(Refusal { status: 400, .. }) => Err(Refusal::new(401, BAD_SECRET)),
            Err(Refusal { status: 401, knocked: None, .. }) => Err(Refusal::new(401, "Invalid credentials")),
            Ok(_) if table.service_accounts.get(&user).is_some_and(|account| !account.role.rights().contains(&RIGHT)) => {
                Err(Refusal::new(403, "the service account needs the role admin or owner to import"))
            }
            other => other.map(Writer::authenticated),
        },
        None => match api_key.and_then(|key| table.keys.get(key)) {
            Some(key) => match key.dead_since(now) {
                Some(at) => Err(revoked(at, key_use(key, "api_key"))),
                None => public(key.project, Some(key_use(key, "api_key"))),
            },
            None => Err(Refusal::new(401, "Invalid credentials")),
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
