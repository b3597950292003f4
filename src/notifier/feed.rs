//! The state stream, taken in once for all connections.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::Instant;

use super::Notifier;
use super::hub::Hub;
use super::source::{News, Source};
use crate::broker::feed::{self, FeedItem, Position, StateMessage};
use crate::broker::{self, Broker};
use crate::domain::{CallId, CallKey, Tenant};
use crate::service::health::Health;
use crate::store::Store;
use crate::wire::feed::StateChanged;

/// Pause between two tries to connect at the start.
const CONNECT_PAUSE: Duration = Duration::from_secs(1);
/// Time that clients get to take their leave.
const DRAIN: Duration = Duration::from_secs(8);

/// Feeds a notifier until its shutdown, and then sees its clients off. `health` has the stream as
/// its part `feed`.
///
/// # Errors
/// Never; the type is that of a role's tasks.
pub async fn run(notifier: Notifier, broker: Broker, health: Health) -> anyhow::Result<()> {
    let shared = &*notifier.shared;
    health.failing("feed", "the state stream is not followed yet");
    tokio::select! {
        never = follow(&shared.hub, &shared.store, &broker, &health) => match never {},
        () = shared.shutdown.cancelled() => {}
    }
    see_off(&notifier).await;
    Ok(())
}

/// As [`run`], connecting first for as long as it takes: clients are told meanwhile that their
/// source is down.
///
/// # Errors
/// Never; the type is that of a role's tasks.
pub async fn run_connecting(notifier: Notifier, broker: broker::Options, health: Health) -> anyhow::Result<()> {
    let connecting = async {
        loop {
            match Broker::connect(&broker, "notifier", &health).await {
                Ok(broker) => return broker,
                Err(error) => {
                    tracing::warn!(%error, "no broker yet: supervisors see the present, and that no news come");
                    health.failing("feed", error.to_string());
                }
            }
            tokio::time::sleep(CONNECT_PAUSE).await;
        }
    };
    tokio::select! {
        broker = connecting => run(notifier, broker, health).await,
        () = notifier.shared.shutdown.cancelled() => {
            see_off(&notifier).await;
            Ok(())
        }
    }
}

async fn see_off(notifier: &Notifier) {
    let connections = &notifier.shared.connections;
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!(open = connections.len(), "supervisors still connected at the end of the drain");
    }
}

async fn follow(hub: &Hub, store: &Store, broker: &Broker, health: &Health) -> Infallible {
    let mut feed = feed::follow(broker, Position::New);
    let mut began = false;
    loop {
        match feed.next().await {
            FeedItem::Message(message) => hear(hub, store, &message),
            FeedItem::Up { seq, .. } => {
                if std::mem::replace(&mut began, true) {
                    hub.advance(seq);
                } else {
                    // Who came before the first news may have missed some.
                    hub.reset(seq);
                }
                hub.set_source(|source| source.come(seq));
                health.ok("feed");
            }
            FeedItem::Reset { seq, reason, .. } => {
                tracing::warn!(reason, "changes were missed: all supervisors get a new snapshot");
                began = true;
                hub.reset(seq);
                hub.set_source(|source| source.come(seq));
                health.ok("feed");
            }
            FeedItem::Down(reason) => {
                hub.set_source(Source::go);
                health.failing("feed", reason);
            }
        }
    }
}

fn hear(hub: &Hub, store: &Store, message: &StateMessage) {
    let change: StateChanged = match serde_json::from_slice(&message.payload) {
        Ok(change) => change,
        Err(error) => {
            tracing::warn!(seq = message.seq, %error, "a change cannot be read");
            metrics::counter!("callfleet_feed_unreadable_total").increment(1);
            return hub.advance(message.seq);
        }
    };
    let Some(key) = message.key.or_else(|| key_of(&change)) else {
        tracing::warn!(seq = message.seq, "a change is of no call");
        return hub.advance(message.seq);
    };
    let lag = (store.now() - change.at).to_std().unwrap_or(Duration::ZERO);
    metrics::histogram!("callfleet_feed_lag_seconds").record(lag);
    let news = News { lag, pending: message.pending, heard_at: Instant::now() };
    hub.set_source(|source| source.hear(message.seq, news));
    hub.dispatch(message.seq, key, change);
}

fn key_of(change: &StateChanged) -> Option<CallKey> {
    let tenant = Tenant::new(change.call.tenant.as_str()).ok()?;
    Some(CallKey::derive(&tenant, &CallId::new(change.call.call_id.as_str()).ok()?))
}
