//! Which records of a write request are taken, for which project, as whose: each is decoded by `wire`, finds its project by its token or by
//! the credential, and passes the project's gate.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::HeaderMap;
use metastore::{CredentialTable, Leaked, Project};
use model::{Event, IdentityMode, ProfileUpdate, ProjectId, Timestamp, Value};
use wire::body::Options;
use wire::dialect::Endpoint;
use wire::identity::{self, Proof};
use wire::location::{Location, Whence};
use wire::params::Params;
use wire::track::{Makes, Record, Rejection, Rules};
use wire::{engage, json, track};

use crate::app::App;
use crate::auth::Writer;
use crate::bots;
use crate::gate::{self, Load};
use crate::leaks::{self, Place};

/// A write request whose records are judged.
pub(crate) struct Judge<'a> {
    pub app: &'a App,
    pub table: &'a CredentialTable,
    pub endpoint: Endpoint,
    pub options: &'a Options,
    pub writer: &'a Writer,
    pub address: IpAddr,
    /// The page that sent it, where a browser did.
    pub origin: Option<&'a str>,
    pub headers: &'a HeaderMap,
    /// The name under which the server was called.
    pub host: Option<String>,
    pub now: Timestamp,
}

/// What became of the records.
#[derive(Default)]
pub(crate) struct Judged {
    pub events: HashMap<ProjectId, Vec<Event>>,
    pub updates: HashMap<ProjectId, Vec<ProfileUpdate>>,
    /// Records that the client is told were taken.
    pub accepted: usize,
    pub rejections: Vec<Rejection>,
    /// A known user's signature cannot be checked now: nothing is taken, and the client comes back.
    pub must_wait: bool,
    /// Whether a bot sent the request, once somebody asked.
    is_bot: Option<bool>,
    /// Where the sender is, once somebody asked.
    sender: Option<Option<Arc<Location>>>,
    /// Records of the public and their bytes, by project.
    public: HashMap<ProjectId, (u64, u64)>,
}

impl Judged {
    /// What the public brings.
    pub(crate) fn loads<'a>(&self, table: &'a CredentialTable) -> Vec<Load<'a>> {
        let load = |(project, (events, bytes)): (&ProjectId, &(u64, u64))| {
            let options = &table.projects.get(project)?.token_options;
            Some(Load { project: *project, options, events: *events, bytes: *bytes })
        };
        self.public.iter().filter_map(load).collect()
    }

    fn count(&mut self, project: ProjectId, record_bytes: u64) {
        let (events, bytes) = self.public.entry(project).or_default();
        *events += 1;
        *bytes += record_bytes;
    }
}

/// The live secret in the URL, or in a form around the records. `data` itself is looked through record by record.
pub(crate) fn leak_around(table: &CredentialTable, query: &str, plain: &[u8], now: Timestamp) -> Option<(Leaked, Place)> {
    let look = |form: &[u8], place| {
        let around: Vec<&[u8]> = form.split(|byte| *byte == b'&').filter(|piece| !piece.starts_with(b"data=")).collect();
        let around = String::from_utf8_lossy(&around.join(&b'&')).into_owned();
        let params = (!around.is_empty()).then(|| Params::parse(&around, None))?;
        leaks::in_params(table, &params, now).map(|leaked| (leaked, place))
    };
    let is_form = plain.trim_ascii_start().first().is_some_and(|byte| !b"[{".contains(byte));
    look(query.as_bytes(), Place::Url).or_else(|| if is_form { look(plain, Place::Body) } else { None })
}

impl Judge<'_> {
    /// Judges every record; nothing is stored yet.
    pub(crate) fn judge(&self, records: Vec<Value>) -> Judged {
        let makes = Fresh {
            table: self.table,
            project: self.writer.project,
            address: self.options.ip.filter(|asks| *asks).map(|_| self.address),
            now: self.now,
        };
        let mut judged = Judged::default();
        for (index, record) in records.into_iter().enumerate() {
            match self.record(index, record, &makes, &mut judged) {
                Ok(()) => judged.accepted += 1,
                Err(rejection) => judged.rejections.push(rejection),
            }
        }
        judged
    }

    fn record(&self, index: usize, mut record: Value, makes: &Fresh<'_>, judged: &mut Judged) -> Result<(), Rejection> {
        let is_import = self.endpoint == Endpoint::Import;
        if self.options.lossy {
            if let Some(property) = json::broken_in(&record).filter(|_| self.options.strict && is_import) {
                return Err(track::not_utf8(index, &record, property));
            }
            json::mend(&mut record);
        }
        // Each project answers for what its own records weigh. Nobody asks where no day has a limit.
        let bytes = if self.table.has_byte_quotas { json::len(&record) as u64 } else { 0 };
        if let Some(leaked) = leaks::in_value(self.table, &record, self.now) {
            let is_token = token_in(&record).is_some_and(|token| self.table.leaked(token, self.now).is_some());
            let place = if is_token { Place::Token } else { Place::Property };
            self.app.note_leak(leaked, place, self.address, self.now);
            return Err(refused(index, if is_token { "properties.token" } else { "properties" }, place.refusal()));
        }
        if matches!(self.endpoint, Endpoint::Track | Endpoint::Import) {
            let ahead = self.project_ahead(&record);
            let rules = Rules {
                import: is_import,
                strict: self.options.strict,
                credentialed: is_import && self.writer.project.is_some(),
                authenticated: self.writer.authenticated,
                now: self.now,
                identity: ahead.map(|project| identity_mode(self.table, project)).unwrap_or_default(),
                keeps_ignored: self.keeps_ignored(&record, ahead),
                host: self.host.as_deref(),
            };
            let whence = Whence::of_event(&record, self.options.ip);
            match track::event(index, record, rules, makes) {
                Record::Good { token, mut item } => {
                    let Some(project) = self.project(index, &token)? else { return Ok(()) };
                    item.authenticated = self.is_authenticated(project.id);
                    if let Some(location) = self.location(whence, judged) {
                        location.add_to_event(&mut item.properties);
                    }
                    let proof = self.has_identity(project).then(|| Proof::take(&mut item.properties));
                    if !item.authenticated {
                        if project.token_options.identity_needs_signature {
                            let sender = makes.sender_id(&token);
                            let mut users = identity::users_of_event(&item);
                            users.retain(|user| Some(user) != sender.as_ref());
                            self.check_identity(index, project, proof, &users, judged)?;
                        }
                        gate::event(project, self.origin, &mut item).map_err(|why| refused(index, "event", why))?;
                        if project.token_options.flags_bots {
                            bots::flag(&mut item, *judged.is_bot.get_or_insert_with(|| bots::is_bot(self.headers)));
                        }
                        judged.count(project.id, bytes);
                    }
                    judged.events.entry(project.id).or_default().push(item);
                    Ok(())
                }
                Record::Dropped => Ok(()),
                Record::Refused(rejection) => Err(rejection),
            }
        } else {
            let groups = self.endpoint == Endpoint::Groups;
            let rules = engage::Rules { groups, authenticated: false, now: self.now, is_long: self.options.is_long };
            match engage::updates(index, &record, rules) {
                Record::Good { token, mut item } => {
                    let Some(project) = self.project(index, &token)? else { return Ok(()) };
                    let authenticated = self.is_authenticated(project.id);
                    // A group is not where its members are.
                    let whence = if groups { Whence::Nowhere } else { Whence::of_profile(&record, self.options.ip) };
                    if let Some(location) = self.location(whence, judged) {
                        location.add_to_profile(whence, &mut item);
                    }
                    let proof = self.has_identity(project).then(|| Proof::take_of_profile(&record, &mut item));
                    if authenticated {
                        item.iter_mut().for_each(|update| update.authenticated = true);
                    } else {
                        if project.token_options.identity_needs_signature {
                            self.check_identity(index, project, proof, &identity::users_of_updates(&item), judged)?;
                        }
                        gate::updates(project, self.origin, &mut item).map_err(|why| refused(index, "$distinct_id", why))?;
                        judged.count(project.id, bytes);
                    }
                    judged.updates.entry(project.id).or_default().extend(item);
                    Ok(())
                }
                Record::Dropped => Ok(()),
                Record::Refused(rejection) => Err(rejection),
            }
        }
    }

    /// Whether a record that asks to be ignored goes to a project that flags such records of the public instead.
    fn keeps_ignored(&self, record: &Value, project: Option<ProjectId>) -> bool {
        let properties = record.as_object().and_then(|record| record.get("properties")).and_then(Value::as_object);
        if !properties.is_some_and(track::is_ignored) {
            return false;
        }
        let project = project.and_then(|project| self.table.projects.get(&project));
        project.is_some_and(|project| project.token_options.flags_bots && !self.is_authenticated(project.id))
    }

    /// The project that a record goes to, before it is read: its rules say how.
    fn project_ahead(&self, record: &Value) -> Option<ProjectId> {
        let by_credential = self.writer.project.filter(|_| self.endpoint == Endpoint::Import);
        by_credential.or_else(|| self.table.project_of_token(token_in(record)?, self.now))
    }

    /// The place of a record's user. The sender of many records is looked for once.
    fn location(&self, whence: Whence, judged: &mut Judged) -> Option<Arc<Location>> {
        let geo = &self.app.geo;
        match whence {
            Whence::Nowhere => None,
            Whence::Sender => judged.sender.get_or_insert_with(|| geo.of_address(self.address).map(Arc::new)).clone(),
            Whence::Address(address) => geo.of_address(address).map(Arc::new),
            Whence::Coordinates { latitude, longitude } => geo.of_coordinates(latitude, longitude).map(Arc::new),
        }
    }

    fn has_identity(&self, project: &Project) -> bool {
        self.table.identities.contains_key(&project.id)
    }

    /// Refuses a record that speaks for known users whom the project's own server did not sign.
    fn check_identity(
        &self,
        index: usize,
        project: &Project,
        proof: Option<Proof>,
        users: &[String],
        judged: &mut Judged,
    ) -> Result<(), Rejection> {
        if users.is_empty() {
            return Ok(());
        }
        let Some(secret) = self.table.identities.get(&project.id).and_then(|identity| identity.secret.as_ref()) else {
            judged.must_wait = true;
            return Ok(());
        };
        let checked = proof.unwrap_or_default().check(secret.expose(), users, self.now);
        checked.map_err(|why| refused(index, identity::SIGNATURE, why.text()))
    }

    /// Whether the writer proved more than the token, for this project.
    fn is_authenticated(&self, project: ProjectId) -> bool {
        self.writer.authenticated && self.writer.project == Some(project)
    }

    /// The project of a record; `None` where nobody owns its token, which is answered like any other.
    fn project(&self, index: usize, token: &str) -> Result<Option<&Project>, Rejection> {
        let by_credential = self.writer.project.filter(|_| self.endpoint == Endpoint::Import);
        let project = by_credential.or_else(|| self.app.project_of_token(self.table, token, self.now));
        match project.and_then(|project| self.table.projects.get(&project)) {
            Some(project) if project.archived_at.is_some() => Err(refused(index, "properties.token", "this project is archived")),
            Some(project) => Ok(Some(project)),
            None if metastore::has_valid_checksum(token) || self.table.secrets.contains_key(&metastore::sha256(token.as_bytes())) => {
                if let Some(leaked) = self.table.live_secret(token, self.now) {
                    self.app.note_leak(leaked, Place::Token, self.address, self.now);
                }
                Err(refused(index, "properties.token", Place::Token.refusal()))
            }
            None => {
                self.app.count_unknown(token);
                Ok(None)
            }
        }
    }
}

/// How a project finds out which ids are one user.
pub(crate) fn identity_mode(table: &CredentialTable, project: ProjectId) -> IdentityMode {
    table.projects.get(&project).map(|project| project.identity_mode).unwrap_or_default()
}

fn token_in(record: &Value) -> Option<&str> {
    let record = record.as_object()?;
    let inside = record.get("properties").and_then(Value::as_object).and_then(|properties| properties.get("token"));
    inside.or_else(|| record.get("$token")).or_else(|| record.get("token")).and_then(Value::as_str)
}

fn refused(index: usize, field: &str, why: &'static str) -> Rejection {
    Rejection { index, insert_id: String::new(), field: field.to_owned(), message: why.to_owned(), verbose: why }
}

/// What is made for events that do not bring it.
struct Fresh<'a> {
    table: &'a CredentialTable,
    /// The project that a credential names.
    project: Option<ProjectId>,
    /// The sender's address, where the request asked for it with `ip=1`.
    address: Option<IpAddr>,
    now: Timestamp,
}

impl Makes for Fresh<'_> {
    fn insert_id(&self) -> String {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes).expect("the operating system has randomness");
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn sender_id(&self, token: &str) -> Option<String> {
        let project = self.project.or_else(|| self.table.project_of_token(token, self.now))?;
        // Under the project's own key: no list of all addresses tells whose hash it is.
        let key = self.table.projects.get(&project)?.hash_key.expose();
        let hash = metastore::sha256(&[key.as_bytes(), b" address ", self.address?.to_string().as_bytes()].concat());
        Some(hash[..16].iter().map(|byte| format!("{byte:02x}")).collect())
    }
}
