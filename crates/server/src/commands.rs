//! The commands of the command line: what each is called, what it takes, and how it goes over the socket of a running server.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::jobs::asked::Wish;

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
    /// Invitations to a project.
    #[command(subcommand)]
    Invitation(Invitation),
    /// A project that changes hands.
    #[command(subcommand)]
    Transfer(Transfer),
    /// Give an organisation a name.
    Organization {
        #[arg(long)]
        id: i64,
        #[arg(long)]
        name: String,
    },
    /// Service accounts.
    #[command(subcommand)]
    ServiceAccount(ServiceAccount),
    /// A person's own tokens for scripts.
    #[command(subcommand)]
    BearerToken(BearerToken),
    /// Wishes for another project token.
    #[command(subcommand)]
    Ticket(Ticket),
    /// Profiles of users and groups.
    #[command(subcommand)]
    Profiles(Profiles),
    /// Tables whose columns enrich properties.
    #[command(subcommand)]
    LookupTable(LookupTable),
    /// The audit log.
    #[command(subcommand)]
    Audit(Audit),
    /// The key that wraps the secrets of all projects.
    #[command(subcommand)]
    Kek(Kek),
    /// Write everything but the key file to one file, also while the server runs.
    Backup { file: PathBuf },
    /// Imports and exports of a project: what runs, what came of them.
    #[command(subcommand)]
    Job(Job),
    /// What an import or export asks of the running server; other flags make it.
    #[command(skip)]
    Wish(Box<Wish>),
    /// What the running server holds.
    Status,
}

/// A password that comes by standard input, so that no list of processes shows it.
#[derive(clap::Args, Serialize, Deserialize)]
pub(crate) struct Password {
    /// Read the password from standard input.
    #[arg(long, required = true)]
    pub(crate) password_stdin: bool,
    #[arg(skip)]
    pub(crate) password: String,
}

/// Who acts on which project.
#[derive(clap::Args, Serialize, Deserialize)]
pub(crate) struct On {
    #[arg(long)]
    pub(crate) project: i64,
    /// E-mail address of the account that does it; by default the machine's console.
    #[arg(long = "as")]
    pub(crate) account: Option<String>,
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
    /// List the accounts.
    List,
    /// Make an account an operator of the instance, or end that.
    Operator {
        #[arg(long)]
        email: String,
        #[arg(long)]
        revoke: bool,
    },
    /// End an account: it cannot sign in, its sessions, bearer tokens and memberships are gone.
    Disable {
        #[arg(long)]
        email: String,
    },
    /// Turn an account's second factor off, for whoever lost phone and recovery codes.
    EndTotp {
        #[arg(long)]
        email: String,
    },
    /// Print a link to set another password with, for whom no mail reaches.
    ResetPassword {
        #[arg(long)]
        email: String,
    },
}

#[derive(clap::Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Project {
    /// Make a project; prints project_id, token, api_key, api_secret.
    Create(Box<ProjectCreate>),
    /// List projects.
    List,
    /// Change a project's settings; what is not named stays as it is.
    Set(Box<ProjectSet>),
    /// Show the secret that signs which user a client may speak for; makes it where there is none. Admins and owners only.
    IdentitySecret {
        #[command(flatten)]
        on: On,
        /// Make another one; the old one ends at once.
        #[arg(long)]
        rotate: bool,
    },
    /// Take no events any more; what is there is read as before. Owners only.
    Archive {
        #[command(flatten)]
        on: On,
    },
    /// Bring an archived project back. Owners only.
    Unarchive {
        #[command(flatten)]
        on: On,
    },
    /// Properties that name the groups of an event.
    #[command(subcommand)]
    GroupKey(GroupKey),
}

#[derive(clap::Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum GroupKey {
    /// Declare a group key; prints the id that queries know it by.
    Add {
        #[command(flatten)]
        on: On,
        /// The property, exactly as events bring it.
        #[arg(long)]
        key: String,
        /// What people call it; by default what the property is called.
        #[arg(long)]
        name: Option<String>,
        /// An id to keep from elsewhere.
        #[arg(long, allow_negative_numbers = true)]
        data_group_id: Option<i64>,
    },
    /// List a project's group keys.
    List {
        #[command(flatten)]
        on: On,
    },
    /// End a group key; profiles of its groups and properties of events stay.
    Remove {
        #[command(flatten)]
        on: On,
        #[arg(long)]
        key: String,
    },
}

impl GroupKey {
    /// Who acts on which project.
    pub(crate) fn on(&self) -> &On {
        match self {
            Self::Add { on, .. } | Self::List { on } | Self::Remove { on, .. } => on,
        }
    }
}

#[derive(clap::Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LookupTable {
    /// Make a table without content; prints the id that it is replaced by.
    Create {
        #[command(flatten)]
        on: On,
        #[arg(long)]
        name: String,
        /// A UUID to keep from elsewhere.
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        mapping: Mapping,
    },
    /// List a project's tables.
    List {
        #[command(flatten)]
        on: On,
    },
    /// Change what a table is called, or which properties lead to it, all of them; what is not named stays as it is.
    Set {
        #[command(flatten)]
        on: On,
        #[arg(long)]
        id: String,
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        mapping: Mapping,
        /// No property leads to it any more.
        #[arg(long, conflicts_with_all = ["event_properties", "profile_properties"])]
        no_properties: bool,
    },
    /// Put the content of a CSV file, packed by gzip or not, in the place of what a table has: all of it, or none.
    Replace {
        #[command(flatten)]
        on: On,
        #[arg(long)]
        id: String,
        file: PathBuf,
    },
    /// End a table with its content.
    Delete {
        #[command(flatten)]
        on: On,
        #[arg(long)]
        id: String,
    },
}

impl LookupTable {
    /// Who acts on which project.
    pub(crate) fn on(&self) -> &On {
        match self {
            Self::Create { on, .. } | Self::List { on } | Self::Set { on, .. } | Self::Replace { on, .. } | Self::Delete { on, .. } => on,
        }
    }
}

/// The properties whose values are the keys of a table.
#[derive(clap::Args, Serialize, Deserialize)]
pub(crate) struct Mapping {
    /// A property of events; may be named several times.
    #[arg(long = "event-property")]
    pub(crate) event_properties: Vec<String>,
    /// A property of users' profiles; may be named several times.
    #[arg(long = "profile-property")]
    pub(crate) profile_properties: Vec<String>,
}

/// Settings of a project and of its token. An empty or zero value takes a limit away.
#[derive(clap::Args, Serialize, Deserialize)]
pub(crate) struct ProjectSet {
    #[command(flatten)]
    pub(crate) on: On,
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[arg(long)]
    pub(crate) organization_id: Option<i64>,
    /// IANA name.
    #[arg(long)]
    pub(crate) timezone: Option<String>,
    /// monday or sunday.
    #[arg(long)]
    pub(crate) week_start: Option<String>,
    /// How the project finds out which ids are one user, from the next event on: simplified, original or legacy.
    #[arg(long)]
    pub(crate) identity_mode: Option<String>,
    /// Refuse secrets over plain HTTP.
    #[arg(long)]
    pub(crate) require_tls: bool,
    /// Take them again.
    #[arg(long, conflicts_with = "require_tls")]
    pub(crate) no_require_tls: bool,
    /// Events and profile updates by the token in a second; 0 for no limit.
    #[arg(long)]
    pub(crate) events_per_second_max: Option<u32>,
    /// The same from one address, an IPv6 network of 64 bits counting as one; 0 for no limit.
    #[arg(long)]
    pub(crate) address_events_per_second_max: Option<u32>,
    /// Bytes of records by the token in a second; 0 for no limit.
    #[arg(long)]
    pub(crate) bytes_per_second_max: Option<u64>,
    /// Bytes of requests by the token in a day of UTC; 0 for no limit.
    #[arg(long)]
    pub(crate) bytes_per_day_max: Option<u64>,
    /// Origins that browsers may send from, parted by commas, such as https://shop.example,https://*.shop.example; empty for all.
    #[arg(long)]
    pub(crate) origins: Option<String>,
    /// What happens to events from other origins: flag them with $origin_ok, or refuse them.
    #[arg(long, value_parser = ["flag", "refuse"])]
    pub(crate) other_origins: Option<String>,
    /// Whether $delete, $unset, $remove and $merge need a secret.
    #[arg(long)]
    pub(crate) deletes_need_secret: Option<bool>,
    /// Whether /import needs a secret, so that token or API key alone do not do.
    #[arg(long)]
    pub(crate) backfill_needs_secret: Option<bool>,
    /// Properties that are taken from authenticated imports only, parted by commas; empty for none.
    #[arg(long)]
    pub(crate) authenticated_properties: Option<String>,
    /// Whether records of known users by the token alone need $identity_signature.
    #[arg(long)]
    pub(crate) identity_needs_signature: Option<bool>,
    /// Whether events by the token that a bot sent, or that carry $ignore, are kept with $is_bot: true.
    #[arg(long)]
    pub(crate) flag_bots: Option<bool>,
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
        /// A secret of 32 hex digits, which no leak scanner recognises, for scripts that take nothing else.
        #[arg(long)]
        #[serde(default)]
        classic: bool,
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
    pub(crate) on: On,
    #[arg(long)]
    pub(crate) email: String,
    /// consumer, analyst, admin or owner.
    #[arg(long)]
    pub(crate) role: String,
}

#[derive(clap::Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Invitation {
    /// Invite an address, with an account or without; prints the link that accepts.
    Create(Membership),
    /// List the invitations that wait.
    List {
        #[command(flatten)]
        on: On,
    },
    /// Take an invitation back.
    Withdraw {
        #[command(flatten)]
        on: On,
        #[arg(long)]
        invitation: i64,
    },
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
pub(crate) enum Job {
    /// List the newest jobs.
    List {
        #[command(flatten)]
        on: On,
    },
    /// Show how far a job is, or what came of it.
    Show {
        #[command(flatten)]
        on: On,
        #[arg(long)]
        job: i64,
    },
    /// End a job; what it stored stays. The same import again continues it.
    Cancel {
        #[command(flatten)]
        on: On,
        #[arg(long)]
        job: i64,
    },
}

#[derive(clap::Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Profiles {
    /// Bring back what the public token deleted or unset in the last 30 days, on the running server; what was set again stays.
    Restore {
        #[command(flatten)]
        on: On,
        /// From when on: a date, an instant such as 2027-01-31T12:00:00Z, or seconds since the epoch. By default all that is kept.
        #[arg(long)]
        since: Option<String>,
        /// Only these users.
        #[arg(long, value_delimiter = ',')]
        distinct_ids: Vec<String>,
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
            Self::Project(Project::Create(asked)) if asked.api_secret_stdin => asked.api_secret = Some(read()?),
            Self::Backup { file } | Self::LookupTable(LookupTable::Replace { file, .. }) => {
                *file = std::path::absolute(&*file).map_err(|error| error.to_string())?
            }
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
    pub(crate) owner: String,
    #[arg(long)]
    pub(crate) name: String,
    /// IANA name.
    #[arg(long, default_value = "UTC")]
    pub(crate) timezone: String,
    #[arg(long)]
    pub(crate) project_id: Option<i64>,
    #[arg(long)]
    pub(crate) organization_id: Option<i64>,
    #[arg(long)]
    pub(crate) token: Option<String>,
    #[arg(long)]
    pub(crate) api_key: Option<String>,
    #[arg(long)]
    pub(crate) api_secret: Option<String>,
    /// Read the API secret to keep from elsewhere from standard input, so that no list of processes shows it.
    #[arg(long, conflicts_with = "api_secret")]
    #[serde(default)]
    pub(crate) api_secret_stdin: bool,
    /// The longest that a signed URL may live: hours, or `none` for as long as its `expire` says [default: 24].
    #[arg(long, value_name = "HOURS")]
    pub(crate) signature_lifetime: Option<String>,
    /// An API secret of 32 hex digits, which no leak scanner recognises, for scripts that take nothing else.
    #[arg(long)]
    #[serde(default)]
    pub(crate) classic: bool,
    /// Take values under 32 characters, which can be guessed, on a server beyond loopback too.
    #[arg(long)]
    pub(crate) allow_weak: bool,
}

impl ProjectCreate {
    /// Whether a value to keep from elsewhere can be guessed.
    pub(crate) fn is_weak(&self) -> bool {
        [&self.token, &self.api_key, &self.api_secret].into_iter().flatten().any(|value| metastore::is_weak(value))
    }
}
