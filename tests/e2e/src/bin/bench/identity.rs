//! What linking costs: events of which half the users' bring their device, beside the same events under names that link nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Process, Stop, ask, body, setting};

const PER_REQUEST: u64 = 50;

/// Prints both rows.
pub(crate) fn measure(runtime: &tokio::runtime::Runtime, server: &Process) {
    println!(
        "\n{:<52} {:>12} {:>8} {:>9} {:>9}",
        "events that bring their device, 50 in a request", "events/s", "ratio", "p50 ms", "p99 ms"
    );
    let next = Arc::new(AtomicU64::new(0));
    let mut without = None;
    for (name, device) in [("under a name that links nobody", "$device_no"), ("half the users linked to their devices", "$device_id")] {
        let next = next.clone();
        let request = move || {
            let body = devices(&body(next.fetch_add(PER_REQUEST, Ordering::Relaxed), PER_REQUEST, false), device);
            let head =
                format!("POST /track HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
            Some((head + &body, PER_REQUEST))
        };
        let stop = Stop::After(Duration::from_secs(setting("BENCH_SECONDS", 5)));
        let loaded = runtime.block_on(ask(server.port, stop, "HTTP/1.1 200 ", request));
        let per_second = loaded.events_per_second();
        let ratio = per_second / *without.get_or_insert(per_second);
        println!("{name:<52} {per_second:>12.0} {ratio:>8.2} {:>9.2} {:>9.2}", loaded.percentile(0.5), loaded.percentile(0.99));
    }
}

/// The same events, each with its user as `$user_id` and a device: every other user's under this name, the others' under none that counts.
fn devices(body: &str, name: &str) -> String {
    const USER: &str = r#""distinct_id":"user-"#;
    let mut pieces = body.split(USER);
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (user, rest) = piece.split_once('"').unwrap_or((piece, ""));
        let is_even = user.ends_with(['0', '2', '4', '6', '8']);
        let name = if is_even { name } else { "$device_no" };
        text.push_str(&format!(r#""{name}":"device-{user}","$user_id":"user-{user}"{rest}"#));
    }
    text
}
