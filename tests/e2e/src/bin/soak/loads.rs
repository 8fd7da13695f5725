//! What goes on beside the honest clients. A load runs until all is over and then says what it did.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::{TestServer, agent, tell};

use crate::{OTHER_TOKEN, OWNER, QUOTA, every, percentile, sorted, taken};

type Load = fn(&TestServer, &AtomicBool) -> String;

/// A project that sends ten times what it may.
pub(crate) const NEIGHBOUR: &str = "another project's token at ten times its quota";

/// Every load with its name, in the order in which they run.
pub(crate) const ALL: [(&str, Load); 4] = [
    ("resets of another project's credentials", resets),
    (NEIGHBOUR, flood),
    ("8 guessers of passwords", guessers),
    ("500 slow sockets", slow_sockets),
];

fn resets(server: &TestServer, over: &AtomicBool) -> String {
    let command = serde_json::json!({"credentials": {"reset": {"project": 2, "account": OWNER}}});
    let (began, data, mut ms) = (Instant::now(), server.data(), Vec::new());
    every(Duration::from_millis(50), over, || {
        let since = Instant::now();
        tell(&data, &command).expect("a reset is answered");
        ms.push(since.elapsed().as_secs_f64() * 1000.0);
    });
    let ms = sorted(ms);
    let per_second = ms.len() as f64 / began.elapsed().as_secs_f64();
    format!(": {per_second:.0}/s, each {:.1} ms (p50), {:.1} ms (p99)", percentile(&ms, 0.5), percentile(&ms, 0.99))
}

fn flood(server: &TestServer, over: &AtomicBool) -> String {
    const SENDERS: usize = 4;
    let (began, stored, refused) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(0));
    let pause = Duration::from_secs(1) / (10 * QUOTA / SENDERS) as u32;
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                let agent = agent();
                let body = format!(r#"[{{"event":"Flood","properties":{{"token":"{OTHER_TOKEN}","distinct_id":"f"}}}}]"#);
                every(pause, over, || {
                    let is_stored = taken(agent.post(format!("{}/track", server.base)).send(&body)).1 == "1";
                    if is_stored { &stored } else { &refused }.fetch_add(1, Ordering::SeqCst);
                });
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let per_second = |count: AtomicU64| count.into_inner() as f64 / seconds;
    format!(": {:.0}/s let in, {:.0}/s refused", per_second(stored), per_second(refused))
}

/// Every guess is of another account, so that none waits for the one before: each costs a hash of a password.
fn guessers(server: &TestServer, over: &AtomicBool) -> String {
    let (began, guesses, other) = (Instant::now(), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let agent = agent();
                while !over.load(Ordering::SeqCst) {
                    let number = guesses.fetch_add(1, Ordering::SeqCst);
                    let body = format!(r#"{{"email":"guess-{number}@example.com","password":"wrong horse"}}"#);
                    let request = agent.post(format!("{}/api/v1/session", server.base)).header("content-type", "application/json");
                    if taken(request.send(body)).0 != 401 {
                        other.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let per_second = guesses.into_inner() as f64 / began.elapsed().as_secs_f64();
    format!(": {per_second:.1} guesses/s, {} of them not judged", other.into_inner())
}

/// Half of them never end their head, half of them their body: a byte a second.
fn slow_sockets(server: &TestServer, over: &AtomicBool) -> String {
    const SOCKETS: usize = 500;
    let address = server.base.trim_start_matches("http://");
    let open = |number: usize| {
        let mut stream = TcpStream::connect(address).expect("it listens");
        let head = "POST /track HTTP/1.1\r\nHost: soak\r\n";
        let end = if number.is_multiple_of(2) { "X: " } else { "Content-Length: 100000\r\n\r\n" };
        stream.write_all(format!("{head}{end}").as_bytes()).expect("a new socket takes it");
        stream.set_nonblocking(true).expect("an option");
        stream
    };
    let mut sockets: Vec<TcpStream> = (0..SOCKETS).map(open).collect();
    let mut closed = 0;
    every(Duration::from_secs(1), over, || {
        for (number, socket) in sockets.iter_mut().enumerate() {
            let is_over = match socket.read(&mut [0; 1000]) {
                Ok(_) => true,
                Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
            };
            if is_over || socket.write_all(b"a").is_err() {
                *socket = open(number);
                closed += 1;
            }
        }
    });
    format!(": {closed} were closed and opened again")
}
