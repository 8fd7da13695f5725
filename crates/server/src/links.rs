//! The pages that links in mails lead to: accept an invitation, set another password, confirm an address. Each is a form that posts to
//! itself. The code stands behind `#` in the link, where neither logs nor other sites see it; a script of one line puts it into the form, and
//! without scripts it is typed.

use std::sync::{Arc, OnceLock};

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use metastore::{Actor, By, MetaError, SignIn, Visit};
use wire::params::Params;

use crate::api::Waits;
use crate::app::App;
use crate::browser::is_same_origin;
use crate::client::Client;
use crate::setup::{escaped, page};
use crate::{clock, ingest};

/// Which page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Invitation,
    PasswordReset,
    EmailChange,
}

const FORM_BYTES_MAX: usize = 16 * 1024;
const SCRIPT: &str =
    "document.forms[0].code.value=location.hash.slice(1)||document.forms[0].code.value;history.replaceState(null,'',location.pathname)";

impl Link {
    fn title(self) -> &'static str {
        match self {
            Self::Invitation => "Accept an invitation",
            Self::PasswordReset => "Set another password",
            Self::EmailChange => "Confirm your e-mail address",
        }
    }

    fn form(self) -> String {
        let (fields, button) = match self {
            Self::Invitation => (
                r#"<label>Password <input name="password" type="password" autocomplete="new-password" minlength="8" required></label>
<p>A new one, or the one of your account if the address has one already.</p>
<label>Code of the authenticator app, if your account has one <input name="second_factor" autocomplete="one-time-code"></label>"#,
                "Accept",
            ),
            Self::PasswordReset => (
                r#"<label>New password <input name="password" type="password" autocomplete="new-password" minlength="8" required></label>"#,
                "Set password",
            ),
            Self::EmailChange => (
                r#"<label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<label>E-mail address until now <input name="email" type="email" autocomplete="username" required></label>
<label>Code of the authenticator app, if your account has one <input name="second_factor" autocomplete="one-time-code"></label>"#,
                "Confirm",
            ),
        };
        format!(
            r#"<form method="post"><label>Code <input name="code" autocomplete="off" required></label>
{fields}
<button>{button}</button></form><script>{SCRIPT}</script>"#
        )
    }
}

/// The only script that the page may run, by its hash.
fn policy() -> &'static str {
    static POLICY: OnceLock<String> = OnceLock::new();
    POLICY.get_or_init(|| {
        let hash = base64::engine::general_purpose::STANDARD.encode(metastore::sha256(SCRIPT.as_bytes()));
        format!("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; form-action 'self'; frame-ancestors 'none'")
    })
}

fn answer(link: Link, status: StatusCode, content: &str) -> Response {
    let mut response = page(status, link.title(), content);
    response.headers_mut().extend(policy().parse().ok().map(|policy| (header::CONTENT_SECURITY_POLICY, policy)));
    response
}

/// Shows the form, or does what it asks for.
pub(crate) async fn link(link: Link, State(app): State<Arc<App>>, request: Request) -> Response {
    if request.method() != Method::POST {
        return answer(link, StatusCode::OK, &link.form());
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = ingest::collect(&app, body, FORM_BYTES_MAX).await else {
        return answer(link, StatusCode::PAYLOAD_TOO_LARGE, &link.form());
    };
    let client = Client::of(&parts, &app.settings.listen.trusted_proxies);
    let is_tried = is_same_origin(&parts.headers, &app.settings.listen.public_url)
        && app.throttle.admit_address(client.limited_address(), clock::steady()).is_ok();
    let waits = Waits::begin(&app.waiting_for_hashing);
    let (true, Ok(_waits), Ok(_hashing)) = (is_tried, waits, app.hashing.clone().acquire_owned().await) else {
        return answer(link, StatusCode::TOO_MANY_REQUESTS, &format!("<p class=error>too many tries; wait a moment</p>{}", link.form()));
    };
    let (trying, visitor) = (app.clone(), client);
    let outcome = tokio::task::spawn_blocking(move || {
        let params = Params::parse("", Some(&body));
        let done = run(link, &trying, &visitor, &params);
        done.and_then(|text| trying.follow_credentials().map(|()| text))
    });
    match outcome.await {
        Ok(Ok(text)) => page(StatusCode::OK, link.title(), &format!("<p>{}</p>", escaped(&text))),
        Ok(Err(error)) => {
            answer(link, StatusCode::BAD_REQUEST, &format!("<p class=error>{}</p>{}", escaped(&error.to_string()), link.form()))
        }
        Err(_) => answer(link, StatusCode::INTERNAL_SERVER_ERROR, "<p class=error>an unknown error occurred; the log knows more</p>"),
    }
}

fn run(link: Link, app: &App, client: &Client, params: &Params) -> Result<String, MetaError> {
    let by = By { actor: Actor::Visitor, address: client.address.to_string(), at: clock::latest() };
    let field = |name: &str| params.get(name).unwrap_or_default();
    let (code, password) = (field("code").trim(), field("password"));
    match link {
        Link::PasswordReset => {
            app.metastore.finish_password_reset(code, password, &by)?;
            Ok("The password is set, and every session of the account is over.".to_owned())
        }
        Link::Invitation => {
            let invited = app.metastore.invited(code, by.at)?;
            if invited.has_account {
                let by = signed_in(app, client, &invited.email, password, params, &by)?;
                let account = by.account_id().ok_or(MetaError::NotSignedIn("accept"))?;
                app.metastore.accept_invitation(code, account, &by)?;
            } else {
                let (_, account, session) = app.metastore.sign_up(code, password, &client.user_agent(), &by)?;
                // The page keeps nobody signed in.
                if let Some(session) = app.metastore.session(session.expose(), by.at)? {
                    app.metastore.end_session(account, session.id, &By { actor: Actor::Account(account), ..by })?;
                }
            }
            Ok(format!("You are a member of {} as {}.", invited.project_name, invited.role.as_str()))
        }
        Link::EmailChange => {
            let by = signed_in(app, client, field("email"), password, params, &by)?;
            let account = by.account_id().ok_or(MetaError::NotSignedIn("confirm"))?;
            app.metastore.finish_email_change(account, code, &by)?;
            Ok("Sign in with this address from now on.".to_owned())
        }
    }
}

/// Whoever shows the password of an account, and its second factor; no session stays.
fn signed_in(app: &App, client: &Client, email: &str, password: &str, params: &Params, by: &By) -> Result<By, MetaError> {
    const TOO_MANY: &str = "too many tries; wait a moment";
    let attempt =
        app.throttle.admit(email, false, client.limited_address(), clock::steady()).map_err(|_| MetaError::NotProven(TOO_MANY))?;
    let user_agent = client.user_agent();
    let visit = Visit { email, password, code: params.filled("second_factor"), device: None, user_agent: &user_agent };
    match app.metastore.sign_in(&visit, by)? {
        SignIn::Refused => Err(MetaError::NotProven("password or code do not fit")),
        SignIn::NeedsCode => {
            attempt.undecided();
            Err(MetaError::NeedsCode)
        }
        SignIn::In(signed_in) => {
            attempt.succeeded();
            let by = By { actor: Actor::Account(signed_in.account), ..by.clone() };
            if let Some(session) = app.metastore.session(signed_in.session.expose(), by.at)? {
                app.metastore.end_session(signed_in.account, session.id, &by)?;
            }
            Ok(by)
        }
    }
}
