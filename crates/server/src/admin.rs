//! What the command line can do to a data directory, the same whether a server runs or not: through its socket, or in place.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use metastore::{AuditCheck, By, KeyPair, Legacy, MetaError, Metastore, NewKey, NewProject, NewServiceAccount, SignatureLifetime};
use model::{AccessRight, Networks, ProjectId, Role, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};

use crate::app::App;
use crate::{backup, clock};

/// A command, as the command line names it and as it goes over the socket.
#[derive(clap::Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Command {
    /// Make the first account with the setup code.
    Setup {
        #[arg(long)]
        code: String,
        #[arg(long)]
        email: String,
        #[command(flatten)]
        password: Password,
    },
    /// Accounts.
    #[command(subcommand)]
    Account(Account),
    /// Projects.
    #[command(subcommand)]
    Project(Project),
    /// API key and API secret of a project.
    #[command(subcommand)]
    Credentials(Credentials),
    /// API keys.
    #[command(subcommand)]
    Key(Key),
    /// Members of a project.
    #[command(subcommand)]
    Member(Member),
    /// A project that changes hands.
    #[command(subcommand)]
    Transfer(Transfer),
    /// Service accounts.
    #[command(subcommand)]
    ServiceAccount(ServiceAccount),
    /// A person's own tokens for scripts.
    #[command(subcommand)]
    BearerToken(BearerToken),
    /// Wishes for another project token.
    #[command(subcommand)]
    Ticket(Ticket),
    /// The audit log.
    #[command(subcommand)]
    Audit(Audit),
    /// The key that wraps the secrets of all projects.
    #[command(subcommand)]
    Kek(Kek),
    /// Write everything but the key file to one file, also while the server runs.
    Backup { file: PathBuf },
    /// What the running server holds.
    Status,
}

/// A password that comes by standard input, so that no list of processes shows it.
#[derive(clap::Args, Serialize, Deserialize)]
pub(crate) struct Password {
    /// Read the password from standard input.
    #[arg(long, required = true)]
    password_stdin: bool,
    #[arg(skip)]
    password: String,
}

/// Who acts on which project.
#[derive(clap::Args, Serialize, Deserialize)]
pub(crate) struct On {
    #[arg(long)]
    project: i64,
    /// E-mail address of the account that does it; by default the machine's console.
    #[arg(long = "as")]
    account: Option<String>,
}

#[derive(clap::Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Account {
    /// Make an account; the first one is the instance's operator.
    Create {
        #[arg(long)]
        email: String,
        #[command(flatten)]
        password: Password,
    },
    /// Make an account an operator of the instance, or end that.
    Operator {
        #[arg(long)]
        email: String,
        #[arg(long)]
        revoke: bool,
    },
}

#[derive(clap::Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Project {
    /// Make a project; prints project_id, token, api_key, api_secret.
    Create(Box<ProjectCreate>),
    /// List projects.
    List,
    /// Change a project's settings.
    Set {
        #[command(flatten)]
        on: On,
        /// Refuse secrets over plain HTTP.
        #[arg(long)]
        require_tls: bool,
        /// Take them again.
        #[arg(long, conflicts_with = "require_tls")]
        no_require_tls: bool,
    },
}

#[derive(clap::Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Credentials {
    /// Clear every API key and API secret at once, never the token; prints the new pair. Owners only.
    Reset {
        #[arg(long)]
        project: i64,
        /// E-mail address of an owner's account.
        #[arg(long = "as")]
        account: String,
    },
    /// Who called with what in the last 90 days: what a reset would break, and who still knocks with what was revoked.
    Callers {
        #[arg(long)]
        project: i64,
    },
    /// Let the credentials of a restored project work again. Owners only.
    Confirm {
        #[command(flatten)]
        on: On,
    },
}

#[derive(clap::Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Key {
    /// Make a further key; prints api_key, api_secret.
    Create {
        #[command(flatten)]
        on: On,
        #[arg(long, default_value = "key")]
        name: String,
        /// Of export, query, import, profiles-read, profiles-write, annotations, schema, data-deletion.
        #[arg(long, value_delimiter = ',', required = true)]
        rights: Vec<String>,
        /// A date, an instant such as 2027-01-31T12:00:00Z, or seconds since the epoch.
        #[arg(long)]
        expires_at: Option<String>,
        /// Networks in CIDR form that it may be used from.
        #[arg(long, default_value = "")]
        networks: String,
        /// Whether it takes the legacy MD5 signature: off, warn or on. Off stores only a hash of the secret.
        #[arg(long, default_value = "off")]
        legacy: String,
        /// The longest that a signed URL may live: hours, or `none`.
        #[arg(long, default_value = "24")]
        signature_lifetime: String,
    },
    /// List a project's keys, the dead ones too.
    List {
        #[command(flatten)]
        on: On,
    },
    /// Put a new pair beside the old one, which works on for a while; prints the new one.
    Rotate {
        #[command(flatten)]
        on: On,
        /// The key to rotate; by default the oldest live one.
        #[arg(long)]
        api_key: Option<String>,
        /// How long the old pair works on: 7d, 12h, 30m; at most 30d.
        #[arg(long, default_value = "7d")]
        overlap: String,
    },
    /// End a key at once, also one whose overlap still runs.
    Revoke {
        #[command(flatten)]
        on: On,
        #[arg(long)]
        api_key: String,
    },
    /// Turn a key's legacy signature off, to warn, or on.
    Legacy {
        #[command(flatten)]
        on: On,
        #[arg(long)]
        api_key: String,
        #[arg(long)]
        legacy: String,
    },
    /// Show a key with its secret; the audit log notes it.
    Reveal {
        #[command(flatten)]
        on: On,
        #[arg(long)]
        api_key: Option<String>,
    },
}

#[derive(clap::Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Member {
    /// List the members.
    List {
        #[command(flatten)]
        on: On,
    },
    /// Make an account a member.
    Add(Membership),
    /// Give a member another role.
    Role(Membership),
    /// End a membership.
    Remove {
        #[command(flatten)]
        on: On,
        #[arg(long)]
        email: String,
    },
}

/// Who is what in a project.
#[derive(clap::Args, Serialize, Deserialize)]
pub(crate) struct Membership {
    #[command(flatten)]
    on: On,
    #[arg(long)]
    email: String,
    /// consumer, analyst, admin or owner.
    #[arg(long)]
    role: String,
}

#[derive(clap::Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Transfer {
    /// Offer the project to an account; it stands for a week.
    Offer {
        #[command(flatten)]
        on: On,
        #[arg(long)]
        to: String,
    },
    /// Take what was offered; whoever offered it stays as admin.
    Accept {
        #[command(flatten)]
        on: On,
    },
    /// Take the offer back, or decline it.
    End {
        #[command(flatten)]
        on: On,
    },
}

#[derive(clap::Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ServiceAccount {
    /// Make a service account; prints username and secret, the secret only this once.
    Create {
        #[command(flatten)]
        on: On,
        #[arg(long)]
        name: String,
        /// consumer, analyst, admin or owner.
        #[arg(long, default_value = "analyst")]
        role: String,
        #[arg(long)]
        username: Option<String>,
        /// Read a secret to keep from elsewhere from standard input.
        #[arg(long)]
        secret_stdin: bool,
        #[arg(skip)]
        secret: Option<String>,
        #[arg(long)]
        expires_at: Option<String>,
    },
    /// List the service accounts.
    List {
        #[command(flatten)]
        on: On,
    },
    /// End a service account at once.
    Revoke {
        #[command(flatten)]
        on: On,
        #[arg(long)]
        username: String,
    },
}

#[derive(clap::Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BearerToken {
    /// Make a token that may what the account may; prints it, only this once.
    Create {
        #[arg(long = "as")]
        account: String,
        #[arg(long)]
        name: String,
        #[arg(long)]
        expires_at: Option<String>,
    },
    /// List the account's tokens.
    List {
        #[arg(long = "as")]
        account: String,
    },
    /// End a token at once.
    Revoke {
        #[arg(long = "as")]
        account: String,
        #[arg(long)]
        id: i64,
    },
}

#[derive(clap::Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ticket {
    /// Ask for another project token. Owners only.
    Open {
        #[command(flatten)]
        on: On,
        #[arg(long)]
        reason: String,
    },
    /// List tickets with what was said, and old tokens with their events.
    List {
        #[arg(long)]
        project: Option<i64>,
    },
    /// Say something in an open ticket.
    Say {
        #[arg(long)]
        ticket: i64,
        #[arg(long = "as")]
        account: Option<String>,
        #[arg(long)]
        text: String,
    },
    /// Reset the token; prints the new one. The old one takes events for a while. Operators only.
    Approve {
        #[arg(long)]
        ticket: i64,
        #[arg(long = "as")]
        account: Option<String>,
        #[arg(long, default_value_t = 30)]
        alias_days: i64,
        #[arg(long, default_value = "")]
        text: String,
    },
    /// Leave the token as it is. Operators only.
    Decline {
        #[arg(long)]
        ticket: i64,
        #[arg(long = "as")]
        account: Option<String>,
        #[arg(long, default_value = "")]
        text: String,
    },
}

#[derive(clap::Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Audit {
    /// The newest rows.
    List {
        #[arg(long)]
        project: Option<i64>,
        /// Only rows before this one.
        #[arg(long)]
        before: Option<i64>,
        #[arg(long, default_value_t = 100)]
        rows_max: usize,
    },
    /// Walk the chain and compare its end with the ledger.
    Verify,
}

#[derive(clap::Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kek {
    /// Wrap every project's data key with a new key. The key file changes: copy it again.
    Rotate,
}

impl Command {
    /// Takes the secrets that come by standard input.
    pub(crate) fn read_secrets(&mut self, read: impl FnOnce() -> Result<String, String>) -> Result<(), String> {
        match self {
            Self::Setup { password, .. } | Self::Account(Account::Create { password, .. }) => password.password = read()?,
            Self::ServiceAccount(ServiceAccount::Create { secret_stdin: true, secret, .. }) => *secret = Some(read()?),
            Self::Backup { file } => *file = std::path::absolute(&*file).map_err(|error| error.to_string())?,
            _ => {}
        }
        Ok(())
    }
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
    let makes_it = matches!(command, Command::Account(Account::Create { .. }));
    if !makes_it && !dir.join(metastore::DATABASE).exists() {
        return Err(format!("{} holds no data of Sluice: name its data directory with --data or SLUICE_DATA", dir.display()));
    }
    let _held = hold(dir)?;
    let metastore = Metastore::open(dir, &key_file(dir, key), clock::now()).map_err(|error| error.to_string())?;
    if let Command::Backup { file } = command {
        return written(backup::write(dir, &metastore, None, file));
    }
    run(&metastore, command, clock::now()).map_err(|error| error.to_string())
}

/// `2027-01-31T12:00:00Z`, or nothing.
fn shown(at: impl Into<Option<Timestamp>>) -> Value {
    at.into().map_or(Value::Null, |at| Value::String(model::profile::wall_time(at) + "Z"))
}

fn instant(text: Option<&String>) -> Result<Option<Timestamp>, MetaError> {
    let read = |text: &String| {
        let unknown =
            || MetaError::Invalid(format!("`{text}` is no time: give a date, an instant such as 2027-01-31T12:00:00Z, or seconds"));
        model::time::instant(text).ok_or_else(unknown)
    };
    text.map(read).transpose()
}

fn role(text: &str) -> Result<Role, MetaError> {
    Role::parse(text).ok_or_else(|| MetaError::Invalid(format!("unknown role `{text}`: it is consumer, analyst, admin or owner")))
}

fn legacy(text: &str) -> Result<Legacy, MetaError> {
    Legacy::parse(text).ok_or_else(|| MetaError::Invalid(format!("`{text}` is none of off, warn, on")))
}

fn lifetime(text: &str) -> Result<SignatureLifetime, MetaError> {
    let unknown = || MetaError::Invalid("a signature lifetime is a number of hours, or `none`".to_owned());
    SignatureLifetime::parse(text).ok_or_else(unknown)
}

fn run(metastore: &Metastore, command: &Command, now: Timestamp) -> Result<Value, MetaError> {
    let account = |email: &str| metastore.account_by_email(email)?.map(|account| account.id).ok_or(MetaError::Unknown("account"));
    let by = |email: Option<&str>| email.map(account).transpose().map(|account| By { account, ..By::console(now) });
    let on = |on: &On| by(on.account.as_deref()).map(|by| (ProjectId(on.project), by));
    let done = json!({ "done": true });
    let pair = |pair: KeyPair| json!({ "api_key": pair.api_key, "api_secret": pair.api_secret.expose() });
    Ok(match command {
        Command::Setup { code, email, password } => {
            json!({ "account_id": metastore.redeem_setup_code(code, email, &password.password, &By::console(now))?.0 })
        }
        Command::Account(Account::Create { email, password }) => {
            json!({ "account_id": metastore.create_account(email, &password.password, &By::console(now))?.0 })
        }
        Command::Account(Account::Operator { email, revoke }) => {
            metastore.set_operator(account(email)?, !revoke, &By::console(now))?;
            done
        }
        Command::Project(Project::Create(asked)) => {
            let new = NewProject {
                name: asked.name.clone(),
                timezone: asked.timezone.clone(),
                owner: Some(account(&asked.owner)?),
                project_id: asked.project_id,
                organization_id: asked.organization_id,
                token: asked.token.clone(),
                api_key: asked.api_key.clone(),
                api_secret: asked.api_secret.clone(),
                signature_lifetime: asked.signature_lifetime.as_deref().map_or(Ok(SignatureLifetime::Day), lifetime)?,
                allows_weak: asked.allow_weak,
            };
            let (project, pair) = metastore.create_project(&new, &by(Some(&asked.owner))?)?;
            let mut made = json!({ "project_id": project.id.0, "token": project.token, "api_key": pair.api_key, "api_secret": pair.api_secret.expose() });
            if asked.is_weak() {
                made["weak"] = json!(true);
            }
            made
        }
        Command::Project(Project::List) => {
            let row = |project: metastore::Project| {
                json!({ "project_id": project.id.0, "organization_id": project.organization_id.0, "name": project.name,
                    "timezone": project.timezone, "token": project.token, "require_tls": project.requires_tls })
            };
            Value::Array(metastore.projects()?.into_iter().map(row).collect())
        }
        Command::Project(Project::Set { on: of, require_tls, no_require_tls }) => {
            let (project, by) = on(of)?;
            if *require_tls || *no_require_tls {
                metastore.require_tls(project, *require_tls, &by)?;
            }
            done
        }
        Command::Credentials(Credentials::Reset { project, account: email }) => {
            let project = ProjectId(*project);
            let made = metastore.reset_credentials(project, &by(Some(email))?)?;
            let mut made = pair(made);
            made["callers"] = callers(metastore, project)?;
            made
        }
        Command::Credentials(Credentials::Callers { project }) => callers(metastore, ProjectId(*project))?,
        Command::Credentials(Credentials::Confirm { on: of }) => {
            let (project, by) = on(of)?;
            metastore.confirm_credentials(project, &by)?;
            done
        }
        Command::Key(command) => run_key(metastore, command, &on, pair)?,
        Command::Member(command) => match command {
            Member::List { on: of } => {
                let row = |member: metastore::Member| json!({ "email": member.email, "role": member.role.as_str() });
                Value::Array(metastore.members(ProjectId(of.project))?.into_iter().map(row).collect())
            }
            Member::Add(asked) | Member::Role(asked) => {
                let (project, by) = on(&asked.on)?;
                metastore.set_role(project, account(&asked.email)?, role(&asked.role)?, &by)?;
                done
            }
            Member::Remove { on: of, email } => {
                let (project, by) = on(of)?;
                metastore.remove_member(project, account(email)?, &by)?;
                done
            }
        },
        Command::Transfer(Transfer::Offer { on: of, to }) => {
            let (project, by) = on(of)?;
            json!({ "expires_at": shown(metastore.offer_transfer(project, account(to)?, &by)?.expires_at) })
        }
        Command::Transfer(Transfer::Accept { on: of }) => {
            let (project, by) = on(of)?;
            metastore.accept_transfer(project, &by)?;
            done
        }
        Command::Transfer(Transfer::End { on: of }) => {
            let (project, by) = on(of)?;
            metastore.end_transfer(project, &by)?;
            done
        }
        Command::ServiceAccount(ServiceAccount::Create { on: of, name, role: word, username, secret, expires_at, .. }) => {
            let (project, by) = on(of)?;
            let new = NewServiceAccount {
                name,
                role: role(word)?,
                username: username.as_deref(),
                secret: secret.as_deref(),
                expires_at: instant(expires_at.as_ref())?,
            };
            let (username, secret) = metastore.create_service_account(project, &new, &by)?;
            json!({ "username": username, "secret": secret.expose() })
        }
        Command::ServiceAccount(ServiceAccount::List { on: of }) => {
            let row = |account: metastore::ServiceAccountRow| {
                json!({ "username": account.username, "name": account.name, "role": account.role.as_str(), "created_at": shown(account.created_at),
                    "expires_at": shown(account.expires_at), "revoked_at": shown(account.revoked_at) })
            };
            Value::Array(metastore.service_accounts(ProjectId(of.project))?.into_iter().map(row).collect())
        }
        Command::ServiceAccount(ServiceAccount::Revoke { on: of, username }) => {
            let (project, by) = on(of)?;
            metastore.revoke_service_account(project, username, &by)?;
            done
        }
        Command::BearerToken(BearerToken::Create { account: email, name, expires_at }) => {
            let token = metastore.create_bearer_token(account(email)?, name, instant(expires_at.as_ref())?, &by(Some(email))?)?;
            json!({ "bearer_token": token.expose() })
        }
        Command::BearerToken(BearerToken::List { account: email }) => {
            let row = |token: metastore::BearerTokenRow| {
                json!({ "id": token.id, "name": token.name, "created_at": shown(token.created_at), "expires_at": shown(token.expires_at),
                    "revoked_at": shown(token.revoked_at) })
            };
            Value::Array(metastore.bearer_tokens(account(email)?)?.into_iter().map(row).collect())
        }
        Command::BearerToken(BearerToken::Revoke { account: email, id }) => {
            metastore.revoke_bearer_token(account(email)?, *id, &by(Some(email))?)?;
            done
        }
        Command::Ticket(command) => run_ticket(metastore, command, &on, &by)?,
        Command::Audit(Audit::List { project, before, rows_max }) => {
            let row = |row: metastore::AuditRow| {
                json!({ "id": row.id, "at": shown(row.at), "project_id": row.project.map(|project| project.0), "actor": row.actor,
                    "address": row.address, "action": row.action, "detail": row.detail })
            };
            Value::Array(metastore.audit_rows(project.map(ProjectId), *before, *rows_max)?.into_iter().map(row).collect())
        }
        Command::Audit(Audit::Verify) => match metastore.verify_audit()? {
            AuditCheck::Intact { rows, head } => json!({ "intact": true, "rows": rows, "head": head }),
            AuditCheck::Broken(id) => return Err(MetaError::Invalid(format!("the audit log was changed: row {id} does not fit"))),
            AuditCheck::Cut(id) => {
                return Err(MetaError::Invalid(format!("the audit log was cut or rewritten: row {id} is gone or another")));
            }
        },
        Command::Kek(Kek::Rotate) => json!({ "data_keys": metastore.rotate_wrapping_key(&By::console(now))? }),
        Command::Backup { .. } => return Err(MetaError::Invalid("a backup needs the data directory".to_owned())),
        Command::Status => json!({ "running": false }),
    })
}

fn callers(metastore: &Metastore, project: ProjectId) -> Result<Value, MetaError> {
    let row = |caller: metastore::Caller| {
        json!({ "credential": caller.credential, "outcome": caller.outcome, "scheme": caller.scheme, "endpoint": caller.endpoint,
            "address": caller.address, "user_agent": caller.user_agent, "first_at": shown(caller.first_at), "last_at": shown(caller.last_at),
            "count": caller.count })
    };
    Ok(Value::Array(metastore.callers(project)?.into_iter().map(row).collect()))
}

/// Who acts on which project, as the command says.
type OnOf<'a> = dyn Fn(&On) -> Result<(ProjectId, By), MetaError> + 'a;

fn run_key(metastore: &Metastore, command: &Key, on: &OnOf<'_>, pair: impl Fn(KeyPair) -> Value) -> Result<Value, MetaError> {
    Ok(match command {
        Key::Create { on: of, name, rights, expires_at, networks, legacy: word, signature_lifetime } => {
            let (project, by) = on(of)?;
            let right = |word: &String| {
                let unknown = || MetaError::Invalid(format!("unknown access right `{word}`"));
                AccessRight::parse(word).ok_or_else(unknown)
            };
            let settings = NewKey {
                name: name.clone(),
                rights: rights.iter().map(right).collect::<Result<_, _>>()?,
                networks: Networks::parse(networks).map_err(|piece| MetaError::Invalid(format!("`{piece}` is no network")))?,
                legacy: legacy(word)?,
                expires_at: instant(expires_at.as_ref())?,
                signature_lifetime: lifetime(signature_lifetime)?,
            };
            pair(metastore.create_key(project, &settings, &by)?)
        }
        Key::List { on: of } => {
            let row = |key: metastore::KeyRow| {
                let rights: Vec<&str> = key.rights.iter().map(|right| right.as_str()).collect();
                json!({ "key_id": key.key_id, "api_key": key.api_key, "name": key.name, "rights": rights, "networks": key.networks.to_string(),
                    "legacy": key.legacy.as_str(), "weak": key.is_weak, "scannable": key.is_scannable, "can_be_revealed": key.can_be_revealed,
                    "created_at": shown(key.created_at), "expires_at": shown(key.expires_at), "retires_at": shown(key.retires_at),
                    "revoked_at": shown(key.revoked_at) })
            };
            Value::Array(metastore.keys(ProjectId(of.project))?.into_iter().map(row).collect())
        }
        Key::Rotate { on: of, api_key, overlap } => {
            let (project, by) = on(of)?;
            let unknown = || MetaError::Invalid(format!("`{overlap}` is no length of time, such as 7d, 12h or 30m"));
            let overlap_ms = model::time::length_ms(overlap).ok_or_else(unknown)?;
            pair(metastore.rotate_key(project, api_key.as_deref(), overlap_ms, &by)?)
        }
        Key::Revoke { on: of, api_key } => {
            let (project, by) = on(of)?;
            metastore.revoke_key(project, api_key, &by)?;
            json!({ "done": true })
        }
        Key::Legacy { on: of, api_key, legacy: word } => {
            let (project, by) = on(of)?;
            metastore.set_legacy(project, api_key, legacy(word)?, &by)?;
            json!({ "done": true })
        }
        Key::Reveal { on: of, api_key } => {
            let (project, by) = on(of)?;
            pair(metastore.reveal_key(project, api_key.as_deref(), &by)?)
        }
    })
}

fn run_ticket(
    metastore: &Metastore,
    command: &Ticket,
    on: &OnOf<'_>,
    by: &dyn Fn(Option<&str>) -> Result<By, MetaError>,
) -> Result<Value, MetaError> {
    Ok(match command {
        Ticket::Open { on: of, reason } => {
            let (project, by) = on(of)?;
            json!({ "ticket": metastore.open_ticket(project, reason, &by)? })
        }
        Ticket::List { project } => {
            let project = project.map(ProjectId);
            let message = |said: &metastore::TicketMessage| json!({ "author": said.author, "at": shown(said.at), "text": said.text });
            let alias = |alias: metastore::Alias| json!({ "token": alias.token, "ends_at": shown(alias.ends_at), "events": alias.events, "last_at": shown(alias.last_at) });
            let mut rows = Vec::new();
            for ticket in metastore.tickets(project)? {
                let aliases: Vec<Value> = metastore.aliases(ticket.project)?.into_iter().map(alias).collect();
                rows.push(json!({ "ticket": ticket.id, "project_id": ticket.project.0, "opened_by": ticket.opened_by.0,
                    "state": ticket.state.as_str(), "created_at": shown(ticket.created_at), "decided_at": shown(ticket.decided_at),
                    "decided_by": ticket.decided_by, "messages": ticket.messages.iter().map(message).collect::<Vec<_>>(), "old_tokens": aliases }));
            }
            Value::Array(rows)
        }
        Ticket::Say { ticket, account, text } => {
            metastore.say_in_ticket(*ticket, text, &by(account.as_deref())?)?;
            json!({ "done": true })
        }
        Ticket::Approve { ticket, account, alias_days, text } => {
            let (project, token) = metastore.approve_ticket(*ticket, *alias_days, text, &by(account.as_deref())?)?;
            json!({ "project_id": project.0, "token": token })
        }
        Ticket::Decline { ticket, account, text } => {
            metastore.decline_ticket(*ticket, text, &by(account.as_deref())?)?;
            json!({ "done": true })
        }
    })
}

fn written(outcome: Result<backup::Written, String>) -> Result<Value, String> {
    outcome.map(|written| json!({ "files": written.files, "bytes": written.bytes }))
}

/// Puts a backup in the place of the data directory, which no server may hold.
pub(crate) fn restore(dir: &Path, key: Option<PathBuf>, from: &Path) -> Result<Value, String> {
    if UnixStream::connect(socket(dir)).is_ok() {
        return Err("a server runs on this data directory: stop it first".to_owned());
    }
    drop(hold(dir)?);
    let aside = backup::restore(dir, from)?;
    let metastore = Metastore::open(dir, &key_file(dir, key), clock::now()).map_err(|error| error.to_string())?;
    let waiting = metastore.suspended_projects().map_err(|error| error.to_string())?;
    Ok(json!({ "moved_aside": aside, "projects_waiting": waiting.iter().map(|project| project.0).collect::<Vec<_>>() }))
}

/// Serves commands on the socket of the data directory.
pub(crate) async fn serve(dir: &Path, app: Arc<App>) -> std::io::Result<()> {
    let path = socket(dir);
    let _ = std::fs::remove_file(&path);
    let dir = dir.to_path_buf();
    let listener = tokio::net::UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (app, dir) = (app.clone(), dir.clone());
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
                let mut line = String::new();
                if tokio::io::BufReader::new(read).read_line(&mut line).await.is_ok() {
                    let answer = tokio::task::spawn_blocking(move || answer(&dir, &app, &line))
                        .await
                        .unwrap_or_else(|_| json!({ "error": "the command failed" }));
                    let _ = write.write_all(format!("{answer}\n").as_bytes()).await;
                }
            });
        }
    });
    Ok(())
}

fn answer(dir: &Path, app: &App, line: &str) -> Value {
    let command: Command = match serde_json::from_str(line) {
        Ok(command) => command,
        Err(error) => return json!({ "error": error.to_string() }),
    };
    let refused = |error: String| json!({ "error": error });
    match &command {
        Command::Status => {
            let stats = app.store.stats();
            let unknown = app.counts.unknown_tokens.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            return json!({ "ok": { "running": true, "tail_rows": stats.tail_rows, "segments": stats.segments, "segment_rows": stats.segment_rows,
                "segment_bytes": stats.segment_bytes, "unknown_tokens": unknown } });
        }
        Command::Backup { file } => {
            return written(backup::write(dir, &app.metastore, Some(&app.store), file))
                .map_or_else(refused, |value| json!({ "ok": value }));
        }
        Command::Project(Project::Create(asked)) if asked.is_weak() && !asked.allow_weak && !app.settings.is_loopback() => {
            return refused(
                "a value under 32 characters can be guessed; say --allow-weak to take it beyond loopback all the same".to_owned(),
            );
        }
        // What was counted until now belongs to the answer.
        Command::Credentials(_) | Command::Ticket(_) => {
            if let Err(error) = app.callers.write(app) {
                return refused(error.to_string());
            }
        }
        _ => {}
    }
    // The answer goes out after the running server has applied the change.
    match run(&app.metastore, &command, clock::now()).and_then(|value| app.reload_credentials().map(|()| value)) {
        Ok(value) => json!({ "ok": value }),
        Err(error) => refused(error.to_string()),
    }
}
