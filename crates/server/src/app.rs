//! What every handler shares.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use metastore::{By, CredentialTable, Leaked, Metastore};
use model::{ProfileKey, ProjectId, Role, Timestamp};
use query::Engine;
use store::Store;

use crate::callers::Callers;
use crate::clock;
use crate::config::Settings;
use crate::gate::Quotas;
use crate::jobs::Jobs;
use crate::geo::Geo;
use crate::leaks::{Leaks, Place};
use crate::mail::{Mailer, Message};
use crate::names::{Most, Names};
use crate::queue::Queues;
use crate::sdk::Recordings;
use crate::throttle::Throttle;
use crate::views::NewInvitation;

/// The running server.
pub(crate) struct App {
    pub metastore: Arc<Metastore>,
    pub store: Store,
    pub engine: Engine,
    credentials: RwLock<Arc<CredentialTable>>,
    pub counts: Counts,
    pub callers: Callers,
    pub settings: Settings,
    pub queries: Queues,
    pub exports: Queues,
    pub mailer: Mailer,
    pub throttle: Throttle,
    pub quotas: Quotas,
    pub names: Names,
    pub leaks: Leaks,
    pub jobs: Jobs,
    pub geo: Geo,
    pub recordings: Recordings,
    /// Operations of the management API that may run now.
    pub operations: Arc<tokio::sync::Semaphore>,
    /// Calls that wait for a password to be hashed.
    pub waiting_for_hashing: std::sync::atomic::AtomicUsize,
    /// Passwords that may be hashed now.
    pub hashing: Arc<tokio::sync::Semaphore>,
    /// What links begin with.
    base: String,
    /// Bytes of bodies that may be held while they arrive.
    pub receiving: Arc<tokio::sync::Semaphore>,
    /// Files of lookup tables that may be read now.
    pub reading_tables: tokio::sync::Semaphore,
    /// Bodies that may be unpacked now.
    pub unpacking: tokio::sync::Semaphore,
    /// Bytes of requests that may be decoded now.
    pub decoding: tokio::sync::Semaphore,
}

/// Operations of the management API that run at a time.
const OPERATIONS_MAX: usize = 32;
/// Passwords that are hashed at a time; each takes 19 MiB and a core for a while.
const HASHING_MAX: usize = 2;

/// Figures for `/metrics`.
#[derive(Default)]
pub(crate) struct Counts {
    pub requests: AtomicU64,
    pub events: AtomicU64,
    pub updates: AtomicU64,
    pub rejected: AtomicU64,
    /// Records that had an API secret in the place of the token.
    pub leaked_secrets: AtomicU64,
    /// Events for unknown tokens, by the token's last 4 characters.
    pub unknown_tokens: Mutex<HashMap<String, u64>>,
}

impl App {
    /// `dir` is the data directory; `base` is where the server answers, such as `http://127.0.0.1:8080`, unless the settings name another address.
    pub(crate) fn new(
        dir: &Path,
        metastore: Arc<Metastore>,
        store: Store,
        settings: Settings,
        mailer: Mailer,
        base: String,
    ) -> Result<Self, metastore::MetaError> {
        let given = settings.listen.public_url.trim_end_matches('/');
        let credentials = RwLock::new(Arc::new(metastore.credentials()?));
        let day = clock::now().0.div_euclid(model::time::DAY_MS);
        let quotas = Quotas::new(day, metastore.usage(day)?);
        let track = &settings.track;
        let names = Names::new(Most { events: track.event_names_per_day_max, properties: track.property_names_per_day_max });
        let queries = Queues::new(settings.queries.concurrent_max, settings.queries.wait_max());
        let exports = Queues::new(settings.queries.exports_max, settings.queries.wait_max());
        Ok(Self {
            metastore,
            engine: Engine::new(store.clone()),
            store,
            credentials,
            counts: Counts::default(),
            callers: Callers::default(),
            base: if given.is_empty() { base } else { given.to_owned() },
            geo: Geo::open(&settings.geo),
            recordings: Recordings::default(),
            settings,
            mailer,
            throttle: Throttle::default(),
            quotas,
            names,
            leaks: Leaks::default(),
            jobs: Jobs::new(dir),
            operations: Arc::new(tokio::sync::Semaphore::new(OPERATIONS_MAX)),
            waiting_for_hashing: std::sync::atomic::AtomicUsize::new(0),
            hashing: Arc::new(tokio::sync::Semaphore::new(HASHING_MAX)),
            queries,
            exports,
            receiving: Arc::new(tokio::sync::Semaphore::new(crate::ingest::RECEIVING_BYTES_MAX)),
            reading_tables: tokio::sync::Semaphore::new(crate::lookup_tables::READING_MAX),
            unpacking: tokio::sync::Semaphore::new(crate::ingest::UNPACKING_MAX),
            decoding: tokio::sync::Semaphore::new(crate::ingest::DECODING_BYTES_MAX),
        })
    }

    /// A link to a page with a one-time code, behind `#`, where no log and no other site sees it.
    pub(crate) fn link(&self, page: &str, code: &metastore::Secret) -> String {
        format!("{}{page}#{}", self.base, code.expose())
    }

    /// Invites an address by mail; the answer has a link too, for whom no mail reaches.
    pub(crate) fn invite(&self, project: ProjectId, email: &str, role: Role, by: &By) -> Result<NewInvitation, metastore::MetaError> {
        let (invitation, codes) = self.metastore.invite(project, email, role, by)?;
        let name = self.metastore.project(project)?.map(|project| project.name).unwrap_or_default();
        let mailed = self.link(crate::routes::ACCEPT_INVITATION, &codes.mailed);
        self.mailer.send(Message {
            to: invitation.email.clone(),
            subject: format!("{name}: you are invited"),
            text: format!(
                "You are invited to the project {name} as {}. To accept, open\n\n{mailed}\n\nwithin two weeks.",
                invitation.role.as_str()
            ),
        });
        Ok(NewInvitation { invitation: invitation.into(), link: self.link(crate::routes::ACCEPT_INVITATION, &codes.shown) })
    }

    /// Every credential as of the last change.
    pub(crate) fn credentials(&self) -> Arc<CredentialTable> {
        self.credentials.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Reads the credentials again, where one changed since.
    pub(crate) fn follow_credentials(&self) -> Result<(), metastore::MetaError> {
        if self.metastore.epoch()? == self.credentials().epoch { Ok(()) } else { self.reload_credentials() }
    }

    /// Reads the credentials again; called before a change of them is answered.
    pub(crate) fn reload_credentials(&self) -> Result<(), metastore::MetaError> {
        let table = Arc::new(self.metastore.credentials()?);
        let mut current = self.credentials.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if table.epoch >= current.epoch {
            *current = table;
        }
        Ok(())
    }

    /// Keeps in mind that a live secret went out into the open, for its owner to know.
    pub(crate) fn note_leak(&self, leaked: Leaked, place: Place, address: IpAddr, now: Timestamp) {
        self.counts.leaked_secrets.fetch_add(1, Ordering::Relaxed);
        self.leaks.note(leaked, place, address, now);
    }

    /// The project of a token, and a count where the token was reset and still takes events.
    pub(crate) fn project_of_token(&self, table: &CredentialTable, token: &str, now: Timestamp) -> Option<ProjectId> {
        let project = table.project_of_token(token, now)?;
        if table.tokens.get(token).is_some_and(|entry| entry.ends_at.is_some()) {
            self.callers.note_alias(token);
        }
        Some(project)
    }

    /// Brings back what the public took from profiles; returns how many got something back. Blocks: not for a thread of the runtime.
    pub(crate) fn restore_profiles(
        &self,
        project: ProjectId,
        since: Timestamp,
        distinct_ids: &[String],
        by: &By,
    ) -> Result<u64, metastore::MetaError> {
        self.metastore.note_profiles_restore(project, &format!("from {}", crate::views::shown(since)), by)?;
        let only: Vec<ProfileKey> = distinct_ids.iter().cloned().map(ProfileKey::User).collect();
        let restoring = self.store.restore_profiles(project, since, Some(only).filter(|only| !only.is_empty()), by.at);
        let restored = tokio::runtime::Handle::current().block_on(restoring);
        restored.map(|restored| restored.profiles).map_err(|error| metastore::MetaError::Invalid(error.to_string()))
    }

    /// Counts an event whose token nobody owns.
    pub(crate) fn count_unknown(&self, token: &str) {
        let mut end: Vec<char> = token.chars().rev().take(4).collect();
        end.reverse();
        let mut unknown = self.counts.unknown_tokens.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A stranger must not be able to fill memory with names.
        let end: String = end.into_iter().collect();
        let key = if unknown.len() < 1000 || unknown.contains_key(&end) { end } else { "other".to_owned() };
        *unknown.entry(key).or_default() += 1;
    }
}
