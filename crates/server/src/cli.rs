//! The command line.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use serde_json::Value;

use crate::commands::Command;
use crate::{admin, clock, config, serve};

/// Self-hosted product analytics that speaks Mixpanel's wire.
#[derive(Parser)]
#[command(name = "sluice", version)]
struct Cli {
    #[command(flatten)]
    data: Data,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args)]
struct Data {
    /// The data directory; SLUICE_DATA where it is not given.
    #[arg(long, global = true)]
    data: Option<PathBuf>,
    /// The key file, by default beside the data directory.
    #[arg(long, global = true)]
    key_file: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the server.
    Serve {
        #[command(flatten)]
        listen: config::ListenFlags,
        /// Settings that override the built-in ones (sluice.default.toml).
        #[arg(long)]
        config: Option<PathBuf>,
        /// Hold a demo project; loopback only.
        #[arg(long)]
        demo: bool,
        /// Serve beyond loopback although imported values can be guessed.
        #[arg(long)]
        allow_weak: bool,
    },
    /// Sign a URL.
    Sign {
        #[arg(long)]
        api_key: String,
        #[arg(long, required = true)]
        api_secret_stdin: bool,
        /// Seconds until it expires.
        #[arg(long, default_value_t = 600, allow_negative_numbers = true)]
        lifetime: i64,
        method: String,
        url: String,
    },
    /// Put a backup in the place of the data directory; what was there is moved aside. Stop the server first.
    Restore { file: PathBuf },
    #[command(flatten)]
    Command(Command),
}

/// Reads the command line and does what it says.
pub(crate) fn run() -> Result<(), String> {
    let Cli { data, verb } = Cli::parse();
    let answer = match verb {
        Verb::Serve { listen, config, demo, allow_weak } => {
            let mut settings = config::Settings::read(config.as_deref())?;
            settings.listen(listen)?;
            return serve::run(&config::data_dir(data.data)?, settings, data.key_file, serve::Allowed { demo, weak: allow_weak });
        }
        Verb::Sign { api_key, lifetime, method, url, .. } => {
            let secret = stdin()?;
            if secret.is_empty() {
                return Err("the API secret is expected on standard input".to_owned());
            }
            if !["GET", "POST"].contains(&method.to_ascii_uppercase().as_str()) {
                return Err(format!("reports are read by GET or POST, not by {method}"));
            }
            if !url.starts_with("http://") && !url.starts_with("https://") && !url.starts_with('/') {
                return Err(format!("`{url}` is no URL"));
            }
            if lifetime < 1 {
                return Err("a lifetime is a number of seconds from 1 on".to_owned());
            }
            println!("{}", wire::signature::sign_url(&url, &api_key, &secret, clock::now().seconds().saturating_add(lifetime)));
            return Ok(());
        }
        Verb::Restore { file } => admin::restore(&config::data_dir(data.data)?, data.key_file, &file)?,
        Verb::Command(mut command) => {
            command.read_secrets(stdin)?;
            admin::call(&config::data_dir(data.data)?, data.key_file, &command)?
        }
    };
    if data.json {
        println!("{answer}");
    } else {
        print_plain(&answer);
        if ["api_secret", "secret", "bearer_token", "identity_secret"].iter().any(|name| answer.get(name).is_some()) {
            eprintln!("never share this API secret or send it over email");
        }
    }
    Ok(())
}

fn print_plain(answer: &Value) {
    match answer {
        Value::Array(rows) => {
            for (index, row) in rows.iter().enumerate() {
                if index > 0 {
                    println!();
                }
                print_plain(row);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                println!("{name}\t{}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            }
        }
        other => println!("{other}"),
    }
}

fn stdin() -> Result<String, String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
