//! What strangers send to hurt: it is answered, and the server neither grows nor stops.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::{TestServer, agent, basic, get, post, setting};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bombs_are_refused_in_bounded_memory() {
    let server = TestServer::start();
    let event = |value: &str| format!(r#"[{{"event":"x","properties":{{"token":"test_token","a":{value}}}}}]"#);
    let many = |piece: &str, count: usize| format!("[{}1]", piece.repeat(count));
    let bombs: Vec<Vec<u8>> = vec![
        gzip(&vec![b' '; 200 << 20]),
        gzip(event(&many("[],", 3_400_000)).as_bytes()),
        gzip(many("{},", 3_400_000).as_bytes()),
        gzip(format!("{}\n", "[".repeat(60) + &"]".repeat(60)).repeat(80_000).as_bytes()),
        gzip(&gzip(&vec![b' '; 200 << 20])),
    ];
    std::thread::scope(|scope| {
        for bomb in bombs.iter().cycle().take(40) {
            scope.spawn(|| {
                let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
                let mut response = agent.post(format!("{}/track", server.base)).send(&bomb[..]).unwrap();
                assert_eq!((response.status().as_u16(), response.body_mut().read_to_string().unwrap().as_str()), (200, "0"));
            });
        }
    });
    let peak = server.peak_mib();
    println!("{peak:.0} MiB at the most under 40 bombs at a time");
    assert!(peak < 2048.0, "{peak} MiB at the most");
    assert_eq!(post(&format!("{}/track", server.base), &event("1"), None), (200, "1".to_owned()));
}

/// Each seal writes a column for every property and type that occurs in it, so many small seals write very many.
#[test]
fn hundreds_of_columns_in_small_seals_cost_bounded_memory() {
    let server = TestServer::start_with("[store]\nseal_rows_max = 100\n");
    let before = server.rss_mib();
    let mut sent = 0;
    for round in 0..40 {
        let event = |row: usize| {
            let value = |column: usize| match (row + column) % 3 {
                0 => format!(r#""p{column}":{}"#, row * column),
                1 => format!(r#""p{column}":"text {row}""#),
                _ => format!(r#""p{column}":{}.5"#, row + round),
            };
            // Every property comes, each event has as many of them as it may.
            let values: Vec<String> = (0..250).map(|column| value(column * 2 + row % 2)).collect();
            format!(
                r#"{{"event":"Wide","properties":{{"token":"test_token","distinct_id":"u{row}","$insert_id":"{round}-{row}",{}}}}}"#,
                values.join(",")
            )
        };
        let body = format!("[{}]", (0..100).map(event).collect::<Vec<_>>().join(","));
        assert_eq!(post(&format!("{}/track", server.base), &body, None), (200, "1".to_owned()));
        sent += 100;
    }
    let peak = server.peak_mib();
    println!("{before:.0} MiB idle, {peak:.0} MiB at the most: {sent} events of 500 properties in seals of some 100 rows");
    assert!(peak < 1024.0, "{peak} MiB at the most");
    let (from, to) = (day(-86_400), day(0));
    let url = format!("{}/api/2.0/segmentation?event=Wide&from_date={from}&to_date={to}", server.base);
    let (_, body) = get(&url, Some(&basic("test_secret", "")));
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    let days = answer["data"]["values"]["Wide"].as_object().unwrap().values();
    assert_eq!(days.filter_map(serde_json::Value::as_u64).sum::<u64>(), sent, "{body}");
}

/// What waits for its seal is counted in bytes too: rows may be long.
#[test]
fn long_rows_are_sealed_before_they_fill_memory() {
    let server = TestServer::start_with("[store]\ntail_bytes_max = 33554432\n");
    let text = "x".repeat(250_000);
    for round in 0..150 {
        let update = |user: usize| format!(r#"{{"$token":"test_token","$distinct_id":"u{round}-{user}","$set":{{"text":"{text}"}}}}"#);
        let body = format!("[{}]", (0..4).map(update).collect::<Vec<_>>().join(","));
        assert_eq!(post(&format!("{}/engage", server.base), &body, None), (200, "1".to_owned()));
    }
    let peak = server.peak_mib();
    println!("{peak:.0} MiB at the most while 600 profiles of 250 kB came in");
    assert!(peak < 300.0, "{peak} MiB at the most");
    let url = format!("{}/api/2.0/engage?distinct_id=u149-3", server.base);
    assert!(get(&url, Some(&basic("test_secret", ""))).1.contains(&text), "the last one is there");
}

fn day(offset_seconds: i64) -> String {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    model::profile::wall_time(model::Timestamp(now_ms + offset_seconds * 1000))[..10].to_owned()
}

/// Half of the sockets never end their head, half of them their body. `SLOW_SOCKETS` for another number.
#[test]
fn thousands_of_slow_sockets_keep_nobody_else_waiting() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = setting("SLOW_SOCKETS", 5000) as u64;
    // The server inherits the limit.
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum.map_or(wanted + 1000, |maximum| maximum.min(wanted + 1000)).max(limit.current.unwrap_or(0));
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum });
    let sockets = wanted.min(current.saturating_sub(500)) as usize;
    if (sockets as u64) < wanted {
        eprintln!("ONLY {sockets} of {wanted} sockets: this machine lets a process open no more");
    }
    let server = TestServer::quiet();
    let address = server.base.trim_start_matches("http://").to_owned();
    let over = AtomicBool::new(false);
    let open = |number: usize| {
        let mut stream = TcpStream::connect(&address).unwrap();
        let end = if number.is_multiple_of(2) { "X: " } else { "Content-Length: 100000\r\n\r\n" };
        stream.write_all(format!("POST /track HTTP/1.1\r\nHost: slow\r\n{end}").as_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    };
    let mut slow: Vec<TcpStream> = (0..sockets).map(open).collect();
    let taken = std::thread::scope(|scope| {
        let honest: Vec<_> = (0..4)
            .map(|writer| {
                let (base, over) = (&server.base, &over);
                scope.spawn(move || {
                    let (agent, mut taken) = (agent(), 0_u64);
                    while taken < 150 || !over.load(Ordering::SeqCst) {
                        let body = format!(
                            r#"[{{"event":"Honest","properties":{{"token":"test_token","distinct_id":"u","$insert_id":"{writer}-{taken}"}}}}]"#
                        );
                        let mut answer = agent.post(format!("{base}/track")).send(&body).unwrap();
                        let answer = (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap());
                        assert_eq!(answer, (200, "1".to_owned()), "an honest client beside slow ones");
                        taken += 1;
                    }
                    taken
                })
            })
            .collect();
        for _ in 0..3 {
            // A byte each now and then, as the slowest do; a socket that was given up is none of ours any more.
            slow.retain_mut(|stream| stream.write(b"x").is_ok());
            std::thread::sleep(Duration::from_millis(300));
        }
        over.store(true, Ordering::SeqCst);
        honest.into_iter().map(|writer| writer.join().unwrap()).sum::<u64>()
    });
    let (held, peak) = (slow.len(), server.peak_mib());
    println!("{taken} honest events beside {sockets} slow sockets, {held} of them still open; {peak:.0} MiB at the most");
    assert!(peak < 1024.0, "{peak} MiB at the most");
    let url = format!("{}/api/2.0/export?from_date={}&to_date={}", server.base, day(-86_400), day(0));
    assert_eq!(get(&url, Some(&basic("test_secret", ""))).1.lines().count() as u64, taken, "every honest event is stored");
    // What was left open is closed in time or with us.
    slow.iter_mut().for_each(|stream| drop(stream.read(&mut [0; 16])));
}
