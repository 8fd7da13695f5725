//! `/setup`: the first account, for whoever holds the code that the console printed.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use metastore::{Actor, By};
use wire::params::Params;

use crate::app::App;
use crate::client::Client;
use crate::{clock, ingest};

const TITLE: &str = "First run";
const FORM_BYTES_MAX: usize = 16 * 1024;

/// Shows the form, or redeems the code.
pub(crate) async fn setup(State(app): State<Arc<App>>, request: Request) -> Response {
    let open = !app.metastore.has_accounts().unwrap_or(true);
    if !open {
        return page(StatusCode::GONE, TITLE, "<p>This server has its first account. Its owner invites others.</p>");
    }
    if request.method() != Method::POST {
        return page(StatusCode::OK, TITLE, FORM);
    }
    let (parts, body): (_, Body) = request.into_parts();
    let address = Client::of(&parts, &app.settings.listen.trusted_proxies).address.to_string();
    let Ok(body) = ingest::collect(&app, body, FORM_BYTES_MAX).await else { return page(StatusCode::PAYLOAD_TOO_LARGE, TITLE, FORM) };
    let outcome = tokio::task::spawn_blocking(move || {
        let params = Params::parse("", Some(&body));
        let by = By { actor: Actor::Visitor, address, at: clock::now() };
        let field = |name: &str| params.get(name).unwrap_or_default().to_owned();
        let made = app.metastore.redeem_setup_code(field("code").trim(), field("email").trim(), &field("password"), &by);
        made.and_then(|account| app.reload_credentials().map(|()| account))
    });
    match outcome.await {
        Ok(Ok(_)) => page(StatusCode::OK, TITLE, "<p>The account is made. Projects without an owner belong to it now.</p>"),
        Ok(Err(error)) => page(StatusCode::BAD_REQUEST, TITLE, &format!("<p class=error>{}</p>{FORM}", escaped(&error.to_string()))),
        Err(_) => page(StatusCode::INTERNAL_SERVER_ERROR, TITLE, "<p class=error>The account could not be made.</p>"),
    }
}

const FORM: &str = r#"<form method="post">
<label>Setup code <input name="code" autocomplete="off" required autofocus></label>
<label>E-mail <input name="email" type="email" autocomplete="username" required></label>
<label>Password <input name="password" type="password" autocomplete="new-password" minlength="8" required></label>
<button>Make the first account</button>
</form>
<p>The code stands on the console of <code>sluice serve</code>.</p>"#;

/// Text as HTML shows it.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A page of ours that holds one form and runs nothing.
pub(crate) fn page(status: StatusCode, title: &str, content: &str) -> Response {
    let html = format!(
        r#"<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sluice: {title}</title>
<style>body{{font:16px/1.5 system-ui;max-width:26rem;margin:3rem auto;padding:0 1rem}}label{{display:block;margin:1rem 0}}input{{display:block;width:100%;box-sizing:border-box;font:inherit;padding:.4rem}}button{{font:inherit;padding:.4rem 1rem}}.error{{color:#a00}}</style>
<h1>{title}</h1>{content}</html>"#
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"),
    ];
    (status, headers, html).into_response()
}
