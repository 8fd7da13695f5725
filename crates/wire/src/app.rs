//! The part of the original's app API that manages service accounts and tells who one is (`contract/read.md` 2.4, 3.13, 3.15).

use model::value::Properties;
use model::{AccessRight, ProjectId, Role, Value};

use crate::json;

/// A project as its members see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppProject {
    /// Its id.
    pub id: ProjectId,
    /// Its organisation's id.
    pub organization_id: i64,
    /// What people call it.
    pub name: String,
    /// IANA name of its zone.
    pub timezone: String,
    /// What the caller is in it.
    pub role: Role,
}

/// A service account as a list shows it. Times are instants of UTC with `Z`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppServiceAccount {
    /// Its id.
    pub id: i64,
    /// The name that it signs in with.
    pub username: String,
    /// When it was last used.
    pub last_used: Option<String>,
    /// When it dies.
    pub expires: Option<String>,
    /// Who made it.
    pub creator: Option<i64>,
    /// The address of who made it.
    pub creator_email: Option<String>,
    /// When it was made.
    pub created: String,
    /// What it is in its project.
    pub role: Role,
}

/// What a service account is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAppServiceAccount {
    /// What people call it; its user name gets a suffix.
    pub username: String,
    /// When it dies.
    pub expires: Option<String>,
    /// Its one project.
    pub project: ProjectId,
    /// What it is there.
    pub role: Role,
}

fn object(fields: Vec<(&str, Value)>) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Properties>())
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn int(number: i64) -> Value {
    Value::from(number)
}

fn or_null<T>(value: Option<T>, some: impl FnOnce(T) -> Value) -> Value {
    value.map_or(Value::Null, some)
}

fn ok(results: Value) -> String {
    let mut out = String::new();
    json::write_spaced(&object(vec![("status", text("ok")), ("results", results)]), &mut out);
    out
}

/// `{"status":"error","error":…}`: what every refusal of these routes looks like.
pub fn error(message: &str) -> String {
    let mut out = String::from("{\"status\":\"error\",\"error\":");
    json::write_string(message, &mut out);
    out.push('}');
    out
}

/// The original's words for what a role may.
fn permissions(role: Role) -> Value {
    let mut words = Vec::new();
    for right in role.rights() {
        words.extend(match right {
            AccessRight::Query => &["view_base_reports"][..],
            AccessRight::Export => &["export_data"],
            AccessRight::Import => &["import_events"],
            AccessRight::ProfilesRead => &["view_profiles"],
            AccessRight::ProfilesWrite => &["write_profiles"],
            AccessRight::Annotations => &["write_annotations"],
            AccessRight::Schema => &["write_lexicon"],
            AccessRight::DataDeletion => &["data_deletion", "request_gdpr_data"],
        });
    }
    if role >= Role::Admin {
        words.extend(["view_project_secret", "view_audit_logs"]);
    }
    if role == Role::Owner {
        words.extend(["reset_api_key", "transfer_project"]);
    }
    Value::List(words.into_iter().map(text).collect())
}

/// Answers `/api/app/me`: who calls, in which projects, as what.
pub fn me(
    user_id: i64,
    user_name: &str,
    user_email: &str,
    joined: &str,
    organizations: &[(i64, String)],
    projects: &[AppProject],
) -> String {
    let project = |project: &AppProject| {
        let described = object(vec![
            ("id", int(project.id.0)),
            ("name", text(&project.name)),
            ("organization_id", int(project.organization_id)),
            ("timezone", text(&project.timezone)),
            ("has_workspaces", Value::Bool(false)),
            ("role", text(project.role.as_str())),
            ("permissions", permissions(project.role)),
        ]);
        (project.id.to_string(), described)
    };
    let role_in = |id: i64| projects.iter().filter(|project| project.organization_id == id).map(|project| project.role).max();
    let organization = |(id, name): &(i64, String)| {
        let role = role_in(*id).unwrap_or(Role::Consumer);
        let fields = vec![("id", int(*id)), ("name", text(name)), ("role", text(role.as_str())), ("permissions", Value::List(Vec::new()))];
        (id.to_string(), object(fields))
    };
    ok(object(vec![
        ("user_id", int(user_id)),
        ("user_email", text(user_email)),
        ("user_name", text(user_name)),
        ("date_joined_iso", text(joined)),
        ("is_staff", Value::Bool(false)),
        ("organizations", Value::Object(organizations.iter().map(organization).collect())),
        ("projects", Value::Object(projects.iter().map(project).collect())),
        ("workspaces", Value::Object(Properties::default())),
    ]))
}

/// Answers `/api/app/projects`.
pub fn projects(projects: &[AppProject]) -> String {
    let row = |project: &AppProject| object(vec![("id", int(project.id.0)), ("name", text(&project.name))]);
    ok(Value::List(projects.iter().map(row).collect()))
}

fn described(account: &AppServiceAccount) -> Vec<(&'static str, Value)> {
    vec![
        ("id", int(account.id)),
        ("username", text(&account.username)),
        ("user", int(account.id)),
        ("creator", or_null(account.creator, int)),
        ("creator_email", or_null(account.creator_email.as_deref(), text)),
        ("created", text(&account.created)),
        ("last_used", or_null(account.last_used.as_deref(), text)),
        ("expires", or_null(account.expires.as_deref(), text)),
    ]
}

/// Answers a list of an organisation's service accounts.
pub fn service_accounts(accounts: &[AppServiceAccount]) -> String {
    ok(Value::List(accounts.iter().map(|account| object(described(account))).collect()))
}

/// Answers a list of a project's service accounts, which tells their roles too.
pub fn project_service_accounts(accounts: &[AppServiceAccount]) -> String {
    let row = |account: &AppServiceAccount| {
        let mut fields = described(account);
        fields.extend([
            ("role", text(account.role.as_str())),
            ("target_type", text("individual")),
            ("hasSensitiveAccess", Value::Bool(account.role >= Role::Admin)),
        ]);
        object(fields)
    };
    ok(Value::List(accounts.iter().map(row).collect()))
}

/// Answers one service account; `secret` where it was just made, in the field that the original calls `token`.
pub fn service_account(account: &AppServiceAccount, secret: Option<&str>) -> String {
    let mut fields = described(account);
    fields.extend(secret.map(|secret| ("token", text(secret))));
    ok(object(fields))
}

/// Answers a deletion.
pub fn deleted(id: i64) -> String {
    ok(object(vec![("id", int(id))]))
}

/// Reads what a service account is made from; why not, where it cannot be.
pub fn parse_service_account(body: &[u8]) -> Result<NewAppServiceAccount, String> {
    let body = std::str::from_utf8(body).ok().and_then(|body| json::parse(body.trim()).ok());
    let Some(Value::Object(body)) = body else { return Err("Invalid JSON body".to_owned()) };
    let username = body.get("username").and_then(Value::as_str).map(str::trim).filter(|name| !name.is_empty());
    let username = username.ok_or("root: 'username' is a required property")?.to_owned();
    let expires = body.get("expires").and_then(Value::as_str).map(str::to_owned);
    let role_of = |value: Option<&Value>| match value.and_then(Value::as_str) {
        Some(word) => Role::parse(word).ok_or_else(|| format!("unknown role '{word}', expected consumer, analyst, admin or owner")),
        None => Ok(Role::Consumer),
    };
    let number = |value: &Value| match value {
        Value::Number(number) => Some(number.as_f64()).filter(|number| number.fract() == 0.0).map(|number| number as i64),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let projects = match body.get("projects") {
        Some(Value::List(projects)) => projects.as_slice(),
        _ => &[],
    };
    let [Value::Object(project)] = projects else {
        return Err("'projects' must name exactly one project: a service account belongs to one".to_owned());
    };
    let id = project.get("id").and_then(number).ok_or("'projects[0].id' must be the id of a project")?;
    let role = role_of(project.get("role").or_else(|| body.get("role")))?;
    Ok(NewAppServiceAccount { username, expires, project: ProjectId(id), role })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_is_read_as_the_original_writes_it() {
        let read = |body: &str| parse_service_account(body.as_bytes());
        let new = read(r#"{"username":"etl","role":"consumer","expires":null,"projects":[{"id":1,"role":"analyst"}]}"#).unwrap();
        assert_eq!((new.username.as_str(), new.project, new.role, new.expires), ("etl", ProjectId(1), Role::Analyst, None));
        assert_eq!(read("nonsense").unwrap_err(), "Invalid JSON body");
        assert!(read(r#"{"projects":[{"id":1}]}"#).unwrap_err().contains("'username'"));
        assert!(read(r#"{"username":"a","projects":[{"id":1},{"id":2}]}"#).unwrap_err().contains("exactly one"));
        assert!(read(r#"{"username":"a","projects":[{"id":1,"role":"king"}]}"#).unwrap_err().contains("'king'"));
    }
}
