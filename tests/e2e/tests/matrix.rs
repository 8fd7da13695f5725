//! Who may call what: every operation and report for every role and every project, every route for every kind of credential. What comes out
//! is compared with tables that are checked in; `UPDATE_EXPECT=1` writes them anew, and their reader judges whether they are right.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use e2e::{Browser, REPORTS, TestServer, basic};
use expect_test::expect_file;
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse";
const ROLES: [&str; 7] = ["nobody", "stranger", "consumer", "analyst", "admin", "owner", "operator"];
/// The project of the roles, one of somebody else, and none.
const PROJECTS: [(&str, &str); 3] = [("own", "1"), ("other", "2"), ("no", "999")];
/// A lookup table of project 1.
const TABLE: &str = "c0ffee00-0000-4000-8000-000000000001";
/// Every report, and one that there is not.
fn reports() -> impl Iterator<Item = &'static str> {
    REPORTS.into_iter().chain(["/nothing"])
}

/// A server with project 1 and its people, project 2 of somebody else, and an operator who belongs to neither.
fn world() -> TestServer {
    let server = TestServer::empty();
    for email in ["operator", "owner", "admin", "analyst", "consumer", "stranger", "else"] {
        server.cli(&["account", "create", "--email", &format!("{email}@example.com"), "--password-stdin"], PASSWORD);
    }
    let project = |owner: &str, name: &str, values: [&str; 3]| {
        let [token, key, secret] = values;
        let values = ["--token", token, "--api-key", key, "--api-secret", secret, "--allow-weak"];
        server.cli(&[&["project", "create", "--owner", owner, "--name", name][..], &values].concat(), "");
    };
    project("owner@example.com", "P", ["test_token", "test_key", "test_secret"]);
    project("else@example.com", "Q", ["other_token", "other_key", "other_secret"]);
    for role in ["admin", "analyst", "consumer"] {
        server.cli(&["member", "add", "--project", "1", "--email", &format!("{role}@example.com"), "--role", role], "");
    }
    for token in ["test_token", "other_token"] {
        let event = format!(r#"[{{"event":"E","properties":{{"token":"{token}","distinct_id":"canary of {token}"}}}}]"#);
        assert_eq!(e2e::post(&format!("{}/track", server.base), &event, None).1, "1");
        let profile = format!(r#"[{{"$token":"{token}","$distinct_id":"canary of {token}","$set":{{"a":1}}}}]"#);
        assert_eq!(e2e::post(&format!("{}/engage", server.base), &profile, None).1, "1");
    }
    server
}

/// What came of a call: let in, or the status of the refusal.
fn outcome(status: u16, answer: &Value) -> String {
    match (status, answer["code"].as_str(), answer["error"].as_str()) {
        (401 | 403, ..) => status.to_string(),
        (404, Some("unknown"), Some("unknown project")) => "404".to_owned(),
        (429 | 500.., ..) => panic!("{status} {answer}"),
        _ => "yes".to_owned(),
    }
}

/// T2 and T3 of the security bar.
#[test]
fn t2_t3_roles_by_operations_by_projects() {
    let server = world();
    let document = Browser::new(&server).call("GET", "/openapi.json", None).1;
    let mut operations: Vec<(String, String, String)> = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, described) in methods.as_object().unwrap() {
            operations.push((path.clone(), method.to_uppercase(), described["x-who"].as_str().unwrap().to_owned()));
        }
    }
    // Whoever signs out is out.
    operations.sort_by_key(|(path, method, _)| (path == "/session" && method == "DELETE", path == "/sessions" && method == "DELETE"));
    let mut browsers: Vec<Browser> =
        ROLES
            .iter()
            .map(|role| {
                if *role == "nobody" {
                    Browser::new(&server)
                } else {
                    Browser::signed_in(&server, &format!("{role}@example.com"), PASSWORD)
                }
            })
            .collect();
    let mut lines = vec![format!("{:<60} {:<6} {}", "operation", "which", ROLES.map(|role| format!("{role:<9}")).concat())];
    let mut calls = 0;
    for (path, method, who) in &operations {
        let scopes = if path.starts_with("/projects/{project}") { &PROJECTS[..] } else { &[("", "999")] };
        for (which, project) in scopes {
            let real = path.replace("{project}", project).split('{').enumerate().fold(String::new(), |all, (at, piece)| {
                // Other things in the path do not exist: who may ask is told that, and nothing happens.
                all + if at == 0 { piece.to_owned() } else { format!("999{}", piece.split_once('}').unwrap().1) }.as_str()
            });
            let cells = browsers.iter_mut().map(|browser| {
                calls += 1;
                let (status, answer) = browser.call(method, &real, (method != "GET").then_some(&json!({})));
                assert!(!matches!(*which, "other" | "no") || !answer.to_string().contains("test_token"), "{method} {real}: {answer}");
                format!("{:<9}", outcome(status, &answer))
            });
            let cells: String = cells.collect();
            lines.push(format!("{:<60} {which:<6} {cells}", format!("{method} {path} ({who})")).trim_end().to_owned());
        }
    }
    for (role, browser) in ROLES.iter().zip(&mut browsers).filter(|(role, _)| **role != "nobody") {
        *browser = Browser::signed_in(&server, &format!("{role}@example.com"), PASSWORD);
    }
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    for report in reports() {
        for (which, project) in PROJECTS {
            let cells = browsers.iter().map(|browser| {
                let mark = if report.contains('?') { '&' } else { '?' };
                let cookies: Vec<String> = browser.cookies().iter().map(|(name, value)| format!("{name}={value}")).collect();
                let request =
                    agent.get(format!("{}/api/2.0{report}{mark}project_id={project}", server.base)).header("cookie", cookies.join("; "));
                let mut response = request.call().unwrap();
                let (status, text) = (response.status().as_u16(), response.body_mut().read_to_string().unwrap());
                assert!(!text.contains("canary of other_token"), "{report}: {text}");
                format!("{status:<9}")
            });
            let cells: String = cells.collect();
            lines.push(
                format!("{:<60} {which:<6} {cells}", format!("GET /api/2.0{}", report.split('?').next().unwrap())).trim_end().to_owned(),
            );
        }
    }
    assert!(calls > 700, "{calls}");
    // What the table says of each policy, whatever is checked in.
    for line in &lines[1..] {
        let allowed = |role: &str| {
            let at = 68 + ROLES.iter().position(|known| *known == role).unwrap() * 9;
            line.get(at..).unwrap_or_default().split_whitespace().next() == Some("yes")
        };
        if line.contains(" other ") || line.contains(" no ") {
            assert!(!ROLES.iter().any(|role| allowed(role)), "{line}");
        }
        assert!(line.contains("(anyone)") || !allowed("nobody"), "{line}");
        assert!(!line.contains("(owner)") || !(allowed("admin") || allowed("operator")), "{line}");
        assert!(!line.contains("(operator)") || (!allowed("owner") && allowed("operator")), "{line}");
    }
    lines.push(String::new());
    expect_file!["expected/roles.txt"].assert_eq(&lines.join("\n"));
}

#[test]
fn kinds_of_credentials_by_routes() {
    let server = world();
    let json = |args: &[&str]| serde_json::from_str::<Value>(&server.cli(args, "")).unwrap();
    let on = |args: &[&str]| json(&[args, &["--project", "1", "--as", "owner@example.com"]].concat());
    let text = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
    let narrow = on(&["key", "create", "--rights", "query", "--legacy", "on"]);
    let dead = on(&["key", "create", "--rights", "export,query,import", "--legacy", "on"]);
    on(&["key", "revoke", "--api-key", &text(&dead, "api_key")]);
    let service = |role: &str| {
        let made = on(&["service-account", "create", "--name", role, "--role", role]);
        basic(&text(&made, "username"), &text(&made, "secret"))
    };
    let bearer = |who: &str| {
        let made = json(&["bearer-token", "create", "--as", &format!("{who}@example.com"), "--name", "t"]);
        format!("Bearer {}", text(&made, "bearer_token"))
    };
    server.cli(&["lookup-table", "create", "--project", "1", "--name", "T", "--id", TABLE], "");
    let session = Browser::signed_in(&server, "owner@example.com", PASSWORD).cookies()["sluice_session"].clone();
    enum Shown {
        Nothing,
        Header(&'static str, String),
        Signed(String, String),
    }
    let header = |value: String| Shown::Header("authorization", value);
    let kinds: Vec<(&str, Shown)> = vec![
        ("nothing", Shown::Nothing),
        ("token", header(basic("test_token", ""))),
        ("api key", header(basic("test_key", ""))),
        ("signature", Shown::Signed("test_key".to_owned(), "test_secret".to_owned())),
        ("narrow signature", Shown::Signed(text(&narrow, "api_key"), text(&narrow, "api_secret"))),
        ("dead signature", Shown::Signed(text(&dead, "api_key"), text(&dead, "api_secret"))),
        ("wrong signature", Shown::Signed("test_key".to_owned(), "other_secret".to_owned())),
        ("other's signature", Shown::Signed("other_key".to_owned(), "other_secret".to_owned())),
        ("secret", header(basic("test_secret", ""))),
        ("narrow secret", header(basic(&text(&narrow, "api_secret"), ""))),
        ("dead secret", header(basic(&text(&dead, "api_secret"), ""))),
        ("wrong secret", header(basic("wrong", ""))),
        ("other's secret", header(basic("other_secret", ""))),
        ("service consumer", header(service("consumer"))),
        ("service analyst", header(service("analyst"))),
        ("service admin", header(service("admin"))),
        ("service owner", header(service("owner"))),
        ("bearer consumer", header(bearer("consumer"))),
        ("bearer owner", header(bearer("owner"))),
        ("bearer stranger", header(bearer("stranger"))),
        ("wrong bearer", header("Bearer slct_wrong".to_owned())),
        ("session", Shown::Header("cookie", format!("sluice_session={session}"))),
    ];
    let event = r#"[{"event":"E","properties":{"token":"test_token","distinct_id":"u","time":1577836800,"$insert_id":"a"}}]"#;
    let reports = reports().map(|report| ("GET", format!("/api/2.0{report}"), ""));
    let others = [
        ("POST", "/import?strict=1".to_owned(), event),
        ("POST", "/track".to_owned(), event),
        ("POST", "/engage".to_owned(), r#"[{"$token":"test_token","$distinct_id":"u","$set":{"a":1}}]"#),
        ("POST", "/groups".to_owned(), r#"[{"$token":"test_token","$group_key":"g","$group_id":"u","$set":{"a":1}}]"#),
        ("GET", "/lookup-tables".to_owned(), ""),
        ("PUT", format!("/lookup-tables/{TABLE}"), "id,a\n1,x"),
        ("GET", "/flags".to_owned(), ""),
        ("GET", "/decide".to_owned(), ""),
        ("GET", "/health".to_owned(), ""),
        ("GET", "/metrics".to_owned(), ""),
        ("GET", "/setup".to_owned(), ""),
        ("GET", "/api/v1/instance".to_owned(), ""),
        ("GET", "/api/v1/projects".to_owned(), ""),
        ("GET", "/api/v1/projects/1".to_owned(), ""),
        ("GET", "/api/v1/projects/2".to_owned(), ""),
        ("POST", "/api/v1/projects/1/keys".to_owned(), "{}"),
        ("POST", "/api/v1/projects/1/credentials/reset".to_owned(), "{}"),
        ("GET", "/api/v1/audit".to_owned(), ""),
    ];
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut lines = Vec::new();
    let routes: Vec<(&str, String, &str)> = reports.chain(others).collect();
    for (kind, shown) in &kinds {
        lines.push(format!("## {kind}"));
        for (method, path, body) in &routes {
            // A signed request names its key alone; whoever else needs a project says so.
            let mark = if path.contains('?') { '&' } else { '?' };
            let is_wire = !path.starts_with("/api/v1");
            let url = match shown {
                Shown::Signed(key, secret) if is_wire => server.signed(path, key, secret),
                _ if is_wire => format!("{}{path}{mark}project_id=1", server.base),
                _ => format!("{}{path}", server.base),
            };
            let mut request = ureq::http::Request::builder().method(*method).uri(url).header("content-type", "application/json");
            if let Shown::Header(name, value) = shown {
                request = request.header(*name, value);
            }
            let mut response = agent.run(request.body((*body).to_owned()).unwrap()).unwrap();
            let (status, answer) = (response.status().as_u16(), response.body_mut().read_to_string().unwrap());
            assert!(!answer.contains("canary of other_token") || kind.starts_with("other's"), "{kind} {path}: {answer}");
            assert!(status < 500, "{kind} {path}: {answer}");
            lines.push(format!("{status} {method} {}", path.split('?').next().unwrap()));
        }
        lines.push(String::new());
    }
    expect_file!["expected/credentials.txt"].assert_eq(&lines.join("\n"));
}
