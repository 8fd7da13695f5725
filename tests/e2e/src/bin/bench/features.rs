//! What identity, groups and the lexicon cost ingestion: two servers of the same binary in turns, one that links every other user to a device,
//! has a group key declared and counts names, and one that gets the same events under names that link nobody and belong to no group, and
//! counts nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Process, Stop, ask, body, create_project, median, setting};

/// Prints a row for each size of request.
pub(crate) fn measure(runtime: &tokio::runtime::Runtime, dir: &std::path::Path) {
    let settings = dir.join("no-lexicon.toml");
    std::fs::write(&settings, "[track]\nlexicon = false\n").expect("a settings file");
    let (data_on, data_off) = (dir.join("on"), dir.join("off"));
    let serve = |data: &std::path::Path, more: &[&std::ffi::OsStr]| {
        let mut command = std::process::Command::new(e2e::binary());
        let server = Process::start(command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(more));
        create_project(data);
        server
    };
    let on = serve(&data_on, &[]);
    let off = serve(&data_off, &["--config".as_ref(), settings.as_os_str()]);
    let declare = ["project", "group-key", "add", "--project", "1", "--as", crate::OWNER, "--key", "company"];
    e2e::Commands::new(data_on.clone()).run(&declare, "").expect("a group key");
    println!("\n{:<52} {:>12} {:>12} {:>8}", "ingest with identity, groups and lexicon, in turns", "events/s", "without", "ratio");
    let next = Arc::new(AtomicU64::new(0));
    for per_request in [1, 50, 2000] {
        let measured = |port, names| {
            let next = next.clone();
            let request = move || {
                let body = named(&body(next.fetch_add(per_request, Ordering::Relaxed), per_request, false), names);
                let head = format!(
                    "POST /track HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                Some((head + &body, per_request))
            };
            let stop = Stop::After(Duration::from_millis(setting("BENCH_SECONDS", 5) * 1000 / 4));
            runtime.block_on(ask(port, stop, "HTTP/1.1 200 ", request)).events_per_second()
        };
        // The first round warms up.
        let rounds = (0..=8).map(|_| (measured(on.port, ["$device_id", "company"]), measured(off.port, ["$device_no", "compano"])));
        let rounds: Vec<(f64, f64)> = rounds.skip(1).collect();
        println!(
            "{:<52} {:>12.0} {:>12.0} {:>8.2}",
            format!("{per_request} in a request"),
            median(rounds.iter().map(|(with, _)| *with).collect()),
            median(rounds.iter().map(|(_, without)| *without).collect()),
            median(rounds.iter().map(|(with, without)| with / without).collect())
        );
    }
    drop((on, off));
    for data in [data_on, data_off] {
        let _ = std::fs::remove_dir_all(&data);
        let _ = std::fs::remove_file(data.with_extension("key"));
    }
}

/// The same events, each with its user, every other one's with a device under a name, all with a company under a name.
fn named(body: &str, [device, company]: [&str; 2]) -> String {
    const USER: &str = r#""distinct_id":"user-"#;
    let mut pieces = body.split(USER);
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (user, rest) = piece.split_once('"').unwrap_or((piece, ""));
        let device = if user.ends_with(['0', '2', '4', '6', '8']) { device } else { "$device_no" };
        let of_company = &user[user.len().saturating_sub(2)..];
        text.push_str(&format!(r#""{device}":"device-{user}","$user_id":"user-{user}","{company}":"company-{of_company}"{rest}"#));
    }
    text
}
