//! What the command line can do to a data directory, the same whether a server runs or not: through its socket, or in place.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use metastore::{MetaError, Metastore, NewProject, SignatureLifetime};
use model::{ProjectId, Role, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};

use crate::app::App;
use crate::clock;

/// A command.
#[derive(Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub(crate) enum Command {
    AccountCreate { email: String, password: String },
    ProjectCreate(Box<ProjectCreate>),
    ProjectList,
    CredentialsReset { project: i64, account: String },
    ServiceAccountCreate { project: i64, name: String, role: String, username: Option<String>, secret: Option<String> },
    SetupRedeem { code: String, email: String, password: String },
    Status,
}

/// A new project, as the command line names it.
#[derive(clap::Args, Serialize, Deserialize)]
pub(crate) struct ProjectCreate {
    /// E-mail address of the owner's account.
    #[arg(long)]
    owner: String,
    #[arg(long)]
    name: String,
    /// IANA name.
    #[arg(long, default_value = "UTC")]
    timezone: String,
    #[arg(long)]
    project_id: Option<i64>,
    #[arg(long)]
    organization_id: Option<i64>,
    #[arg(long)]
    token: Option<String>,
    #[arg(long)]
    api_key: Option<String>,
    #[arg(long)]
    api_secret: Option<String>,
    /// The longest that a signed URL may live: hours, or `none` for as long as its `expire` says [default: 24].
    #[arg(long, value_name = "HOURS")]
    signature_lifetime: Option<String>,
    /// Take values under 32 characters, which can be guessed, on a server beyond loopback too.
    #[arg(long)]
    allow_weak: bool,
}

impl ProjectCreate {
    fn is_weak(&self) -> bool {
        [&self.token, &self.api_key, &self.api_secret].into_iter().flatten().any(|value| metastore::is_weak(value))
    }
}

/// Where the running server listens for commands.
fn socket(dir: &Path) -> PathBuf {
    dir.join("sluice.sock")
}

/// Where the key file lies unless it is named: beside the data directory.
pub(crate) fn key_file(dir: &Path, given: Option<PathBuf>) -> PathBuf {
    given.unwrap_or_else(|| {
        let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
        let mut name = absolute.file_name().unwrap_or_default().to_os_string();
        name.push(".key");
        absolute.with_file_name(name)
    })
}

/// Takes the data directory for this process; a second one is told who holds it.
pub(crate) fn hold(dir: &Path) -> Result<std::fs::File, String> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
    let path = dir.join("lock");
    let file =
        std::fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(|error| error.to_string())?;
    if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        let holder = std::fs::read_to_string(&path).unwrap_or_default();
        return Err(format!("{} is held by process {}", dir.display(), holder.trim()));
    }
    file.set_len(0).and_then(|()| (&file).write_all(std::process::id().to_string().as_bytes())).map_err(|error| error.to_string())?;
    Ok(file)
}

/// Runs a command on the running server, or in place where none runs.
pub(crate) fn call(dir: &Path, key: Option<PathBuf>, command: &Command) -> Result<Value, String> {
    if let Ok(mut stream) = UnixStream::connect(socket(dir)) {
        let text = serde_json::to_string(command).map_err(|error| error.to_string())?;
        writeln!(stream, "{text}").map_err(|error| error.to_string())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).map_err(|error| error.to_string())?;
        let mut answer: Value = serde_json::from_str(&line).map_err(|_| "the running server gave no answer".to_owned())?;
        return match answer.get("error").and_then(Value::as_str) {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["ok"].take()),
        };
    }
    let _held = hold(dir)?;
    let metastore = Metastore::open(dir, &key_file(dir, key)).map_err(|error| error.to_string())?;
    run(&metastore, command, clock::now()).map_err(|error| error.to_string())
}

fn run(metastore: &Metastore, command: &Command, now: Timestamp) -> Result<Value, MetaError> {
    let account = |email: &str| metastore.account_by_email(email)?.map(|account| account.id).ok_or(MetaError::Unknown("account"));
    Ok(match command {
        Command::AccountCreate { email, password } => json!({ "account_id": metastore.create_account(email, password, now)?.0 }),
        Command::ProjectCreate(asked) => {
            let unknown = || MetaError::Invalid("a signature lifetime is a number of hours, or `none`".to_owned());
            let lifetime = asked.signature_lifetime.as_deref();
            let signature_lifetime = lifetime.map_or(Some(SignatureLifetime::Day), SignatureLifetime::parse).ok_or_else(unknown)?;
            let new = NewProject {
                name: asked.name.clone(),
                timezone: asked.timezone.clone(),
                owner: Some(account(&asked.owner)?),
                project_id: asked.project_id,
                organization_id: asked.organization_id,
                token: asked.token.clone(),
                api_key: asked.api_key.clone(),
                api_secret: asked.api_secret.clone(),
                signature_lifetime,
                allows_weak: asked.allow_weak,
            };
            let (project, pair) = metastore.create_project(&new, now)?;
            let mut made = json!({ "project_id": project.id.0, "token": project.token, "api_key": pair.api_key, "api_secret": pair.api_secret.expose() });
            if asked.is_weak() {
                made["weak"] = json!(true);
            }
            made
        }
        Command::ProjectList => {
            let row = |project: metastore::Project| json!({ "project_id": project.id.0, "name": project.name, "timezone": project.timezone, "token": project.token });
            Value::Array(metastore.projects()?.into_iter().map(row).collect())
        }
        Command::CredentialsReset { project, account: email } => {
            let pair = metastore.reset_credentials(ProjectId(*project), account(email)?, now)?;
            json!({ "api_key": pair.api_key, "api_secret": pair.api_secret.expose() })
        }
        Command::ServiceAccountCreate { project, name, role, username, secret } => {
            let role = Role::parse(role).ok_or_else(|| MetaError::Invalid(format!("unknown role `{role}`")))?;
            let (username, secret) =
                metastore.create_service_account(ProjectId(*project), name, role, username.as_deref(), secret.as_deref(), now)?;
            json!({ "username": username, "secret": secret.expose() })
        }
        Command::SetupRedeem { code, email, password } => {
            json!({ "account_id": metastore.redeem_setup_code(code, email, password, now)?.0 })
        }
        Command::Status => json!({ "running": false }),
    })
}

/// Serves commands on the socket of the data directory.
pub(crate) async fn serve(dir: &Path, app: Arc<App>) -> std::io::Result<()> {
    let path = socket(dir);
    let _ = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let app = app.clone();
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
                let mut line = String::new();
                if tokio::io::BufReader::new(read).read_line(&mut line).await.is_ok() {
                    let answer = tokio::task::spawn_blocking(move || answer(&app, &line))
                        .await
                        .unwrap_or_else(|_| json!({ "error": "the command failed" }));
                    let _ = write.write_all(format!("{answer}\n").as_bytes()).await;
                }
            });
        }
    });
    Ok(())
}

fn answer(app: &App, line: &str) -> Value {
    let command: Command = match serde_json::from_str(line) {
        Ok(command) => command,
        Err(error) => return json!({ "error": error.to_string() }),
    };
    if let Command::Status = command {
        let stats = app.store.stats();
        let unknown = app.counts.unknown_tokens.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        return json!({ "ok": { "running": true, "tail_rows": stats.tail_rows, "segments": stats.segments, "segment_rows": stats.segment_rows,
            "segment_bytes": stats.segment_bytes, "unknown_tokens": unknown } });
    }
    if let Command::ProjectCreate(asked) = &command
        && asked.is_weak()
        && !asked.allow_weak
        && !app.settings.is_loopback()
    {
        return json!({ "error": "a value under 32 characters can be guessed; say --allow-weak to take it beyond loopback all the same" });
    }
    // The answer goes out after the running server has applied the change.
    match run(&app.metastore, &command, clock::now()).and_then(|value| app.reload_credentials().map(|()| value)) {
        Ok(value) => json!({ "ok": value }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}
