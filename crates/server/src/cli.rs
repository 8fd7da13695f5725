//! The command line.

use std::io::{Read, Write};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use serde_json::Value;

use crate::commands::Command;
use crate::jobs::client;
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
    /// Import events and profiles from Mixpanel, or from files, by the running server. What was interrupted is continued by the same command.
    Import(Box<client::ImportFlags>),
    /// Export events and profiles to a file, by the running server.
    Export(Box<client::ExportFlags>),
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
        Verb::Import(flags) => client::import(&config::data_dir(data.data)?, *flags, data.json, stdin)?,
        Verb::Export(flags) => client::export(&config::data_dir(data.data)?, *flags, data.json)?,
        Verb::Command(mut command) => {
            command.read_secrets(stdin)?;
            admin::call(&config::data_dir(data.data)?, data.key_file, &command)?
        }
    };
    if answer.is_null() {
        return Ok(());
    }
    let mut text = String::new();
    if data.json {
        text = format!("{answer}\n");
    } else {
        plain(&answer, "", &mut text);
    }
    // Whoever reads only the beginning has had enough.
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.to_string()),
        _ => {}
    }
    if answer.get("account_id").is_some() && answer.get("weak").is_some() {
        eprintln!("this password is among the first that a guesser tries: set another one");
    }
    let shows = |name: &str| answer.get(name).is_some();
    if shows("api_secret") {
        eprintln!("never share this API secret or send it over email");
    } else if shows("identity_secret") {
        eprintln!("never share this identity secret or send it over email");
    } else if shows("secret") || shows("bearer_token") {
        eprintln!("never share this secret or send it over email; it is not shown again");
    }
    Ok(())
}

/// An answer for people: a line per field, a row per paragraph, what is nested indented. What is absent takes no line.
fn plain(answer: &Value, indent: &str, out: &mut String) {
    match answer {
        Value::Array(rows) => {
            for (index, row) in rows.iter().enumerate() {
                if index > 0 && row.is_object() {
                    out.push('\n');
                }
                plain(row, indent, out);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let is_nested = value.is_object() || value.as_array().is_some_and(|rows| rows.iter().any(Value::is_object));
                match value {
                    Value::Null => {}
                    _ if is_nested => {
                        out.push_str(&format!("{indent}{name}\n"));
                        plain(value, &format!("{indent}  "), out);
                    }
                    Value::Array(words) => {
                        let words: Vec<String> = words.iter().map(word).collect();
                        out.push_str(&format!("{indent}{name}\t{}\n", words.join(",")));
                    }
                    _ => out.push_str(&format!("{indent}{name}\t{}\n", word(value))),
                }
            }
        }
        other => out.push_str(&format!("{indent}{}\n", word(other))),
    }
}

/// A value on a terminal: without the control characters that would write elsewhere.
fn word(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

fn stdin() -> Result<String, String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
