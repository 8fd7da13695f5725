//! Brings back what public operations removed from profiles. The request goes into the log as one small operation per profile, folded where
//! it stands among the others: it takes back what is kept at that place and nothing that was set again or deleted by the owner before it.

use std::collections::BTreeMap;

use model::{ProfileKey, ProfileOp, ProfileUpdate, ProjectId, Timestamp};
use tokio::sync::mpsc;

use crate::Store;
use crate::error::StoreError;
use crate::log::Payload;
use crate::snapshot::Snapshot;

/// Profiles that are restored with one request to the log.
const BATCH_PROFILES: usize = 1000;

/// What [`Store::restore_profiles`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Profiles that got something back.
    pub profiles: u64,
}

impl Store {
    /// Gives profiles back what public operations removed from them from `since` on, except what was set again; all profiles of the project,
    /// or `only` some. What authenticated writers removed, and what was removed 30 days before `now`, does not come back.
    ///
    /// When this returns, it is on disk and visible to every later snapshot. After an error or a crash some profiles are restored whole and
    /// the others not at all: calling again restores the rest. Calling again after success restores 0.
    pub async fn restore_profiles(
        &self,
        project: ProjectId,
        since: Timestamp,
        only: Option<Vec<ProfileKey>>,
        now: Timestamp,
    ) -> Result<Restored, StoreError> {
        let snapshot = self.snapshot(project)?;
        let (send, mut receive) = mpsc::channel(1);
        let reading = tokio::task::spawn_blocking(move || restorable(&snapshot, since, only.as_deref(), now, &send));
        let mut restored = Restored::default();
        while let Some(keys) = receive.recv().await {
            let keys: Vec<ProfileKey> = keys;
            let count = keys.len() as u64;
            let update = |key| ProfileUpdate {
                key,
                op: ProfileOp::Restore(since),
                time: now,
                received_at: now,
                ignore_time: true,
                // What is restored stands under the key that it was read from.
                ignore_alias: true,
                dedup_id: None,
                authenticated: true,
            };
            while let Err(StoreError::Overloaded) = self.wait_for_room().await {
                let store = self.clone();
                tokio::task::spawn_blocking(move || store.seal_now()).await.map_err(gone)??;
            }
            self.shared.log.append(project, Payload::Profiles(keys.into_iter().map(update).collect())).await?;
            restored.profiles += count;
        }
        reading.await.map_err(gone)??;
        Ok(restored)
    }
}

fn gone(error: tokio::task::JoinError) -> StoreError {
    StoreError::Io(error.to_string())
}

/// Sends the keys of the profiles that would get something back, a batch at a time.
fn restorable(
    snapshot: &Snapshot,
    since: Timestamp,
    only: Option<&[ProfileKey]>,
    now: Timestamp,
    send: &mpsc::Sender<Vec<ProfileKey>>,
) -> Result<(), StoreError> {
    let only: Option<BTreeMap<&ProfileKey, ()>> = only.map(|keys| keys.iter().map(|key| (key, ())).collect());
    let mut batch = Vec::new();
    // Who waits for it has gone.
    let give = |batch: Vec<ProfileKey>| send.blocking_send(batch).map_err(|_| StoreError::Stopped);
    snapshot.read_profiles(only.as_ref(), |key, stored| {
        if stored.folded.is_restorable(since, now) {
            batch.push(key);
        }
        if batch.len() == BATCH_PROFILES { give(std::mem::take(&mut batch)) } else { Ok(()) }
    })?;
    if batch.is_empty() { Ok(()) } else { give(batch) }
}
