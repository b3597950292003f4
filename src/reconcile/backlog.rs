//! Whether what was committed gets out: what `/readyz` says of the outbox.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use crate::service::health::Health;
use crate::store::Store;
use crate::store::outbox::{self, Depth};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(5);
/// Age from which on the oldest message should be gone, were any relay able to send it.
const LATE: TimeDelta = TimeDelta::seconds(15);

/// Reports the part `outbox` to `health` until `stop`: it fails when messages wait and none gets out,
/// as while a stream is full or NATS is away for every relay.
///
/// # Errors
/// Never; the type is that of a role's tasks.
pub async fn watch_backlog(store: Store, health: Health, stop: CancellationToken) -> anyhow::Result<()> {
    let mut former = None;
    loop {
        match outbox::depth(&store).await {
            Ok(depth) => {
                match trouble(former, depth, store.now()) {
                    None => health.ok("outbox"),
                    Some(trouble) => health.failing("outbox", trouble),
                }
                former = Some(depth);
            }
            // Another part says that the database is away.
            Err(error) => tracing::debug!(%error, "the outbox could not be looked at"),
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Why the outbox does not move; none when it does. A long backlog is none: its oldest message changes.
fn trouble(former: Option<Depth>, depth: Depth, now: DateTime<Utc>) -> Option<String> {
    let oldest = depth.oldest?;
    let stays = former.is_some_and(|former| former.oldest == Some(oldest));
    let late = now - oldest;
    (stays && late > LATE)
        .then(|| format!("{} messages wait in the outbox, the oldest for {} s", depth.waiting, late.num_seconds()))
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::{Depth, LATE, trouble};

    #[test]
    fn a_backlog_is_stuck_only_when_its_oldest_message_stays_and_is_late() {
        let now = Utc::now();
        let depth = |age| Depth { waiting: 3, oldest: Some(now - age) };
        let (late, young) = (LATE * 2, LATE / 2);
        assert_eq!(trouble(None, depth(late), now), None);
        assert_eq!(trouble(Some(depth(late * 2)), depth(late), now), None);
        assert_eq!(trouble(Some(depth(young)), depth(young), now), None);
        assert_eq!(trouble(Some(depth(late)), Depth { waiting: 0, oldest: None }, now), None);
        assert!(trouble(Some(depth(late)), depth(late), now).is_some_and(|text| text.starts_with("3 messages")));
    }
}
