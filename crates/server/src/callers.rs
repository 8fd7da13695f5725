//! Who calls, counted in memory and written now and then: no request waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metastore::{CallerKey, Outcome};
use model::time::DAY_MS;
use model::{ProjectId, Timestamp};
use tokio::sync::watch;

use crate::app::App;
use crate::auth::SIGNATURE;
use crate::clock;

/// Calls that were not written yet.
#[derive(Default)]
pub(crate) struct Callers {
    calls: Mutex<HashMap<CallerKey, (Timestamp, i64)>>,
    /// Events by the old token that they came by.
    alias_events: Mutex<HashMap<String, i64>>,
    /// The day on which the audit log last told of a key's legacy signature.
    legacy_noted: Mutex<HashMap<(ProjectId, String), i64>>,
}

/// Ways of calling that are held between two writes; more are not told apart.
const CALLS_MAX: usize = 10_000;
const WRITE_EVERY: Duration = Duration::from_secs(2);

impl Callers {
    pub(crate) fn note(&self, caller: CallerKey, now: Timestamp) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() < CALLS_MAX || calls.contains_key(&caller) {
            let (at, count) = calls.entry(caller).or_insert((now, 0));
            (*at, *count) = (now, *count + 1);
        }
    }

    pub(crate) fn note_alias(&self, token: &str) {
        let mut events = self.alias_events.lock().unwrap_or_else(PoisonError::into_inner);
        match events.get_mut(token) {
            Some(count) => *count += 1,
            None => drop(events.insert(token.to_owned(), 1)),
        }
    }

    /// Writes what was counted.
    pub(crate) fn write(&self, app: &App) -> Result<(), metastore::MetaError> {
        let calls = std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner));
        let events = std::mem::take(&mut *self.alias_events.lock().unwrap_or_else(PoisonError::into_inner));
        let calls: Vec<_> = calls.into_iter().map(|(caller, (at, count))| (caller, at, count)).collect();
        if !calls.is_empty() {
            app.metastore.add_callers(&calls, clock::now())?;
            self.note_legacy(app, &calls)?;
        }
        if !events.is_empty() {
            app.metastore.add_alias_events(&events.into_iter().collect::<Vec<_>>(), clock::now())?;
        }
        app.leaks.write(&app.metastore)?;
        app.rejections.write(&app.metastore, clock::now())?;
        let (day, bytes) = app.quotas.of_day(clock::now());
        if !bytes.is_empty() {
            app.metastore.set_usage(day, &bytes)?;
        }
        Ok(())
    }

    /// Notes in the audit log, once a day and key, that somebody still signs as of old.
    fn note_legacy(&self, app: &App, calls: &[(CallerKey, Timestamp, i64)]) -> Result<(), metastore::MetaError> {
        let mut noted = self.legacy_noted.lock().unwrap_or_else(PoisonError::into_inner);
        for (caller, at, _) in calls.iter().filter(|(caller, ..)| caller.scheme == SIGNATURE && caller.outcome == Outcome::Accepted) {
            let day = at.0.div_euclid(DAY_MS);
            let last = noted.insert((caller.project, caller.credential.clone()), day);
            if last != Some(day) {
                let (address, detail) = (&caller.address, format!("{} by {}", caller.endpoint, caller.user_agent));
                app.metastore.note_of(&caller.credential, address, *at, Some(caller.project), "legacy signature", &detail)?;
            }
        }
        Ok(())
    }
}

/// Writes now and then until `shutdown` turns true, and once more.
pub(crate) async fn run(app: Arc<App>, mut shutdown: watch::Receiver<bool>) {
    loop {
        let stops = tokio::time::timeout(WRITE_EVERY, shutdown.wait_for(|stop| *stop)).await.is_ok();
        let writing = app.clone();
        let outcome = tokio::task::spawn_blocking(move || writing.callers.write(&writing)).await;
        if let Ok(Err(error)) = outcome {
            tracing::warn!(%error, "callers were not written");
        }
        if stops {
            return;
        }
    }
}
