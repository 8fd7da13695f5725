//! The management API: one table of operations (routes.rs), each with its policy, its types and its handler. What may be called, by
//! whom, with what, is told by the same table that the router and the OpenAPI document are made from.

pub(crate) mod account;
pub(crate) mod error;
pub(crate) mod instance;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod members;
pub(crate) mod openapi;
pub(crate) mod projects;
pub(crate) mod session;
pub(crate) mod tables;
pub(crate) mod tickets;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, OriginalUri, Query, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use metastore::{Actor, By, Session};
use model::{AccountId, ProjectId, Role, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::error::ApiError;
use crate::app::App;
use crate::auth;
use crate::browser::{Cookie, is_same_origin};
use crate::client::Client;
use crate::{clock, ingest};

/// Who may call an operation. There is none without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Everybody; what is needed beyond is a password or a code in the request.
    Anyone,
    /// Whoever signed in.
    Account,
    /// A member of the project in the path, with this role at least. To anybody else the project does not exist.
    Member(Role),
    /// An operator of the instance.
    Operator,
    /// An operator, or an owner of some project.
    Founder,
}

/// What an operation needs beyond being called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// A password or second factor of the last five minutes, in a browser's session: no bearer token will do.
    pub fresh_proof: bool,
    /// A browser's session, because it is about one.
    pub session: bool,
    /// The work of hashing a password, which few may ask for at a time.
    pub hashing: bool,
    /// A secret in its body, which is where it belongs: a project may have taken over the one that it has elsewhere.
    pub secret: bool,
}

/// What does the work of an operation.
pub(crate) type Handler<Q, A> = fn(&Call, Q) -> Result<A, ApiError>;

type Run = Arc<dyn Fn(&Call, Sent) -> Result<Vec<u8>, ApiError> + Send + Sync>;
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// An operation of the management API.
#[derive(Clone)]
pub(crate) struct Operation {
    pub method: Method,
    /// Below the API's prefix.
    pub path: &'static str,
    pub who: Who,
    pub needs: Needs,
    /// Its name in the OpenAPI document and in generated clients.
    pub id: &'static str,
    /// What it does, for whom it matters.
    pub summary: &'static str,
    pub request: SchemaOf,
    pub response: SchemaOf,
    run: Run,
}

impl Operation {
    /// Puts a handler under its method, path and policy. For GET the request's fields come in the query, else as a JSON body.
    pub(crate) fn new<Q, A>(
        method: Method,
        path: &'static str,
        who: Who,
        id: &'static str,
        run: Handler<Q, A>,
        summary: &'static str,
    ) -> Self
    where
        Q: DeserializeOwned + JsonSchema + 'static,
        A: Serialize + JsonSchema + 'static,
    {
        let run = Arc::new(move |call: &Call, sent: Sent| {
            let answer = run(call, sent.read::<Q>()?)?;
            serde_json::to_vec(&answer).map_err(|error| ApiError::internal(error.to_string()))
        });
        let (request, response): (SchemaOf, SchemaOf) = (|all| all.subschema_for::<Q>(), |all| all.subschema_for::<A>());
        Self { method, path, who, needs: Needs::default(), id, summary, request, response, run }
    }

    /// The same for whoever proved within five minutes who it is.
    pub(crate) fn fresh(mut self) -> Self {
        self.needs.fresh_proof = true;
        self
    }

    /// The same for whoever signed in: no bearer token will do.
    pub(crate) fn session(mut self) -> Self {
        self.needs.session = true;
        self
    }

    /// The same for work that hashes a password.
    pub(crate) fn hashing(mut self) -> Self {
        self.needs.hashing = true;
        self
    }

    /// The same for work that a secret of elsewhere is brought for.
    pub(crate) fn brings_secret(mut self) -> Self {
        self.needs.secret = true;
        self
    }

    fn is_reading(&self) -> bool {
        self.method == Method::GET
    }
}

/// An operation that takes nothing.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// A request's fields as they came.
enum Sent {
    Query(axum::http::Uri),
    Body(bytes::Bytes),
}

impl Sent {
    /// Refuses a live secret in a name or a text: it would be stored, and mailed.
    fn refuse_secrets(&self, call: &Call) -> Result<(), ApiError> {
        let Self::Body(bytes) = self else { return Ok(()) };
        let text = String::from_utf8_lossy(bytes);
        let Some(leaked) = call.app.credentials().leaked(&text, call.now) else { return Ok(()) };
        call.app.note_leak(leaked, crate::leaks::Place::Body, call.client.address, call.now);
        Err(ApiError::invalid(crate::leaks::Place::Body.refusal()))
    }

    fn read<Q: DeserializeOwned>(self) -> Result<Q, ApiError> {
        match self {
            Self::Query(uri) => match Query::<Q>::try_from_uri(&uri) {
                Ok(Query(query)) => Ok(query),
                Err(error) => {
                    Err(ApiError::invalid(error.body_text().trim_start_matches("Failed to deserialize query string: ").to_owned()))
                }
            },
            Self::Body(bytes) => {
                let bytes = if bytes.trim_ascii().is_empty() { &b"{}"[..] } else { bytes.trim_ascii() };
                if !bytes.starts_with(b"{") {
                    return Err(ApiError::invalid("the body must be a JSON object"));
                }
                serde_json::from_slice(bytes).map_err(|error| {
                    // The message of a mistake in the text repeats nothing of it; one about a value might.
                    let text = error.to_string();
                    ApiError::invalid(text.split(" at line ").next().unwrap_or("the body is no JSON object").to_owned())
                })
            }
        }
    }
}

/// A call of an operation that its policy let through.
pub(crate) struct Call {
    pub app: Arc<App>,
    pub by: By,
    pub now: Timestamp,
    pub client: Client,
    session: Option<Session>,
    role: Option<Role>,
    path: HashMap<String, String>,
    /// The token of the session's cookie, and of the device's.
    pub session_token: Option<String>,
    pub device_token: Option<String>,
    cookies: Mutex<Vec<HeaderValue>>,
}

impl Call {
    /// The session, where the call came with one.
    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Who calls. Only an operation that is for [`Who::Anyone`] is called by nobody.
    pub(crate) fn account(&self) -> Result<AccountId, ApiError> {
        self.by.account_id().ok_or_else(ApiError::not_signed_in)
    }

    /// The project in the path.
    pub(crate) fn project(&self) -> Result<ProjectId, ApiError> {
        self.id("project").map(ProjectId)
    }

    /// What the caller is in the project.
    pub(crate) fn role(&self) -> Role {
        self.role.unwrap_or(Role::Consumer)
    }

    /// A number in the path.
    pub(crate) fn id(&self, name: &str) -> Result<i64, ApiError> {
        self.text(name).parse().map_err(|_| ApiError::unknown(name))
    }

    /// A word in the path.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    /// Gives the browser a cookie.
    pub(crate) fn set_cookie(&self, cookie: Cookie, value: &str) {
        self.push_cookie(cookie, value, cookie.seconds());
    }

    /// Takes a cookie back.
    pub(crate) fn drop_cookie(&self, cookie: Cookie) {
        self.push_cookie(cookie, "", 0);
    }

    fn push_cookie(&self, cookie: Cookie, value: &str, seconds: u32) {
        let secure = if self.client.is_secure { "; Secure" } else { "" };
        let name = cookie.name(self.client.is_secure);
        let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
        if let Ok(value) = text.parse() {
            self.cookies.lock().unwrap_or_else(PoisonError::into_inner).push(value);
        }
    }
}

/// The longest body of an operation.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// How long a call waits for a place among those that run.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Calls that wait for a password to be hashed; more are asked to come back.
const WAITING_MAX: usize = 32;

/// The router of all operations.
pub(crate) fn router(operations: Vec<Operation>) -> Router<Arc<App>> {
    let mut router = Router::new();
    for operation in operations {
        let filter = MethodFilter::try_from(operation.method.clone()).expect("the table names methods of HTTP");
        let path = operation.path;
        let handler = on(filter, move |axum::extract::State(app): axum::extract::State<Arc<App>>, request: Request| {
            let operation = operation.clone();
            async move { secured(call(app, operation, request).await.unwrap_or_else(ApiError::into_response)) }
        });
        router = router.route(path, handler);
    }
    router
        .method_not_allowed_fallback(|| async {
            secured(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this path knows other methods").into_response())
        })
        .fallback(|| async { secured(ApiError::unknown("path").into_response()) })
}

/// Nothing of an answer is kept by anybody, or taken for what it is not.
fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    response
}

/// Somebody who waits for a password to be hashed, among a bounded number.
pub(crate) struct Waits<'a>(&'a std::sync::atomic::AtomicUsize);

impl<'a> Waits<'a> {
    /// Takes a place in the queue, or none where it is full.
    pub(crate) fn begin(waiting: &'a std::sync::atomic::AtomicUsize) -> Result<Self, ApiError> {
        let waits = Self(waiting);
        let before = waiting.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if before < WAITING_MAX { Ok(waits) } else { Err(ApiError::busy()) }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// How a caller showed who it is.
struct Caller {
    session: Option<Session>,
    account: Option<AccountId>,
}

/// Finds who calls: by a bearer token, else by the session's cookie. A bearer token that does not hold is never less than a refusal.
fn caller(app: &App, headers: &HeaderMap, session_token: Option<&str>, now: Timestamp) -> Result<Caller, ApiError> {
    if let Some(token) = auth::bearer(headers) {
        let account = app.credentials().account_of_bearer(&metastore::sha256(token.as_bytes()), now);
        let account = account.ok_or_else(|| ApiError::not_proven("this bearer token is unknown, revoked or expired"))?;
        return Ok(Caller { session: None, account: Some(account) });
    }
    let session = session_token.map(|token| app.metastore.session(token, now)).transpose()?.flatten();
    Ok(Caller { account: session.as_ref().map(|session| session.account), session })
}

/// Whether the policy of an operation lets the caller through; the caller's role where the operation is one of a project.
fn permit(
    app: &App,
    operation: &Operation,
    caller: &Caller,
    project: Option<ProjectId>,
    is_private: bool,
    now: Timestamp,
) -> Result<Option<Role>, ApiError> {
    if operation.who == Who::Anyone {
        return Ok(None);
    }
    let account = caller.account.ok_or_else(ApiError::not_signed_in)?;
    let is_operator = || -> Result<bool, ApiError> { Ok(app.metastore.account(account)?.is_some_and(|account| account.is_operator)) };
    let role = match operation.who {
        Who::Anyone | Who::Account => None,
        Who::Operator if is_operator()? => None,
        Who::Operator => return Err(ApiError::forbidden("not_operator", "only an operator may do this")),
        Who::Founder if is_operator()? => None,
        Who::Founder => {
            let owns = app.metastore.memberships(account)?.iter().any(|(_, role)| *role == Role::Owner);
            if !owns {
                return Err(ApiError::forbidden("not_owner", "only an operator or an owner of a project may do this"));
            }
            None
        }
        Who::Member(least) => {
            // A project of others is told from one that does not exist by nothing.
            let role = project.map(|project| app.metastore.role(project, account)).transpose()?.flatten();
            let role = role.ok_or_else(|| ApiError::unknown("project"))?;
            // Of whom a restored backup speaks, its owner has to judge first.
            let project = project.map(|project| app.metastore.project(project)).transpose()?.flatten();
            if project.as_ref().is_some_and(|project| project.suspended_at.is_some()) && role < Role::Owner {
                let message = "a backup was restored: an owner of the project has to confirm its credentials first";
                return Err(ApiError::forbidden("suspended", message));
            }
            if project.is_some_and(|project| project.requires_tls) && !is_private {
                return Err(ApiError::forbidden("tls_needed", "this project is managed over TLS only"));
            }
            match least {
                least if role >= least => Some(role),
                Role::Owner => return Err(ApiError::forbidden("not_owner", "only the project's owner may do this")),
                Role::Admin => return Err(ApiError::forbidden("not_admin", "only an admin or owner of the project may do this")),
                _ => return Err(ApiError::forbidden("not_analyst", "your role in this project does not allow this")),
            }
        }
    };
    if operation.needs.session && caller.session.is_none() {
        return Err(ApiError::not_signed_in());
    }
    if operation.needs.fresh_proof && !caller.session.as_ref().is_some_and(|session| session.is_fresh(now)) {
        return Err(ApiError::not_fresh());
    }
    Ok(role)
}

async fn call(app: Arc<App>, operation: Operation, request: Request) -> Result<Response, ApiError> {
    let (mut parts, body): (Parts, Body) = request.into_parts();
    let path = RawPathParams::from_request_parts(&mut parts, &app).await.map_err(|error| ApiError::invalid(error.body_text()))?;
    let path: HashMap<String, String> = path.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let client = Client::of(&parts, &app.settings.listen.trusted_proxies);
    let is_bearer = auth::bearer(&parts.headers).is_some();
    // The body is read before anything is refused: a client that still sends it would take the answer for a broken connection.
    let sent = if operation.is_reading() {
        Sent::Query(parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |uri| &uri.0).clone())
    } else {
        let received = ingest::collect(&app, body, BODY_BYTES_MAX).await;
        Sent::Body(
            received.map_err(|_| ApiError::invalid(format!("the body must arrive in time and have at most {BODY_BYTES_MAX} bytes")))?.bytes,
        )
    };
    // A form of another site can send neither JSON nor these headers; a browser says truthfully which site asks.
    if !is_bearer && !is_same_origin(&parts.headers, &app.settings.listen.public_url) {
        return Err(ApiError::forbidden("other_site", "this call comes from the page of another site"));
    }
    let has_body = matches!(&sent, Sent::Body(bytes) if !bytes.trim_ascii().is_empty());
    if has_body || !operation.is_reading() && parts.headers.contains_key(header::CONTENT_TYPE) {
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
            let message = "send the header `content-type: application/json`";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message));
        }
    }
    let place = |places: Arc<tokio::sync::Semaphore>| async move {
        tokio::time::timeout(WAIT_MAX, places.acquire_owned()).await.ok().and_then(Result::ok).ok_or_else(ApiError::busy)
    };
    // Whoever waits for a password to be hashed holds no place that others need.
    let _hashing = match operation.needs.hashing {
        true => {
            let _waits = Waits::begin(&app.waiting_for_hashing)?;
            Some(place(app.hashing.clone()).await?)
        }
        false => None,
    };
    let _place = place(app.operations.clone()).await?;
    let (session_token, device_token) =
        (Cookie::Session.read(&parts.headers, client.is_secure), Cookie::Device.read(&parts.headers, client.is_secure));
    let headers = parts.headers;
    let done = tokio::task::spawn_blocking(move || {
        let now = clock::latest();
        let caller = caller(&app, &headers, session_token.as_deref(), now)?;
        let project = path.get("project").and_then(|id| id.parse().ok()).map(ProjectId);
        let role = permit(&app, &operation, &caller, project, client.is_private, now)?;
        let actor = caller.account.map_or(Actor::Visitor, Actor::Account);
        let by = By { actor, address: client.address.to_string(), at: now };
        let cookies = Mutex::default();
        let call = Call { app, by, now, client, session: caller.session, role, path, session_token, device_token, cookies };
        if !operation.needs.secret {
            sent.refuse_secrets(&call)?;
        }
        let done = (operation.run)(&call, sent);
        // An answer that tells of a change goes out after the running server has applied it.
        if !operation.is_reading() {
            call.app.follow_credentials()?;
        }
        let body = done?;
        let mut response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
        for cookie in call.cookies.into_inner().unwrap_or_else(PoisonError::into_inner) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        Ok(response)
    });
    done.await.map_err(ApiError::internal)?
}
