//! The leases that this worker holds, kept alive by one statement for all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::{CallKey, Lease};
use crate::store::{Store, calls};

/// Pause before the next try when the database is away.
const AWAY_PAUSE: Duration = Duration::from_millis(500);

/// The leases of the jobs that run. A clone is the same list.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    running: Arc<Mutex<HashMap<Uuid, Running>>>,
}

#[derive(Debug)]
struct Running {
    key: CallKey,
    until: DateTime<Utc>,
    lost: CancellationToken,
}

/// A lease that is renewed until this is dropped.
#[derive(Debug)]
pub struct Guard {
    token: Uuid,
    lost: CancellationToken,
    leases: Leases,
}

impl Leases {
    /// Keeps `lease` on the call of `key` alive.
    #[must_use]
    pub fn hold(&self, key: CallKey, lease: Lease) -> Guard {
        let lost = CancellationToken::new();
        self.lock().insert(lease.token, Running { key, until: lease.until, lost: lost.clone() });
        Guard { token: lease.token, lost, leases: self.clone() }
    }

    /// How many are held.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Renews all leases at a third of their length until `end`.
    pub async fn keep(self, store: Store, length: Duration, end: CancellationToken) {
        let mut pause = length / 3;
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = if self.renew(&store, length).await { length / 3 } else { AWAY_PAUSE.min(length / 3) };
        }
    }

    /// Renews all leases once, and tells the jobs whose lease is lost. False when the database is away.
    pub async fn renew(&self, store: &Store, length: Duration) -> bool {
        let held: Vec<(CallKey, Uuid)> = self.lock().iter().map(|(token, running)| (running.key, *token)).collect();
        if held.is_empty() {
            return true;
        }
        let until = store.now() + length;
        match calls::renew_leases(store, &held, until).await {
            Ok(renewed) => {
                self.renewed(&held, &renewed, until);
                true
            }
            Err(error) => {
                tracing::warn!(%error, leases = held.len(), "leases could not be renewed");
                self.expire(store.now());
                false
            }
        }
    }

    fn renewed(&self, held: &[(CallKey, Uuid)], renewed: &[Uuid], until: DateTime<Utc>) {
        let mut running = self.lock();
        for (_, token) in held {
            let Some(lease) = running.get_mut(token) else { continue };
            if renewed.contains(token) {
                lease.until = until;
            } else {
                lease.lost.cancel();
            }
        }
    }

    /// Nobody can tell whether these still stand: another worker may have taken the calls.
    fn expire(&self, now: DateTime<Utc>) {
        self.lock().values().filter(|lease| lease.until <= now).for_each(|lease| lease.lost.cancel());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guard {
    /// The token that the lease is held by.
    #[must_use]
    pub const fn token(&self) -> Uuid {
        self.token
    }

    /// Waits until the lease is lost.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Whether the lease, as last renewed, still stands at `now`.
    #[must_use]
    pub fn stands(&self, now: DateTime<Utc>) -> bool {
        !self.lost.is_cancelled() && self.leases.lock().get(&self.token).is_some_and(|lease| lease.until > now)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.leases.lock().remove(&self.token);
    }
}
