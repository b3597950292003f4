//! The present as one client is to see it, read page by page.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Filter, Shared};
use crate::domain::{Call, CallId, CallKey, State, Tenant};
use crate::store::StoreError;
use crate::store::present::{self, Cursor};
use crate::wire::call::CallSummary;

/// Rows read at a time.
const PAGE_CALLS: i64 = 500;
/// Calls in a snapshot; of more, the newest in each state up to here.
pub(super) const SNAPSHOT_MAX_CALLS: u64 = 100_000;
/// How long archived calls stay in view.
const ARCHIVED_FOR: Duration = Duration::from_hours(1);
/// Time for a page, waiting for its turn included.
const PAGE_TIMEOUT: Duration = Duration::from_secs(15);

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    /// The database does not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It takes too long.
    #[error("no answer from PostgreSQL within {} s", PAGE_TIMEOUT.as_secs())]
    TooSlow,
}

/// A snapshot on its way. Several reads, so it may hold a call twice as it went from state to
/// state, or miss one that the stream, taken up before, brings.
#[derive(Debug)]
pub(super) struct Snapshot<'a> {
    shared: &'a Shared,
    filter: &'a Filter,
    queues: Option<Vec<String>>,
    archived_since: DateTime<Utc>,
    states: VecDeque<State>,
    cursor: Cursor,
    /// Calls asked for by id, read at once.
    by_id: Option<Vec<Call>>,
    left: u64,
}

impl<'a> Snapshot<'a> {
    pub(super) fn new(shared: &'a Shared, filter: &'a Filter) -> Self {
        Self {
            shared,
            filter,
            queues: filter.queues(),
            archived_since: shared.store.now() - ARCHIVED_FOR,
            states: filter.states().collect(),
            cursor: Cursor::newest(),
            by_id: None,
            left: SNAPSHOT_MAX_CALLS,
        }
    }

    /// How many calls it will hold.
    pub(super) async fn count(&mut self) -> Result<u64, SnapshotError> {
        if let Some(ids) = self.filter.call_ids() {
            let tenant = Tenant::open_mode();
            let keys: Vec<CallKey> = ids
                .iter()
                .filter_map(|id| CallId::new(id.as_str()).ok())
                .map(|id| CallKey::derive(&tenant, &id))
                .collect();
            let mut calls = self.read(Box::pin(present::of(&self.shared.store, &keys))).await?;
            calls.retain(|call| self.holds(call));
            let count = calls.len() as u64;
            self.by_id = Some(calls);
            return Ok(count);
        }
        let states: Vec<State> = self.states.iter().copied().collect();
        let limit = i64::try_from(SNAPSHOT_MAX_CALLS).unwrap_or(i64::MAX);
        let (store, queues) = (&self.shared.store, self.queues.as_deref());
        self.read(present::count(store, &states, queues, self.archived_since, limit)).await
    }

    /// The next calls; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Call>>, SnapshotError> {
        if self.filter.call_ids().is_some() {
            return Ok(self.by_id.take());
        }
        let limit = PAGE_CALLS.min(i64::try_from(self.left).unwrap_or(PAGE_CALLS));
        let Some(state) = self.states.front().copied().filter(|_| limit > 0) else { return Ok(None) };
        let (store, queues) = (&self.shared.store, self.queues.as_deref());
        let calls = if state == State::Archived {
            self.read(present::archived_page(store, self.archived_since, queues, self.cursor, limit)).await?
        } else {
            self.read(present::page(store, state, queues, self.cursor, limit)).await?
        };
        self.left = self.left.saturating_sub(calls.len() as u64);
        match calls.last() {
            Some(last) if i64::try_from(calls.len()) == Ok(limit) => self.cursor = Cursor::behind(last),
            _ => {
                self.states.pop_front();
                self.cursor = Cursor::newest();
            }
        }
        Ok(Some(calls))
    }

    fn holds(&self, call: &Call) -> bool {
        call.archived_at.is_none_or(|at| at >= self.archived_since) && self.filter.matches(&CallSummary::from(call))
    }

    async fn read<T>(&self, page: impl Future<Output = Result<T, StoreError>>) -> Result<T, SnapshotError> {
        let turn = async {
            // Never closed: an error here would only let the read go first.
            let _place = self.shared.snapshots.acquire().await;
            page.await
        };
        Ok(tokio::time::timeout(PAGE_TIMEOUT, turn).await.map_err(|_| SnapshotError::TooSlow)??)
    }
}
