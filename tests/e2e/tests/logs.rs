//! Logs never hold a query string, a token, a secret or a property; neither do the files of the metastore hold a secret.

use e2e::{TestServer, basic, get, post};

/// Words that stand in what is sent and must stand nowhere else.
const PRIVATE: [&str; 8] =
    ["test_token", "test_secret", "wrong-secret-1", "private-user", "private-value", "from_date", "unknown-token-1", "sig="];

#[test]
fn nothing_private_is_logged() {
    let server = TestServer::start();
    let base = &server.base;
    let event = r#"[{"event":"E","properties":{"token":"test_token","distinct_id":"private-user","p":"private-value"}}]"#;
    assert_eq!(post(&format!("{base}/track"), event, None).1, "1");
    for (token, answer) in [("unknown-token-1", "1"), ("test_secret", "0")] {
        assert_eq!(post(&format!("{base}/track"), &event.replace("test_token", token), None).1, answer, "{token}");
    }
    assert_eq!(post(&format!("{base}/track?data=private-value"), "{broken private-value", None).1, "0");
    assert_eq!(post(&format!("{base}/import?strict=1"), event, Some(&basic("wrong-secret-1", ""))).0, 401);
    let export = "/api/2.0/export?from_date=2020-01-01&to_date=2020-01-02";
    assert_eq!(get(&format!("{base}{export}"), Some(&basic("test_secret", ""))).0, 200);
    assert_eq!(get(&format!("{base}{export}"), Some(&basic("wrong-secret-1", ""))).0, 401);
    assert_eq!(get(&server.signed(export, "test_key", "wrong-secret-1"), None).0, 400);
    assert_eq!(get(&server.signed(export, "test_key", "test_secret"), None).0, 200);
    assert_eq!(get(&format!("{base}/api/2.0/nothing?where=private-value"), Some(&basic("test_secret", ""))).0, 400);
    server.cli(&["credentials", "reset", "--project", "1", "--as", "o@example.com"], "");
    assert_eq!(get(&format!("{base}{export}"), Some(&basic("test_secret", ""))).0, 401);
    let log = server.log();
    assert!(log.contains("a live secret was sent in a token's place"), "the owner is told: {log}");
    for word in PRIVATE {
        assert!(!log.contains(word), "`{word}` is in the log: {log}");
    }
}

#[test]
fn no_secret_lies_in_the_metastore() {
    let server = TestServer::start();
    server.cli(&["service-account", "create", "--project", "1", "--name", "s", "--username", "sa", "--secret-stdin"], "service-secret-1");
    let made = server.cli(&["project", "create", "--owner", "o@example.com", "--name", "Q"], "");
    let made: serde_json::Value = serde_json::from_str(&made).expect("JSON was asked for");
    let secrets = ["test_secret", "service-secret-1", "correct horse", made["api_secret"].as_str().expect("a secret")];
    let mut files = 0;
    for entry in std::fs::read_dir(server.data()).expect("a directory").flatten().filter(|entry| entry.path().is_file()) {
        let bytes = std::fs::read(entry.path()).expect("it reads");
        for secret in secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds a secret", entry.path().display());
        }
        files += 1;
    }
    assert!(files >= 2, "the metastore has files");
}
