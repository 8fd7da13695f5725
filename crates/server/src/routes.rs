//! Every URL path.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get as get_page};

use model::{AccessRight, Role};

use crate::aliases::Aliases;
use crate::api::{self, Handler, Operation, Who, account, instance, jobs, keys, members, projects, session, tables, tickets};
use crate::app::App;
use crate::config::{Routes, Settings};
use crate::{app_api, ingest, lookup_tables, page, reports, sdk};
use wire::dialect::Endpoint;
use wire::signature::Names;

/// What is read with a secret; no other site may with a secret that a browser stored.
const SECRET_PREFIXES: [&str; 4] = ["/api/2.0", "/api/query", APP, LOOKUP_TABLES];
/// Where the original's app API lies.
const APP: &str = "/api/app";
/// Where lookup tables are listed and replaced.
const LOOKUP_TABLES: &str = "/lookup-tables";
/// The prefixes under which reports are read; the first is the canonical one.
const READ_PREFIXES: [&str; 2] = ["/api/2.0", "/api/query"];

/// Where the management API lies.
pub(crate) const MANAGEMENT: &str = "/api/v1";
/// Pages that links in mails lead to; the code stands behind `#`, where no log sees it.
pub(crate) const ACCEPT_INVITATION: &str = "/invitation";
pub(crate) const RESET_PASSWORD: &str = "/reset-password";
pub(crate) const CONFIRM_EMAIL: &str = "/confirm-email";

/// The export's path, for messages, and where imports pull events from.
pub(crate) const EXPORT: &str = "/api/2.0/export";
/// Where imports pull profiles from.
pub(crate) const PROFILES: &str = "/api/2.0/engage";
/// Where the first account is made.
pub(crate) const SETUP: &str = "/setup";
/// Every address of the page, which finds its own way from there.
const PAGES: [&str; 8] = ["/", PROJECTS, "/app/{*page}", "/sign-in", SETUP, ACCEPT_INVITATION, RESET_PASSWORD, CONFIRM_EMAIL];
/// Where the page is for whoever signed in.
const PROJECTS: &str = "/app";
/// What the page loads.
const FILES: &str = "/static";
/// The browser SDK, under the name that it has at its maker's.
const BROWSER_SDK: &str = "/libs/mixpanel-2-latest.min.js";
const HEALTH: &str = "/health";
const METRICS: &str = "/metrics";
/// Where events are sent, for messages.
pub(crate) const TRACK: &str = "/track";

/// Every operation of the management API with its policy: who may call it, and whether a fresh proof is needed. A row each.
#[rustfmt::skip]
pub(crate) fn operations() -> Vec<Operation> {
    use Role::{Admin, Analyst, Consumer, Owner};
    use Who::{Account, Anyone, Founder, Member, Operator};
    vec![
        // Everybody.
        get("/instance", Anyone, "show_instance", instance::show, "What everybody may know of the instance."),
        get("/openapi.json", Anyone, "show_openapi", instance::openapi, "This document."),
        post("/setup", Anyone, "set_up", instance::set_up, "Makes the first account with the code that the console printed.").hashing(),
        post("/session", Anyone, "sign_in", session::sign_in, "Signs in; the session comes as a cookie.").hashing(),
        post("/password-reset", Anyone, "request_password_reset", account::request_password_reset, "Sends a link to set another password."),
        post("/password-reset/confirm", Anyone, "confirm_password_reset", account::confirm_password_reset, "Sets another password, for whoever has the code.").hashing(),
        post("/invitations/show", Anyone, "show_invitation", members::show_invitation, "Shows an invitation to whoever has its code."),
        post("/invitations/accept", Anyone, "accept_invitation", members::accept_invitation, "Accepts an invitation, with a new account where there is none.").hashing(),
        // Whoever signed in.
        get("/session", Account, "show_session", session::show, "Who is signed in."),
        delete("/session", Account, "sign_out", session::sign_out, "Signs out.").session(),
        post("/session/proof", Account, "prove", session::prove, "Takes a fresh proof of who is there; it holds for five minutes.").hashing().session(),
        get("/sessions", Account, "list_sessions", session::list, "The live sessions of the account."),
        delete("/sessions", Account, "end_other_sessions", session::end_others, "Ends every other session of the account.").fresh(),
        delete("/sessions/{session}", Account, "end_session", session::end, "Ends a session of the account."),
        put("/account/password", Account, "change_password", account::change_password, "Changes the password; other sessions end.").hashing(),
        post("/account/email", Account, "change_email", account::change_email, "Sends a code to another address.").fresh(),
        post("/account/email/confirm", Account, "confirm_email", account::confirm_email, "Gives the account the address that the code went to."),
        post("/account/totp", Account, "begin_totp", account::begin_totp, "Makes a second factor.").fresh(),
        post("/account/totp/confirm", Account, "confirm_totp", account::confirm_totp, "Turns the second factor on; shows its recovery codes.").fresh(),
        delete("/account/totp", Account, "end_totp", account::end_totp, "Turns the second factor off.").fresh(),
        post("/account/recovery-codes", Account, "renew_recovery_codes", account::renew_recovery_codes, "Makes other recovery codes.").fresh(),
        get("/account/bearer-tokens", Account, "list_bearer_tokens", account::list_bearer_tokens, "The account's bearer tokens."),
        post("/account/bearer-tokens", Account, "create_bearer_token", account::create_bearer_token, "Makes a bearer token, shown only this once.").fresh(),
        delete("/account/bearer-tokens/{token}", Account, "revoke_bearer_token", account::revoke_bearer_token, "Ends a bearer token at once."),
        get("/transfers", Account, "list_transfers", account::list_transfers, "The projects that are offered to the account."),
        post("/transfers/{project}/accept", Account, "accept_transfer", account::accept_transfer, "Takes an offered project.").fresh(),
        delete("/transfers/{project}", Account, "decline_transfer", account::decline_transfer, "Declines an offered project."),
        get("/projects", Account, "list_projects", projects::list, "Every project of the account, with token and API keys."),
        post("/projects", Founder, "create_project", projects::create, "Makes a project with token, API key and API secret.").fresh(),
        // Members of the project.
        get("/projects/{project}", Member(Consumer), "show_project", projects::show, "One project."),
        get("/projects/{project}/keys", Member(Consumer), "list_keys", keys::list, "The project's API keys without their secrets."),
        get("/projects/{project}/members", Member(Consumer), "list_members", members::list, "The members, owners first."),
        delete("/projects/{project}/members/{account}", Member(Consumer), "remove_member", members::remove, "Ends a membership: one's own, or as an admin another's.").fresh(),
        get("/projects/{project}/jobs", Member(Analyst), "list_jobs", jobs::list, "The newest imports and exports."),
        get("/projects/{project}/jobs/{job}", Member(Analyst), "show_job", jobs::show, "How far an import or export is, or what came of it."),
        get("/projects/{project}/group-keys", Member(Consumer), "list_group_keys", tables::list_group_keys, "The properties that name the groups of an event."),
        get("/projects/{project}/lookup-tables", Member(Consumer), "list_lookup_tables", tables::list_lookup_tables, "The project's lookup tables."),
        // Admins of the project.
        post("/projects/{project}/jobs/{job}/cancel", Member(Admin), "cancel_job", jobs::cancel, "Ends an import or export; what it stored stays."),
        post("/projects/{project}/imports", Member(Admin), "start_import", jobs::start_import, "Imports events and profiles from Mixpanel, or continues that.").fresh().brings_secret(),
        post("/projects/{project}/group-keys", Member(Admin), "add_group_key", tables::add_group_key, "Declares a group key."),
        delete("/projects/{project}/group-keys/{group}", Member(Admin), "remove_group_key", tables::remove_group_key, "Ends a group key; profiles of its groups and properties of events stay."),
        post("/projects/{project}/lookup-tables", Member(Admin), "create_lookup_table", tables::create_lookup_table, "Makes a lookup table without content."),
        patch("/projects/{project}/lookup-tables/{table}", Member(Admin), "change_lookup_table", tables::change_lookup_table, "Changes what a lookup table is called, and what leads to it."),
        delete("/projects/{project}/lookup-tables/{table}", Member(Admin), "delete_lookup_table", tables::delete_lookup_table, "Ends a lookup table with its content."),
        patch("/projects/{project}", Member(Admin), "change_project", projects::change, "Changes a project's settings."),
        put("/projects/{project}/token-options", Member(Admin), "set_token_options", projects::set_token_options, "Says what the project's token may bring; replaces all of it.").fresh(),
        put("/projects/{project}/require-tls", Member(Admin), "require_tls", projects::require_tls, "Refuses secrets over plain HTTP, or takes them again.").fresh(),
        get("/projects/{project}/callers", Member(Admin), "list_callers", projects::callers, "Who called with what in the last 90 days."),
        get("/projects/{project}/audit", Member(Admin), "list_project_audit", projects::audit, "The project's audit log."),
        post("/projects/{project}/profiles/restore", Member(Admin), "restore_profiles", projects::restore_profiles, "Brings back what the public token took from profiles in the last 30 days.").fresh(),
        post("/projects/{project}/identity-secret/reveal", Member(Admin), "reveal_identity_secret", projects::reveal_identity_secret, "Shows the secret that signs which user a client may speak for.").fresh(),
        post("/projects/{project}/identity-secret/rotate", Member(Admin), "rotate_identity_secret", projects::rotate_identity_secret, "Makes another identity secret; the old one ends at once.").fresh(),
        post("/projects/{project}/keys", Member(Admin), "create_key", keys::create, "Makes a further API key.").fresh(),
        patch("/projects/{project}/keys/{key}", Member(Admin), "change_key", keys::change, "Turns a key's legacy signature off, to warn, or on.").fresh(),
        delete("/projects/{project}/keys/{key}", Member(Admin), "revoke_key", keys::revoke, "Ends a key at once.").fresh(),
        post("/projects/{project}/keys/{key}/rotate", Member(Admin), "rotate_key", keys::rotate, "Puts a new pair beside the old one, which works on for a while.").fresh(),
        post("/projects/{project}/keys/{key}/reveal", Member(Admin), "reveal_key", keys::reveal, "Shows a key with its secret.").fresh(),
        put("/projects/{project}/members/{account}", Member(Admin), "set_role", members::set_role, "Gives a member another role.").fresh(),
        get("/projects/{project}/invitations", Member(Admin), "list_invitations", members::list_invitations, "The invitations that wait."),
        post("/projects/{project}/invitations", Member(Admin), "invite", members::invite, "Invites an address.").fresh(),
        delete("/projects/{project}/invitations/{invitation}", Member(Admin), "withdraw_invitation", members::withdraw_invitation, "Takes an invitation back."),
        get("/projects/{project}/service-accounts", Member(Admin), "list_service_accounts", keys::list_service_accounts, "The project's service accounts."),
        post("/projects/{project}/service-accounts", Member(Admin), "create_service_account", keys::create_service_account, "Makes a service account; its secret is shown only this once.").fresh(),
        delete("/projects/{project}/service-accounts/{username}", Member(Admin), "revoke_service_account", keys::revoke_service_account, "Ends a service account at once.").fresh(),
        // Owners of the project.
        post("/projects/{project}/credentials/reset", Member(Owner), "reset_credentials", keys::reset, "Clears every API key and API secret at once, never the token.").fresh(),
        post("/projects/{project}/credentials/confirm", Member(Owner), "confirm_credentials", keys::confirm, "Lets the credentials of a restored project work again.").fresh(),
        post("/projects/{project}/archive", Member(Owner), "archive_project", projects::archive, "Archives a project: it takes no events until it is brought back.").fresh(),
        post("/projects/{project}/unarchive", Member(Owner), "unarchive_project", projects::unarchive, "Brings an archived project back.").fresh(),
        get("/projects/{project}/transfer", Member(Owner), "show_transfer", projects::show_transfer, "The offer of the project that stands."),
        post("/projects/{project}/transfer", Member(Owner), "offer_transfer", projects::offer_transfer, "Offers the project to an account.").fresh(),
        delete("/projects/{project}/transfer", Member(Owner), "end_transfer", projects::end_transfer, "Takes the offer back.").fresh(),
        get("/projects/{project}/tickets", Member(Owner), "list_project_tickets", tickets::list, "The project's tickets."),
        post("/projects/{project}/tickets", Member(Owner), "open_ticket", tickets::open, "Asks for another project token."),
        post("/projects/{project}/tickets/{ticket}/messages", Member(Owner), "say_in_ticket", tickets::say, "Says something in an open ticket."),
        // Operators of the instance.
        get("/tickets", Operator, "list_tickets", tickets::list_all, "Every ticket."),
        post("/tickets/{ticket}/messages", Operator, "answer_ticket", tickets::answer, "Says something in an open ticket."),
        post("/tickets/{ticket}/approve", Operator, "approve_ticket", tickets::approve, "Resets a project's token; the old one takes events for a while.").fresh(),
        post("/tickets/{ticket}/decline", Operator, "decline_ticket", tickets::decline, "Leaves a project's token as it is.").fresh(),
        get("/accounts", Operator, "list_accounts", instance::list_accounts, "Every account."),
        patch("/accounts/{account}", Operator, "change_account", instance::change_account, "Makes an account an operator, or ends that.").fresh(),
        delete("/accounts/{account}", Operator, "disable_account", instance::disable_account, "Ends an account.").fresh(),
        put("/organizations/{organization}", Operator, "name_organization", instance::name_organization, "Gives an organisation a name.").fresh(),
        get("/audit", Operator, "list_audit", instance::audit, "The audit log of the instance."),
        get("/audit/verify", Operator, "verify_audit", instance::verify_audit, "Checks that no row of the audit log was changed or cut."),
        post("/wrapping-key/rotate", Operator, "rotate_wrapping_key", instance::rotate_wrapping_key, "Wraps every data key with a new key.").fresh(),
    ]
}

macro_rules! methods {
    ($($name:ident $method:ident)*) => {$(
        fn $name<Q, A>(path: &'static str, who: Who, id: &'static str, run: Handler<Q, A>, summary: &'static str) -> Operation
        where
            Q: serde::de::DeserializeOwned + schemars::JsonSchema + 'static,
            A: serde::Serialize + schemars::JsonSchema + 'static,
        {
            Operation::new(Method::$method, path, who, id, run, summary)
        }
    )*};
}
methods!(get GET post POST put PUT patch PATCH delete DELETE);

/// The part of the original's app API that is there; each route is for service accounts and bearer tokens alone.
fn app_routes() -> Vec<(&'static str, Vec<(Method, app_api::Handler)>)> {
    let get = |run: app_api::Handler| (Method::GET, run);
    vec![
        ("/api/app/me", vec![get(app_api::me)]),
        ("/api/app/projects", vec![get(app_api::projects)]),
        ("/api/app/projects/{project}/service-accounts", vec![get(app_api::project_service_accounts)]),
        (
            "/api/app/organizations/{organization}/service-accounts",
            vec![get(app_api::service_accounts), (Method::POST, app_api::create_service_account)],
        ),
        (
            "/api/app/organizations/{organization}/service-accounts/{id}",
            vec![get(app_api::show_service_account), (Method::DELETE, app_api::delete_service_account)],
        ),
        ("/api/app/organizations/{organization}/service-accounts/add-to-project", vec![(Method::POST, app_api::one_project)]),
        ("/api/app/organizations/{organization}/service-accounts/remove-from-project", vec![(Method::POST, app_api::one_project)]),
    ]
}

/// The router of the public listener.
pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new()
        .route(HEALTH, any(reports::health))
        .route(METRICS, any(reports::metrics))
        .route(&format!("{FILES}/{{*file}}"), get_page(page::file))
        .route(BROWSER_SDK, get_page(page::sdk))
        .route("/flags", any(sdk::flags))
        .route("/flags/definitions", any(sdk::flag_definitions))
        .route("/flags/{flag}/first-time-events", any(sdk::first_time_events))
        .route("/settings", any(sdk::settings))
        .route("/decide", any(sdk::decide))
        .route("/record", any(sdk::record))
        .route(LOOKUP_TABLES, any(lookup_tables::list))
        .route(&format!("{LOOKUP_TABLES}/{{id}}"), any(lookup_tables::replace))
        .route(TRACK, any(|app, request| ingest::write(Endpoint::Track, app, request)))
        .route("/engage", any(|app, request| ingest::write(Endpoint::Engage, app, request)))
        .route("/groups", any(|app, request| ingest::write(Endpoint::Groups, app, request)))
        .route("/import", any(|app, request| ingest::write(Endpoint::Import, app, request)));
    for address in PAGES {
        router = router.route(address, get_page(page::document));
    }
    for prefix in READ_PREFIXES {
        let reads = Router::new()
            .route("/export", any(reports::export))
            .route("/events", any(reports::events))
            .route("/events/top", any(reports::top_events))
            .route("/events/names", any(reports::event_names))
            .route("/events/properties", any(reports::properties))
            .route("/events/properties/top", any(reports::top_properties))
            .route("/events/properties/values", any(reports::property_values))
            .route("/segmentation", any(reports::segmentation))
            .route("/segmentation/numeric", any(reports::numeric))
            .route("/segmentation/sum", any(reports::sum))
            .route("/segmentation/average", any(reports::average))
            .route("/engage", any(reports::engage))
            .fallback(reports::unknown);
        router = router.nest(prefix, reads);
    }
    router = router.nest(MANAGEMENT, api::router(operations()));
    for (path, handlers) in app_routes() {
        router = router.route(
            path,
            any(move |State(app): State<Arc<App>>, request: Request| async move {
                match handlers.iter().find(|(method, _)| method == request.method()) {
                    Some((_, run)) => app_api::call(app, request, *run).await,
                    None => app_api::other_method(&handlers.iter().map(|(method, _)| method.clone()).collect::<Vec<_>>()),
                }
            }),
        );
    }
    router.fallback(not_found).layer(middleware::from_fn(cors)).with_state(app)
}

async fn not_found(State(app): State<Arc<App>>, uri: Uri, request: Request) -> Response {
    ingest::drain(&app, request).await;
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "application/json")], wire::error::not_found(uri.path())).into_response()
}

/// The policy of a read endpoint.
struct Read {
    /// What it is called below the prefixes.
    path: &'static str,
    /// The parameters that it knows.
    names: Names,
    /// The right that it asks for.
    right: AccessRight,
}

/// Every read endpoint.
#[rustfmt::skip]
static READS: LazyLock<[Read; 12]> = LazyLock::new(|| [
    ("/export", wire::export::PARAMETERS, AccessRight::Export),
    ("/engage", wire::profiles::PARAMETERS, AccessRight::ProfilesRead),
    ("/events", wire::segmentation::EVENTS_PARAMETERS, AccessRight::Query),
    ("/events/top", wire::segmentation::EVENTS_PARAMETERS, AccessRight::Query),
    ("/events/names", wire::segmentation::EVENTS_PARAMETERS, AccessRight::Query),
    ("/events/properties", wire::properties::PARAMETERS, AccessRight::Query),
    ("/events/properties/top", wire::properties::PARAMETERS, AccessRight::Query),
    ("/events/properties/values", wire::properties::PARAMETERS, AccessRight::Query),
    ("/segmentation", wire::segmentation::PARAMETERS, AccessRight::Query),
    ("/segmentation/numeric", wire::segmentation::PARAMETERS, AccessRight::Query),
    ("/segmentation/sum", wire::segmentation::PARAMETERS, AccessRight::Query),
    ("/segmentation/average", wire::segmentation::PARAMETERS, AccessRight::Query),
].map(|(path, parameters, right)| Read { path, names: Names::new(parameters), right }));

/// What a path is judged by that is no read endpoint: it asks for the right to query before it says so.
static NO_READ: LazyLock<Names> = LazyLock::new(|| Names::new(wire::segmentation::PARAMETERS));

fn read(path: &str) -> Option<&'static Read> {
    let name = READ_PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix))?.trim_end_matches('/');
    READS.iter().find(|read| read.path == name)
}

/// The parameters and the right of a read endpoint.
pub(crate) fn knows(path: &str) -> (&'static Names, AccessRight) {
    read(path).map_or((&NO_READ, AccessRight::Query), |read| (&read.names, read.right))
}

/// The path of an endpoint that there is, else `unknown`: what is counted and kept holds no words of a stranger.
pub(crate) fn counted(path: &str) -> &str {
    let is_write = [TRACK, "/engage", "/groups", "/import"].contains(&path);
    if is_write || read(path).is_some() {
        path
    } else if path.starts_with(APP) {
        APP
    } else if path.starts_with(LOOKUP_TABLES) {
        LOOKUP_TABLES
    } else {
        "unknown"
    }
}

/// The other paths that the settings give to endpoints, so that a page can send beneath its own site's paths.
pub(crate) fn aliases(settings: &Settings) -> Result<Aliases, String> {
    // What stands for something already, and what is asked for by clients that know no other name.
    let own = [
        "api",
        "track",
        "engage",
        "groups",
        "import",
        "flags",
        "settings",
        "decide",
        "record",
        "setup",
        "health",
        "metrics",
        "invitation",
        "reset-password",
        "confirm-email",
        "lookup-tables",
        "app",
        "sign-in",
        "static",
        "libs",
    ];
    let Routes { track, engage, groups, flags, record, settings: remote } = &settings.routes;
    let names = [(track, TRACK), (engage, "/engage"), (groups, "/groups"), (flags, "/flags"), (record, "/record"), (remote, "/settings")];
    Aliases::new(&settings.listen.path_prefixes, &names.map(|(name, path)| (name.clone(), path)), &own)
}

/// Whether a path is for pages of this server alone.
fn is_for_own_pages(path: &str) -> bool {
    let is_management = path.strip_prefix(MANAGEMENT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let is_below = |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    is_management || [HEALTH, METRICS].contains(&path) || PAGES.contains(&path) || is_below(PROJECTS) || is_below(FILES)
}

const NO_STORE: axum::http::HeaderValue = axum::http::HeaderValue::from_static("no-store");

/// Every answer carries these headers: without them a browser reports no status, and its SDK drops the batch.
async fn cors(request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let private = request.headers().contains_key("access-control-request-private-network");
    let preflight = request.method() == Method::OPTIONS;
    let path = request.uri().path();
    let is_read = SECRET_PREFIXES.iter().any(|prefix| path.starts_with(prefix));
    if is_for_own_pages(path) {
        // Nothing here is for another site's page.
        let mut response = next.run(request).await;
        response.headers_mut().entry(header::CACHE_CONTROL).or_insert(NO_STORE);
        return response;
    }
    let mut response = if preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(NO_STORE);
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        // A browser that knows a secret by a Basic prompt must not read with it for whatever page asks.
        if !is_read {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, axum::http::HeaderValue::from_static("true"));
        }
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, axum::http::HeaderValue::from_static("Retry-After"));
        headers.append(header::VARY, axum::http::HeaderValue::from_static("Origin"));
    }
    if preflight {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, axum::http::HeaderValue::from_static("GET, POST, OPTIONS"));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, axum::http::HeaderValue::from_static("86400"));
        if let Some(asked) = asked {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
        }
        if private {
            headers.insert("access-control-allow-private-network", axum::http::HeaderValue::from_static("true"));
        }
    }
    response
}
