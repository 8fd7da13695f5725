//! `/lookup-tables`: scripts list the lookup tables of a project and put new contents in their place (`contract/write.md` 1.5).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, header};
use axum::response::Response;
use metastore::{MetaError, Outcome, ReplacedBy};
use model::ProjectId;
use store::ReplaceError;
use wire::dialect::Reply;
use wire::lookup_tables as tables;
use wire::params::Params;

use crate::app::App;
use crate::auth::{self, Refusal};
use crate::client::{Client, Use};
use crate::ingest::{self, Unread, respond};
use crate::{clock, leaks};

/// Files that are read at a time: each takes several times its bytes.
pub(crate) const READING_MAX: usize = 1;

/// So much of a file that nobody wants is read.
const DISCARDED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A request whose credential proved itself.
struct Access {
    project: ProjectId,
    by: Use,
}

/// Who asks, and for which project.
fn prove(app: &App, parts: &Parts) -> Result<Access, Refusal> {
    let client = Client::of(parts, &app.settings.listen.trusted_proxies);
    let params = Params::parse(parts.uri.query().unwrap_or_default(), None);
    let proven = auth::prove_tables(&app.credentials(), &client, &parts.headers, params.filled("project_id"), clock::latest())?;
    Ok(Access { project: proven.project, by: proven.by })
}

/// As [`prove`]; the answer where it does not hold. A live secret in the URL is refused whoever asks.
#[expect(clippy::result_large_err, reason = "what is refused is an answer already, and is sent as it is")]
fn enter(app: &App, parts: &Parts) -> Result<Access, Response> {
    let (client, now) = (Client::of(parts, &app.settings.listen.trusted_proxies), clock::latest());
    let (table, uri) = (app.credentials(), &parts.uri);
    let params = Params::parse(uri.query().unwrap_or_default(), None);
    if let Some(leaked) = leaks::in_params(&table, &params, now).or_else(|| table.leaked(uri.path(), now)) {
        app.note_leak(leaked, leaks::Place::Url, client.address, now);
        return Err(respond(Reply::refused(400, leaks::Place::Url.refusal())));
    }
    match prove(app, parts) {
        Ok(access) => {
            client.note(app, access.by.clone(), Outcome::Accepted, uri.path(), now);
            Ok(access)
        }
        Err(refusal) => {
            refusal.knocked.clone().into_iter().for_each(|by| client.note(app, by, Outcome::Revoked, uri.path(), now));
            Err(refused(&refusal))
        }
    }
}

fn refused(refusal: &Refusal) -> Response {
    let mut response = respond(Reply::refused(refusal.status, &refusal.text));
    if refusal.status == 401 {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(auth::CHALLENGE));
    }
    response
}

fn other_method(allowed: Method) -> Response {
    let mut response = respond(Reply::refused(405, &format!("this path takes {allowed}")));
    response.headers_mut().extend(allowed.as_str().parse().ok().map(|value| (header::ALLOW, value)));
    response
}

fn is(given: &Method, wanted: &Method) -> bool {
    given.as_str().eq_ignore_ascii_case(wanted.as_str())
}

fn failed(cause: &dyn std::fmt::Display) -> Response {
    tracing::error!(%cause, "a lookup table could not be read or replaced");
    let mut response = respond(Reply::refused(503, "a temporary failure occurred"));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

/// The tables of a project. Mixpanel: GET /lookup-tables.
pub(crate) async fn list(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    if !is(&parts.method, &Method::GET) {
        return other_method(Method::GET);
    }
    let access = match enter(&app, &parts) {
        Ok(access) => access,
        Err(response) => return response,
    };
    let found = tokio::task::spawn_blocking(move || app.metastore.lookup_tables(access.project)).await;
    match found {
        Ok(Ok(found)) => respond(tables::list(found.iter().map(|table| (table.id.as_str(), table.name.as_str())))),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

/// Whether a content for a table may come: who sends it, whether there is the table, and how many came today.
async fn admit(app: &Arc<App>, parts: &Parts, id: &str) -> Result<Access, Response> {
    if !is(&parts.method, &Method::PUT) {
        return Err(other_method(Method::PUT));
    }
    let access = enter(app, parts)?;
    let declared = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > tables::FILE_BYTES_MAX as u64) {
        return Err(respond(tables::invalid(&tables::TableError::TooLarge)));
    }
    let (asking, asked, project) = (app.clone(), id.to_owned(), access.project);
    let calls_max = app.settings.lookup_tables.calls_per_day_max;
    let allowed = tokio::task::spawn_blocking(move || {
        Ok::<_, MetaError>(match asking.metastore.lookup_table(project, &asked)? {
            Some(_) => Some(asking.metastore.count_lookup_call(project, calls_max, clock::latest())?),
            None => None,
        })
    });
    match allowed.await {
        Ok(Ok(Some(Ok(())))) => Ok(access),
        Ok(Ok(Some(Err(wait_ms)))) => {
            let text = "Project exceeded rate limits. Please retry the request with exponential backoff.";
            let mut response = respond(Reply::refused(429, text));
            let seconds = Duration::from_millis(wait_ms.max(0) as u64).as_secs() + 1;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            Err(response)
        }
        Ok(Ok(None)) => Err(respond(tables::not_found(id))),
        Ok(Err(error)) => Err(failed(&error)),
        Err(error) => Err(failed(&error)),
    }
}

/// A new content for a table: all of it, or none. Mixpanel: PUT /lookup-tables/{id}.
pub(crate) async fn replace(State(app): State<Arc<App>>, Path(id): Path<String>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let id = id.to_ascii_lowercase();
    let access = match admit(&app, &parts, &id).await {
        Ok(access) => access,
        Err(response) => {
            // A client that still sends its file would take the answer for a broken connection.
            ingest::discard_within(&app, body, DISCARDED_BYTES_MAX).await;
            return response;
        }
    };
    let received = match ingest::collect(&app, body, tables::FILE_BYTES_MAX).await {
        Ok(received) => received,
        Err(Unread::TooLarge) => return respond(tables::invalid(&tables::TableError::TooLarge)),
        Err(Unread::Broken) => return respond(Reply::refused(408, "the body did not arrive in time")),
    };
    let Ok(_place) = app.reading_tables.acquire().await else { return failed(&"the server stops") };
    // A reset is effective with its answer, for what was on its way too.
    if let Err(refusal) = prove(&app, &parts) {
        return refused(&refusal);
    }
    let address = Client::of(&parts, &app.settings.listen.trusted_proxies).address.to_string();
    let replacing = app.clone();
    let done = tokio::task::spawn_blocking(move || {
        let table = match tables::parse(&received) {
            Ok(table) => table,
            Err(error) => return respond(tables::invalid(&error)),
        };
        drop(received);
        let by = ReplacedBy::Credential { name: &access.by.credential, address: &address, at: clock::now() };
        match replacing.store.replace_lookup(access.project, &id, &table, by) {
            Ok(()) => respond(tables::replaced()),
            // It was deleted meanwhile.
            Err(ReplaceError::Metastore(MetaError::Unknown(_))) => respond(tables::not_found(&id)),
            Err(ReplaceError::Metastore(MetaError::Invalid(text))) => respond(Reply::refused(400, &text)),
            Err(error) => failed(&error),
        }
    });
    done.await.unwrap_or_else(|error| failed(&error))
}
