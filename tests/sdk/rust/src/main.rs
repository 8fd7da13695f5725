//! crates.io mixpanel-rs sends, in its old and its new version. `rust_clients.cjs` runs this and reads back what arrived.

use std::collections::HashMap;

use serde_json::{Value, json};

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

fn properties(value: Value) -> HashMap<String, Value> {
    serde_json::from_value(value).expect("an object")
}

/// Both versions have the same calls, on types of their own.
macro_rules! sends {
    ($client:ident, $name:literal, $config:expr, $person:literal, $company:literal) => {{
        use $client::{Config, Event, Mixpanel, Modifiers};
        let config: Config = $config;
        let client = Mixpanel::init(&variable("SLUICE_TOKEN"), Some(config));
        let of = |n: i64| properties(json!({ "distinct_id": $person, "n": n, "text": "Café 中文 🎈 a+b&c=d%20?~~>>", "list": ["a", 1] }));
        client.track($name, Some(of(0))).await.expect("track");
        let event = |n| Event { event: $name.to_owned(), properties: of(n) };
        client.track_batch((1..=60).map(event).collect()).await.expect("track_batch");
        client.alias($person, concat!($person, " too")).await.expect("alias");
        let people = &client.people;
        let quiet = Modifiers { ignore_time: Some(true), ..Default::default() };
        people.set($person, properties(json!({ "plan": "pro", "old": 1 })), None).await.expect("set");
        people.set_once($person, properties(json!({ "plan": "free", "first": "x" })), Some(quiet)).await.expect("set_once");
        people.increment($person, HashMap::from([("n".to_owned(), 3)]), None).await.expect("increment");
        people.append($person, properties(json!({ "list": "a" })), None).await.expect("append");
        people.union($person, properties(json!({ "list": ["a", "b"] })), None).await.expect("union");
        people.remove($person, properties(json!({ "list": "a" })), None).await.expect("remove");
        people.unset($person, vec!["old".to_owned()], None).await.expect("unset");
        people.track_charge($person, 9.5, None, None).await.expect("track_charge");
        people.set("gone", properties(json!({ "plan": "x" })), None).await.expect("set");
        people.delete_user("gone", None).await.expect("delete_user");
        let groups = &client.groups;
        groups.set("company", $company, properties(json!({ "size": 3, "old": 1 })), None).await.expect("groups.set");
        groups.set_once("company", $company, properties(json!({ "size": 9 })), None).await.expect("groups.set_once");
        groups.union("company", $company, properties(json!({ "tags": ["x", "y"] })), None).await.expect("groups.union");
        groups.remove("company", $company, properties(json!({ "tags": "x" })), None).await.expect("groups.remove");
        groups.unset("company", $company, vec!["old".to_owned()], None).await.expect("groups.unset");
        client
    }};
}

#[tokio::main]
async fn main() {
    let (http, https) = (variable("SLUICE_HTTP").replace("http://", ""), format!("localhost:{}", variable("SLUICE_HTTPS_PORT")));
    let old = mixpanel_old::Config { host: http.clone(), protocol: "http".to_owned(), ..Default::default() };
    sends!(mixpanel_old, "rust old", old, "rust 1", "rust inc 1");
    // Its `import` wants HTTPS with a secret, and goes without one by key.
    for (n, secret) in [(0, Some(variable("SLUICE_SECRET"))), (1, None)] {
        let (host, protocol) = if secret.is_some() { (https.clone(), "https") } else { (http.clone(), "http") };
        let api_key = Some(variable("SLUICE_KEY"));
        let config = mixpanel_old::Config { host, protocol: protocol.to_owned(), secret, api_key, ..Default::default() };
        let client = mixpanel_old::Mixpanel::init(&variable("SLUICE_TOKEN"), Some(config));
        let of = |n: i64| properties(json!({ "distinct_id": "rust 1", "n": n, "time": 1_500_000_000 + n }));
        client.import("rust import", 1_500_000_000, Some(of(n * 10))).await.expect("import");
        let event = |n| mixpanel_old::Event { event: "rust import".to_owned(), properties: of(n) };
        client.import_batch(vec![event(n * 10 + 1), event(n * 10 + 2)]).await.expect("import_batch");
    }
    let new = mixpanel_new::Config { host: https, verbose: true, ..Default::default() };
    let client = sends!(mixpanel_new, "rust new", new, "rust 2", "rust inc 2");
    // What the server refuses is an error that says why.
    let refused = client.people.set("", properties(json!({ "plan": "x" })), None).await.expect_err("nobody has this profile");
    assert!(refused.to_string().contains("$distinct_id, missing or empty"), "{refused}");
}
