//! Tooling of the house. `cargo run -p xtask -- tidy` checks its form; the same checks are tests.

mod tidy;

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => {
            let broken: Vec<String> = tidy::INVARIANTS.iter().flat_map(|(_, check)| check(&tidy::House::read())).collect();
            for line in &broken {
                eprintln!("{line}");
            }
            if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        _ => {
            eprintln!("usage: cargo run -p xtask -- tidy");
            ExitCode::FAILURE
        }
    }
}
