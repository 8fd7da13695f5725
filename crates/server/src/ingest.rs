//! `/track`, `/engage`, `/groups`, `/import`: read, decode, store, and only then answer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use metastore::CredentialTable;
use model::{Event, ProfileUpdate, ProjectId};
use store::StoreError;
use wire::body::{BodyError, Limits};
use wire::dialect::{Endpoint, Reply, identity_refused, reply};
use wire::track::{Record, Rejection, Rules};
use wire::{body, engage, json, track};

use crate::app::App;
use crate::auth::{self, Refusal};
use crate::clock;
use crate::listen::Peer;

const LIMITS: Limits = Limits { decoded_bytes_max: 10 * 1024 * 1024, records_max: 2000 };

/// Bytes of requests that are decoded and stored at a time.
pub(crate) const DECODING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a body did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is longer than allowed.
    TooLarge,
    /// It paused or took too long, or the connection broke.
    Broken,
}

/// Reads a whole body within a bound of bytes, of time, and of pauses.
pub(crate) async fn collect(app: &App, body: Body, bytes_max: usize) -> Result<Bytes, Unread> {
    let listen = &app.settings.listen;
    let read = async {
        let mut body = Limited::new(body, bytes_max);
        let mut whole = BytesMut::new();
        while let Some(frame) = tokio::time::timeout(listen.body_idle_timeout(), body.frame()).await.map_err(|_| Unread::Broken)? {
            let frame = frame.map_err(|error| if error.is::<LengthLimitError>() { Unread::TooLarge } else { Unread::Broken })?;
            if let Ok(data) = frame.into_data() {
                whole.extend_from_slice(&data);
            }
        }
        Ok(whole.freeze())
    };
    tokio::time::timeout(listen.body_timeout(), read).await.map_err(|_| Unread::Broken)?
}

/// Reads a body that nobody wants: a client that still sends it would take the answer for a broken connection.
pub(crate) async fn drain(app: &App, request: Request) {
    const DRAINED_BYTES_MAX: usize = 64 * 1024 * 1024;
    let listen = &app.settings.listen;
    let mut body = Limited::new(request.into_body(), DRAINED_BYTES_MAX);
    let read = async { while let Ok(Some(Ok(_))) = tokio::time::timeout(listen.body_idle_timeout(), body.frame()).await {} };
    let _ = tokio::time::timeout(listen.body_timeout(), read).await;
}

/// Handles a write request.
pub(crate) async fn write(endpoint: Endpoint, State(app): State<Arc<App>>, request: Request) -> Response {
    app.counts.requests.fetch_add(1, Ordering::Relaxed);
    let (parts, sent) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let sent = match collect(&app, sent, LIMITS.decoded_bytes_max + 4096).await {
        Ok(sent) => sent,
        Err(Unread::TooLarge) => {
            let (options, _) = body::decode(query, b"", LIMITS);
            return respond(reply(endpoint, &options, 0, &[], Some(&BodyError::TooLarge(LIMITS.decoded_bytes_max))));
        }
        // Nothing of it was taken. A client that is still there and slow tries again on 503; on 4xx some drop their data.
        Err(Unread::Broken) if endpoint == Endpoint::Import => return respond(Reply::refused(408, "the body did not arrive in time")),
        Err(Unread::Broken) => return try_again(StatusCode::SERVICE_UNAVAILABLE.into_response()),
    };
    // Records take several times the bytes that they had: so many are decoded at a time, the others wait as bytes.
    let packed = sent.starts_with(&[0x1f, 0x8b]);
    let bytes = (sent.len() * if packed { 8 } else { 1 }).clamp(1, DECODING_BYTES_MAX) as u32;
    let _place = app.decoding.acquire_many(bytes).await;
    let now = clock::now();
    let (options, records) = body::decode(query, &sent, LIMITS);
    let table = app.credentials();
    let mut writer = auth::Writer { project: None, authenticated: false };
    if endpoint == Endpoint::Import {
        match auth::prove_import(&table, &parts.headers, options.api_key.as_deref(), options.project_id.as_deref(), now) {
            Ok(proven) => writer = proven,
            Err(Refusal(status, text)) => {
                let mut response = respond(Reply::refused(status, &text));
                if status == 401 {
                    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(auth::CHALLENGE));
                }
                return response;
            }
        }
    }
    let records = match records {
        Ok(records) => records,
        Err(error) => return redirected(&app, &options, respond(reply(endpoint, &options, 0, &[], Some(&error)))),
    };
    if endpoint == Endpoint::Import && options.strict && records.iter().any(track::is_identity_verb) {
        return respond(identity_refused());
    }
    let makes = Fresh { table: &table, project: writer.project, address: options.ip.then(|| address(&parts)).flatten() };
    let rules = Rules {
        import: endpoint == Endpoint::Import,
        strict: options.strict,
        credentialed: writer.project.is_some(),
        authenticated: writer.authenticated,
        now,
        is_long: options.is_long,
    };
    let (mut accepted, mut rejections) = (0, Vec::<Rejection>::new());
    let mut events: HashMap<ProjectId, Vec<Event>> = HashMap::new();
    let mut updates: HashMap<ProjectId, Vec<ProfileUpdate>> = HashMap::new();
    for (index, mut record) in records.into_iter().enumerate() {
        if options.lossy {
            let broken = json::broken_in(&record).filter(|_| options.strict && endpoint == Endpoint::Import);
            if let Some(property) = broken {
                rejections.push(track::not_utf8(index, &record, property));
                continue;
            }
            json::mend(&mut record);
        }
        if matches!(endpoint, Endpoint::Track | Endpoint::Import) {
            match track::event(index, record, rules, &makes) {
                Record::Good { token, item } => match writer.project.or_else(|| table.tokens.get(&token).copied()) {
                    Some(project) => events.entry(project).or_default().push(item),
                    None if app.is_secret(&table, &token) => {
                        rejections.push(secret_in_place_of_token(index));
                        continue;
                    }
                    None => app.count_unknown(&token),
                },
                Record::Dropped => {}
                Record::Refused(rejection) => {
                    rejections.push(rejection);
                    continue;
                }
            }
        } else {
            match engage::updates(index, &record, endpoint == Endpoint::Groups, options.is_long, now) {
                Record::Good { token, item } => match table.tokens.get(&token) {
                    Some(project) => updates.entry(*project).or_default().extend(item),
                    None if app.is_secret(&table, &token) => {
                        rejections.push(secret_in_place_of_token(index));
                        continue;
                    }
                    None => app.count_unknown(&token),
                },
                Record::Dropped => {}
                Record::Refused(rejection) => {
                    rejections.push(rejection);
                    continue;
                }
            }
        }
        accepted += 1;
    }
    app.counts.rejected.fetch_add(rejections.len() as u64, Ordering::Relaxed);
    for (project, events) in events {
        let count = events.len() as u64;
        if let Err(error) = app.store.append(project, events).await {
            return unavailable(endpoint, &error);
        }
        app.counts.events.fetch_add(count, Ordering::Relaxed);
    }
    for (project, updates) in updates {
        let count = updates.len() as u64;
        if let Err(error) = app.store.append_profiles(project, updates).await {
            return unavailable(endpoint, &error);
        }
        app.counts.updates.fetch_add(count, Ordering::Relaxed);
    }
    redirected(&app, &options, respond(reply(endpoint, &options, accepted, &rejections, None)))
}

/// Sends the visitor on, where the request asks for it and the settings name the host.
fn redirected(app: &App, options: &body::Options, mut response: Response) -> Response {
    if let Some(target) = options.redirect.as_deref().and_then(|target| allowed_redirect(target, &app.settings.track.redirect_hosts)) {
        *response.status_mut() = StatusCode::FOUND;
        response.headers_mut().insert(header::LOCATION, target);
    }
    response
}

/// What is made for events that do not bring it.
struct Fresh<'a> {
    table: &'a CredentialTable,
    /// The project that a credential names.
    project: Option<ProjectId>,
    /// The sender's address, where the request asked for it with `ip=1`.
    address: Option<IpAddr>,
}

impl track::Makes for Fresh<'_> {
    fn insert_id(&self) -> String {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes).expect("the operating system has randomness");
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn sender_id(&self, token: &str) -> Option<String> {
        let project = self.project.or_else(|| self.table.tokens.get(token).copied())?;
        // Under the project's own key: no list of all addresses tells whose hash it is.
        let key = self.table.projects.get(&project)?.hash_key.expose();
        let hash = metastore::sha256(&[key.as_bytes(), b" address ", self.address?.to_string().as_bytes()].concat());
        Some(hash[..16].iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

fn secret_in_place_of_token(index: usize) -> Rejection {
    let message = "an API secret stands in the place of the project token";
    Rejection { index, insert_id: String::new(), field: "properties.token".to_owned(), message: message.to_owned(), verbose: message }
}

/// The address of the client: of the connection, or what a proxy on this machine says that it is.
fn address(parts: &Parts) -> Option<IpAddr> {
    let peer = parts.extensions.get::<Peer>()?.0.ip();
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).filter(|_| peer.is_loopback());
    let forwarded = header("x-forwarded-for").and_then(|list| list.rsplit(',').next()).or_else(|| header("x-real-ip"));
    forwarded.and_then(|address| address.trim().parse().ok()).or(Some(peer))
}

/// The target of a redirect, where the settings name its host.
fn allowed_redirect(target: &str, hosts: &[String]) -> Option<HeaderValue> {
    let uri: Uri = target.parse().ok()?;
    let known = hosts.iter().any(|host| uri.host().is_some_and(|given| given.eq_ignore_ascii_case(host)));
    (known && matches!(uri.scheme_str(), Some("http" | "https"))).then(|| target.parse().ok()).flatten()
}

fn respond(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, reply.content_type), (header::CACHE_CONTROL, "no-store")], reply.body).into_response()
}

/// Nothing was acknowledged. Client SDKs keep a batch on 503; on 429 one of them drops it.
fn unavailable(endpoint: Endpoint, error: &StoreError) -> Response {
    tracing::warn!(%error, "a write was refused");
    try_again(match (endpoint, error) {
        (Endpoint::Import, StoreError::Overloaded) => {
            respond(Reply::refused(429, "Project exceeded rate limits. Please retry the request with exponential backoff."))
        }
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    })
}

fn try_again(mut response: Response) -> Response {
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}
