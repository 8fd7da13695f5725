//! `/track`, `/engage`, `/groups`, `/import`: read, decode, store, and only then answer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use metastore::{CredentialTable, Outcome};
use model::{Event, ProfileUpdate, ProjectId, Timestamp};
use store::StoreError;
use wire::body::{BodyError, Limits};
use wire::dialect::{Endpoint, Reply, identity_refused, reply};
use wire::track::{Record, Rejection, Rules};
use wire::{body, engage, json, track};

use crate::app::App;
use crate::auth::{self, Client, Refusal};
use crate::clock;

const LIMITS: Limits = Limits { decoded_bytes_max: 10 * 1024 * 1024, records_max: 2000 };

/// Bodies that are unpacked at a time.
pub(crate) const UNPACKING_MAX: usize = 4;

/// Longer bodies are decoded where they do not keep other requests waiting.
const INLINE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of bodies, beyond the first ones of each, that are held while they arrive.
pub(crate) const RECEIVING_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The first bytes of a body, which it always may bring: small requests never wait for long ones.
const FIRST_BYTES: usize = 64 * 1024;

/// Runs work that takes long away from the threads that serve connections.
fn aside<T>(is_long: bool, work: impl FnOnce() -> T) -> T {
    if is_long { tokio::task::block_in_place(work) } else { work() }
}

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

/// A body with its place among those that are held.
pub(crate) struct Received {
    pub bytes: Bytes,
    _places: Vec<tokio::sync::OwnedSemaphorePermit>,
}

impl std::ops::Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a whole body within a bound of bytes, of time, and of pauses. All bodies together are bounded too.
pub(crate) async fn collect(app: &App, body: Body, bytes_max: usize) -> Result<Received, Unread> {
    let listen = &app.settings.listen;
    let mut places = Vec::new();
    let read = async {
        let mut held = FIRST_BYTES;
        let mut body = Limited::new(body, bytes_max);
        let mut whole = BytesMut::new();
        while let Some(frame) = tokio::time::timeout(listen.body_idle_timeout(), body.frame()).await.map_err(|_| Unread::Broken)? {
            let frame = frame.map_err(|error| if error.is::<LengthLimitError>() { Unread::TooLarge } else { Unread::Broken })?;
            if let Ok(data) = frame.into_data() {
                whole.extend_from_slice(&data);
            }
            if whole.len() > held {
                // Room is taken for as much again as there is: a body asks a few times only.
                let more = held.min(bytes_max);
                let place = app.receiving.clone().acquire_many_owned(more as u32);
                let place = tokio::time::timeout(listen.body_idle_timeout(), place).await.map_err(|_| Unread::Broken)?;
                places.push(place.map_err(|_| Unread::Broken)?);
                held += more;
            }
        }
        Ok(whole.freeze())
    };
    let bytes = tokio::time::timeout(listen.body_timeout(), read).await.map_err(|_| Unread::Broken)??;
    Ok(Received { bytes, _places: places })
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
    // A few bytes of gzip may hold very many: a few bodies are unpacked at a time. Records take several times the bytes that they had: so
    // many bytes are decoded at a time, the others wait as bytes.
    let is_packed = sent.starts_with(&[0x1f, 0x8b]);
    let unpacking = if is_packed { app.unpacking.acquire().await.ok() } else { None };
    let plain = aside(is_packed, || body::unpack(&sent, LIMITS));
    drop(sent);
    let plain = match plain {
        Ok(plain) => plain,
        Err(error) => {
            let (options, _) = body::decode(query, b"", LIMITS);
            return respond(reply(endpoint, &options, 0, &[], Some(&error)));
        }
    };
    let _place = app.decoding.acquire_many(plain.len().clamp(1, DECODING_BYTES_MAX) as u32).await;
    drop(unpacking);
    let now = clock::now();
    let is_long = plain.len() > INLINE_BYTES_MAX;
    let (options, records) = aside(is_long, || body::decode_plain(query, plain, LIMITS));
    let table = app.credentials();
    let client = Client::of(&parts, &app.settings.listen.trusted_proxies);
    let mut writer = auth::Writer { project: None, authenticated: false, by: None };
    if endpoint == Endpoint::Import {
        match auth::prove_import(&table, &client, &parts.headers, options.api_key.as_deref(), options.project_id.as_deref(), now) {
            Ok(proven) => writer = proven,
            Err(Refusal { status, text, knocked }) => {
                knocked.into_iter().for_each(|by| client.note(&app, by, Outcome::Revoked, parts.uri.path(), now));
                let mut response = respond(Reply::refused(status, &text));
                if status == 401 {
                    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(auth::CHALLENGE));
                }
                return response;
            }
        }
    }
    if let Some(by) = writer.by.take() {
        client.note(&app, by, Outcome::Accepted, parts.uri.path(), now);
    }
    let records = match records {
        Ok(records) => records,
        Err(error) => return redirected(&app, &options, respond(reply(endpoint, &options, 0, &[], Some(&error)))),
    };
    if endpoint == Endpoint::Import && options.strict && records.iter().any(track::is_identity_verb) {
        return respond(identity_refused());
    }
    let makes = Fresh { table: &table, project: writer.project, address: options.ip.then_some(client.address), now };
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
                Record::Good { token, item } => match writer.project.or_else(|| app.project_of_token(&table, &token, now)) {
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
            let groups = endpoint == Endpoint::Groups;
            let rules = engage::Rules { groups, authenticated: false, now, is_long: options.is_long };
            match engage::updates(index, &record, rules) {
                Record::Good { token, item } => match app.project_of_token(&table, &token, now) {
                    Some(project) => updates.entry(project).or_default().extend(item),
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
    now: Timestamp,
}

impl track::Makes for Fresh<'_> {
    fn insert_id(&self) -> String {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes).expect("the operating system has randomness");
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn sender_id(&self, token: &str) -> Option<String> {
        let project = self.project.or_else(|| self.table.project_of_token(token, self.now))?;
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
