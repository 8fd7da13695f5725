//! People on the real binary: how they sign in, prove who they are, are invited, change what is theirs, and what they may then do.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use e2e::{Browser, TestServer, basic, get, mail_with, mails};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse";
const NAMES: &str = "/api/2.0/events/names?type=general&project_id=1";

fn owner(server: &TestServer) -> Browser {
    Browser::signed_in(server, "o@example.com", PASSWORD)
}

fn account(server: &TestServer, email: &str) {
    server.cli(&["account", "create", "--email", email, "--password-stdin"], PASSWORD);
}

fn code(secret: &str) -> String {
    let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
    let totp = totp_rs::Builder::new().with_secret(secret).with_account_name("o").build().unwrap();
    totp.generate(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()).to_string()
}

fn ok(answer: (u16, Value)) -> Value {
    assert_eq!(answer.0, 200, "{}", answer.1);
    answer.1
}

fn refused(answer: (u16, Value), status: u16, code: &str) {
    assert_eq!((answer.0, answer.1["code"].as_str()), (status, Some(code)), "{}", answer.1);
    assert!(!answer.1["error"].as_str().unwrap().is_empty());
}

/// The code behind `#` of the link in a mail.
fn code_of(mail: &str) -> String {
    mail.split('#').nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
}

#[test]
fn t16_a_session_is_new_at_every_proof_stored_as_a_hash_and_can_be_killed() {
    let server = TestServer::start();
    // A token that an attacker put into the browser is worth nothing before and after.
    let planted = std::collections::BTreeMap::from([("sluice_session".to_owned(), "slcw_planted".to_owned())]);
    let mut browser = Browser::new(&server).with_cookies(&planted);
    refused(browser.call("GET", "/session", None), 401, "not_signed_in");
    ok(browser.call("POST", "/session", Some(&json!({ "email": "O@Example.com ", "password": PASSWORD }))));
    assert_ne!(browser.cookies()["sluice_session"], "slcw_planted");
    let first = browser.cookies().clone();
    assert_eq!(ok(browser.call("GET", "/session", None))["account"]["email"], "o@example.com");
    ok(browser.call("POST", "/session/proof", Some(&json!({ "password": PASSWORD }))));
    assert_ne!(browser.cookies()["sluice_session"], first["sluice_session"], "a proof gives another token");
    refused(Browser::new(&server).with_cookies(&first).call("GET", "/session", None), 401, "not_signed_in");
    // The database knows no token.
    let token = browser.cookies()["sluice_session"].clone();
    for file in std::fs::read_dir(server.data()).unwrap().flatten().filter(|file| file.path().is_file()) {
        let bytes = std::fs::read(file.path()).unwrap();
        assert!(!bytes.windows(token.len()).any(|window| window == token.as_bytes()), "{:?}", file.path());
    }
    let mut other = owner(&server);
    let sessions = ok(browser.call("GET", "/sessions", None));
    assert_eq!(sessions.as_array().unwrap().len(), 2);
    let id = sessions.as_array().unwrap().iter().find(|row| row["is_current"] == false).unwrap()["session_id"].to_string();
    ok(browser.call("DELETE", &format!("/sessions/{id}"), None));
    refused(other.call("GET", "/session", None), 401, "not_signed_in");
    let mut third = owner(&server);
    ok(browser.call("DELETE", "/sessions", None));
    refused(third.call("GET", "/session", None), 401, "not_signed_in");
    let kept = browser.cookies().clone();
    ok(browser.call("DELETE", "/session", None));
    refused(Browser::new(&server).with_cookies(&kept).call("GET", "/session", None), 401, "not_signed_in");
    let actions = server.cli(&["audit", "list"], "");
    assert!(actions.contains("\"login\"") && actions.contains("\"logout\"") && actions.contains("\"proof\""));
}

#[test]
fn t17_guesses_wait_and_a_known_browser_is_not_locked_out() {
    let server = TestServer::start();
    let mut known = owner(&server);
    let mut guesser = Browser::new(&server);
    let guess = |browser: &mut Browser, email: &str, password: &str| {
        browser.call("POST", "/session", Some(&json!({ "email": email, "password": password })))
    };
    for email in ["o@example.com", "nobody@example.com"] {
        let first = guess(&mut guesser, email, "wrong");
        refused(first.clone(), 401, "not_proven");
        assert_eq!(first.1["error"], "e-mail address, password or code do not fit", "known or unknown: the same words");
        refused(guess(&mut guesser, email, "wrong"), 429, "too_many_tries");
    }
    refused(guess(&mut guesser, "o@example.com", PASSWORD), 429, "too_many_tries");
    ok(guess(&mut known, "o@example.com", PASSWORD));
}

#[test]
fn t18_a_code_counts_once_and_nothing_stands_in_for_it() {
    let server = TestServer::start();
    let mut browser = owner(&server);
    let new = ok(browser.call("POST", "/account/totp", None));
    let secret = new["secret"].as_str().unwrap().to_owned();
    assert!(new["url"].as_str().unwrap().starts_with("otpauth://totp/Sluice"));
    refused(browser.call("POST", "/account/totp/confirm", Some(&json!({ "code": "000000" }))), 401, "not_proven");
    let first = code(&secret);
    let recovery = ok(browser.call("POST", "/account/totp/confirm", Some(&json!({ "code": first }))));
    let recovery: Vec<String> = serde_json::from_value(recovery["recovery_codes"].clone()).unwrap();
    assert_eq!(recovery.len(), 10);
    let mut other = Browser::new(&server);
    let sign_in = |browser: &mut Browser, code: Option<&str>| {
        browser.call("POST", "/session", Some(&json!({ "email": "o@example.com", "password": PASSWORD, "code": code })))
    };
    refused(sign_in(&mut other, None), 401, "code_needed");
    refused(sign_in(&mut other, Some(&first)), 401, "not_proven");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let typed = recovery[0].to_lowercase().replace('-', " ");
    ok(sign_in(&mut other, Some(&typed)));
    let mut again = Browser::new(&server);
    refused(sign_in(&mut again, Some(&recovery[0])), 401, "not_proven");
    // The password is no proof any more; a code is.
    refused(other.call("POST", "/session/proof", Some(&json!({ "password": PASSWORD }))), 401, "code_needed");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    ok(other.call("POST", "/session/proof", Some(&json!({ "code": recovery[1] }))));
    assert_eq!(ok(other.call("GET", "/session", None))["account"]["recovery_codes"], 8);
    let dump = server.data().join("metastore.sqlite");
    for secret in [secret.as_str(), &recovery[2]] {
        let bytes = [std::fs::read(&dump).unwrap(), std::fs::read(dump.with_extension("sqlite-wal")).unwrap_or_default()].concat();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
    // The wrapping key changes, and the second factor still opens.
    server.cli(&["kek", "rotate"], "");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let mut fresh = Browser::new(&server);
    ok(sign_in(&mut fresh, Some(&recovery[3])));
    ok(fresh.call("DELETE", "/account/totp", None));
    let mut last = Browser::new(&server);
    ok(sign_in(&mut last, None));
}

#[test]
fn an_invitation_makes_an_account_or_adds_one_and_counts_once() {
    let server = TestServer::start();
    let mut browser = owner(&server);
    let made = ok(browser.call("POST", "/projects/1/invitations", Some(&json!({ "email": "new@example.com", "role": "analyst" }))));
    let code = made["link"].as_str().unwrap().split('#').nth(1).unwrap().to_owned();
    let mailed = code_of(&mail_with(&server, &["To: new@example.com", "you are invited"]));
    assert!(mailed != code && mailed.starts_with("slcc_"), "the mail has a code of its own: {mailed}");
    let mut guest = Browser::new(&server);
    let shown = ok(guest.call("POST", "/invitations/show", Some(&json!({ "code": code }))));
    assert_eq!(shown, json!({ "email": "new@example.com", "role": "analyst", "project_name": "P", "has_account": false }));
    refused(guest.call("POST", "/invitations/accept", Some(&json!({ "code": code, "password": "password1" }))), 400, "invalid");
    ok(guest.call("POST", "/invitations/accept", Some(&json!({ "code": code, "password": "a fine long word" }))));
    assert_eq!(ok(guest.call("GET", "/projects/1", None))["role"], "analyst");
    refused(
        Browser::new(&server).call("POST", "/invitations/accept", Some(&json!({ "code": code, "password": "a fine long word" }))),
        401,
        "not_proven",
    );
    // The link leads to the page, which does the same; what a guesser tries first is no password.
    let made = ok(browser.call("POST", "/projects/1/invitations", Some(&json!({ "email": "page@example.com", "role": "consumer" }))));
    let (link, code) = made["link"].as_str().unwrap().split_once('#').unwrap();
    let (status, html) = get(link, None);
    assert!(status == 200 && html.starts_with("<!doctype html>") && !html.contains(code), "{html}");
    let accept =
        |password: &str| Browser::new(&server).call("POST", "/invitations/accept", Some(&json!({ "code": code, "password": password })));
    refused(accept("password1"), 400, "invalid");
    ok(accept("a fine long word"));
    refused(accept("a fine long word"), 401, "not_proven");
    Browser::signed_in(&server, "page@example.com", "a fine long word");
    // An account that is there already signs in first, and no other account can take the place.
    account(&server, "b@example.com");
    let made = ok(browser.call("POST", "/projects/1/invitations", Some(&json!({ "email": "b@example.com", "role": "admin" }))));
    let code = made["link"].as_str().unwrap().split('#').nth(1).unwrap().to_owned();
    refused(
        Browser::new(&server).call("POST", "/invitations/accept", Some(&json!({ "code": code, "password": "a fine long word" }))),
        400,
        "invalid",
    );
    refused(guest.call("POST", "/invitations/accept", Some(&json!({ "code": code }))), 401, "not_proven");
    let mut b = Browser::signed_in(&server, "b@example.com", PASSWORD);
    ok(b.call("POST", "/invitations/accept", Some(&json!({ "code": code }))));
    // An admin invites no owner, and a withdrawn invitation is worth nothing.
    refused(b.call("POST", "/projects/1/invitations", Some(&json!({ "email": "c@example.com", "role": "owner" }))), 403, "not_owner");
    let made = ok(b.call("POST", "/projects/1/invitations", Some(&json!({ "email": "c@example.com", "role": "consumer" }))));
    ok(b.call("DELETE", &format!("/projects/1/invitations/{}", made["invitation_id"]), None));
    let code = made["link"].as_str().unwrap().split('#').nth(1).unwrap().to_owned();
    refused(Browser::new(&server).call("POST", "/invitations/show", Some(&json!({ "code": code }))), 401, "not_proven");
    // Whoever was invited by somebody who is no admin any more does not get in.
    let made = ok(b.call("POST", "/projects/1/invitations", Some(&json!({ "email": "d@example.com", "role": "consumer" }))));
    let code = made["link"].as_str().unwrap().split('#').nth(1).unwrap().to_owned();
    server.cli(&["member", "remove", "--project", "1", "--email", "b@example.com"], "");
    refused(
        Browser::new(&server).call("POST", "/invitations/accept", Some(&json!({ "code": code, "password": "a fine long word" }))),
        401,
        "not_proven",
    );
}

#[test]
fn a_password_is_reset_by_mail_and_an_address_changed_by_its_owner() {
    let server = TestServer::start();
    let mut browser = owner(&server);
    let mut forgetful = Browser::new(&server);
    let (known, unknown) = (
        forgetful.call("POST", "/password-reset", Some(&json!({ "email": "o@example.com" }))),
        forgetful.call("POST", "/password-reset", Some(&json!({ "email": "nobody@example.com" }))),
    );
    assert_eq!(known, unknown, "nobody learns who has an account");
    let code = code_of(&mail_with(&server, &["To: o@example.com", "Set another password"]));
    refused(forgetful.call("POST", "/password-reset/confirm", Some(&json!({ "code": code, "password": "12345678" }))), 400, "invalid");
    ok(forgetful.call("POST", "/password-reset/confirm", Some(&json!({ "code": code, "password": "another fine word" }))));
    refused(
        forgetful.call("POST", "/password-reset/confirm", Some(&json!({ "code": code, "password": "another fine word" }))),
        401,
        "not_proven",
    );
    refused(browser.call("GET", "/session", None), 401, "not_signed_in");
    let mut browser = Browser::signed_in(&server, "o@example.com", "another fine word");
    mail_with(&server, &["To: o@example.com", "Your password was changed"]);
    let other =
        ok(browser.call("PUT", "/account/password", Some(&json!({ "old_password": "another fine word", "new_password": PASSWORD }))));
    assert_eq!(other["done"], true);
    ok(browser.call("GET", "/session", None));
    ok(browser.call("POST", "/account/email", Some(&json!({ "email": "New@Example.com" }))));
    let code = code_of(&mail_with(&server, &["To: new@example.com", "Confirm your e-mail address"]));
    ok(browser.call("POST", "/account/email/confirm", Some(&json!({ "code": code }))));
    mail_with(&server, &["To: o@example.com", "was changed"]);
    Browser::signed_in(&server, "new@example.com", PASSWORD);
    // The operator's way, where no mail reaches.
    let link = server.cli(&["account", "reset-password", "--email", "new@example.com"], "");
    let link: Value = serde_json::from_str(&link).unwrap();
    let code = link["link"].as_str().unwrap().split('#').nth(1).unwrap();
    ok(forgetful.call("POST", "/password-reset/confirm", Some(&json!({ "code": code, "password": "a third fine word" }))));
    Browser::signed_in(&server, "new@example.com", "a third fine word");
}

#[test]
fn f8_f9_a_reset_takes_the_owner_a_fresh_proof_and_the_projects_name() {
    let server = TestServer::start();
    for (email, role) in [("admin@example.com", "admin"), ("analyst@example.com", "analyst")] {
        account(&server, email);
        server.cli(&["member", "add", "--project", "1", "--email", email, "--role", role], "");
    }
    assert_eq!(get(&format!("{}{NAMES}", server.base), Some(&basic("test_secret", ""))).0, 200);
    let service = server.cli(&["service-account", "create", "--project", "1", "--name", "3"], "");
    let service: Value = serde_json::from_str(&service).unwrap();
    let service = basic(service["username"].as_str().unwrap(), service["secret"].as_str().unwrap());
    assert_eq!(get(&format!("{}{NAMES}", server.base), Some(&service)).0, 200);
    let reset = "/projects/1/credentials/reset";
    let mut admin = Browser::signed_in(&server, "admin@example.com", PASSWORD);
    refused(admin.call("POST", reset, Some(&json!({ "project_name": "P" }))), 403, "not_owner");
    let mut browser = owner(&server);
    refused(browser.call("POST", reset, Some(&json!({ "project_name": "p" }))), 400, "invalid");
    refused(browser.call("POST", reset, None), 400, "invalid");
    // A bearer token is no proof of a person at the keyboard.
    let bearer = ok(browser.call("POST", "/account/bearer-tokens", Some(&json!({ "name": "script" }))));
    let bearer = format!("Bearer {}", bearer["bearer_token"].as_str().unwrap());
    let mut script = Browser::new(&server);
    assert_eq!(ok(script.call_with("GET", "/projects", None, &[("authorization", &bearer)])).as_array().unwrap().len(), 1);
    refused(
        script.call_with("POST", reset, Some(&json!({ "project_name": "P" })), &[("authorization", &bearer)]),
        403,
        "fresh_proof_needed",
    );
    let callers = ok(browser.call("GET", "/projects/1/callers", None));
    let known = callers.as_array().unwrap().iter().find(|caller| caller["breaks_on_reset"] == true).unwrap();
    assert_eq!((&known["endpoint"], &known["credential"]), (&json!("/api/2.0/events/names"), &json!("key 1")));
    let made = ok(browser.call("POST", reset, Some(&json!({ "project_name": "P" }))));
    let broken: Vec<(&str, &str)> = made["callers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|caller| (caller["credential"].as_str().unwrap(), caller["scheme"].as_str().unwrap()))
        .collect();
    assert_eq!(broken, [("key 1", "basic")], "what still works is not among them");
    let secret = made["api_secret"].as_str().unwrap();
    assert_eq!(get(&format!("{}{NAMES}", server.base), Some(&basic("test_secret", ""))).0, 401);
    assert_eq!(get(&format!("{}{NAMES}", server.base), Some(&basic(secret, ""))).0, 200);
    // Who still knocks is shown; the key is revealed to admins alone, and every mail is free of secrets.
    let callers = ok(browser.call("GET", "/projects/1/callers", None));
    assert!(callers.as_array().unwrap().iter().any(|caller| caller["outcome"] == "revoked" && caller["breaks_on_reset"] == false));
    let key = made["api_key"].as_str().unwrap();
    assert_eq!(ok(admin.call("POST", &format!("/projects/1/keys/{key}/reveal"), None))["api_secret"], secret);
    let mut analyst = Browser::signed_in(&server, "analyst@example.com", PASSWORD);
    refused(analyst.call("POST", &format!("/projects/1/keys/{key}/reveal"), None), 403, "not_admin");
    let shown = ok(analyst.call("GET", "/projects/1", None));
    assert_eq!(
        (&shown["owners"], &shown["keys"][0]["api_key"], &shown["token"]),
        (&json!(["o@example.com"]), &Value::Null, &json!("test_token"))
    );
    for to in ["o@example.com", "admin@example.com"] {
        mail_with(&server, &[&format!("To: {to}"), "were reset", "never share an API secret or send it over email"]);
    }
    for mail in mails(&server) {
        let text = mail.replace("=\r\n", "");
        assert!(!text.contains(secret) && !text.contains("test_secret") && !text.contains(key), "{text}");
        assert!(!text.contains("To: analyst@example.com\r\nSubject: P: API key"), "analysts are not told");
    }
}

#[test]
fn f10_a_token_is_reset_by_ticket_with_a_mail_at_each_step() {
    let server = TestServer::start();
    for (email, role) in [("b@example.com", "owner"), ("c@example.com", "admin")] {
        account(&server, email);
        server.cli(&["member", "add", "--project", "1", "--email", email, "--role", role], "");
    }
    let (mut operator, mut b, mut c) =
        (owner(&server), Browser::signed_in(&server, "b@example.com", PASSWORD), Browser::signed_in(&server, "c@example.com", PASSWORD));
    refused(c.call("POST", "/projects/1/tickets", Some(&json!({ "reason": "x" }))), 403, "not_owner");
    let ticket = ok(b.call("POST", "/projects/1/tickets", Some(&json!({ "reason": "it leaked" }))))["ticket"].to_string();
    mail_with(&server, &["To: o@example.com", "asks for another project token"]);
    refused(b.call("POST", &format!("/tickets/{ticket}/approve"), Some(&json!({}))), 403, "not_operator");
    ok(operator.call("POST", &format!("/tickets/{ticket}/messages"), Some(&json!({ "text": "where?" }))));
    mail_with(&server, &["To: b@example.com", "said in a ticket"]);
    ok(b.call("POST", &format!("/projects/1/tickets/{ticket}/messages"), Some(&json!({ "text": "on a page" }))));
    let made = ok(operator.call("POST", &format!("/tickets/{ticket}/approve"), Some(&json!({ "alias_days": 1 }))));
    let token = made["token"].as_str().unwrap();
    mail_with(&server, &["To: b@example.com", "project token was reset"]);
    for token in ["test_token", token] {
        let event = format!(r#"[{{"event":"E","properties":{{"token":"{token}"}}}}]"#);
        assert_eq!(e2e::post(&format!("{}/track", server.base), &event, None).1, "1");
    }
    let tickets = ok(b.call("GET", "/projects/1/tickets", None));
    assert_eq!((&tickets[0]["state"], tickets[0]["messages"].as_array().unwrap().len()), (&json!("approved"), 3));
    assert_eq!(tickets[0]["old_tokens"][0]["events"], 1);
    let ticket = ok(b.call("POST", "/projects/1/tickets", Some(&json!({ "reason": "again" }))))["ticket"].to_string();
    ok(operator.call("POST", &format!("/tickets/{ticket}/decline"), Some(&json!({ "text": "no" }))));
    mail_with(&server, &["To: b@example.com", "stays as it is"]);
}

#[test]
fn t1_whoever_is_removed_is_out_at_once() {
    let server = TestServer::start();
    account(&server, "x@example.com");
    server.cli(&["member", "add", "--project", "1", "--email", "x@example.com", "--role", "admin"], "");
    let mut x = Browser::signed_in(&server, "x@example.com", PASSWORD);
    let bearer = ok(x.call("POST", "/account/bearer-tokens", Some(&json!({ "name": "script" }))));
    let bearer = format!("Bearer {}", bearer["bearer_token"].as_str().unwrap());
    let reads = |header: (&str, &str)| {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        agent.get(format!("{}{NAMES}", server.base)).header(header.0, header.1).call().unwrap().status().as_u16()
    };
    let cookie = format!("sluice_session={}", x.cookies()["sluice_session"]);
    assert_eq!((reads(("authorization", &bearer)), reads(("cookie", &cookie))), (200, 200));
    server.cli(&["member", "remove", "--project", "1", "--email", "x@example.com"], "");
    assert_eq!((reads(("authorization", &bearer)), reads(("cookie", &cookie))), (403, 403));
    refused(x.call("GET", "/projects/1", None), 404, "unknown");
    assert_eq!(ok(x.call("GET", "/session", None))["account"]["email"], "x@example.com", "the account itself lives on");
    server.cli(&["account", "disable", "--email", "x@example.com"], "");
    refused(x.call("GET", "/session", None), 401, "not_signed_in");
    assert_eq!((reads(("authorization", &bearer)), reads(("cookie", &cookie))), (401, 401));
    refused(
        Browser::new(&server).call("POST", "/session", Some(&json!({ "email": "x@example.com", "password": PASSWORD }))),
        401,
        "not_proven",
    );
    assert!(server.commands().run(&["account", "disable", "--email", "o@example.com"], "").is_none(), "a project keeps its last owner");
}

/// Whoever invites an address sees a link and may take it: the account that it makes is worth nothing against whoever reads the mail.
#[test]
fn t3_an_account_made_for_somebody_else_falls_to_the_owner_of_the_address() {
    let server = TestServer::start();
    for email in ["mallory@example.com", "big@example.com"] {
        account(&server, email);
    }
    server.cli(&["member", "add", "--project", "1", "--email", "mallory@example.com", "--role", "owner"], "");
    server.cli(&["project", "create", "--owner", "big@example.com", "--name", "Big"], "");
    let mut mallory = Browser::signed_in(&server, "mallory@example.com", PASSWORD);
    let made = ok(mallory.call("POST", "/projects/1/invitations", Some(&json!({ "email": "victim@example.com", "role": "consumer" }))));
    let shown = made["link"].as_str().unwrap().split('#').nth(1).unwrap().to_owned();
    let mut hijacker = Browser::new(&server);
    ok(hijacker.call("POST", "/invitations/accept", Some(&json!({ "code": shown, "password": "mallory's own word" }))));
    let bearer = ok(hijacker.call("POST", "/account/bearer-tokens", Some(&json!({ "name": "later" }))));
    let bearer = format!("Bearer {}", bearer["bearer_token"].as_str().unwrap());
    let new = ok(hijacker.call("POST", "/account/totp", None));
    ok(hijacker.call("POST", "/account/totp/confirm", Some(&json!({ "code": code(new["secret"].as_str().unwrap()) }))));
    // The victim sets a password by mail and finds no second factor, no session and no token of somebody else.
    let mut victim = Browser::new(&server);
    ok(victim.call("POST", "/password-reset", Some(&json!({ "email": "victim@example.com" }))));
    let mailed = code_of(&mail_with(&server, &["To: victim@example.com", "Set another password"]));
    ok(victim.call("POST", "/password-reset/confirm", Some(&json!({ "code": mailed, "password": "the victim's own word" }))));
    let mut victim = Browser::signed_in(&server, "victim@example.com", "the victim's own word");
    server.cli(&["member", "add", "--project", "2", "--email", "victim@example.com", "--role", "admin"], "");
    assert_eq!(ok(victim.call("GET", "/projects/2", None))["role"], "admin");
    refused(hijacker.call("GET", "/projects/2", None), 401, "not_signed_in");
    refused(Browser::new(&server).call_with("GET", "/projects/2", None, &[("authorization", &bearer)]), 401, "not_proven");
    assert_eq!(get(&format!("{}{}", server.base, NAMES.replace("=1", "=2")), Some(&bearer)).0, 401);
}

/// However many guess passwords at once, whoever is signed in goes on, within ten times what it takes.
#[test]
fn t17_guessers_do_not_keep_others_from_their_keys() {
    let server = TestServer::start();
    let mut browser = owner(&server);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for guesser in 0..64 {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || {
                let mut browser = Browser::new(server);
                for at in 0.. {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                    let body = json!({ "email": format!("{guesser}-{at}@example.com"), "password": "wrong" });
                    let status = browser.call("POST", "/session", Some(&body)).0;
                    assert!([401, 503].contains(&status), "{status}");
                }
            });
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
        let mut slowest = std::time::Duration::ZERO;
        for _ in 0..50 {
            let began = std::time::Instant::now();
            ok(browser.call("GET", "/projects/1/keys", None));
            slowest = slowest.max(began.elapsed());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(slowest.as_millis() < 1500, "{slowest:?}");
    });
}

#[test]
fn what_weakens_a_project_takes_a_fresh_proof_and_tls_where_it_is_asked_for() {
    let server = TestServer::start_with("[listen]\ntrusted_proxies = [\"127.0.0.1\"]\n");
    let mut browser = owner(&server);
    let bearer = ok(browser.call("POST", "/account/bearer-tokens", Some(&json!({ "name": "script" }))));
    let bearer = format!("Bearer {}", bearer["bearer_token"].as_str().unwrap());
    let mut script = Browser::new(&server);
    let headers = [("authorization", bearer.as_str())];
    ok(script.call_with("PATCH", "/projects/1", Some(&json!({ "name": "P" })), &headers));
    for (path, change) in [("require-tls", json!({ "require_tls": false })), ("token-options", json!({}))] {
        refused(script.call_with("PUT", &format!("/projects/1/{path}"), Some(&change), &headers), 403, "fresh_proof_needed");
    }
    ok(browser.call("PUT", "/projects/1/token-options", Some(&json!({ "events_per_second_max": 5, "origins": ["https://shop.example"] }))));
    assert_eq!(ok(browser.call("GET", "/projects/1", None))["token_options"]["origins"], json!(["https://shop.example"]));
    refused(script.call_with("DELETE", "/projects/1/members/1", None, &headers), 403, "fresh_proof_needed");
    account(&server, "b@example.com");
    server.cli(&["project", "create", "--owner", "b@example.com", "--name", "Second"], "");
    let mut b = Browser::signed_in(&server, "b@example.com", PASSWORD);
    refused(b.call("PATCH", "/projects/2", Some(&json!({ "organization_id": 77 }))), 400, "invalid");
    assert!(server.commands().run(&["project", "set", "--project", "2", "--as", "b@example.com", "--organization-id", "77"], "").is_none());
    ok(browser.call("PUT", "/projects/1/require-tls", Some(&json!({ "require_tls": true }))));
    ok(browser.call("GET", "/projects/1", None));
    let plain = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "http")];
    refused(browser.call_with("POST", "/projects/1/keys/test_key/reveal", None, &plain), 403, "tls_needed");
    // A secret is no name: it would be stored and mailed.
    let secret = ok(browser.call("POST", "/projects/1/credentials/reset", Some(&json!({ "project_name": "P" }))))["api_secret"].clone();
    refused(browser.call("PATCH", "/projects/1", Some(&json!({ "name": format!("key {}", secret.as_str().unwrap()) }))), 400, "invalid");
    refused(browser.call("POST", "/session", Some(&json!(["o@example.com", PASSWORD, null]))), 400, "invalid");
    assert!(
        server.commands().run(&["account", "operator", "--email", "o@example.com", "--revoke"], "").is_none(),
        "the last operator stays"
    );
}

#[test]
fn t15_no_form_of_another_site_changes_anything() {
    let server = TestServer::start();
    let mut browser = owner(&server);
    let document = ok(browser.call("GET", "/openapi.json", None));
    let before = server.cli(&["audit", "list"], "");
    let mut tried = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{project}", "1").replace("{key}", "test_key").replace("{account}", "1");
        for method in methods.as_object().unwrap().keys().filter(|method| *method != "get") {
            let method = method.to_uppercase();
            let forged: [&[(&str, &str)]; 8] = [
                &[("content-type", "application/x-www-form-urlencoded")],
                &[("content-type", "multipart/form-data; boundary=x")],
                &[("content-type", "text/plain")],
                &[("content-type", "text/plain; application/json")],
                &[("sec-fetch-site", "cross-site")],
                &[("sec-fetch-site", "same-site")],
                &[("origin", "https://evil.example")],
                &[("origin", "null")],
            ];
            for headers in forged {
                let (status, answer) = browser.call_with(&method, &path, Some(&json!({ "project_name": "P" })), headers);
                assert!(status == 403 || status == 415, "{method} {path} {headers:?}: {status} {answer}");
                tried += 1;
            }
        }
    }
    assert!(tried > 300, "{tried}");
    assert_eq!(server.cli(&["audit", "list"], ""), before, "nothing happened");
    // Neither does another site read: its page gets no leave to look at the answer.
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let cookie = format!("sluice_session={}", browser.cookies()["sluice_session"]);
    let answer =
        agent.get(format!("{}{NAMES}", server.base)).header("cookie", cookie).header("origin", "https://evil.example").call().unwrap();
    assert_eq!(answer.status(), 401);
}

#[test]
fn t29_a_project_is_taken_by_whom_it_was_offered_to_and_once() {
    let server = TestServer::start();
    for email in ["b@example.com", "c@example.com"] {
        account(&server, email);
    }
    let (mut a, mut b, mut c) =
        (owner(&server), Browser::signed_in(&server, "b@example.com", PASSWORD), Browser::signed_in(&server, "c@example.com", PASSWORD));
    ok(a.call("POST", "/projects/1/transfer", Some(&json!({ "email": "c@example.com" }))));
    ok(a.call("POST", "/projects/1/transfer", Some(&json!({ "email": "b@example.com" }))));
    refused(c.call("POST", "/transfers/1/accept", None), 404, "unknown");
    mail_with(&server, &["To: b@example.com", "offered to a new owner"]);
    assert_eq!(ok(b.call("GET", "/transfers", None))[0]["project_id"], 1);
    // Two at once: one wins.
    let jar = b.cookies().clone();
    let accepted: usize = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..4)
            .map(|_| {
                let mut browser = Browser::new(&server).with_cookies(&jar);
                scope.spawn(move || usize::from(browser.call("POST", "/transfers/1/accept", None).0 == 200))
            })
            .collect();
        tries.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(accepted, 1);
    assert_eq!(ok(a.call("GET", "/projects/1", None))["role"], "admin");
    assert_eq!(ok(b.call("GET", "/projects/1", None))["role"], "owner");
    mail_with(&server, &["To: b@example.com", "has a new owner"]);
}

#[test]
fn t33_the_first_account_takes_the_code_and_is_made_once() {
    let server = TestServer::empty();
    let mut browser = Browser::new(&server);
    assert_eq!(ok(browser.call("GET", "/instance", None))["needs_setup"], true);
    let asked = json!({ "code": "AAAAA-BBBBB-CCCCC-DDDDD", "email": "o@example.com", "password": PASSWORD });
    refused(browser.call("POST", "/setup", Some(&asked)), 404, "unknown");
    account(&server, "o@example.com");
    assert_eq!(ok(browser.call("GET", "/instance", None))["needs_setup"], false);
    // What an owner finds in settings: names, zone, week, archive.
    server.cli(&["project", "create", "--owner", "o@example.com", "--name", "Shop"], "");
    let mut browser = owner(&server);
    let change = json!({ "name": "Shop 2", "timezone": "Europe/Berlin", "week_start": "sunday" });
    server.cli(&["project", "set", "--project", "1", "--organization-id", "7"], "");
    ok(browser.call("PATCH", "/projects/1", Some(&change)));
    ok(browser.call("PUT", "/organizations/7", Some(&json!({ "name": "ACME" }))));
    let shown = ok(browser.call("GET", "/projects/1", None));
    assert_eq!(
        [&shown["name"], &shown["timezone"], &shown["week_start"], &shown["organization_name"]],
        ["Shop 2", "Europe/Berlin", "sunday", "ACME"]
    );
    refused(browser.call("PATCH", "/projects/1", Some(&json!({ "timezone": "Mars/Base" }))), 400, "invalid");
    refused(browser.call("PATCH", "/projects/1", Some(&json!({ "zone": "UTC" }))), 400, "invalid");
    ok(browser.call("POST", "/projects/1/archive", Some(&json!({ "project_name": "Shop 2" }))));
    let token = shown["token"].as_str().unwrap();
    let event = format!(r#"[{{"event":"E","properties":{{"token":"{token}"}}}}]"#);
    let (_, answer) = e2e::post(&format!("{}/track?verbose=1", server.base), &event, None);
    assert_eq!(answer, r#"{"error":"this project is archived","status":0}"#);
    ok(browser.call("POST", "/projects/1/unarchive", None));
    assert_eq!(e2e::post(&format!("{}/track", server.base), &event, None).1, "1");
    let made = ok(browser.call("POST", "/projects", Some(&json!({ "name": "Second" }))));
    assert_eq!((made["project_id"].clone(), made["token"].as_str().unwrap().len()), (json!(2), 32));
}
