//! Getting hold of the state stream: at the start, and whenever it was lost.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{FeedItem, Position};
use crate::broker::api::{self, ApiError};
use crate::broker::connect::Broker;
use crate::broker::pull::{Ask, Pull, PullError};
use crate::broker::topology::{self, TopologyError};

/// Changes asked for at a time.
const ASK_MESSAGES: usize = 512;
/// The longest that one pull waits.
const ASK_EXPIRES: Duration = Duration::from_secs(30);
/// How often the server is to say that it lives: three missed ones are a silence.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Time after which the server forgets a feed that nobody reads.
const FORGET_AFTER: Duration = Duration::from_secs(30);

/// The state stream as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its identity: a stream that is deleted and made again has another.
    pub created: DateTime<Utc>,
    /// The oldest message it still has.
    pub first_seq: u64,
    /// The newest message it has had.
    pub last_seq: u64,
}

/// Looks at the state stream, and creates it where it is missing.
///
/// # Errors
/// When JetStream is away or refuses.
pub async fn head(broker: &Broker) -> Result<Head, TopologyError> {
    let request = format!("STREAM.INFO.{}", stream(broker));
    let info = match api::ask(broker, &request, &json!({})).await {
        Err(error) if error.is_missing() => {
            topology::ensure(broker).await?;
            api::ask(broker, &request, &json!({})).await?
        }
        other => other?,
    };
    let number = |field: &str| info.pointer(field).and_then(Value::as_u64);
    let created = info.get("created").and_then(Value::as_str).and_then(|at| DateTime::parse_from_rfc3339(at).ok());
    match (created, number("/state/first_seq"), number("/state/last_seq")) {
        (Some(created), Some(first_seq), Some(last_seq)) => Ok(Head { created: created.to_utc(), first_seq, last_seq }),
        _ => Err(ApiError::unreadable(&request, "created, first_seq and last_seq").into()),
    }
}

/// How far we are, and how to know the stream again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) created: DateTime<Utc>,
    pub(super) seq: u64,
    /// When the stream took the message at `seq`, if we have seen it.
    pub(super) published_at: Option<DateTime<Utc>>,
}

/// Our consumer, and the pull under way.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) consumer: String,
    pub(super) pull: Pull,
    /// Messages of this consumer that have come.
    pub(super) delivered: u64,
}

/// Finds the stream and our place in it, and asks for what comes behind.
pub(super) async fn attach(
    broker: &Broker,
    from: Position,
    known: Option<Place>,
) -> Result<(Place, Attached, FeedItem), FollowError> {
    let head = head(broker).await?;
    let former = known.or(match from {
        Position::New => None,
        Position::After(seq) => Some(Place { created: head.created, seq, published_at: None }),
    });
    let break_reason = match former {
        Some(place) => discontinuity(broker, place, head).await?,
        None => None,
    };
    let place = match former {
        Some(place) if break_reason.is_none() => place,
        _ => Place { created: head.created, seq: head.last_seq, published_at: None },
    };
    let consumer = create_consumer(broker, place.seq + 1).await?;
    let pull = ask(broker, &consumer).await?;
    // Had the stream been made anew in between, the consumer would wait for a sequence far ahead.
    if self::head(broker).await?.created != place.created {
        return Err(FollowError::Changing);
    }
    let (stream_created, seq) = (place.created, place.seq);
    let item = match break_reason {
        Some(reason) => FeedItem::Reset { stream_created, seq, reason },
        None => FeedItem::Up { stream_created, seq },
    };
    Ok((place, Attached { consumer, pull, delivered: 0 }, item))
}

/// Why the stream cannot be followed now.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    #[error(transparent)]
    Topology(#[from] TopologyError),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error("the state stream is being made anew")]
    Changing,
}

/// Why what comes next would not join on to `place`; none if it does.
async fn discontinuity(broker: &Broker, place: Place, head: Head) -> Result<Option<String>, ApiError> {
    let Place { created, seq, published_at } = place;
    Ok(if head.created != created {
        Some("the state stream was made anew".to_owned())
    } else if head.last_seq < seq {
        Some(format!("the state stream ends at {}, before {seq}", head.last_seq))
    } else if head.first_seq > seq + 1 {
        Some(format!("messages {} to {} were removed unread", seq + 1, head.first_seq - 1))
    } else if let (Some(published_at), true) = (published_at, head.first_seq <= seq) {
        let there = published_at_of(broker, seq).await?;
        there.is_some_and(|there| there != published_at).then(|| format!("message {seq} is not what it was"))
    } else {
        None
    })
}

/// When the stream took the message at `seq`; none if it is there no more.
async fn published_at_of(broker: &Broker, seq: u64) -> Result<Option<DateTime<Utc>>, ApiError> {
    let request = format!("STREAM.MSG.GET.{}", stream(broker));
    match api::ask(broker, &request, &json!({ "seq": seq })).await {
        Ok(answer) => {
            let time = answer.pointer("/message/time").and_then(Value::as_str);
            Ok(time.and_then(|time| DateTime::parse_from_rfc3339(time).ok()).map(|time| time.to_utc()))
        }
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A consumer that lives as long as it is read from.
async fn create_consumer(broker: &Broker, first: u64) -> Result<String, ApiError> {
    let name = format!("feed-{}", Uuid::new_v4().simple());
    let body = json!({
        "stream_name": stream(broker),
        "action": "create",
        "config": {
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": first,
            "ack_policy": "none",
            "replay_policy": "instant",
            "max_deliver": -1,
            "max_waiting": 8,
            "mem_storage": true,
            "num_replicas": 1,
            "inactive_threshold": u64::try_from(FORGET_AFTER.as_nanos()).unwrap_or_default(),
        },
    });
    api::ask(broker, &format!("CONSUMER.CREATE.{}.{name}", stream(broker)), &body).await?;
    Ok(name)
}

/// Asks `consumer` for the next messages.
pub(super) async fn ask(broker: &Broker, consumer: &str) -> Result<Pull, PullError> {
    let ask = Ask { max: ASK_MESSAGES, expires: ASK_EXPIRES, heartbeat: HEARTBEAT };
    Pull::start(broker, &stream(broker), consumer, ask).await
}

fn stream(broker: &Broker) -> String {
    broker.inner().prefix.stream("CALL_STATE")
}
