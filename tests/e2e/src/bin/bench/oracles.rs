//! Whether the time of a refusal tells what was right about it (L13 and T17 of the security bar): two kinds of refused calls in random
//! turns on one connection, and how often a guesser is right who has the two times of a pair.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use crate::{Process, median, mixed, now_seconds, setting};

/// Prints the table. Half is what a coin guesses.
pub(crate) fn measure(server: &Process, data: &std::path::Path, api_key: &str) {
    println!("\n{:<52} {:>9} {:>9} {:>9} {:>9}", "refusals, by what is wrong", "each", "p50 ms", "p50 ms", "guessed");
    let signed = |key: &str| {
        let path = format!("/api/2.0/events/names?type=general&api_key={key}&expire={}&sig={}", now_seconds() + 3600, "0".repeat(32));
        format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n")
    };
    let each = setting("BENCH_REFUSALS", 10_000) as usize;
    let wrong = vec![signed(api_key); each];
    let unknown = vec![signed(&"0f".repeat(16)); each];
    row("a known key with a wrong signature, an unknown key", server.port, "HTTP/1.1 400 ", &wrong, &unknown);

    // An account is tried once a second: so many accounts as tries.
    let each = setting("BENCH_SIGN_INS", 100) as usize;
    let commands = e2e::Commands::new(data.to_path_buf());
    for number in 0..each {
        let email = format!("known-{number}@example.com");
        commands.run(&["account", "create", "--email", &email, "--password-stdin"], "correct horse battery").expect("an account");
    }
    let tries = |kind: &str| -> Vec<String> {
        let body = |number| format!(r#"{{"email":"{kind}-{number}@example.com","password":"wrong horse battery"}}"#);
        let head = |body: &str| {
            format!("POST /api/v1/session HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}", body.len())
        };
        (0..each)
            .map(|number| body(number + 100_000 * usize::from(kind != "known")))
            .map(|body| format!("{}\r\n\r\n{body}", head(&body)))
            .collect()
    };
    row("signing in: a known address, an unknown one", server.port, "HTTP/1.1 401 ", &tries("known"), &tries("other"));
}

fn row(name: &str, port: u16, expected: &str, one: &[String], other: &[String]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_nodelay(true).expect("an option");
    let mut answer = [0; 4096];
    let mut timed = |request: &str| {
        let since = Instant::now();
        stream.write_all(request.as_bytes()).expect("it takes it");
        let read = stream.read(&mut answer).expect("it answers");
        assert!(answer[..read].starts_with(expected.as_bytes()), "{}", String::from_utf8_lossy(&answer[..read]));
        since.elapsed().as_secs_f64() * 1000.0
    };
    let mut pairs = Vec::with_capacity(one.len());
    for (turn, (one, other)) in one.iter().zip(other).enumerate() {
        // Whoever goes first must not always be the same.
        if mixed(turn as u64).is_multiple_of(2) {
            let first = timed(one);
            pairs.push((first, timed(other)));
        } else {
            let first = timed(other);
            pairs.push((timed(one), first));
        }
    }
    let slower = pairs.iter().filter(|(one, other)| one > other).count() as f64 / pairs.len() as f64;
    println!(
        "{name:<52} {:>9} {:>9.4} {:>9.4} {:>8.1}%",
        pairs.len(),
        median(pairs.iter().map(|(one, _)| *one).collect()),
        median(pairs.iter().map(|(_, other)| *other).collect()),
        slower.max(1.0 - slower) * 100.0
    );
}
