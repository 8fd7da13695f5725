//! `/track`, `/engage`, `/groups`, `/import`: read, decode, store, and only then answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Limited};
use metastore::{CredentialTable, Outcome};
use model::{AccessRight, IdentityMode, Reason, Timestamp};
use store::StoreError;
use tokio::sync::SemaphorePermit;
use wire::body::{BodyError, Limits, Options};
use wire::dialect::{Endpoint, Reply, identity_refused, reply};
use wire::{body, track};

use crate::app::App;
use crate::auth::{self, Refusal, Writer};
use crate::client::Client;
use crate::judge::{self, Judge, Judged};
use crate::live::Offer;
use crate::notes::Notes;
use crate::{client, clock, gate, leaks};

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
        let mut body = body;
        let mut whole = BytesMut::new();
        while let Some(frame) = tokio::time::timeout(listen.body_idle_timeout(), body.frame()).await.map_err(|_| Unread::Broken)? {
            let data = frame.map_err(|_| Unread::Broken)?.into_data().unwrap_or_default();
            if whole.len() + data.len() > bytes_max {
                // Its place is free for others; the rest is heard out, so that the client hears the answer.
                drop(whole);
                places.clear();
                discard(app, body).await;
                return Err(Unread::TooLarge);
            }
            whole.extend_from_slice(&data);
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

/// Reads a body that nobody wants: a client that still sends it would take the answer for a broken connection. How long it was.
pub(crate) async fn drain(app: &App, request: Request) -> u64 {
    discard(app, request.into_body()).await
}

async fn discard(app: &App, body: Body) -> u64 {
    const DISCARDED_BYTES_MAX: usize = 64 * 1024 * 1024;
    discard_within(app, body, DISCARDED_BYTES_MAX).await
}

/// As [`drain`], up to a number of bytes.
pub(crate) async fn discard_within(app: &App, body: Body, bytes_max: usize) -> u64 {
    let listen = &app.settings.listen;
    let mut body = Limited::new(body, bytes_max);
    let mut bytes = 0;
    let read = async {
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(listen.body_idle_timeout(), body.frame()).await {
            bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
    };
    let _ = tokio::time::timeout(listen.body_timeout(), read).await;
    bytes
}

/// Handles a write request.
pub(crate) async fn write(endpoint: Endpoint, State(app): State<Arc<App>>, request: Request) -> Response {
    app.counts.requests.fetch_add(1, Ordering::Relaxed);
    let (parts, sent) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let (plain, _place) = match plain(endpoint, &app, &parts, sent).await {
        Ok(plain) => plain,
        Err(refused) => return refused,
    };
    let now = clock::now();
    let is_long = plain.len() > INLINE_BYTES_MAX;
    let (table, ended) = (app.credentials(), clock::latest());
    let client = Client::of(&parts, &app.settings.listen.trusted_proxies);
    let leaked = judge::leak_around(&table, query, &plain, now);
    let (options, records) = aside(is_long, || body::decode_plain(query, plain, LIMITS));
    let options = Options { from_page: is_from_page(&parts), ..options };
    if let Some((leaked, place)) = leaked {
        app.note_leak(leaked, place, client.address, now);
        return respond(match endpoint {
            Endpoint::Import => Reply::refused(400, place.refusal()),
            _ => reply(endpoint, &options, 0, &[], Some(&BodyError::Malformed(place.refusal().to_owned()))),
        });
    }
    if let Some(leaked) = leaks::as_api_key(&table, options.api_key.as_deref(), ended) {
        app.note_leak(leaked, leaks::Place::Url, client.address, now);
    }
    let writer = match writer(endpoint, &app, &table, &client, &parts, &options, ended) {
        Ok(writer) => writer,
        Err(refused) => return refused,
    };
    let records = match records {
        Ok(records) => records,
        Err(error) => return redirected(&app, &options, respond(reply(endpoint, &options, 0, &[], Some(&error)))),
    };
    let origin = gate::origin(&parts.method, &parts.headers);
    let judge = Judge {
        app: &app,
        table: &table,
        endpoint,
        options: &options,
        writer: &writer,
        address: client.address,
        origin: origin.as_deref(),
        headers: &parts.headers,
        host: client::host(&parts),
        now,
    };
    let is_simplified = writer.project.is_some_and(|project| judge::identity_mode(&table, project) == IdentityMode::Simplified);
    if endpoint == Endpoint::Import && options.strict && is_simplified && records.iter().any(track::is_identity_verb) {
        app.note(&judge.refuse_all(records, Reason::IdentityVerb), &table, now);
        return respond(identity_refused());
    }
    let mut judged = aside(is_long, || judge.judge(records));
    if judged.must_wait {
        tracing::warn!("a write waits: the identity secret of its project cannot be opened");
        return unavailable(endpoint, &options, TRY_AGAIN);
    }
    if let Err(wait) = app.quotas.take(&judged.loads(&table), client.limited_address(), now, clock::steady()) {
        return overloaded(endpoint, &options, wait);
    }
    app.counts.rejected.fetch_add(judged.rejections.len() as u64, Ordering::Relaxed);
    let (accepted, rejections) = (judged.accepted, std::mem::take(&mut judged.rejections));
    let notes = match store(&app, judged, is_long, now).await {
        Ok(notes) => notes,
        // The client sends all of it again, and then it counts.
        Err(error) => {
            app.counts.refused.fetch_add(1, Ordering::Relaxed);
            // Whoever fills the disk must not fill it with the server's log too: the store says once what is wrong.
            tracing::debug!(%error, "a write was refused");
            return match error {
                StoreError::Overloaded | StoreError::DiskFull { .. } => overloaded(endpoint, &options, TRY_AGAIN),
                _ => unavailable(endpoint, &options, TRY_AGAIN),
            };
        }
    };
    app.note(&notes, &table, now);
    redirected(&app, &options, respond(reply(endpoint, &options, accepted, &rejections, None)))
}

/// Whether a browser's page sent a request.
fn is_from_page(parts: &Parts) -> bool {
    parts.headers.contains_key(header::ORIGIN)
}

/// The body as its sender wrote it, with its place among those that are decoded.
async fn plain<'a>(
    endpoint: Endpoint,
    app: &'a App,
    parts: &Parts,
    body: Body,
) -> Result<(Vec<u8>, Option<SemaphorePermit<'a>>), Response> {
    // What the query says: nobody knows yet what stands in the body.
    let options = || Options { from_page: is_from_page(parts), ..body::decode(parts.uri.query().unwrap_or_default(), b"", LIMITS).0 };
    let sent = match collect(app, body, LIMITS.decoded_bytes_max + 4096).await {
        Ok(sent) => sent,
        Err(Unread::TooLarge) => {
            return Err(respond(reply(endpoint, &options(), 0, &[], Some(&BodyError::TooLarge(LIMITS.decoded_bytes_max)))));
        }
        // Nothing of it was taken. A client that is still there and slow tries again on 503; on 4xx some drop their data.
        Err(Unread::Broken) if endpoint == Endpoint::Import => return Err(respond(Reply::refused(408, "the body did not arrive in time"))),
        Err(Unread::Broken) => return Err(unavailable(endpoint, &options(), TRY_AGAIN)),
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
            return Err(respond(reply(endpoint, &options(), 0, &[], Some(&error))));
        }
    };
    let place = app.decoding.acquire_many(plain.len().clamp(1, DECODING_BYTES_MAX) as u32).await;
    drop(unpacking);
    Ok((plain, place.ok()))
}

/// Stores what was judged; nothing is acknowledged before. Returns what is to be noted of it.
async fn store(app: &App, judged: Judged, is_long: bool, now: Timestamp) -> Result<Notes, StoreError> {
    let Judged { mut events, updates, mut notes, .. } = judged;
    aside(is_long, || app.names.spill(&mut events, &mut notes, now));
    // A request may speak for several projects. It is stored whole or not at all: whoever is told to come back brings all of it again.
    if !events.is_empty() {
        let count = events.values().map(Vec::len).sum::<usize>() as u64;
        let offers: Vec<Offer> = events.iter().filter_map(|(project, events)| app.live.offer(*project, events)).collect();
        app.store.append_all(events).await?;
        offers.into_iter().for_each(Offer::show);
        app.counts.events.fetch_add(count, Ordering::Relaxed);
    }
    if !updates.is_empty() {
        let count = updates.values().map(Vec::len).sum::<usize>() as u64;
        app.store.append_all_profiles(updates).await?;
        app.counts.updates.fetch_add(count, Ordering::Relaxed);
    }
    Ok(notes)
}

/// Who writes. `/import` asks for a credential; elsewhere one is taken where it holds, and one that does not makes nobody less than public.
#[expect(clippy::result_large_err, reason = "what is refused is an answer already, and is sent as it is")]
fn writer(
    endpoint: Endpoint,
    app: &App,
    table: &CredentialTable,
    client: &Client,
    parts: &Parts,
    options: &Options,
    now: Timestamp,
) -> Result<Writer, Response> {
    let (headers, path, project_id) = (&parts.headers, parts.uri.path(), options.project_id.as_deref());
    let proven = match endpoint {
        Endpoint::Import => auth::prove_import(table, client, headers, options.api_key.as_deref(), project_id, now),
        Endpoint::Track => auth::prove_writer(table, client, headers, project_id, AccessRight::Import, now),
        Endpoint::Engage | Endpoint::Groups => auth::prove_writer(table, client, headers, project_id, AccessRight::ProfilesWrite, now),
    };
    match proven {
        Ok(mut writer) => {
            writer.by.take().into_iter().for_each(|by| client.note(app, by, Outcome::Accepted, path, now));
            Ok(writer)
        }
        Err(Refusal { status, text, knocked }) => {
            knocked.into_iter().for_each(|by| client.note(app, by, Outcome::Revoked, path, now));
            if endpoint != Endpoint::Import {
                return Ok(Writer::PUBLIC);
            }
            let mut response = respond(Reply::refused(status, &text));
            if status == 401 {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(auth::CHALLENGE));
            }
            Err(response)
        }
    }
}

/// Sends the visitor on, where the request asks for it and the settings name the host.
fn redirected(app: &App, options: &Options, mut response: Response) -> Response {
    if let Some(target) = options.redirect.as_deref().and_then(|target| allowed_redirect(target, &app.settings.track.redirect_hosts)) {
        *response.status_mut() = StatusCode::FOUND;
        response.headers_mut().insert(header::LOCATION, target);
    }
    response
}

/// The target of a redirect, where the settings name its host.
fn allowed_redirect(target: &str, hosts: &[String]) -> Option<HeaderValue> {
    let uri: Uri = target.parse().ok()?;
    let known = hosts.iter().any(|host| uri.host().is_some_and(|given| given.eq_ignore_ascii_case(host)));
    // Browsers read what others do not: a backslash as a slash, a user before the host.
    let is_plain = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    (known && is_plain && !has_user && matches!(uri.scheme_str(), Some("http" | "https"))).then(|| target.parse().ok()).flatten()
}

pub(crate) fn respond(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, reply.content_type), (header::CACHE_CONTROL, "no-store")], reply.body).into_response()
}

/// Nothing of a request was taken, and soon it may be.
fn unavailable(endpoint: Endpoint, options: &Options, wait: Duration) -> Response {
    try_again(respond(wire::dialect::unavailable(endpoint, options)), wait)
}

/// There was more than a quota or the disk takes. Client SDKs keep a batch on 503; on 429 one of them drops it.
fn overloaded(endpoint: Endpoint, options: &Options, wait: Duration) -> Response {
    match endpoint {
        Endpoint::Import => {
            let text = "Project exceeded rate limits. Please retry the request with exponential backoff.";
            try_again(respond(Reply::refused(429, text)), wait)
        }
        _ => unavailable(endpoint, options, wait),
    }
}

/// When a client is asked to come back where nothing says better.
const TRY_AGAIN: Duration = Duration::from_secs(5);

fn try_again(mut response: Response, wait: Duration) -> Response {
    let seconds = wait.as_millis().div_ceil(1000).max(1).to_string();
    response.headers_mut().extend(seconds.parse().ok().map(|value| (header::RETRY_AFTER, value)));
    response
}
