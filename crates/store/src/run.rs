//! What goes on beside writers and readers while a store is open: packing, sealing, compaction.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::Store;
use crate::error::StoreError;

impl Store {
    /// Packs, seals and compacts until `shutdown` turns true, then seals once more.
    pub async fn run(self, shutdown: tokio::sync::watch::Receiver<bool>) {
        tokio::join!(self.run_pack(shutdown.clone()), self.run_compact(shutdown.clone()), self.run_seal(shutdown));
    }

    async fn run_pack(&self, shutdown: tokio::sync::watch::Receiver<bool>) {
        while !*shutdown.borrow() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if self.shared.fresh_rows.load(Ordering::Relaxed) >= self.shared.options.pack_rows_min {
                let store = self.clone();
                if let Ok(Err(error)) = tokio::task::spawn_blocking(move || store.pack_now()).await {
                    tracing::error!(%error, "packing failed; it is tried again");
                }
            }
        }
    }

    async fn run_compact(&self, mut shutdown: tokio::sync::watch::Receiver<bool>) {
        while !*shutdown.borrow() {
            let store = self.clone();
            let mut work = tokio::task::spawn_blocking(move || store.compact_now());
            let first = tokio::select! {
                outcome = &mut work => Some(outcome),
                _ = shutdown.wait_for(|stop| *stop) => None,
            };
            let outcome = match first {
                Some(outcome) => outcome,
                None => {
                    self.shared.stopping.store(true, Ordering::Relaxed);
                    work.await
                }
            };
            if let Ok(Err(error)) = outcome
                && !matches!(error, StoreError::Stopped)
            {
                tracing::error!(%error, "compaction failed; it is tried again");
            }
            let _ = tokio::time::timeout(Duration::from_secs(1), shutdown.wait_for(|stop| *stop)).await;
        }
    }

    async fn run_seal(&self, mut shutdown: tokio::sync::watch::Receiver<bool>) {
        /// What failed is given so long to mend.
        const PAUSE: Duration = Duration::from_secs(5);
        let mut since = tokio::time::Instant::now();
        loop {
            let stopping = tokio::select! {
                _ = tokio::time::sleep(Duration::from_millis(200)) => false,
                _ = shutdown.wait_for(|stop| *stop) => true,
            };
            let rows = self.shared.tail_rows.load(Ordering::Relaxed);
            let due = self.shared.is_due() || (rows > 0 && since.elapsed() >= self.shared.options.seal_age);
            let due = due && (!self.seal_failed() || since.elapsed() >= PAUSE);
            if due || (stopping && rows > 0) {
                since = tokio::time::Instant::now();
                let store = self.clone();
                let outcome = tokio::task::spawn_blocking(move || store.seal_now()).await;
                let failed = !matches!(outcome, Ok(Ok(())));
                self.shared.failed.store(failed, Ordering::Relaxed);
                if let Ok(Err(error)) = outcome {
                    tracing::error!(%error, "sealing failed; it is tried again");
                }
            } else if rows == 0 {
                since = tokio::time::Instant::now();
            }
            if stopping {
                return;
            }
        }
    }
}
