//! The changes of state, in order, for one notifier: nothing is left out without saying so.
//!
//! An ordered consumer of the client library replays the stream when it is recreated before its
//! first message, and takes a stream that was made anew for the old one. Here every consumer starts
//! behind the last message that was handed out, and before that the stream is looked at: is it the
//! same one, does it still hold what comes next, and is our last message still what it was?

mod attach;

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::jetstream::{self, message};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::connect::{Broker, jittered};
use super::consume::instant;
use super::pull::{Arrival, PullError};
use crate::domain::CallKey;
use attach::{Attached, FollowError, Place};
pub use attach::{Head, head};

/// Pause after an attempt to follow the stream failed.
const RETRY: Duration = Duration::from_millis(500);
/// Pause before the first attempt, so that a server which ends every pull is not asked in a spin.
const RESUME: Duration = Duration::from_millis(50);
/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// With the next change from now on.
    New,
    /// Behind the message with this sequence.
    After(u64),
}

/// What a feed has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedItem {
    /// The next change.
    Message(StateMessage),
    /// The stream is being followed, at the start or again, and nothing was missed: everything up to
    /// `seq` has been handed out, or was there before the start.
    Up {
        /// The stream's identity.
        stream_created: DateTime<Utc>,
        /// The position.
        seq: u64,
    },
    /// The stream is being followed, but what comes next does not join on to what came before.
    /// Whoever wants the whole picture takes it from the database now; what follows comes on top.
    Reset {
        /// The stream's identity, a new one if it was made anew.
        stream_created: DateTime<Utc>,
        /// The position, which may be lower than before.
        seq: u64,
        /// What happened.
        reason: String,
    },
    /// Nothing comes until the next `Up` or `Reset`, and why.
    Down(String),
}

/// A change of state as the stream holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateMessage {
    /// Its place in the stream.
    pub seq: u64,
    /// A [`crate::wire::feed::StateChanged`], unread.
    pub payload: Bytes,
    /// The call, from the subject.
    pub key: Option<CallKey>,
    /// When the stream took it.
    pub published_at: DateTime<Utc>,
    /// Changes that wait behind it.
    pub pending: u64,
}

/// Follows the state stream from `from`. Needs no task: it moves while [`Feed::next`] is awaited.
#[must_use]
pub fn follow(broker: &Broker, from: Position) -> Feed {
    let phase = Phase::attaching(broker, from, None, Wait::Not);
    Feed { broker: broker.clone(), from, place: None, phase, ready: VecDeque::new(), down: false }
}

/// A feed under way.
pub struct Feed {
    broker: Broker,
    from: Position,
    place: Option<Place>,
    phase: Phase,
    ready: VecDeque<FeedItem>,
    /// Whether `Down` was the last word.
    down: bool,
}

/// Attaching is kept here, not in the caller's await, so that it goes on when that is dropped.
enum Phase {
    Attaching(BoxFuture<'static, Result<(Place, Attached, FeedItem), FollowError>>),
    Attached(Attached),
}

impl Phase {
    fn attaching(broker: &Broker, from: Position, place: Option<Place>, wait: Wait) -> Self {
        let broker = broker.clone();
        let attach = async move {
            match wait {
                Wait::Not => {}
                Wait::ABit => tokio::time::sleep(jittered(RESUME)).await,
                Wait::ForConnection => {
                    tokio::time::sleep(jittered(RETRY)).await;
                    broker.connected().await;
                }
            }
            attach::attach(&broker, from, place).await
        };
        Self::Attaching(attach.boxed())
    }
}

/// What comes before an attempt.
enum Wait {
    Not,
    /// Nobody has been told yet: this attempt shows whether there is something to tell.
    ABit,
    /// `Down` has been said.
    ForConnection,
}

impl Feed {
    /// What comes next; never ends. Safe to drop and call again.
    pub async fn next(&mut self) -> FeedItem {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return item;
            }
            match &mut self.phase {
                Phase::Attaching(attaching) => match attaching.await {
                    Ok((place, attached, item)) => {
                        (self.place, self.phase, self.down) = (Some(place), Phase::Attached(attached), false);
                        self.say(item);
                    }
                    Err(error) => {
                        self.say_down(error.to_string());
                        self.detach();
                    }
                },
                Phase::Attached(attached) => match attached.pull.next().await {
                    Ok(Some(arrival)) => {
                        if let Err(reason) = self.arrived(arrival) {
                            tracing::debug!(reason, "the state feed is taken up again");
                            self.detach();
                        }
                    }
                    Ok(None) => match attach::ask(&self.broker, &attached.consumer).await {
                        Ok(pull) => attached.pull = pull,
                        Err(error) => self.lost(&error),
                    },
                    Err(error) => self.lost(&error),
                },
            }
        }
    }

    /// Takes in a message, or the server's count of messages, and notices what was lost on the way.
    fn arrived(&mut self, arrival: Arrival) -> Result<(), String> {
        let (Phase::Attached(attached), Some(place)) = (&mut self.phase, &mut self.place) else {
            return Err("nothing is followed".to_owned());
        };
        let message = match arrival {
            Arrival::Heartbeat { delivered } if delivered.is_some_and(|count| count != attached.delivered) => {
                return Err("a message was lost on the way".to_owned());
            }
            Arrival::Heartbeat { .. } => return Ok(()),
            Arrival::Message(message) => message,
        };
        let message = jetstream::Message { message, context: self.broker.inner().jetstream.clone() };
        let info = message.info().map_err(|error| error.to_string())?;
        if info.consumer_sequence != attached.delivered + 1 {
            return Err("a message was lost on the way".to_owned());
        }
        attached.delivered = info.consumer_sequence;
        let state = state_message(&message.message, &info).ok_or("a message has no time")?;
        let (stream_created, expected) = (place.created, place.seq + 1);
        (place.seq, place.published_at) = (state.seq, Some(state.published_at));
        if state.seq != expected {
            let reason = format!("messages {expected} to {} were removed unread", state.seq - 1);
            self.say(FeedItem::Reset { stream_created, seq: state.seq - 1, reason });
        }
        self.say(FeedItem::Message(state));
        Ok(())
    }

    /// A consumer that went while the server is there may be replaced before anybody notices; of a
    /// server that is not, there is no news until it is back.
    fn lost(&mut self, error: &PullError) {
        if matches!(error, PullError::Disconnected | PullError::Silent) {
            self.say_down(error.to_string());
        }
        self.detach();
    }

    fn detach(&mut self) {
        metrics::counter!("callfleet_feed_interruptions_total").increment(1);
        let wait = if self.down { Wait::ForConnection } else { Wait::ABit };
        self.phase = Phase::attaching(&self.broker, self.from, self.place, wait);
    }

    fn say_down(&mut self, reason: String) {
        if !std::mem::replace(&mut self.down, true) {
            self.say(FeedItem::Down(reason));
        }
    }

    fn say(&mut self, item: FeedItem) {
        match &item {
            FeedItem::Message(_) => {}
            FeedItem::Up { seq, .. } => tracing::info!(seq, "following the state stream"),
            FeedItem::Reset { seq, reason, .. } => {
                metrics::counter!("callfleet_feed_resets_total").increment(1);
                tracing::warn!(seq, reason, "the state stream does not join on to what came before");
            }
            FeedItem::Down(reason) => tracing::warn!(reason, "the state stream cannot be followed"),
        }
        self.ready.push_back(item);
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("place", &self.place).field("down", &self.down).finish_non_exhaustive()
    }
}

fn state_message(message: &async_nats::Message, info: &message::Info<'_>) -> Option<StateMessage> {
    Some(StateMessage {
        seq: info.stream_sequence,
        payload: message.payload.clone(),
        key: message.subject.rsplit('.').next().and_then(CallKey::parse),
        published_at: instant(info.published.unix_timestamp_nanos())?,
        pending: info.pending,
    })
}
