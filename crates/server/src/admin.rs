//! What the command line can do to a data directory, the same whether a server runs or not: through its socket, or in place.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use metastore::{
    AuditCheck, By, Legacy, MetaError, Metastore, NewKey, NewProject, NewServiceAccount, ProjectChange, SecretForm, SignatureLifetime,
    WeekStart,
};
use model::network::Origins;
use model::{AccessRight, AccountId, Networks, OrganizationId, ProjectId, Role, Timestamp};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};

use crate::app::App;
use crate::commands::{
    Account, Audit, BearerToken, Command, Credentials, Invitation, Job, Kek, Key, LookupTable, Member, On, Profiles, Project, ProjectSet,
    ServiceAccount, Ticket, Transfer,
};
use crate::jobs::view::JobView;
use crate::views::{self, DONE, KeyPair, shown_as as shown};
use crate::{backup, clock, jobs, routes, tables};

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

/// A connection to the running server.
pub(crate) fn connect(dir: &Path) -> std::io::Result<UnixStream> {
    UnixStream::connect(socket(dir))
}

/// Who acts on the running server: an account by way of the console, or the console itself.
pub(crate) fn by(app: &App, account: Option<&str>) -> Result<By, MetaError> {
    Work { metastore: &app.metastore, now: clock::now(), app: Some(app) }.by(account)
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
    let work = Work { metastore: &metastore, now: clock::now(), app: None };
    if let Command::LookupTable(LookupTable::Replace { on, id, file }) = command {
        let (project, by) = work.on(on).map_err(|error| error.to_string())?;
        return tables::replace((dir, &metastore, None), (project, &by), id, file);
    }
    work.run(command).map_err(|error| error.to_string())
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

fn form(classic: bool) -> SecretForm {
    if classic { SecretForm::Classic } else { SecretForm::Scannable }
}

/// A command at work.
struct Work<'a> {
    metastore: &'a Metastore,
    now: Timestamp,
    /// The running server, where one runs: links lead to it, and it sends mail.
    app: Option<&'a App>,
}

impl Work<'_> {
    fn account(&self, email: &str) -> Result<AccountId, MetaError> {
        self.metastore.account_by_email(email)?.map(|account| account.id).ok_or(MetaError::Unknown("account"))
    }

    /// Who acts: an account by way of the console, or the console itself.
    fn by(&self, email: Option<&str>) -> Result<By, MetaError> {
        let account = email.map(|email| self.account(email)).transpose()?;
        Ok(account.map_or_else(|| self.console(), |account| By::account(account, self.now)))
    }

    fn running(&self) -> Result<&App, MetaError> {
        self.app.ok_or_else(|| MetaError::Invalid("links lead to a running server: start it first".to_owned()))
    }

    /// A project that there is. An account that is named must be one.
    fn listed(&self, on: &On) -> Result<ProjectId, MetaError> {
        let (project, _) = self.on(on)?;
        self.metastore.project(project)?.map(|project| project.id).ok_or(MetaError::Unknown("project"))
    }

    /// Who acts on which project; one that there is.
    fn existing(&self, on: &On) -> Result<(ProjectId, By), MetaError> {
        let (project, by) = self.on(on)?;
        self.listed(on).map(|_| (project, by))
    }

    fn console(&self) -> By {
        By::console(self.now)
    }

    /// Who acts on which project.
    fn on(&self, on: &On) -> Result<(ProjectId, By), MetaError> {
        Ok((ProjectId(on.project), self.by(on.account.as_deref())?))
    }

    fn run(&self, command: &Command) -> Result<Value, MetaError> {
        match command {
            Command::Setup { code, email, password } => {
                let account = self.metastore.redeem_setup_code(code, email, &password.password, &self.console())?;
                Ok(json!({ "account_id": account.0 }))
            }
            Command::Account(command) => self.accounts(command),
            Command::Project(Project::GroupKey(command)) => {
                let (project, by) = self.existing(command.on())?;
                tables::group_keys(self.metastore, command, project, &by)
            }
            Command::LookupTable(command) => {
                let (project, by) = self.existing(command.on())?;
                tables::lookup_tables(self.metastore, command, project, &by)
            }
            Command::Project(command) => self.projects(command),
            Command::Credentials(command) => self.credentials(command),
            Command::Key(command) => self.keys(command),
            Command::Member(command) => self.members(command),
            Command::Invitation(command) => self.invitations(command),
            Command::Transfer(command) => self.transfers(command),
            Command::ServiceAccount(command) => self.service_accounts(command),
            Command::BearerToken(command) => self.bearer_tokens(command),
            Command::Ticket(command) => self.tickets(command),
            Command::Organization { id, name } => {
                self.metastore.name_organization(OrganizationId(*id), name, &self.console())?;
                shown(DONE)
            }
            Command::Audit(Audit::List { project, before, rows_max }) => {
                let rows = self.metastore.audit_rows(project.map(ProjectId), *before, *rows_max)?;
                shown(rows.into_iter().map(views::AuditRow::from).collect::<Vec<_>>())
            }
            Command::Audit(Audit::Verify) => match self.metastore.verify_audit()? {
                AuditCheck::Intact { rows, head } => Ok(json!({ "intact": true, "rows": rows, "head": head })),
                AuditCheck::Broken(id) => Err(MetaError::Invalid(format!("the audit log was changed: row {id} does not fit"))),
                AuditCheck::Cut(id) => Err(MetaError::Invalid(format!("the audit log was cut or rewritten: row {id} is gone or another"))),
            },
            Command::Kek(Kek::Rotate) => Ok(json!({ "data_keys": self.metastore.rotate_wrapping_key(&self.console())? })),
            Command::Profiles(_) => Err(MetaError::Invalid("profiles are restored on a running server: start it first".to_owned())),
            Command::Backup { .. } => Err(MetaError::Invalid("a backup needs the data directory".to_owned())),
            Command::Status => Ok(json!({ "running": false })),
            Command::Job(command) => self.jobs(command),
            Command::Wish(_) => Err(MetaError::Invalid("imports and exports run in the server: start it first".to_owned())),
        }
    }

    fn accounts(&self, command: &Account) -> Result<Value, MetaError> {
        match command {
            Account::Create { email, password } => {
                let account = self.metastore.create_account(email, &password.password, &self.console())?;
                let mut made = json!({ "account_id": account.0 });
                if metastore::is_guessable(&password.password, email) {
                    made["weak"] = json!(true);
                }
                Ok(made)
            }
            Account::List => shown(self.metastore.accounts()?.into_iter().map(views::Account::from).collect::<Vec<_>>()),
            Account::Operator { email, revoke } => {
                self.metastore.set_operator(self.account(email)?, !revoke, &self.console())?;
                shown(DONE)
            }
            Account::Disable { email } => {
                self.metastore.disable_account(self.account(email)?, &self.console())?;
                shown(DONE)
            }
            Account::EndTotp { email } => {
                self.metastore.end_totp(self.account(email)?, &self.console())?;
                shown(DONE)
            }
            Account::ResetPassword { email } => {
                let app = self.running()?;
                self.account(email)?;
                let made = self.metastore.begin_password_reset(email, &self.console())?;
                let (_, code) =
                    made.ok_or(MetaError::Invalid("links of this account wait already: use one of them, or wait an hour".to_owned()))?;
                Ok(json!({ "link": app.link(routes::RESET_PASSWORD, &code) }))
            }
        }
    }

    fn projects(&self, command: &Project) -> Result<Value, MetaError> {
        match command {
            Project::Create(asked) => {
                let new = NewProject {
                    name: asked.name.clone(),
                    timezone: asked.timezone.clone(),
                    owner: Some(self.account(&asked.owner)?),
                    project_id: asked.project_id,
                    organization_id: asked.organization_id,
                    token: asked.token.clone(),
                    api_key: asked.api_key.clone(),
                    api_secret: asked.api_secret.clone(),
                    signature_lifetime: asked.signature_lifetime.as_deref().map_or(Ok(SignatureLifetime::Day), lifetime)?,
                    allows_weak: asked.allow_weak,
                    form: form(asked.classic),
                };
                let (project, pair) = self.metastore.create_project(&new, &self.by(Some(&asked.owner))?)?;
                let KeyPair { api_key, api_secret } = pair.into();
                let mut made = shown(views::NewProject { project_id: project.id.0, token: project.token, api_key, api_secret })?;
                if asked.is_weak() {
                    made["weak"] = json!(true);
                }
                Ok(made)
            }
            Project::List => {
                let organizations = self.metastore.organizations()?;
                let row = |project| views::Project::of(project, &organizations);
                shown(self.metastore.projects()?.into_iter().map(row).collect::<Vec<_>>())
            }
            Project::Set(asked) => {
                let (project, by) = self.on(&asked.on)?;
                self.metastore.change_project(project, &self.change(project, asked)?, &by)?;
                shown(DONE)
            }
            Project::IdentitySecret { on, rotate } => {
                let (project, by) = self.on(on)?;
                let secret = match rotate {
                    true => self.metastore.rotate_identity_secret(project, &by)?,
                    false => self.metastore.identity_secret(project, &by)?,
                };
                shown(views::IdentitySecret::from(secret))
            }
            Project::Archive { on } => {
                let (project, by) = self.on(on)?;
                self.metastore.archive_project(project, true, &by)?;
                shown(DONE)
            }
            Project::GroupKey(_) => Err(MetaError::Invalid("it is run elsewhere".to_owned())),
            Project::Unarchive { on } => {
                let (project, by) = self.on(on)?;
                self.metastore.archive_project(project, false, &by)?;
                shown(DONE)
            }
        }
    }

    fn change(&self, project: ProjectId, asked: &ProjectSet) -> Result<ProjectChange, MetaError> {
        let before = self.metastore.project(project)?.ok_or(MetaError::Unknown("project"))?.token_options;
        let mut options = before.clone();
        if let Some(max) = asked.events_per_second_max {
            options.events_per_second_max = Some(max).filter(|max| *max > 0);
        }
        if let Some(max) = asked.address_events_per_second_max {
            options.address_events_per_second_max = Some(max).filter(|max| *max > 0);
        }
        if let Some(max) = asked.bytes_per_second_max {
            options.bytes_per_second_max = Some(max).filter(|max| *max > 0);
        }
        if let Some(max) = asked.bytes_per_day_max {
            options.bytes_per_day_max = Some(max).filter(|max| *max > 0);
        }
        if let Some(origins) = &asked.origins {
            let no_origin = |piece| MetaError::Invalid(format!("`{piece}` is no origin: write it as https://shop.example"));
            options.origins = Origins::parse(origins).map_err(no_origin)?;
        }
        if let Some(word) = &asked.other_origins {
            options.enforces_origins = word == "refuse";
        }
        options.deletes_need_secret = asked.deletes_need_secret.unwrap_or(options.deletes_need_secret);
        options.backfill_needs_secret = asked.backfill_needs_secret.unwrap_or(options.backfill_needs_secret);
        options.identity_needs_signature = asked.identity_needs_signature.unwrap_or(options.identity_needs_signature);
        options.flags_bots = asked.flag_bots.unwrap_or(options.flags_bots);
        if let Some(names) = &asked.authenticated_properties {
            options.authenticated_properties = names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        }
        let week_start = |word: &String| {
            WeekStart::parse(word).ok_or_else(|| MetaError::Invalid(format!("a week starts on monday or sunday, not on `{word}`")))
        };
        Ok(ProjectChange {
            name: asked.name.clone(),
            organization_id: asked.organization_id,
            timezone: asked.timezone.clone(),
            week_start: asked.week_start.as_ref().map(week_start).transpose()?,
            identity_mode: asked.identity_mode.as_deref().map(views::identity_mode).transpose()?,
            requires_tls: (asked.require_tls || asked.no_require_tls).then_some(asked.require_tls),
            token_options: (options != before).then_some(options),
        })
    }

    fn credentials(&self, command: &Credentials) -> Result<Value, MetaError> {
        match command {
            Credentials::Reset { project, account } => {
                let project = ProjectId(*project);
                shown(views::Reset::make(self.metastore, project, &self.by(Some(account))?)?)
            }
            Credentials::Callers { project } => {
                let on = On { project: *project, account: None };
                shown(views::Caller::of(self.metastore, self.listed(&on)?)?)
            }
            Credentials::Confirm { on } => {
                let (project, by) = self.on(on)?;
                self.metastore.confirm_credentials(project, &by)?;
                shown(DONE)
            }
        }
    }

    fn keys(&self, command: &Key) -> Result<Value, MetaError> {
        match command {
            Key::Create { on, name, rights, expires_at, networks, legacy: word, signature_lifetime, classic } => {
                let (project, by) = self.on(on)?;
                let right = |word: &String| {
                    let unknown = || {
                        MetaError::Invalid(format!(
                            "unknown access right `{word}`: it is one of {}",
                            AccessRight::ALL.map(AccessRight::as_str).join(", ")
                        ))
                    };
                    AccessRight::parse(word).ok_or_else(unknown)
                };
                let settings = NewKey {
                    name: name.clone(),
                    rights: rights.iter().map(right).collect::<Result<_, _>>()?,
                    networks: Networks::parse(networks).map_err(|piece| {
                        MetaError::Invalid(format!("`{piece}` is no network: write it as 10.0.0.0/8 or 2001:db8::/32, or as an address"))
                    })?,
                    legacy: legacy(word)?,
                    expires_at: views::instant(expires_at.as_deref())?,
                    signature_lifetime: lifetime(signature_lifetime)?,
                    form: form(*classic),
                };
                shown(KeyPair::from(self.metastore.create_key(project, &settings, &by)?))
            }
            Key::List { on } => shown(views::Key::of(self.metastore, self.listed(on)?, true)?),
            Key::Rotate { on, api_key, overlap } => {
                let (project, by) = self.on(on)?;
                let unknown = || MetaError::Invalid(format!("`{overlap}` is no length of time, such as 7d, 12h or 30m"));
                let overlap_ms = model::time::length_ms(overlap).ok_or_else(unknown)?;
                shown(KeyPair::from(self.metastore.rotate_key(project, api_key.as_deref(), overlap_ms, &by)?))
            }
            Key::Revoke { on, api_key } => {
                let (project, by) = self.on(on)?;
                self.metastore.revoke_key(project, api_key, &by)?;
                shown(DONE)
            }
            Key::Legacy { on, api_key, legacy: word } => {
                let (project, by) = self.on(on)?;
                self.metastore.set_legacy(project, api_key, legacy(word)?, &by)?;
                shown(DONE)
            }
            Key::Reveal { on, api_key } => {
                let (project, by) = self.on(on)?;
                shown(KeyPair::from(self.metastore.reveal_key(project, api_key.as_deref(), &by)?))
            }
        }
    }

    fn members(&self, command: &Member) -> Result<Value, MetaError> {
        match command {
            Member::List { on } => {
                shown(self.metastore.members(self.listed(on)?)?.into_iter().map(views::Member::from).collect::<Vec<_>>())
            }
            Member::Add(asked) | Member::Role(asked) => {
                let (project, by) = self.on(&asked.on)?;
                self.metastore.set_role(project, self.account(&asked.email)?, role(&asked.role)?, &by)?;
                shown(DONE)
            }
            Member::Remove { on, email } => {
                let (project, by) = self.on(on)?;
                self.metastore.remove_member(project, self.account(email)?, &by)?;
                shown(DONE)
            }
        }
    }

    fn invitations(&self, command: &Invitation) -> Result<Value, MetaError> {
        match command {
            Invitation::Create(asked) => {
                let (project, by) = self.on(&asked.on)?;
                shown(self.running()?.invite(project, &asked.email, role(&asked.role)?, &by)?)
            }
            Invitation::List { on } => {
                let waiting = self.metastore.invitations(self.listed(on)?, self.now)?;
                shown(waiting.into_iter().map(views::Invitation::from).collect::<Vec<_>>())
            }
            Invitation::Withdraw { on, invitation } => {
                let (project, by) = self.on(on)?;
                self.metastore.withdraw_invitation(project, *invitation, &by)?;
                shown(DONE)
            }
        }
    }

    fn transfers(&self, command: &Transfer) -> Result<Value, MetaError> {
        match command {
            Transfer::Offer { on, to } => {
                let (project, by) = self.on(on)?;
                let offer = self.metastore.offer_transfer(project, self.account(to)?, &by)?;
                shown(views::Transfer::of(self.metastore, offer)?)
            }
            Transfer::Accept { on } => {
                let (project, by) = self.on(on)?;
                self.metastore.accept_transfer(project, &by)?;
                shown(DONE)
            }
            Transfer::End { on } => {
                let (project, by) = self.on(on)?;
                self.metastore.end_transfer(project, &by)?;
                shown(DONE)
            }
        }
    }

    fn service_accounts(&self, command: &ServiceAccount) -> Result<Value, MetaError> {
        match command {
            ServiceAccount::Create { on, name, role: word, username, secret, expires_at, .. } => {
                let (project, by) = self.on(on)?;
                let new = NewServiceAccount {
                    name,
                    role: role(word)?,
                    username: username.as_deref(),
                    secret: secret.as_deref(),
                    expires_at: views::instant(expires_at.as_deref())?,
                };
                let (username, secret) = self.metastore.create_service_account(project, &new, &by)?;
                shown(views::NewServiceAccount { username, secret: secret.expose().to_owned() })
            }
            ServiceAccount::List { on } => shown(views::ServiceAccount::of(self.metastore, self.listed(on)?)?),
            ServiceAccount::Revoke { on, username } => {
                let (project, by) = self.on(on)?;
                self.metastore.revoke_service_account(project, username, &by)?;
                shown(DONE)
            }
        }
    }

    fn bearer_tokens(&self, command: &BearerToken) -> Result<Value, MetaError> {
        match command {
            BearerToken::Create { account, name, expires_at } => {
                let expires_at = views::instant(expires_at.as_deref())?;
                let token = self.metastore.create_bearer_token(self.account(account)?, name, expires_at, &self.by(Some(account))?)?;
                shown(views::NewBearerToken { bearer_token: token.expose().to_owned() })
            }
            BearerToken::List { account } => {
                let tokens = self.metastore.bearer_tokens(self.account(account)?)?;
                shown(tokens.into_iter().map(views::BearerToken::from).collect::<Vec<_>>())
            }
            BearerToken::Revoke { account, id } => {
                self.metastore.revoke_bearer_token(self.account(account)?, *id, &self.by(Some(account))?)?;
                shown(DONE)
            }
        }
    }

    fn jobs(&self, command: &Job) -> Result<Value, MetaError> {
        let app = self.app.ok_or_else(|| MetaError::Invalid("jobs run in the server: start it first".to_owned()))?;
        match command {
            Job::List { on } => shown(JobView::list(app, self.listed(on)?)?),
            Job::Show { on, job } => shown(JobView::find(app, self.listed(on)?, *job)?),
            Job::Cancel { on, job } => {
                let (project, by) = self.on(on)?;
                app.jobs.cancel(app, project, *job, &by)?;
                shown(DONE)
            }
        }
    }

    fn tickets(&self, command: &Ticket) -> Result<Value, MetaError> {
        match command {
            Ticket::Open { on, reason } => {
                let (project, by) = self.on(on)?;
                Ok(json!({ "ticket": self.metastore.open_ticket(project, reason, &by)? }))
            }
            Ticket::List { project } => shown(views::Ticket::of(self.metastore, project.map(ProjectId))?),
            Ticket::Say { ticket, account, text } => {
                self.metastore.say_in_ticket(*ticket, text, &self.by(account.as_deref())?)?;
                shown(DONE)
            }
            Ticket::Approve { ticket, account, alias_days, text } => {
                let (project, token) = self.metastore.approve_ticket(*ticket, *alias_days, text, &self.by(account.as_deref())?)?;
                Ok(json!({ "project_id": project.0, "token": token }))
            }
            Ticket::Decline { ticket, account, text } => {
                self.metastore.decline_ticket(*ticket, text, &self.by(account.as_deref())?)?;
                shown(DONE)
            }
        }
    }
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
                let (mut read, mut line) = (tokio::io::BufReader::new(read), String::new());
                if read.read_line(&mut line).await.is_ok() {
                    if let Ok(Command::Wish(wish)) = serde_json::from_str(&line) {
                        // Whoever asked may be gone before the end.
                        let _ = jobs::socket::serve(&app, *wish, read, write).await;
                        return;
                    }
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
        Command::Profiles(Profiles::Restore { on, since, distinct_ids }) => {
            let work = Work { metastore: &app.metastore, now: clock::now(), app: Some(app) };
            let restored = work.on(on).and_then(|(project, by)| {
                let since = views::instant(since.as_deref())?.unwrap_or(Timestamp(0));
                app.restore_profiles(project, since, distinct_ids, &by)
            });
            return match restored {
                Ok(profiles) => json!({ "ok": { "profiles": profiles } }),
                Err(error) => refused(error.to_string()),
            };
        }
        Command::LookupTable(LookupTable::Replace { on, id, file }) => {
            let work = Work { metastore: &app.metastore, now: clock::now(), app: Some(app) };
            let replaced = work
                .on(on)
                .map_err(|error| error.to_string())
                .and_then(|(project, by)| tables::replace((dir, &app.metastore, Some(&app.store)), (project, &by), id, file));
            return replaced.map_or_else(refused, |value| json!({ "ok": value }));
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
    let work = Work { metastore: &app.metastore, now: clock::now(), app: Some(app) };
    match work.run(&command).and_then(|value| app.reload_credentials().and_then(|()| tables::follow(app, &command)).map(|()| value)) {
        Ok(value) => json!({ "ok": value }),
        Err(error) => refused(error.to_string()),
    }
}
