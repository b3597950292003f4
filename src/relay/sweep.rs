//! What was left behind: by a process that ended between commit and publish, or while the broker was
//! away.

use std::collections::HashSet;
use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::at_once::publish;
use super::jittered;
use crate::broker::Broker;
use crate::store::{Store, StoreError, outbox};

/// Time between two looks, on average.
const INTERVAL: Duration = Duration::from_secs(1);
/// Messages taken at a time.
const TAKEN_TOGETHER: i64 = 1000;
/// Time for which they are kept from others; longer than publishing them may take.
const HOLD: Duration = Duration::from_secs(15);
/// Time after which those that could not be published are tried again: soon after the broker is back,
/// and not in a spin while a stream is full.
const TRY_AGAIN_AFTER: TimeDelta = TimeDelta::seconds(1);

/// Looks every second or so, until `shutdown`.
pub(super) async fn keep_sweeping(store: &Store, broker: &Broker, shutdown: &CancellationToken) {
    let looking = async {
        loop {
            tokio::time::sleep(jittered(INTERVAL)).await;
            match sweep(store, broker).await {
                Ok(0) => {}
                Ok(messages) => tracing::info!(messages, "published what was left behind in the outbox"),
                Err(error) => tracing::debug!(%error, "the outbox could not be looked at"),
            }
        }
    };
    tokio::select! {
        () = looking => {}
        () = shutdown.cancelled() => {}
    }
}

/// Publishes everything that was left behind in the outbox and returns how many messages that were.
///
/// # Errors
/// When the database is away.
pub async fn sweep(store: &Store, broker: &Broker) -> Result<usize, StoreError> {
    let mut swept = 0;
    // While the broker is away a look would only push the messages further into the future.
    while broker.is_connected() {
        let left_behind = outbox::lease(store, TAKEN_TOGETHER, HOLD).await?;
        let taken = left_behind.len();
        let names: Vec<String> = left_behind.iter().map(|message| message.msg_id.clone()).collect();
        let (safe, failure) = publish(broker, left_behind).await;
        if !safe.is_empty() {
            outbox::delete(store, &safe).await?;
        }
        swept += safe.len();
        metrics::counter!("callfleet_relay_swept_total").increment(safe.len() as u64);
        let is_all = i64::try_from(taken).is_ok_and(|taken| taken < TAKEN_TOGETHER);
        if let Some((left, reason)) = failure {
            tracing::warn!(left, reason, "messages stay in the outbox");
            let safe: HashSet<String> = safe.into_iter().collect();
            let unsafe_yet: Vec<String> = names.into_iter().filter(|name| !safe.contains(name)).collect();
            outbox::put_back(store, &unsafe_yet, store.now() + TRY_AGAIN_AFTER).await?;
            break;
        }
        if is_all {
            break;
        }
    }
    Ok(swept)
}
