//! No answer holds another tenant's data. Everything of project B bears a canary: events, properties, profiles, names, tokens, people. Then
//! project A's people and programs ask for everything, with every kind of credential and with ids, names, tokens and cursors of B, and no
//! canary comes back but one that stood in the question.
//!
//! `TENANT_REQUESTS=1000000` for more, `TENANT_SEED` for others.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::{Browser, TestServer, basic, field, setting};
use serde_json::{Value, json};
use wire::params::encode;

const PASSWORD: &str = "correct horse";
const DAY: &str = "2020-01-01";
/// Every canary begins so; eight hex digits follow.
const MARK: &str = "knr";
/// Events of A by each name, each worth 1: no figure of A's reports is larger than their sum.
const OWN_EVENTS: usize = 5;
const OWN_NAMES: [&str; 3] = ["Visit", "Buy", "Leave"];
/// Events of B by each name.
const OTHER_EVENTS: usize = 137;
const THREADS: usize = 4;
/// Sessions are signed in again after so many requests: a fresh proof holds for minutes.
const ROUND: usize = 20_000;

/// Numbers that look random and are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below
    }

    fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.roll(items.len())]
    }

    fn of<'a>(&mut self, items: &'a [String]) -> &'a str {
        &items[self.roll(items.len())]
    }
}

/// A new canary.
fn canary(dice: &mut Dice) -> String {
    format!("{MARK}{:08x}", dice.roll(usize::MAX) as u32)
}

/// What of B an attacker may have got hold of, and what nobody may learn of it.
#[derive(Default)]
struct Other {
    project: String,
    organization: String,
    /// Ids of its keys, accounts, invitations, tickets, sessions, bearer tokens, service accounts; names, tokens, cursors.
    ids: BTreeMap<&'static str, Vec<String>>,
    events: Vec<String>,
    properties: Vec<String>,
    /// Secrets without a mark.
    secrets: Vec<String>,
}

impl Other {
    fn all(&self) -> Vec<String> {
        self.ids.values().flatten().chain(&self.events).chain(&self.properties).cloned().collect()
    }
}

/// What a text holds of B.
fn found_in(text: &str, secrets: &[String]) -> BTreeSet<String> {
    let marks = text.match_indices(MARK).filter_map(|(at, _)| text.get(at..at + MARK.len() + 8));
    let marks = marks.filter(|found| found[MARK.len()..].bytes().all(|byte| byte.is_ascii_hexdigit()));
    marks.map(str::to_owned).chain(secrets.iter().filter(|secret| text.contains(secret.as_str())).cloned()).collect()
}

fn run(server: &TestServer, args: &[&str], stdin: &str) -> Value {
    serde_json::from_str(&server.cli(args, stdin)).unwrap()
}

fn send(server: &TestServer, path: &str, records: &[Value], header: Option<&str>) {
    let (status, body) = e2e::post(&format!("{}{path}", server.base), &Value::from(records.to_vec()).to_string(), header);
    assert!(status == 200 && body != "0", "{body}");
}

/// Every `name` anywhere in an answer, as text.
fn harvest(answer: &Value, name: &str, into: &mut Vec<String>) {
    match answer {
        Value::Array(items) => items.iter().for_each(|item| harvest(item, name, into)),
        Value::Object(object) => {
            for (known, value) in object {
                if known == name && !value.is_null() {
                    into.push(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
                }
                harvest(value, name, into);
            }
        }
        _ => {}
    }
}

/// Project A: plain names, members of every role.
fn make_own(server: &TestServer) {
    // The first account is the operator's, who sees every account and belongs to no project.
    for role in ["operator", "owner", "admin", "analyst", "consumer", "stranger"] {
        server.cli(&["account", "create", "--email", &format!("{role}@example.com"), "--password-stdin"], PASSWORD);
    }
    let values = ["--token", "own_token", "--api-key", "own_key", "--api-secret", "own_secret", "--allow-weak"];
    server.cli(&[&["project", "create", "--owner", "owner@example.com", "--name", "A"][..], &values].concat(), "");
    for role in ["admin", "analyst", "consumer"] {
        server.cli(&["member", "add", "--project", "1", "--email", &format!("{role}@example.com"), "--role", role], "");
    }
    let event = |name: &str, at: usize| {
        json!({"event": name, "properties": {"token": "own_token", "time": 1_577_836_800, "distinct_id": format!("own-{at}"),
            "$insert_id": format!("{name}{at}"), "amount": 1, "colour": "red"}})
    };
    let events: Vec<Value> = OWN_NAMES.iter().flat_map(|name| (0..OWN_EVENTS).map(move |at| event(name, at))).collect();
    send(server, "/import?strict=1", &events, Some(&basic("own_secret", "")));
    let profile = |at: usize| json!({"$token": "own_token", "$distinct_id": format!("own-{at}"), "$set": {"plan": "free"}});
    send(server, "/engage", &(0..OWN_EVENTS).map(profile).collect::<Vec<_>>(), None);
}

/// Project B: a canary in everything that has room for one.
fn make_other(server: &TestServer, dice: &mut Dice) -> Other {
    let mut other = Other { project: "2".to_owned(), organization: "77".to_owned(), ..Other::default() };
    let people: Vec<String> = (0..3).map(|_| format!("{}@example.com", canary(dice))).collect();
    for email in &people {
        server.cli(&["account", "create", "--email", email, "--password-stdin"], PASSWORD);
    }
    let [owner, admin, heir] = [&people[0], &people[1], &people[2]];
    let [name, token, key, secret] = [canary(dice), canary(dice), canary(dice), canary(dice)];
    let values = ["--token", &token, "--api-key", &key, "--api-secret", &secret, "--allow-weak", "--organization-id", "77"];
    let made = run(server, &[&["project", "create", "--owner", owner, "--name", &name, "--project-id", "2"][..], &values].concat(), "");
    assert_eq!(made["project_id"], 2);
    server.cli(&["organization", "--id", "77", "--name", &canary(dice)], "");
    let on = |args: &[&str], stdin: &str| run(server, &[args, &["--project", "2", "--as", owner]].concat(), stdin);
    on(&["member", "add", "--email", admin, "--role", "admin"], "");
    on(&["project", "set", "--origins", &format!("https://{}.example", canary(dice)), "--authenticated-properties", &canary(dice)], "");
    let further = on(&["key", "create", "--name", &canary(dice), "--rights", "query,export", "--legacy", "on"], "");
    let (user, user_secret) = (canary(dice), canary(dice));
    let service = ["service-account", "create", "--name", &canary(dice), "--role", "owner", "--username", &user, "--secret-stdin"];
    on(&service, &user_secret);
    let bearer = run(server, &["bearer-token", "create", "--as", owner, "--name", &canary(dice)], "");
    on(&["invitation", "create", "--email", &format!("{}@example.com", canary(dice)), "--role", "admin"], "");
    on(&["transfer", "offer", "--to", heir], "");
    on(&["ticket", "open", "--reason", &canary(dice)], "");
    other.secrets = vec![
        field(&bearer, "bearer_token"),
        field(&further, "api_secret"),
        field(&on(&["project", "identity-secret"], ""), "identity_secret"),
    ];
    // Events and profiles.
    other.events = (0..4).map(|_| canary(dice)).collect();
    other.properties = (0..4).map(|_| canary(dice)).collect();
    let mut ids = Vec::new();
    for event in &other.events {
        let record = |at: usize, dice: &mut Dice| {
            let (id, value) = (canary(dice), canary(dice));
            let mut properties = json!({"token": token, "time": 1_577_836_800, "distinct_id": id, "$insert_id": format!("{event}-{at}"), "amount": 1_000_003, "colour": canary(dice)});
            for property in &other.properties {
                properties[property] = value.clone().into();
            }
            (id, json!({"event": event, "properties": properties}))
        };
        let (users, records): (Vec<_>, Vec<_>) = (0..OTHER_EVENTS).map(|at| record(at, dice)).unzip();
        send(server, "/import?strict=1", &records, Some(&basic(&secret, "")));
        ids.extend(users.into_iter().take(20));
    }
    let profile = |id: &String, dice: &mut Dice| json!({"$token": token, "$distinct_id": id, "$set": {"plan": canary(dice), &other.properties[0]: canary(dice)}});
    let profiles: Vec<Value> = ids.iter().map(|id| profile(id, dice)).collect();
    send(server, "/engage", &profiles, None);
    let group = canary(dice);
    let groups = [json!({"$token": token, "$group_key": group, "$group_id": canary(dice), "$set": {"plan": canary(dice)}})];
    send(server, "/groups", &groups, None);
    on(&["project", "group-key", "add", "--key", &group], "");
    // A property that A's events bring too leads to a table of B.
    let table = field(&on(&["lookup-table", "create", "--name", &canary(dice), "--event-property", "colour"], ""), "id");
    let column = canary(dice);
    let rows = format!("colour,{column}\nred,{}\n", canary(dice));
    let request = ureq::http::Request::builder().method("PUT").uri(format!("{}/lookup-tables/{table}", server.base));
    let request = request.header("authorization", basic(&secret, "")).body(rows).unwrap();
    assert_eq!(e2e::agent().run(request).unwrap().status(), 200);
    other.properties.push(format!("colour.{column}"));
    // What B's owner is shown, an attacker may have seen over a shoulder.
    let mut browser = Browser::signed_in(server, owner, PASSWORD);
    other.secrets.push(browser.cookies()["sluice_session"].clone());
    let paths = [
        "",
        "/keys",
        "/members",
        "/invitations",
        "/service-accounts",
        "/tickets",
        "/transfer",
        "/audit",
        "/callers",
        "/group-keys",
        "/lookup-tables",
    ];
    let answers: Vec<Value> = paths
        .map(|path| format!("/projects/2{path}"))
        .iter()
        .map(String::as_str)
        .chain(["/sessions", "/account/bearer-tokens"])
        .map(|path| {
            let (status, answer) = browser.call("GET", path, None);
            assert_eq!(status, 200, "{path}: {answer}");
            answer
        })
        .collect();
    for name in ["api_key", "key_id", "account_id", "email", "invitation_id", "username", "ticket", "session_id", "id", "data_group_id"] {
        answers.iter().for_each(|answer| harvest(answer, name, other.ids.entry(name).or_default()));
    }
    assert!(other.ids.values().all(|found| !found.is_empty()), "{:?}", other.ids);
    for _ in 0..4 {
        let page = e2e::post(&format!("{}/api/2.0/engage?page_size=100", server.base), "", Some(&basic(&secret, ""))).1;
        let page: Value = serde_json::from_str(&page).unwrap();
        other.ids.entry("cursor").or_default().push(field(&page, "session_id"));
    }
    for (kind, values) in
        [("distinct_id", ids), ("group", vec![group]), ("token", vec![token.clone()]), ("secret", vec![secret, user_secret])]
    {
        other.ids.insert(kind, values);
    }
    other
}

/// How A's people and programs prove who they are.
enum Shown {
    Nothing,
    Header(&'static str, String),
    /// A parameter.
    Parameter(&'static str, &'static str),
    Signed,
}

fn credentials(server: &TestServer) -> Vec<Shown> {
    let authorization = |value| Shown::Header("authorization", value);
    let mut all = vec![
        Shown::Nothing,
        Shown::Signed,
        Shown::Parameter("token", "own_token"),
        Shown::Parameter("api_key", "own_key"),
        authorization(basic("own_token", "")),
        authorization(basic("own_secret", "")),
        authorization(basic("own_secret", "")),
    ];
    for role in ["owner", "admin", "analyst", "consumer"] {
        let email = format!("{role}@example.com");
        let make = ["service-account", "create", "--project", "1", "--as", "owner@example.com", "--name", role, "--role", role];
        let made = run(server, &make, "");
        all.push(authorization(basic(&field(&made, "username"), &field(&made, "secret"))));
        let made = run(server, &["bearer-token", "create", "--as", &email, "--name", "t"], "");
        all.push(authorization(format!("Bearer {}", field(&made, "bearer_token"))));
    }
    let made = run(server, &["bearer-token", "create", "--as", "stranger@example.com", "--name", "t"], "");
    all.push(authorization(format!("Bearer {}", field(&made, "bearer_token"))));
    all
}

fn sessions(server: &TestServer) -> Vec<Shown> {
    let session = |role: &str| {
        let browser = Browser::signed_in(server, &format!("{role}@example.com"), PASSWORD);
        Shown::Header("cookie", format!("sluice_session={}", browser.cookies()["sluice_session"]))
    };
    ["owner", "admin", "consumer", "stranger"].map(session).into()
}

/// A question: method, path with its query, body.
struct Question {
    method: String,
    target: String,
    body: Option<String>,
}

const READS_BELOW: [&str; 2] = ["/api/2.0", "/api/query"];
const READS: [&str; 13] = [
    "export",
    "engage",
    "events",
    "events/top",
    "events/names",
    "events/properties",
    "events/properties/top",
    "events/properties/values",
    "segmentation",
    "segmentation/numeric",
    "segmentation/sum",
    "segmentation/average",
    "nothing",
];

/// Parameters of a read, each from A or from B, some twice, some that nobody knows.
fn read(dice: &mut Dice, other: &Other) -> Question {
    let all = other.all();
    let endpoint = dice.pick(&READS);
    let event = |dice: &mut Dice| if dice.roll(2) == 0 { dice.of(&other.events).to_owned() } else { dice.pick(&OWN_NAMES).to_owned() };
    let property = |dice: &mut Dice| if dice.roll(2) == 0 { dice.of(&other.properties) } else { dice.pick(&["amount", "colour", "plan"]) };
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| pairs.push((name.to_owned(), value));
    let expression = |dice: &mut Dice| {
        let (name, id) = (property(dice), other.ids["distinct_id"][0].as_str());
        match dice.roll(5) {
            0 => format!("properties[\"{name}\"]"),
            1 => format!("defined(properties[\"{name}\"])"),
            2 => format!("properties[\"$distinct_id\"] == \"{id}\" or true"),
            3 => format!("\"{MARK}\" in properties[\"{name}\"]"),
            _ => "true".to_owned(),
        }
    };
    // What the endpoint needs, mostly.
    if dice.roll(10) > 0 {
        match endpoint {
            "export" | "nothing" => {}
            "engage" => add("page", dice.pick(&["0", "0", "1", "2"]).to_owned()),
            "events" => add("event", json!([event(dice), event(dice)]).to_string()),
            _ => add("event", event(dice)),
        }
        add("from_date", DAY.to_owned());
        add("to_date", dice.pick(&[DAY, "2020-01-31", "2100-01-01"]).to_owned());
        add("unit", dice.pick(&["day", "month", "hour"]).to_owned());
        add("type", dice.pick(&["general", "unique", "average"]).to_owned());
        if endpoint == "events/properties/values" || dice.roll(6) == 0 {
            add("name", property(dice).to_owned());
        }
        if endpoint.starts_with("segmentation/") || dice.roll(3) == 0 {
            add("on", format!("properties[\"{}\"]", property(dice)));
        }
    }
    for _ in 0..dice.roll(4) {
        match dice.roll(15) {
            0..=3 => add("project_id", dice.pick(&[&*other.project, "1", "999", "-2", "2.0", "02", " 2", "1,2"]).to_owned()),
            4 => add("session_id", dice.of(&other.ids["cursor"]).to_owned()),
            5 => add("where", expression(dice)),
            6 => add("distinct_id", dice.of(&other.ids["distinct_id"]).to_owned()),
            7 => add("distinct_ids", json!([dice.of(&other.ids["distinct_id"]), "own-1"]).to_string()),
            8 => add("data_group_id", dice.of(&other.ids["group"]).to_owned()),
            9 => add("token", dice.of(&other.ids["token"]).to_owned()),
            10 => add("workspace_id", other.project.clone()),
            11 => add("limit", dice.pick(&["1", "10", "10000"]).to_owned()),
            12 => add("filter_by_cohort", json!({"id": 2}).to_string()),
            13 => add("values", json!([dice.of(&all), dice.of(&all)]).to_string()),
            _ => add(
                dice.pick(&["api_key", "organization_id", "project", "name", "callback", "include_all_users"]),
                dice.of(&all).to_owned(),
            ),
        }
    }
    let form = |pairs: &[(String, String)]| {
        pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&")
    };
    let prefix = dice.pick(&READS_BELOW);
    if dice.roll(4) == 0 {
        let (query, body) = pairs.split_at(dice.roll(pairs.len() + 1));
        return Question { method: "POST".to_owned(), target: format!("{prefix}/{endpoint}?{}", form(query)), body: Some(form(body)) };
    }
    Question { method: "GET".to_owned(), target: format!("{prefix}/{endpoint}?{}", form(&pairs)), body: None }
}

/// An operation of the management API. What changes A itself is left out: it is about B's things, or it reads.
fn manage(dice: &mut Dice, other: &Other, operations: &[(String, String)]) -> Question {
    loop {
        let (method, path) = &operations[dice.roll(operations.len())];
        let is_of_project = path.starts_with("/projects/{project}");
        let own = is_of_project && dice.roll(2) == 0;
        let has_more = path.matches('{').count() > usize::from(is_of_project);
        let is_safe = method == "GET" || is_of_project && !own || has_more;
        if !is_safe {
            continue;
        }
        let mut target = String::from("/api/v1");
        for piece in path.split('/').skip(1) {
            let ids = |name: &str| other.ids[name].as_slice();
            let value = match piece {
                "{project}" if own => "1".to_owned(),
                "{project}" => dice.pick(&[&*other.project, &*other.project, "999", "2%00", "%32", "+2", "2;1"]).to_owned(),
                "{key}" => {
                    let name = dice.pick(&["api_key", "key_id"]);
                    dice.of(ids(name)).to_owned()
                }
                "{account}" => dice.of(ids("account_id")).to_owned(),
                "{invitation}" => dice.of(ids("invitation_id")).to_owned(),
                "{username}" => dice.of(ids("username")).to_owned(),
                "{ticket}" => dice.of(ids("ticket")).to_owned(),
                "{session}" => dice.of(ids("session_id")).to_owned(),
                "{token}" | "{table}" => dice.of(ids("id")).to_owned(),
                "{group}" => dice.of(ids("data_group_id")).to_owned(),
                "{organization}" => other.organization.clone(),
                piece if piece.starts_with('{') => dice.of(&other.all()).to_owned(),
                piece => piece.to_owned(),
            };
            target += &format!("/{}", if piece == "{project}" { value } else { encode(&value) });
        }
        if method == "GET" {
            let query = [
                "",
                "",
                "",
                "",
                "",
                "",
                "",
                "?before=1000",
                "?rows_max=1000",
                "?project=2",
                "?project_id=2",
                "?account=2",
                "?before=1000&rows_max=1",
            ];
            return Question { method: method.clone(), target: target + dice.pick(&query), body: None };
        }
        let bodies = [
            json!({}),
            json!({}),
            json!({}),
            json!({"role": "consumer"}),
            json!({"role": "owner", "email": dice.of(&other.ids["email"])}),
            json!({"email": dice.of(&other.ids["email"])}),
            json!({"project_name": "A"}),
            json!({"text": "x"}),
            json!({"reason": "x"}),
            json!({"overlap": "1d"}),
            json!({"legacy": "on"}),
            json!({"name": "x", "rights": ["export"]}),
            json!({"name": "x", "role": "owner"}),
            json!({"distinct_ids": [dice.of(&other.ids["distinct_id"])]}),
            json!({"project_id": 2, "project": 2}),
        ];
        return Question { method: method.clone(), target, body: Some(bodies[dice.roll(bodies.len())].to_string()) };
    }
}

/// The original's app API, with ids of B.
fn app(dice: &mut Dice, other: &Other) -> Question {
    let id = dice.pick(&["1", "2", "3", "4", "5", "6", "77", "999"]);
    let (organization, project) = (dice.pick(&["1", "77", "77", "2"]), dice.pick(&["1", "2", "2"]));
    let accounts = format!("/api/app/organizations/{organization}/service-accounts");
    let (method, target) = match dice.roll(9) {
        0 => ("GET", "/api/app/me".to_owned()),
        1 => ("GET", "/api/app/projects".to_owned()),
        2 | 3 => ("GET", format!("/api/app/projects/{project}/service-accounts")),
        4 => ("GET", accounts),
        5 => ("GET", format!("{accounts}/{id}")),
        // What takes something away is asked of B's organisation alone.
        6 => ("DELETE", format!("/api/app/organizations/{}/service-accounts/{id}", other.organization)),
        7 => ("POST", format!("/api/app/organizations/{}/service-accounts", other.organization)),
        _ => ("POST", format!("{accounts}/{}", dice.pick(&["add-to-project", "remove-from-project"]))),
    };
    let query = dice.pick(&["", "?project_id=2", "?organization_id=77", "?page_size=100&cursor=1"]);
    let body = json!({"username": dice.of(&other.ids["username"]), "id": 1, "projects": [{"id": 2, "role": "owner"}], "project_id": 2});
    Question { method: method.to_owned(), target: target + query, body: (method == "POST").then(|| body.to_string()) }
}

/// Lookup tables as scripts list and replace them.
fn tables(dice: &mut Dice, other: &Other) -> Question {
    let query = dice.pick(&["", "?project_id=2", "?project_id=1", "?project_id=2&project_id=1"]);
    if dice.roll(2) == 0 {
        return Question { method: "GET".to_owned(), target: format!("/lookup-tables{query}"), body: None };
    }
    let target = format!("/lookup-tables/{}{query}", dice.of(&other.ids["id"]));
    Question { method: "PUT".to_owned(), target, body: Some("colour,a\nred,x\n".to_owned()) }
}

/// What is there for everybody.
fn public(dice: &mut Dice, other: &Other) -> Question {
    let path =
        dice.pick(&["/flags", "/flags/definitions", "/settings", "/decide", "/metrics", "/health", "/", "/api/v1/instance", "/nothing"]);
    let token = dice.of(&other.ids["token"]);
    let target = format!("{path}?token={token}&project_id=2&distinct_id={}", dice.of(&other.ids["distinct_id"]));
    Question { method: "GET".to_owned(), target, body: None }
}

/// The largest figure of a report.
fn largest(answer: &Value) -> f64 {
    match answer {
        Value::Number(number) => number.as_f64().unwrap_or(0.0),
        Value::Array(items) => items.iter().map(largest).fold(0.0, f64::max),
        Value::Object(object) => {
            object.iter().filter(|(name, _)| *name != "legend_size").map(|(_, value)| largest(value)).fold(0.0, f64::max)
        }
        _ => 0.0,
    }
}

/// T3: the project comes from the credential, and nothing in a request makes it another.
#[test]
fn t3_no_answer_holds_anothers_data() {
    let (requests, seed) = (setting("TENANT_REQUESTS", 3000), setting("TENANT_SEED", 1));
    let server = TestServer::empty();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (seed as u64) << 1 | 1);
    make_own(&server);
    let other = make_other(&server, &mut dice);
    let document = Browser::new(&server).call("GET", "/openapi.json", None).1;
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        operations.extend(methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())));
    }
    let credentials = credentials(&server);
    let secrets = [other.secrets.clone(), other.ids["cursor"].clone()].concat();
    // B's own people find what is looked for: the search is not blind.
    let secret = basic(&other.ids["secret"][0], "");
    let theirs = e2e::get(&format!("{}/api/2.0/export?from_date={DAY}&to_date={DAY}", server.base), Some(&secret)).1;
    let theirs_before = found_in(&theirs, &secrets);
    assert!(theirs_before.len() > OTHER_EVENTS * other.events.len(), "{}", theirs_before.len());
    let report = format!("{}/api/2.0/segmentation?event={}&from_date={DAY}&to_date={DAY}", server.base, other.events[0]);
    let figures: Value = serde_json::from_str(&e2e::get(&report, Some(&secret)).1).unwrap();
    assert!(largest(&figures) > (OWN_EVENTS * OWN_NAMES.len()) as f64, "{figures}");
    let tables_of =
        |server: &TestServer| Browser::signed_in(server, &other.ids["email"][0], PASSWORD).call("GET", "/projects/2/lookup-tables", None).1;
    let tables_before = tables_of(&server);
    assert_eq!(tables_before[0]["rows"], 1, "{tables_before}");
    let answered: [AtomicUsize; 6] = Default::default();
    let (own_data, asked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    while asked.load(Ordering::Relaxed) < requests {
        let sessions = sessions(&server);
        let until = (asked.load(Ordering::Relaxed) + ROUND).min(requests);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                let mut dice = Dice(dice.roll(usize::MAX) as u64 | 1);
                let (server, other, operations, credentials) = (&server, &other, &operations, &credentials);
                let (secrets, sessions, answered, own_data, asked) = (&secrets, &sessions, &answered, &own_data, &asked);
                scope.spawn(move || {
                    let agent = e2e::agent();
                    while asked.fetch_add(1, Ordering::Relaxed) < until {
                        let question = match dice.roll(10) {
                            0..=4 => read(&mut dice, other),
                            5..=7 => manage(&mut dice, other, operations),
                            8 if dice.roll(3) == 0 => tables(&mut dice, other),
                            8 => app(&mut dice, other),
                            _ => public(&mut dice, other),
                        };
                        // People ask the management API, programs ask for reports.
                        let is_managing = question.target.starts_with("/api/v1") && dice.roll(4) > 0;
                        let from = if is_managing { sessions } else { dice.pick(&[credentials, credentials, sessions]) };
                        let shown = &from[dice.roll(from.len())];
                        let mut target = question.target.clone();
                        let mark = if target.contains('?') { '&' } else { '?' };
                        match shown {
                            Shown::Parameter(name, value) => target += &format!("{mark}{name}={value}"),
                            Shown::Header(..) if READS_BELOW.iter().any(|prefix| target.starts_with(prefix)) && dice.roll(5) > 0 => {
                                target += &format!("{mark}project_id=1");
                            }
                            _ => {}
                        }
                        let url = match shown {
                            Shown::Signed => server.signed(&target, "own_key", "own_secret"),
                            _ => format!("{}{target}", server.base),
                        };
                        let is_json = target.starts_with("/api/v1") || target.starts_with("/api/app");
                        let kind = if is_json { "application/json" } else { "application/x-www-form-urlencoded" };
                        let mut request =
                            ureq::http::Request::builder().method(question.method.as_str()).uri(url).header("content-type", kind);
                        if let Shown::Header(name, value) = shown {
                            request = request.header(*name, value);
                        }
                        let body = question.body.clone().unwrap_or_default();
                        let mut response = agent.run(request.body(body.clone()).unwrap()).unwrap();
                        let status = response.status().as_u16();
                        let headers = format!("{:?}", response.headers());
                        let text = response.body_mut().read_to_string().unwrap();
                        let asked_with = found_in(&format!("{target} {body}"), secrets);
                        let leaked: Vec<String> =
                            found_in(&format!("{headers} {text}"), secrets).difference(&asked_with).cloned().collect();
                        let what = format!("seed {seed}: {} {target} {body} -> {status} {text}", question.method);
                        assert!(leaked.is_empty(), "{leaked:?} of B came to A: {what}");
                        assert!(status < 500, "{what}");
                        if status == 200 && (target.contains("/segmentation") || target.contains("/events?")) {
                            let figures = serde_json::from_str(&text).unwrap_or(Value::Null);
                            assert!(largest(&figures) <= (OWN_EVENTS * OWN_NAMES.len()) as f64, "a figure of B: {what}");
                        }
                        answered[usize::from(status / 100).min(5)].fetch_add(1, Ordering::Relaxed);
                        if status == 200 && (text.contains("own-") || text.contains("Visit") || text.contains("own_token")) {
                            own_data.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        asked.store(until, Ordering::Relaxed);
    }
    let count = |class: usize| answered[class].load(Ordering::Relaxed);
    let own_data = own_data.into_inner();
    println!(
        "seed {seed}: {requests} requests, {} answered, {} refused, {own_data} answers with A's own data, none with B's",
        count(2),
        count(4)
    );
    assert!(count(2) * 10 > requests && own_data * 50 > requests, "the requests say nothing: most of them are refused");
    // Nothing of B was changed either.
    let theirs = e2e::get(&format!("{}/api/2.0/export?from_date={DAY}&to_date={DAY}", server.base), Some(&secret)).1;
    assert_eq!(found_in(&theirs, &secrets), theirs_before);
    assert_eq!(tables_of(&server), tables_before);
    let mut browser = Browser::signed_in(&server, &other.ids["email"][0], PASSWORD);
    let members = browser.call("GET", "/projects/2/members", None).1;
    assert_eq!(members.as_array().unwrap().len(), 2, "{members}");
    let keys = browser.call("GET", "/projects/2/keys", None).1;
    assert!(keys.as_array().unwrap().iter().all(|key| key["revoked_at"].is_null()) && keys.as_array().unwrap().len() == 2, "{keys}");
}
