//! `sluice`: the server and its command line.

mod admin;
mod aliases;
mod api;
mod app;
mod app_api;
mod auth;
mod backup;
mod bots;
mod browser;
mod callers;
mod cli;
mod client;
mod clock;
mod commands;
mod compress;
mod config;
mod demo;
mod gate;
mod geo;
mod ingest;
mod jobs;
mod judge;
mod leaks;
mod listen;
mod lookup_tables;
mod mail;
mod names;
mod notices;
mod page;
mod queue;
mod reports;
mod routes;
mod sdk;
mod serve;
mod stream;
mod tables;
mod throttle;
mod tls;
mod views;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // What is made here is for whoever runs the server and nobody else.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    match cli::run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluice: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
