//! `/api/app`: who a service account or a bearer token is, and how service accounts are managed, as the original's scripts ask for it
//! (`contract/read.md` 2.4, 3.13, 3.15). Everything else below it is not there.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use metastore::{Actor, By, MetaError, Metastore, NewServiceAccount, ServiceAccountRow};
use model::{AccountId, ProjectId, Role};
use wire::app::{self, AppProject, AppServiceAccount};

use crate::app::App;
use crate::auth::{self, AppCaller};
use crate::client::Client;
use crate::{clock, ingest, views};

const BODY_BYTES_MAX: usize = 64 * 1024;

fn answer(status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

fn refused(status: u16, message: &str) -> Response {
    answer(status, app::error(message))
}

fn failed(error: &MetaError) -> Response {
    match error {
        MetaError::NotOwner(_) | MetaError::NotAdmin(_) | MetaError::NotOperator(_) | MetaError::BeyondRole(_) => {
            refused(403, "User does not have permission")
        }
        MetaError::Unknown(what) => refused(404, &format!("unknown {what}")),
        MetaError::Taken(_) | MetaError::Invalid(_) => refused(400, &error.to_string()),
        _ => {
            tracing::error!(%error, "an operation failed");
            refused(500, "An unexpected error occurred.")
        }
    }
}

/// A call whose caller is proven.
pub(crate) struct Call {
    app: Arc<App>,
    caller: AppCaller,
    by: By,
    path: std::collections::HashMap<String, String>,
    body: bytes::Bytes,
}

impl Call {
    fn id(&self, name: &str) -> i64 {
        self.path.get(name).and_then(|id| id.parse().ok()).unwrap_or(0)
    }

    fn projects(&self) -> Result<Vec<AppProject>, MetaError> {
        let memberships = match &self.caller {
            AppCaller::ServiceAccount { project, role, .. } => vec![(*project, *role)],
            AppCaller::Account(account) => self.app.metastore.memberships(*account)?,
        };
        let mut projects = Vec::new();
        for (id, role) in memberships {
            if let Some(project) = self.app.metastore.project(id)? {
                let organization_id = project.organization_id.0;
                projects.push(AppProject { id, organization_id, name: project.name, timezone: project.timezone, role });
            }
        }
        Ok(projects)
    }

    /// The caller's projects of an organisation in which it may see service accounts.
    fn managed(&self, organization: i64) -> Result<Result<Vec<AppProject>, Response>, MetaError> {
        let projects: Vec<AppProject> = self.projects()?.into_iter().filter(|project| project.organization_id == organization).collect();
        if projects.is_empty() {
            let known = self.app.metastore.projects()?.iter().any(|project| project.organization_id.0 == organization);
            return Ok(Err(refused(if known { 403 } else { 404 }, "User does not have permission")));
        }
        let managed: Vec<AppProject> = projects.into_iter().filter(|project| project.role >= Role::Admin).collect();
        Ok(if managed.is_empty() { Err(refused(403, "User does not have permission")) } else { Ok(managed) })
    }
}

/// What answers a proven call.
pub(crate) type Handler = fn(&Call) -> Result<Response, MetaError>;

/// Proves the caller and runs a handler.
pub(crate) async fn call(app: Arc<App>, request: Request, run: Handler) -> Response {
    let (mut parts, body) = request.into_parts();
    let path = RawPathParams::from_request_parts(&mut parts, &app).await;
    let path = path.map(|path| path.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()).unwrap_or_default();
    let Ok(body) = ingest::collect(&app, body, BODY_BYTES_MAX).await else { return refused(413, "request exceeds max limit") };
    let (table, client, now) = (app.credentials(), Client::of(&parts, &app.settings.listen.trusted_proxies), clock::latest());
    let caller = match auth::prove_app(&table, &client, &parts.headers, now) {
        Ok((caller, by)) => {
            client.note(&app, by, metastore::Outcome::Accepted, parts.uri.path(), now);
            caller
        }
        Err(refusal) => {
            refusal.knocked.into_iter().for_each(|by| client.note(&app, by, metastore::Outcome::Revoked, parts.uri.path(), now));
            let mut response = refused(refusal.status, &refusal.text);
            if refusal.status == 401 {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, axum::http::HeaderValue::from_static(auth::CHALLENGE));
            }
            return response;
        }
    };
    let actor = match &caller {
        AppCaller::ServiceAccount { username, project, role } => {
            Actor::ServiceAccount { username: username.clone(), project: *project, role: *role }
        }
        AppCaller::Account(account) => Actor::Account(*account),
    };
    let by = By { actor, address: client.address.to_string(), at: now };
    let call = Call { app, caller, by, path, body: body.bytes };
    let done = tokio::task::spawn_blocking(move || run(&call).unwrap_or_else(|error| failed(&error))).await;
    done.unwrap_or_else(|_| refused(500, "An unexpected error occurred."))
}

/// A method that a path does not know.
pub(crate) fn other_method(allowed: &[Method]) -> Response {
    let allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, allowed.join(", ")), (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned())])
        .into_response()
}

/// Who calls.
pub(crate) fn me(call: &Call) -> Result<Response, MetaError> {
    let projects = call.projects()?;
    let named = call.app.metastore.organizations()?;
    let mut organizations: Vec<(i64, String)> = Vec::new();
    for project in &projects {
        let id = project.organization_id;
        if !organizations.iter().any(|(known, _)| *known == id) {
            let name = named.iter().find(|(known, _)| known.0 == id).map_or_else(|| format!("Organization {id}"), |(_, name)| name.clone());
            organizations.push((id, name));
        }
    }
    let body = match &call.caller {
        AppCaller::ServiceAccount { username, project, .. } => {
            let found = call.app.metastore.service_accounts(*project)?.into_iter().find(|row| row.username == *username);
            let row = found.ok_or(MetaError::Unknown("service account"))?;
            app::me(row.id, username, username, &views::shown(row.created_at), &organizations, &projects)
        }
        AppCaller::Account(account) => {
            let row = call.app.metastore.account(*account)?.ok_or(MetaError::Unknown("account"))?;
            app::me(account.0, &row.email, &row.email, &views::shown(row.created_at), &organizations, &projects)
        }
    };
    Ok(answer(200, body))
}

/// The caller's projects.
pub(crate) fn projects(call: &Call) -> Result<Response, MetaError> {
    Ok(answer(200, app::projects(&call.projects()?)))
}

fn rows(metastore: &Metastore, project: ProjectId) -> Result<Vec<AppServiceAccount>, MetaError> {
    let used = metastore.last_used(project)?;
    let email_of = |account: AccountId| metastore.account(account).ok().flatten().map(|account| account.email);
    let row = |row: ServiceAccountRow| AppServiceAccount {
        id: row.id,
        last_used: used.get(&format!("service account {}", row.username)).map(|caller| views::shown(caller.last_at)),
        username: row.username,
        expires: row.expires_at.map(views::shown),
        creator: row.created_by.map(|account| account.0),
        creator_email: row.created_by.and_then(email_of),
        created: views::shown(row.created_at),
        role: row.role,
    };
    let live = metastore.service_accounts(project)?.into_iter().filter(|row| row.revoked_at.is_none());
    Ok(live.map(row).collect())
}

/// The service accounts of a project.
pub(crate) fn project_service_accounts(call: &Call) -> Result<Response, MetaError> {
    let project = ProjectId(call.id("project"));
    let role = call.projects()?.into_iter().find(|own| own.id == project).map(|own| own.role);
    if role.is_none_or(|role| role < Role::Admin) {
        return Ok(refused(403, "User does not have permission"));
    }
    Ok(answer(200, app::project_service_accounts(&rows(&call.app.metastore, project)?)))
}

/// The service accounts of an organisation, in the projects that the caller manages.
pub(crate) fn service_accounts(call: &Call) -> Result<Response, MetaError> {
    let managed = match call.managed(call.id("organization"))? {
        Ok(managed) => managed,
        Err(refused) => return Ok(refused),
    };
    let mut all = Vec::new();
    for project in managed {
        all.extend(rows(&call.app.metastore, project.id)?);
    }
    Ok(answer(200, app::service_accounts(&all)))
}

/// Makes a service account; its secret is in the answer, and never again.
pub(crate) fn create_service_account(call: &Call) -> Result<Response, MetaError> {
    let managed = match call.managed(call.id("organization"))? {
        Ok(managed) => managed,
        Err(refused) => return Ok(refused),
    };
    let new = match app::parse_service_account(&call.body) {
        Ok(new) => new,
        Err(text) => return Ok(refused(400, &text)),
    };
    if !managed.iter().any(|project| project.id == new.project) {
        return Ok(refused(403, "User does not have permission"));
    }
    let asked = NewServiceAccount {
        name: &new.username,
        role: new.role,
        username: None,
        secret: None,
        expires_at: views::instant(new.expires.as_deref())?,
    };
    let (username, secret) = call.app.metastore.create_service_account(new.project, &asked, &call.by)?;
    call.app.reload_credentials()?;
    let made = rows(&call.app.metastore, new.project)?.into_iter().find(|row| row.username == username);
    let made = made.ok_or(MetaError::Unknown("service account"))?;
    Ok(answer(201, app::service_account(&made, Some(secret.expose()))))
}

/// One service account, with its project.
fn found(call: &Call) -> Result<Result<(ProjectId, AppServiceAccount), Response>, MetaError> {
    let managed = match call.managed(call.id("organization"))? {
        Ok(managed) => managed,
        Err(refused) => return Ok(Err(refused)),
    };
    for project in managed {
        if let Some(row) = rows(&call.app.metastore, project.id)?.into_iter().find(|row| row.id == call.id("id")) {
            return Ok(Ok((project.id, row)));
        }
    }
    Ok(Err(refused(404, "unknown service account")))
}

/// Shows a service account.
pub(crate) fn show_service_account(call: &Call) -> Result<Response, MetaError> {
    Ok(found(call)?.map_or_else(|refused| refused, |(_, row)| answer(200, app::service_account(&row, None))))
}

/// Ends a service account at once.
pub(crate) fn delete_service_account(call: &Call) -> Result<Response, MetaError> {
    let (project, row) = match found(call)? {
        Ok(found) => found,
        Err(refused) => return Ok(refused),
    };
    call.app.metastore.revoke_service_account(project, &row.username, &call.by)?;
    call.app.reload_credentials()?;
    Ok(answer(200, app::deleted(row.id)))
}

/// A service account belongs to the project that it was made for.
pub(crate) fn one_project(_: &Call) -> Result<Response, MetaError> {
    Ok(refused(400, "a service account belongs to the one project that it was made for: make another one for another project"))
}
