//! The command line.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use serde_json::Value;

use crate::admin::{self, Command, ProjectCreate};
use crate::{clock, config, serve};

/// Self-hosted product analytics that speaks Mixpanel's wire.
#[derive(Parser)]
#[command(name = "sluice", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args)]
struct Data {
    /// The data directory; SLUICE_DATA where it is not given.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The key file, by default beside the data directory.
    #[arg(long)]
    key_file: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the server.
    Serve {
        #[command(flatten)]
        data: Data,
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
    /// Make the first account with the setup code.
    Setup {
        #[command(flatten)]
        data: Data,
        #[arg(long)]
        code: String,
        #[arg(long)]
        email: String,
        #[arg(long, required = true)]
        password_stdin: bool,
    },
    /// Accounts.
    #[command(subcommand)]
    Account(AccountVerb),
    /// Projects.
    #[command(subcommand)]
    Project(ProjectVerb),
    /// API key and API secret of a project.
    #[command(subcommand)]
    Credentials(CredentialsVerb),
    /// Service accounts.
    #[command(subcommand)]
    ServiceAccount(ServiceAccountVerb),
    /// Sign a URL.
    Sign {
        #[arg(long)]
        api_key: String,
        #[arg(long, required = true)]
        api_secret_stdin: bool,
        /// Seconds until it expires.
        #[arg(long, default_value_t = 600)]
        lifetime: i64,
        method: String,
        url: String,
    },
    /// What the running server holds.
    Status {
        #[command(flatten)]
        data: Data,
    },
}

#[derive(Subcommand)]
enum AccountVerb {
    /// Make an account.
    Create {
        #[command(flatten)]
        data: Data,
        #[arg(long)]
        email: String,
        #[arg(long, required = true)]
        password_stdin: bool,
    },
}

#[derive(Subcommand)]
enum ProjectVerb {
    /// Make a project; prints project_id, token, api_key, api_secret.
    Create {
        #[command(flatten)]
        data: Data,
        #[command(flatten)]
        project: Box<ProjectCreate>,
    },
    /// List projects.
    List {
        #[command(flatten)]
        data: Data,
    },
}

#[derive(Subcommand)]
enum CredentialsVerb {
    /// Clear API key and API secret at once, never the token; prints the new pair. Owners only.
    Reset {
        #[command(flatten)]
        data: Data,
        #[arg(long)]
        project: i64,
        /// E-mail address of an owner's account.
        #[arg(long = "as")]
        account: String,
    },
}

#[derive(Subcommand)]
enum ServiceAccountVerb {
    /// Make a service account; prints username and secret, the secret only this once.
    Create {
        #[command(flatten)]
        data: Data,
        #[arg(long)]
        project: i64,
        #[arg(long)]
        name: String,
        /// consumer, analyst, admin or owner.
        #[arg(long, default_value = "analyst")]
        role: String,
        #[arg(long)]
        username: Option<String>,
        #[arg(long)]
        secret_stdin: bool,
    },
}

/// Reads the command line and does what it says.
pub(crate) fn run() -> Result<(), String> {
    match Cli::parse().verb {
        Verb::Serve { data, listen, config, demo, allow_weak } => {
            let mut settings = config::Settings::read(config.as_deref())?;
            settings.listen(listen)?;
            serve::run(&config::data_dir(data.data)?, settings, data.key_file, serve::Allowed { demo, weak: allow_weak })
        }
        Verb::Setup { data, code, email, .. } => call(data, Command::SetupRedeem { code, email, password: stdin()? }),
        Verb::Account(AccountVerb::Create { data, email, .. }) => call(data, Command::AccountCreate { email, password: stdin()? }),
        Verb::Project(ProjectVerb::Create { data, project }) => call(data, Command::ProjectCreate(project)),
        Verb::Project(ProjectVerb::List { data }) => call(data, Command::ProjectList),
        Verb::Credentials(CredentialsVerb::Reset { data, project, account }) => call(data, Command::CredentialsReset { project, account }),
        Verb::ServiceAccount(ServiceAccountVerb::Create { data, project, name, role, username, secret_stdin }) => {
            let secret = if secret_stdin { Some(stdin()?) } else { None };
            call(data, Command::ServiceAccountCreate { project, name, role, username, secret })
        }
        Verb::Sign { api_key, lifetime, url, .. } => {
            println!("{}", wire::signature::sign_url(&url, &api_key, &stdin()?, clock::now().seconds() + lifetime));
            Ok(())
        }
        Verb::Status { data } => call(data, Command::Status),
    }
}

fn call(data: Data, command: Command) -> Result<(), String> {
    let answer = admin::call(&config::data_dir(data.data)?, data.key_file, &command)?;
    if data.json {
        println!("{answer}");
    } else {
        print_plain(&answer);
    }
    Ok(())
}

fn print_plain(answer: &Value) {
    match answer {
        Value::Array(rows) => rows.iter().for_each(print_plain),
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
