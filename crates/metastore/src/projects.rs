//! Projects: a token each, a time zone, members.

use model::network::Origins;
use model::{AccountId, IdentityMode, OrganizationId, ProjectId, Role, Timestamp};
use rusqlite::{OptionalExtension, Row};

use crate::audit::{self, By};
use crate::keys::{self, Insert, KeyPair, LIFETIME_MAX_MS, NewKey, SecretForm};
use crate::members::{require_admin, require_operator, require_owner};
use crate::secret::{check_imported, new_hex32, random};
use crate::{MetaError, Metastore, Result, Secret, bump_epoch};

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its id, `project_id` on the wire.
    pub id: ProjectId,
    /// The organisation it belongs to.
    pub organization_id: OrganizationId,
    /// What people call it.
    pub name: String,
    /// IANA name of the zone that its days are cut in.
    pub timezone: String,
    /// The project token: public, identifies, never authorises a read.
    pub token: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when its credentials wait for an owner: a backup was restored.
    pub suspended_at: Option<Timestamp>,
    /// Whether secrets are refused over plain HTTP.
    pub requires_tls: bool,
    /// The day that its weeks begin on.
    pub week_start: WeekStart,
    /// How it finds out which ids are one user.
    pub identity_mode: IdentityMode,
    /// Since when it takes no events any more.
    pub archived_at: Option<Timestamp>,
    /// What its token allows.
    pub token_options: TokenOptions,
    /// Hashes of its users and their addresses are made under this key, in hex.
    pub hash_key: Secret,
}

/// What a project's public token allows. Without a word nothing is limited: every SDK works unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenOptions {
    /// Events and profile updates by the token in a second; more are asked to come back.
    pub events_per_second_max: Option<u32>,
    /// Events and profile updates by the token from one address in a second.
    pub address_events_per_second_max: Option<u32>,
    /// Bytes of records by the token in a second.
    pub bytes_per_second_max: Option<u64>,
    /// Bytes of requests by the token in a day of UTC.
    pub bytes_per_day_max: Option<u64>,
    /// Origins that browsers may send from; none means all. Advisory: whoever is no browser can claim any.
    pub origins: Origins,
    /// Refuse other origins rather than flag their events with `$origin_ok: false`.
    pub enforces_origins: bool,
    /// Refuse what removes data of a profile, and `$merge`, unless a secret proves the writer.
    pub deletes_need_secret: bool,
    /// Refuse `/import` by the token or the API key alone.
    pub backfill_needs_secret: bool,
    /// Properties that are taken from authenticated imports only; by the token alone they are left out.
    pub authenticated_properties: Vec<String>,
    /// Take records of known users by the token alone only where the project's own server signed the user.
    pub identity_needs_signature: bool,
    /// Flag events by the token with `$is_bot` where a bot sent them or they ask to be ignored, rather than drop the latter.
    pub flags_bots: bool,
}

/// The day that weeks begin on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WeekStart {
    /// Monday, as ISO 8601 has it.
    #[default]
    Monday,
    /// Sunday.
    Sunday,
}

impl WeekStart {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Monday => "monday",
            Self::Sunday => "sunday",
        }
    }

    /// Reads the word back.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Monday, Self::Sunday].into_iter().find(|start| start.as_str() == text)
    }
}

/// What is to change of a project; `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct ProjectChange {
    /// What people call it.
    pub name: Option<String>,
    /// The organisation it belongs to.
    pub organization_id: Option<i64>,
    /// IANA name of a time zone.
    pub timezone: Option<String>,
    /// The day that its weeks begin on.
    pub week_start: Option<WeekStart>,
    /// How it finds out which ids are one user, from the next event on.
    pub identity_mode: Option<IdentityMode>,
    /// Whether secrets are refused over plain HTTP.
    pub requires_tls: Option<bool>,
    /// What its token allows.
    pub token_options: Option<TokenOptions>,
}

/// What a new project is made from; `None` means a new value.
#[derive(Debug, Clone, Default)]
pub struct NewProject {
    /// What people call it.
    pub name: String,
    /// IANA name of a time zone.
    pub timezone: String,
    /// Its first owner.
    pub owner: Option<AccountId>,
    /// An id to keep from elsewhere.
    pub project_id: Option<i64>,
    /// An organisation id to keep from elsewhere.
    pub organization_id: Option<i64>,
    /// A token to keep from elsewhere.
    pub token: Option<String>,
    /// An API key to keep from elsewhere.
    pub api_key: Option<String>,
    /// An API secret to keep from elsewhere.
    pub api_secret: Option<String>,
    /// The longest that a URL signed with its key may live.
    pub signature_lifetime: SignatureLifetime,
    /// Takes values that can be guessed beyond loopback too.
    pub allows_weak: bool,
    /// What its API secret looks like, where it is made here.
    pub form: SecretForm,
}

/// The longest that a signed URL may live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SignatureLifetime {
    /// 24 hours.
    #[default]
    Day,
    /// So many hours.
    Hours(u32),
    /// As long as its `expire` says.
    Unlimited,
}

impl SignatureLifetime {
    /// In milliseconds; `None` means unlimited.
    pub(crate) fn max_ms(self) -> Option<i64> {
        match self {
            Self::Day => Some(LIFETIME_MAX_MS),
            Self::Hours(hours) => Some(i64::from(hours) * 3_600_000),
            Self::Unlimited => None,
        }
    }

    /// What so many milliseconds are.
    pub(crate) fn of_ms(ms: Option<i64>) -> Self {
        match ms {
            Some(LIFETIME_MAX_MS) => Self::Day,
            Some(ms) => Self::Hours((ms / 3_600_000).clamp(1, i64::from(u32::MAX)) as u32),
            None => Self::Unlimited,
        }
    }

    /// Reads hours, or `none` for no limit.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "none" { Some(Self::Unlimited) } else { text.parse().ok().filter(|hours| *hours > 0).map(Self::Hours) }
    }
}

pub(crate) const COLUMNS: &str = "id, organization_id, name, timezone, token, created_at, hash_key, suspended_at, requires_tls, week_start,
    archived_at, events_per_second_max, bytes_per_day_max, origins, enforces_origins, deletes_need_secret, backfill_needs_secret,
    authenticated_properties, identity_needs_signature, flags_bots, bytes_per_second_max, address_events_per_second_max, identity_mode";

fn key_text(key: &[u8; 16]) -> Secret {
    Secret::new(key.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(crate) fn from_row(row: &Row<'_>) -> rusqlite::Result<Project> {
    Ok(Project {
        id: ProjectId(row.get(0)?),
        organization_id: OrganizationId(row.get(1)?),
        name: row.get(2)?,
        timezone: row.get(3)?,
        token: row.get(4)?,
        created_at: Timestamp(row.get(5)?),
        hash_key: key_text(&row.get::<_, [u8; 16]>(6)?),
        suspended_at: row.get::<_, Option<i64>>(7)?.map(Timestamp),
        requires_tls: row.get(8)?,
        week_start: WeekStart::parse(&row.get::<_, String>(9)?).unwrap_or_default(),
        identity_mode: IdentityMode::parse(&row.get::<_, String>(22)?).unwrap_or_default(),
        archived_at: row.get::<_, Option<i64>>(10)?.map(Timestamp),
        token_options: TokenOptions {
            events_per_second_max: row.get::<_, Option<i64>>(11)?.map(|max| max.clamp(0, i64::from(u32::MAX)) as u32),
            bytes_per_day_max: row.get::<_, Option<i64>>(12)?.map(|max| max.max(0) as u64),
            origins: Origins::parse(&row.get::<_, String>(13)?).unwrap_or_default(),
            enforces_origins: row.get(14)?,
            deletes_need_secret: row.get(15)?,
            backfill_needs_secret: row.get(16)?,
            authenticated_properties: row.get::<_, String>(17)?.lines().map(str::to_owned).collect(),
            identity_needs_signature: row.get(18)?,
            flags_bots: row.get(19)?,
            bytes_per_second_max: row.get::<_, Option<i64>>(20)?.map(|max| max.max(0) as u64),
            address_events_per_second_max: row.get::<_, Option<i64>>(21)?.map(|max| max.clamp(0, i64::from(u32::MAX)) as u32),
        },
    })
}

/// Origins, and properties, that a project may list.
const LIST_MAX: usize = 200;

/// Refuses what is no name that people can read in a list.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    if name.trim().is_empty() || name.chars().any(char::is_control) || name.chars().count() > 255 {
        return Err(MetaError::Invalid(format!("{what} needs a name: one line of at most 255 characters")));
    }
    Ok(())
}

fn check_zone(zone: &str) -> Result<()> {
    if model::time::is_zone(zone) {
        return Ok(());
    }
    Err(MetaError::Invalid(format!("unknown time zone `{zone}`; name one as IANA does, such as Europe/Berlin")))
}

impl Metastore {
    /// Makes a project with its first key, which carries every access right and the legacy signature.
    pub fn create_project(&self, new: &NewProject, by: &By) -> Result<(Project, KeyPair)> {
        check_name("a project", &new.name)?;
        for (what, value) in [("token", &new.token), ("API key", &new.api_key), ("API secret", &new.api_secret)] {
            if let Some(value) = value {
                check_imported(what, value)?;
            }
        }
        let token = new.token.clone().unwrap_or_else(new_hex32);
        if new.api_key.as_ref() == Some(&token)
            || new.api_secret.as_ref() == Some(&token)
            || (new.api_key.is_some() && new.api_key == new.api_secret)
        {
            return Err(MetaError::Invalid("token, API key and API secret must differ".to_owned()));
        }
        check_zone(&new.timezone)?;
        let wrapping_keys = self.wrapping_keys()?;
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let id = match new.project_id {
            Some(id) if id > 0 => id,
            Some(_) => return Err(MetaError::Invalid("a project id is a positive number".to_owned())),
            None => change.query_row("SELECT COALESCE(MAX(id), 0) + 1 FROM projects", [], |row| row.get(0))?,
        };
        let taken = |sql: &str, value: &dyn rusqlite::ToSql| change.query_row(sql, [value], |row| row.get::<_, bool>(0));
        if taken("SELECT EXISTS (SELECT 1 FROM projects WHERE id = $1)", &id)? {
            return Err(MetaError::Taken("project id"));
        }
        if taken("SELECT EXISTS (SELECT 1 FROM projects WHERE token = $1)", &token)?
            || taken("SELECT EXISTS (SELECT 1 FROM token_aliases WHERE token = $1)", &token)?
            || taken("SELECT EXISTS (SELECT 1 FROM keys WHERE api_key = $1)", &token)?
        {
            return Err(MetaError::Taken("token"));
        }
        let (data_key, wrapped) = wrapping_keys.new_data_key(id)?;
        let hash_key = random::<16>();
        let project = Project {
            id: ProjectId(id),
            organization_id: OrganizationId(new.organization_id.unwrap_or(1)),
            name: new.name.trim().to_owned(),
            timezone: new.timezone.clone(),
            token,
            created_at: by.at,
            hash_key: key_text(&hash_key),
            suspended_at: None,
            requires_tls: false,
            week_start: WeekStart::default(),
            identity_mode: IdentityMode::default(),
            archived_at: None,
            token_options: TokenOptions::default(),
        };
        change.execute(
            "INSERT INTO projects (id, organization_id, name, timezone, token, hash_key, wrapped_data_key, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            (id, project.organization_id.0, &project.name, &project.timezone, &project.token, hash_key, wrapped, by.at.0),
        )?;
        if let Some(owner) = new.owner {
            change
                .execute("INSERT INTO members (project_id, account_id, role) VALUES ($1, $2, $3)", (id, owner.0, Role::Owner.as_str()))?;
        }
        let insert = Insert {
            project: project.id,
            data_key: &data_key,
            api_key: new.api_key.as_deref(),
            api_secret: new.api_secret.as_deref(),
            allows_weak: new.allows_weak,
            created_by: new.owner,
            settings: &NewKey { form: new.form, ..NewKey::first(new.signature_lifetime) },
            now: by.at,
        };
        let pair = keys::insert(&change, &insert)?;
        audit::append(&change, by, Some(project.id), "project create", "")?;
        bump_epoch(&change)?;
        self.finish(change, &[])?;
        Ok((project, pair))
    }

    /// Changes a project's settings. Admins may.
    pub fn change_project(&self, project: ProjectId, asked: &ProjectChange, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_admin(&change, project, by, "change its settings")?;
        let set = |column: &str, value: &dyn rusqlite::ToSql| {
            change.execute(&format!("UPDATE projects SET {column} = $1 WHERE id = $2"), rusqlite::params![value, project.0])
        };
        let mut changed = Vec::new();
        if let Some(name) = &asked.name {
            check_name("a project", name)?;
            set("name", &name.trim())?;
            changed.push("name".to_owned());
        }
        if let Some(id) = asked.organization_id {
            require_operator(&change, by, "move a project to another organisation")?;
            if id < 1 {
                return Err(MetaError::Invalid("an organisation id is a positive number".to_owned()));
            }
            set("organization_id", &id)?;
            changed.push(format!("organization_id {id}"));
        }
        if let Some(zone) = &asked.timezone {
            check_zone(zone)?;
            set("timezone", zone)?;
            changed.push(format!("timezone {zone}"));
        }
        if let Some(start) = asked.week_start {
            set("week_start", &start.as_str())?;
            changed.push(format!("week_start {}", start.as_str()));
        }
        if let Some(mode) = asked.identity_mode {
            set("identity_mode", &mode.as_str())?;
            changed.push(format!("identity_mode {}", mode.as_str()));
        }
        if let Some(required) = asked.requires_tls {
            set("requires_tls", &required)?;
            changed.push(format!("require_tls {required}"));
        }
        if let Some(options) = &asked.token_options {
            let properties = &options.authenticated_properties;
            if properties.len() > LIST_MAX || options.origins.len() > LIST_MAX {
                return Err(MetaError::Invalid(format!("at most {LIST_MAX} origins and {LIST_MAX} properties")));
            }
            if properties.iter().any(|name| name.is_empty() || name.len() > 255 || name.chars().any(char::is_control)) {
                return Err(MetaError::Invalid("a property's name is one line of at most 255 bytes".to_owned()));
            }
            set("events_per_second_max", &options.events_per_second_max)?;
            let bytes = |max: Option<u64>| max.map(|max| i64::try_from(max).unwrap_or(i64::MAX));
            set("address_events_per_second_max", &options.address_events_per_second_max)?;
            set("bytes_per_second_max", &bytes(options.bytes_per_second_max))?;
            set("bytes_per_day_max", &bytes(options.bytes_per_day_max))?;
            set("origins", &options.origins.to_string())?;
            set("enforces_origins", &options.enforces_origins)?;
            set("deletes_need_secret", &options.deletes_need_secret)?;
            set("backfill_needs_secret", &options.backfill_needs_secret)?;
            set("authenticated_properties", &properties.join("\n"))?;
            set("identity_needs_signature", &options.identity_needs_signature)?;
            set("flags_bots", &options.flags_bots)?;
            if options.identity_needs_signature {
                self.ensure_identity_secret(&change, project, by)?;
            }
            changed.push(format!("token options {options:?}"));
        }
        if changed.is_empty() {
            return Err(MetaError::Invalid("name at least one setting to change".to_owned()));
        }
        audit::append(&change, by, Some(project), "project settings", &changed.join("; "))?;
        bump_epoch(&change)?;
        self.finish(change, &[])
    }

    /// Archives a project: it takes no events any more, and is read as before. Or brings it back. Owners may.
    pub fn archive_project(&self, project: ProjectId, is_archived: bool, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_owner(&change, project, by, "archive it")?;
        change.execute("UPDATE projects SET archived_at = $1 WHERE id = $2", (is_archived.then_some(by.at.0), project.0))?;
        audit::append(&change, by, Some(project), if is_archived { "project archive" } else { "project unarchive" }, "")?;
        bump_epoch(&change)?;
        self.finish(change, &[])
    }

    /// Notes that profiles are restored, before they are. Admins may.
    pub fn note_profiles_restore(&self, project: ProjectId, detail: &str, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_admin(&change, project, by, "restore profiles")?;
        audit::append(&change, by, Some(project), "profiles restore", detail)?;
        self.finish(change, &[])
    }

    /// Gives an organisation a name. Operators may.
    pub fn name_organization(&self, id: OrganizationId, name: &str, by: &By) -> Result<()> {
        check_name("an organisation", name)?;
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_operator(&change, by, "name organisations")?;
        change.execute(
            "INSERT INTO organizations (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
            (id.0, name.trim()),
        )?;
        audit::append(&change, by, None, "organization name", &format!("organization {id}"))?;
        self.finish(change, &[])
    }

    /// The names of organisations that have one.
    pub fn organizations(&self) -> Result<Vec<(OrganizationId, String)>> {
        let connection = self.lock();
        let mut found = connection.prepare("SELECT id, name FROM organizations ORDER BY id")?;
        let rows = found.query_map([], |row| Ok((OrganizationId(row.get(0)?), row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Every project, by id.
    pub fn projects(&self) -> Result<Vec<Project>> {
        let connection = self.lock();
        let mut found = connection.prepare(&format!("SELECT {COLUMNS} FROM projects ORDER BY id"))?;
        Ok(found.query_map([], from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// One project.
    pub fn project(&self, id: ProjectId) -> Result<Option<Project>> {
        let sql = format!("SELECT {COLUMNS} FROM projects WHERE id = $1");
        Ok(self.lock().query_row(&sql, [id.0], from_row).optional()?)
    }

    /// The key of the project's user hash.
    pub fn project_hash_key(&self, id: ProjectId) -> Result<[u8; 16]> {
        let found = self.lock().query_row("SELECT hash_key FROM projects WHERE id = $1", [id.0], |row| row.get(0)).optional()?;
        found.ok_or(MetaError::Unknown("project"))
    }
}
