//! What people see of the metastore's rows: one form for the management API and for the command line. Times are instants of UTC such as
//! `2027-01-31T12:00:00Z`. Nothing here holds a secret but what says so in its name, and that is shown where it is made or revealed.

mod tables;

use metastore::{Legacy, MetaError, Metastore, Result};
use model::{IdentityMode, ProjectId, Role, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use tables::{GroupKey, LookupProperty, LookupTable};

/// An instant of UTC.
pub(crate) fn shown(at: Timestamp) -> String {
    model::profile::wall_time(at) + "Z"
}

/// Reads a date, an instant, or seconds.
pub(crate) fn instant(text: Option<&str>) -> Result<Option<Timestamp>> {
    let read = |text: &str| {
        let unknown = || {
            metastore::MetaError::Invalid(format!("`{text}` is no time: give a date, an instant such as 2027-01-31T12:00:00Z, or seconds"))
        };
        model::time::instant(text).ok_or_else(unknown)
    };
    text.filter(|text| !text.is_empty()).map(read).transpose()
}

fn shown_if(at: Option<Timestamp>) -> Option<String> {
    at.map(shown)
}

/// What a command prints.
pub(crate) fn shown_as(answer: impl Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(answer).map_err(|error| metastore::MetaError::Invalid(error.to_string()))
}

/// Something was done, and there is nothing to tell of it.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Done {
    /// Always true.
    pub done: bool,
}

/// That it was done.
pub(crate) const DONE: Done = Done { done: true };

/// A role in a project; each may what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoleName {
    Consumer,
    Analyst,
    Admin,
    Owner,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Consumer => Self::Consumer,
            RoleName::Analyst => Self::Analyst,
            RoleName::Admin => Self::Admin,
            RoleName::Owner => Self::Owner,
        }
    }
}

impl From<Role> for RoleName {
    fn from(role: Role) -> Self {
        match role {
            Role::Consumer => Self::Consumer,
            Role::Analyst => Self::Analyst,
            Role::Admin => Self::Admin,
            Role::Owner => Self::Owner,
        }
    }
}

/// Whether a key takes the legacy MD5 signature: `off` stores only a hash of the secret, `warn` takes it and says that it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LegacySwitch {
    Off,
    Warn,
    On,
}

impl From<LegacySwitch> for Legacy {
    fn from(switch: LegacySwitch) -> Self {
        match switch {
            LegacySwitch::Off => Self::Off,
            LegacySwitch::Warn => Self::Warn,
            LegacySwitch::On => Self::On,
        }
    }
}

impl From<Legacy> for LegacySwitch {
    fn from(legacy: Legacy) -> Self {
        match legacy {
            Legacy::Off => Self::Off,
            Legacy::Warn => Self::Warn,
            Legacy::On => Self::On,
        }
    }
}

/// A new or revealed API key with its API secret. Never share this API secret or send it over email.
#[derive(Serialize, JsonSchema)]
pub(crate) struct KeyPair {
    pub api_key: String,
    pub api_secret: String,
}

impl From<metastore::KeyPair> for KeyPair {
    fn from(pair: metastore::KeyPair) -> Self {
        Self { api_key: pair.api_key, api_secret: pair.api_secret.expose().to_owned() }
    }
}

/// What a reset made, and who called with what it ended. Never share this API secret or send it over email.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Reset {
    pub api_key: String,
    pub api_secret: String,
    /// Callers of the last 90 days: these import and export operations are broken now.
    pub callers: Vec<Caller>,
}

/// An API key without its secret.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Key {
    pub key_id: i64,
    /// Absent for roles that may not see it.
    pub api_key: Option<String>,
    pub name: String,
    /// Of export, query, import, profiles-read, profiles-write, annotations, schema, data-deletion.
    pub rights: Vec<&'static str>,
    /// CIDR networks that it may be used from, parted by commas; empty for everywhere.
    pub networks: String,
    pub legacy: LegacySwitch,
    /// Whether its values can be guessed: they were imported and are short.
    pub weak: bool,
    /// Whether leak scanners can recognise its secret.
    pub scannable: bool,
    /// Whether its secret can be shown; otherwise it is stored as a hash, and a rotation gives a new one.
    pub can_be_revealed: bool,
    pub created_at: String,
    pub expires_at: Option<String>,
    /// Until when it works beside the key that took its place.
    pub retires_at: Option<String>,
    pub revoked_at: Option<String>,
    /// How it was last used.
    pub last_used: Option<Caller>,
}

impl Key {
    /// The keys of a project, with when each was last used.
    pub(crate) fn of(metastore: &Metastore, project: ProjectId, shows_api_key: bool) -> Result<Vec<Self>> {
        let mut used = metastore.last_used(project)?;
        let row = |key: metastore::KeyRow| Self {
            key_id: key.key_id,
            last_used: used.remove(&format!("key {}", key.key_id)).map(Caller::from),
            api_key: shows_api_key.then_some(key.api_key),
            name: key.name,
            rights: key.rights.iter().map(|right| right.as_str()).collect(),
            networks: key.networks.to_string(),
            legacy: key.legacy.into(),
            weak: key.is_weak,
            scannable: key.is_scannable,
            can_be_revealed: key.can_be_revealed,
            created_at: shown(key.created_at),
            expires_at: shown_if(key.expires_at),
            retires_at: shown_if(key.retires_at),
            revoked_at: shown_if(key.revoked_at),
        };
        Ok(metastore.keys(project)?.into_iter().map(row).collect())
    }
}

/// A service account without its secret.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ServiceAccount {
    pub username: String,
    pub name: String,
    pub role: RoleName,
    pub created_at: String,
    pub expires_at: Option<String>,
    pub revoked_at: Option<String>,
    /// How it was last used.
    pub last_used: Option<Caller>,
}

impl ServiceAccount {
    pub(crate) fn of(metastore: &Metastore, project: ProjectId) -> Result<Vec<Self>> {
        let mut used = metastore.last_used(project)?;
        let row = |account: metastore::ServiceAccountRow| Self {
            last_used: used.remove(&format!("service account {}", account.username)).map(Caller::from),
            username: account.username,
            name: account.name,
            role: account.role.into(),
            created_at: shown(account.created_at),
            expires_at: shown_if(account.expires_at),
            revoked_at: shown_if(account.revoked_at),
        };
        Ok(metastore.service_accounts(project)?.into_iter().map(row).collect())
    }
}

/// What signs which user a client may speak for. It belongs on your own server: never share it, send it over email or put it into a page.
#[derive(Serialize, JsonSchema)]
pub(crate) struct IdentitySecret {
    pub identity_secret: String,
}

impl From<metastore::Secret> for IdentitySecret {
    fn from(secret: metastore::Secret) -> Self {
        Self { identity_secret: secret.expose().to_owned() }
    }
}

/// A new service account. Its secret is shown only this once. Never share this secret or send it over email.
#[derive(Serialize, JsonSchema)]
pub(crate) struct NewServiceAccount {
    pub username: String,
    pub secret: String,
}

/// A new bearer token, shown only this once.
#[derive(Serialize, JsonSchema)]
pub(crate) struct NewBearerToken {
    pub bearer_token: String,
}

/// A bearer token without its value.
#[derive(Serialize, JsonSchema)]
pub(crate) struct BearerToken {
    pub id: i64,
    pub name: String,
    pub created_at: String,
    pub expires_at: Option<String>,
    pub revoked_at: Option<String>,
}

impl From<metastore::BearerTokenRow> for BearerToken {
    fn from(token: metastore::BearerTokenRow) -> Self {
        Self {
            id: token.id,
            name: token.name,
            created_at: shown(token.created_at),
            expires_at: shown_if(token.expires_at),
            revoked_at: shown_if(token.revoked_at),
        }
    }
}

/// A way in which somebody calls with a credential.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Caller {
    /// `key 3`, `service account NAME` or `bearer token 5`.
    pub credential: String,
    /// `accepted`, or `revoked` where the credential was dead.
    pub outcome: String,
    /// signature, basic, bearer or api_key.
    pub scheme: String,
    pub endpoint: String,
    pub address: String,
    pub user_agent: String,
    pub first_at: String,
    pub last_at: String,
    pub count: i64,
    /// Whether a reset of the project's credentials would end what it calls with.
    pub breaks_on_reset: bool,
}

impl From<metastore::Caller> for Caller {
    fn from(caller: metastore::Caller) -> Self {
        Self {
            credential: caller.credential,
            outcome: caller.outcome,
            scheme: caller.scheme,
            endpoint: caller.endpoint,
            address: caller.address,
            user_agent: caller.user_agent,
            first_at: shown(caller.first_at),
            last_at: shown(caller.last_at),
            count: caller.count,
            breaks_on_reset: false,
        }
    }
}

impl Reset {
    /// Resets a project's credentials; what it breaks is read before.
    pub(crate) fn make(metastore: &Metastore, project: ProjectId, by: &metastore::By) -> Result<Self> {
        let callers = Caller::of(metastore, project)?.into_iter().filter(|caller| caller.breaks_on_reset).collect();
        let KeyPair { api_key, api_secret } = metastore.reset_credentials(project, by)?.into();
        Ok(Self { api_key, api_secret, callers })
    }
}

impl Caller {
    pub(crate) fn of(metastore: &Metastore, project: ProjectId) -> Result<Vec<Self>> {
        let live: Vec<String> =
            metastore.keys(project)?.into_iter().filter(|key| key.revoked_at.is_none()).map(|key| format!("key {}", key.key_id)).collect();
        let row = |caller: metastore::Caller| {
            let breaks_on_reset = caller.outcome == "accepted" && live.contains(&caller.credential);
            Self { breaks_on_reset, ..Self::from(caller) }
        };
        Ok(metastore.callers(project)?.into_iter().map(row).collect())
    }
}

/// A member of a project.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Member {
    pub account_id: i64,
    pub email: String,
    pub role: RoleName,
}

impl From<metastore::Member> for Member {
    fn from(member: metastore::Member) -> Self {
        Self { account_id: member.account.0, email: member.email, role: member.role.into() }
    }
}

/// An invitation that waits.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Invitation {
    pub invitation_id: i64,
    pub project_id: i64,
    pub email: String,
    pub role: RoleName,
    pub created_at: String,
    pub expires_at: String,
}

impl From<metastore::Invitation> for Invitation {
    fn from(invitation: metastore::Invitation) -> Self {
        Self {
            invitation_id: invitation.id,
            project_id: invitation.project.0,
            email: invitation.email,
            role: invitation.role.into(),
            created_at: shown(invitation.created_at),
            expires_at: shown(invitation.expires_at),
        }
    }
}

/// A new invitation with the link that accepts it: give it to whom you invited, if the mail does not arrive.
#[derive(Serialize, JsonSchema)]
pub(crate) struct NewInvitation {
    #[serde(flatten)]
    pub invitation: Invitation,
    pub link: String,
}

/// An offered project.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Transfer {
    pub project_id: i64,
    pub project_name: String,
    pub from_account_id: i64,
    pub from_email: String,
    pub to_account_id: i64,
    pub to_email: String,
    pub expires_at: String,
}

impl Transfer {
    /// An offer with the names of what and whom it is about.
    pub(crate) fn of(metastore: &Metastore, transfer: metastore::Transfer) -> Result<Self> {
        let email = |id| Ok::<_, metastore::MetaError>(metastore.account(id)?.map(|account| account.email).unwrap_or_default());
        Ok(Self {
            project_id: transfer.project.0,
            project_name: name_of(metastore, transfer.project)?,
            from_account_id: transfer.from.0,
            from_email: email(transfer.from)?,
            to_account_id: transfer.to.0,
            to_email: email(transfer.to)?,
            expires_at: shown(transfer.expires_at),
        })
    }
}

/// How a project is called.
fn name_of(metastore: &Metastore, project: ProjectId) -> Result<String> {
    Ok(metastore.project(project)?.map(|project| project.name).unwrap_or_default())
}

/// A wish for another project token.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Ticket {
    pub ticket: i64,
    pub project_id: i64,
    pub project_name: String,
    pub opened_by: i64,
    /// open, approved or declined.
    pub state: &'static str,
    pub created_at: String,
    pub decided_at: Option<String>,
    pub decided_by: Option<String>,
    /// What was said, the reason first.
    pub messages: Vec<TicketMessage>,
    /// Tokens that were reset, with the events that still come by them.
    pub old_tokens: Vec<OldToken>,
}

/// Something said in a ticket.
#[derive(Serialize, JsonSchema)]
pub(crate) struct TicketMessage {
    pub author: String,
    pub at: String,
    pub text: String,
}

/// A token that was reset and takes events until it ends.
#[derive(Serialize, JsonSchema)]
pub(crate) struct OldToken {
    pub token: String,
    pub ends_at: String,
    pub events: i64,
    pub last_at: Option<String>,
}

impl From<metastore::Alias> for OldToken {
    fn from(alias: metastore::Alias) -> Self {
        Self { token: alias.token, ends_at: shown(alias.ends_at), events: alias.events, last_at: shown_if(alias.last_at) }
    }
}

impl Ticket {
    /// The tickets of a project, or of all.
    pub(crate) fn of(metastore: &Metastore, project: Option<ProjectId>) -> Result<Vec<Self>> {
        let row = |ticket: metastore::Ticket| {
            Ok(Self {
                ticket: ticket.id,
                project_id: ticket.project.0,
                project_name: name_of(metastore, ticket.project)?,
                opened_by: ticket.opened_by.0,
                state: ticket.state.as_str(),
                created_at: shown(ticket.created_at),
                decided_at: shown_if(ticket.decided_at),
                decided_by: ticket.decided_by,
                messages: ticket
                    .messages
                    .into_iter()
                    .map(|said| TicketMessage { author: said.author, at: shown(said.at), text: said.text })
                    .collect(),
                old_tokens: metastore.aliases(ticket.project)?.into_iter().map(OldToken::from).collect(),
            })
        };
        metastore.tickets(project)?.into_iter().map(row).collect()
    }
}

/// A row of the audit log.
#[derive(Serialize, JsonSchema)]
pub(crate) struct AuditRow {
    pub id: i64,
    pub at: String,
    pub project_id: Option<i64>,
    /// `account 7`, `console`, `key 3`, `visitor`.
    pub actor: String,
    pub address: String,
    pub action: String,
    pub detail: String,
}

impl From<metastore::AuditRow> for AuditRow {
    fn from(row: metastore::AuditRow) -> Self {
        Self {
            id: row.id,
            at: shown(row.at),
            project_id: row.project.map(|project| project.0),
            actor: row.actor,
            address: row.address,
            action: row.action,
            detail: row.detail,
        }
    }
}

/// What a project's public token allows. Without a word nothing is limited.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TokenOptions {
    /// Events and profile updates by the token in a second.
    pub events_per_second_max: Option<u32>,
    /// Events and profile updates by the token from one address in a second.
    pub address_events_per_second_max: Option<u32>,
    /// Bytes of records by the token in a second.
    pub bytes_per_second_max: Option<u64>,
    /// Bytes of requests by the token in a day of UTC.
    pub bytes_per_day_max: Option<u64>,
    /// Origins that browsers may send from, such as `https://shop.example` or `https://*.shop.example`; none for all. Whoever is no
    /// browser can claim any.
    pub origins: Vec<String>,
    /// Refuse other origins rather than flag their events with `$origin_ok: false`.
    pub enforce_origins: bool,
    /// Refuse `$delete`, `$unset`, `$remove` and `$merge` without a secret.
    pub deletes_need_secret: bool,
    /// Refuse `/import` by the token or the API key alone.
    pub backfill_needs_secret: bool,
    /// Properties that are taken from authenticated imports only.
    pub authenticated_properties: Vec<String>,
    /// Take records of known users by the token alone only with `$identity_signature`.
    pub identity_needs_signature: bool,
    /// Flag events of bots, and those with `$ignore`, with `$is_bot: true`.
    pub flag_bots: bool,
}

impl From<metastore::TokenOptions> for TokenOptions {
    fn from(options: metastore::TokenOptions) -> Self {
        let origins = options.origins.to_string();
        Self {
            events_per_second_max: options.events_per_second_max,
            address_events_per_second_max: options.address_events_per_second_max,
            bytes_per_second_max: options.bytes_per_second_max,
            bytes_per_day_max: options.bytes_per_day_max,
            origins: origins.split(',').filter(|origin| !origin.is_empty()).map(str::to_owned).collect(),
            enforce_origins: options.enforces_origins,
            deletes_need_secret: options.deletes_need_secret,
            backfill_needs_secret: options.backfill_needs_secret,
            authenticated_properties: options.authenticated_properties,
            identity_needs_signature: options.identity_needs_signature,
            flag_bots: options.flags_bots,
        }
    }
}

impl TryFrom<TokenOptions> for metastore::TokenOptions {
    type Error = metastore::MetaError;

    fn try_from(options: TokenOptions) -> Result<Self> {
        let origins = model::network::Origins::parse(&options.origins.join(","));
        let no_origin = |piece| metastore::MetaError::Invalid(format!("`{piece}` is no origin: write it as https://shop.example"));
        Ok(Self {
            events_per_second_max: options.events_per_second_max,
            address_events_per_second_max: options.address_events_per_second_max,
            bytes_per_second_max: options.bytes_per_second_max,
            bytes_per_day_max: options.bytes_per_day_max,
            origins: origins.map_err(no_origin)?,
            enforces_origins: options.enforce_origins,
            deletes_need_secret: options.deletes_need_secret,
            backfill_needs_secret: options.backfill_needs_secret,
            authenticated_properties: options.authenticated_properties,
            identity_needs_signature: options.identity_needs_signature,
            flags_bots: options.flag_bots,
        })
    }
}

/// Reads how a project finds out which ids are one user.
pub(crate) fn identity_mode(word: &str) -> Result<IdentityMode> {
    let unknown = || MetaError::Invalid(format!("unknown identity mode `{word}`, expected simplified, original or legacy"));
    IdentityMode::parse(word).ok_or_else(unknown)
}

/// A project as its members see it.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Project {
    pub project_id: i64,
    pub organization_id: i64,
    pub organization_name: Option<String>,
    pub name: String,
    /// IANA name.
    pub timezone: String,
    /// monday or sunday.
    pub week_start: &'static str,
    /// simplified, original or legacy: how it finds out which ids are one user.
    pub identity_mode: &'static str,
    /// Public: it stands in web pages, takes events and reads nothing.
    pub token: String,
    pub require_tls: bool,
    pub token_options: TokenOptions,
    pub created_at: String,
    /// Since when it takes no events any more.
    pub archived_at: Option<String>,
    /// Since when its credentials wait for an owner: a backup was restored.
    pub suspended_at: Option<String>,
}

impl Project {
    pub(crate) fn of(project: metastore::Project, organizations: &[(model::OrganizationId, String)]) -> Self {
        let organization = organizations.iter().find(|(id, _)| *id == project.organization_id);
        Self {
            project_id: project.id.0,
            organization_id: project.organization_id.0,
            organization_name: organization.map(|(_, name)| name.clone()),
            name: project.name,
            timezone: project.timezone,
            week_start: project.week_start.as_str(),
            identity_mode: project.identity_mode.as_str(),
            token: project.token,
            require_tls: project.requires_tls,
            token_options: project.token_options.into(),
            created_at: shown(project.created_at),
            archived_at: shown_if(project.archived_at),
            suspended_at: shown_if(project.suspended_at),
        }
    }
}

/// A new project with its first key. Never share this API secret or send it over email.
#[derive(Serialize, JsonSchema)]
pub(crate) struct NewProject {
    pub project_id: i64,
    pub token: String,
    pub api_key: String,
    pub api_secret: String,
}

/// A person who can sign in.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Account {
    pub account_id: i64,
    pub email: String,
    pub is_operator: bool,
    /// Whether it has a second factor.
    pub has_totp: bool,
    /// Recovery codes that are left.
    pub recovery_codes: i64,
    pub created_at: String,
    pub disabled_at: Option<String>,
}

impl From<metastore::Account> for Account {
    fn from(account: metastore::Account) -> Self {
        Self {
            account_id: account.id.0,
            email: account.email,
            is_operator: account.is_operator,
            has_totp: account.has_totp,
            recovery_codes: account.recovery_codes,
            created_at: shown(account.created_at),
            disabled_at: shown_if(account.disabled_at),
        }
    }
}
