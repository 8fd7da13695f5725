//! The main job: anyone sends with a token, only the key holder reads, only the owner resets, nothing acknowledged is lost.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use e2e::{TestServer, get, post};

const SECRET: &str = "Basic dGVzdF9zZWNyZXQ6";
const TOKEN: &str = "Basic dGVzdF90b2tlbjo=";
const EXPORT: &str = "/api/2.0/export?from_date=2020-01-01&to_date=2020-01-04";

fn import(server: &TestServer) {
    let events = r#"[{"event":"Sign Up","properties":{"time":1577836800,"distinct_id":"u1","$insert_id":"i1","plan":"free","amount":10}},
        {"event":"Sign Up","properties":{"time":1577874600,"distinct_id":"u2","$insert_id":"i2","plan":"pro","amount":25.5,"big":18446744073709551616}},
        {"event":"Buy","properties":{"time":1577880000,"distinct_id":"u1","$insert_id":"i3","amount":100}}]"#;
    let answer = post(&format!("{}/import?strict=1", server.base), events, Some(SECRET));
    assert_eq!(answer, (200, r#"{"code":200,"num_records_imported":3,"status":"OK"}"#.to_owned()));
}

#[test]
fn a_token_sends_and_does_not_read() {
    let server = TestServer::start();
    let event = r#"{"event":"Signed Up","properties":{"token":"test_token","distinct_id":"13793"}}"#;
    assert_eq!(post(&format!("{}/track", server.base), &format!("data={event}"), None), (200, "1".to_owned()));
    assert_eq!(post(&format!("{}//track/", server.base), &format!("data={event}&verbose=1"), None).1, r#"{"error":null,"status":1}"#);
    assert_eq!(get(&format!("{}{EXPORT}", server.base), Some(TOKEN)).0, 401);
    assert_eq!(get(&format!("{}{EXPORT}", server.base), None).0, 401);
    assert_eq!(get(&server.signed(EXPORT, "test_token", "test_token"), None).0, 400);
}

#[test]
fn bad_data_gets_the_contracts_error() {
    let server = TestServer::start();
    let track = format!("{}/track", server.base);
    assert_eq!(post(&track, "", None), (200, "0".to_owned()));
    assert_eq!(post(&track, "verbose=1", None).1, r#"{"error":"data, missing or empty","status":0}"#);
    assert_eq!(
        post(&track, r#"verbose=1&data={"event":"a","properties":{}}"#, None).1,
        r#"{"error":"token, missing or empty","status":0}"#
    );
    assert_eq!(post(&format!("{}/import", server.base), "[]", Some("Basic eDo=")).0, 401);
    let missing_time = r#"[{"event":"a","properties":{"distinct_id":"u","$insert_id":"b"}}]"#;
    let (status, body) = post(&format!("{}/import?strict=1", server.base), missing_time, Some(SECRET));
    assert_eq!(status, 400);
    assert!(body.contains("'properties.time' is invalid: must not be missing") && body.contains(r#""num_records_imported":0"#), "{body}");
}

#[test]
fn the_key_holder_reads_what_was_sent() {
    let server = TestServer::start();
    import(&server);
    let (status, body) = get(&server.signed(&format!("{EXPORT}&event=%5B%22Sign%20Up%22%5D"), "test_key", "test_secret"), None);
    assert_eq!(status, 200, "{body}");
    assert_eq!(body.lines().count(), 2);
    assert!(body.contains(r#""big":18446744073709551616"#), "{body}");
    let segmentation =
        "/api/query/segmentation?event=Sign+Up&from_date=2020-01-01&to_date=2020-01-02&where=properties%5B%22amount%22%5D%20%3E%2020";
    let (status, body) = get(&format!("{}{segmentation}", server.base), Some(SECRET));
    let expected = r#"{"data": {"series": ["2020-01-01", "2020-01-02"], "values": {"Sign Up": {"2020-01-01": 1, "2020-01-02": 0}}}, "legend_size": 1}"#;
    assert_eq!((status, body.as_str()), (200, expected));
    assert_eq!(
        get(
            &server.signed(
                "/api/2.0/segmentation?event=a&from_date=2020-01-01&to_date=2020-01-02&unit=fortnight",
                "test_key",
                "test_secret"
            ),
            None
        )
        .0,
        400
    );
}

#[test]
fn a_resend_counts_once_and_is_exported_twice() {
    let server = TestServer::start();
    import(&server);
    import(&server);
    assert_eq!(get(&format!("{}{EXPORT}", server.base), Some(SECRET)).1.lines().count(), 6);
    let counted =
        get(&format!("{}/api/2.0/segmentation?event=Sign+Up&from_date=2020-01-01&to_date=2020-01-01", server.base), Some(SECRET)).1;
    assert!(counted.contains(r#""2020-01-01": 2"#), "{counted}");
}

#[test]
fn a_reset_ends_the_old_secret_at_once_and_keeps_the_token() {
    let server = TestServer::start();
    import(&server);
    server.cli(&["credentials", "reset", "--project", "1", "--as", "o@example.com"], "");
    assert_eq!(get(&format!("{}{EXPORT}", server.base), Some(SECRET)).0, 401);
    assert_eq!(get(&server.signed(EXPORT, "test_key", "test_secret"), None).0, 401);
    let event = r#"data={"event":"a","properties":{"token":"test_token"}}"#;
    assert_eq!(post(&format!("{}/track", server.base), event, None).1, "1");
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let mut server = TestServer::start();
    import(&server);
    let profile = r#"[{"$token":"test_token","$distinct_id":"u1","$set":{"plan":"pro"}}]"#;
    assert_eq!(post(&format!("{}/engage", server.base), profile, None).1, "1");
    for _ in 0..3 {
        server.crash_and_restart();
        assert_eq!(get(&format!("{}{EXPORT}", server.base), Some(SECRET)).1.lines().count(), 3);
        assert!(get(&format!("{}/api/2.0/engage", server.base), Some(SECRET)).1.contains(r#""plan": "pro""#));
    }
}

#[test]
fn a_reset_ends_an_export_that_is_running() {
    use std::io::{Read, Write};
    let server = TestServer::start();
    let (filler, mut sent_bytes) = ("x".repeat(1000), 0);
    for batch in 0..15 {
        let event = |number: usize| {
            format!(
                r#"{{"event":"E","properties":{{"time":1577836800,"distinct_id":"u","$insert_id":"{batch}-{number}","filler":"{filler}"}}}}"#
            )
        };
        let body = format!("[{}]", (0..2000).map(event).collect::<Vec<_>>().join(","));
        sent_bytes += body.len();
        assert_eq!(post(&format!("{}/import?strict=1", server.base), &body, Some(SECRET)).0, 200);
    }
    let mut stream = std::net::TcpStream::connect(server.base.strip_prefix("http://").unwrap()).unwrap();
    let request = format!("GET {EXPORT} HTTP/1.1\r\nHost: t\r\nAuthorization: {SECRET}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    server.cli(&["credentials", "reset", "--project", "1", "--as", "o@example.com"], "");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.len() < sent_bytes / 2, "{} of {sent_bytes} bytes came after the reset: they lay in the sockets' buffers", rest.len());
    assert!(String::from_utf8_lossy(&rest).contains("export terminated early"), "the reader is told");
}

#[test]
fn many_values_over_many_minutes_are_counted_in_bounded_memory() {
    let server = TestServer::start();
    let event = |number: usize| {
        let id = if number < 3 { 7 } else { number };
        format!(
            r#"{{"event":"E","properties":{{"time":{},"distinct_id":"u","$insert_id":"i{number}","id":"v{id}"}}}}"#,
            1_577_836_800 + number * 60
        )
    };
    let body = format!("[{}]", (0..2000).map(event).collect::<Vec<_>>().join(","));
    assert_eq!(post(&format!("{}/import?strict=1", server.base), &body, Some(SECRET)).0, 200);
    let url = "/api/2.0/segmentation?event=E&from_date=2020-01-01&to_date=2020-03-09&unit=minute&limit=1&on=properties%5B%22id%22%5D";
    let (status, body) = get(&format!("{}{url}", server.base), Some(SECRET));
    assert_eq!(status, 200, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["legend_size"], 1);
    // Three of the first minutes and the eighth have the most frequent value.
    let minutes = body["data"]["values"]["v7"].as_object().unwrap().values().filter(|count| **count == 1).count();
    assert_eq!(minutes, 4);
}
