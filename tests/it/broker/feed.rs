use std::time::{Duration, Instant};

use bytes::Bytes;
use callfleet::broker::feed::{self, Feed, FeedItem, Position};
use callfleet::broker::{Broker, Options};
use callfleet::domain::{CallId, CallKey, State, Tenant};
use callfleet::service::health::Health;
use callfleet::wire::outgoing::Outgoing;
use callfleet::wire::subject;

use super::scratch::{Scratch, soon};
use crate::proxy::Proxy;
use crate::world::setting;

fn key() -> CallKey {
    CallKey::derive(&Tenant::open_mode(), &CallId::new("a").unwrap())
}

impl Scratch {
    /// Publishes a change a number.
    pub(super) async fn change(&self, numbers: std::ops::Range<u32>) {
        let subject = subject::state(&Tenant::open_mode(), State::InProgress, key());
        let changes: Vec<_> = numbers
            .map(|number| Outgoing {
                msg_id: format!("change {number} {}", fastrand::u64(..)),
                subject: subject.clone(),
                payload: Bytes::from(number.to_string()),
                replaces: false,
            })
            .collect();
        for outcome in self.broker.publish(&changes).await {
            outcome.unwrap();
        }
    }

    /// The names of the feeds' consumers that the server has now.
    async fn feeds(&self) -> Vec<String> {
        use futures_util::TryStreamExt;
        let stream = self.outside.get_stream(self.stream("CALL_STATE")).await.unwrap();
        stream.consumer_names().try_collect().await.unwrap()
    }
}

pub(super) async fn next(feed: &mut Feed) -> FeedItem {
    soon("news", feed.next()).await
}

pub(super) async fn up(feed: &mut Feed) -> u64 {
    match next(feed).await {
        FeedItem::Up { seq, .. } => seq,
        other => panic!("{other:?}"),
    }
}

/// The number of the next change, whatever is said in between about the feed being taken up again.
pub(super) async fn number(feed: &mut Feed) -> u32 {
    loop {
        match next(feed).await {
            FeedItem::Message(message) => {
                assert_eq!(message.key, Some(key()));
                return std::str::from_utf8(&message.payload).unwrap().parse().unwrap();
            }
            FeedItem::Up { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_new_feed_begins_with_the_next_change() {
    let scratch = Scratch::ready().await;
    scratch.change(1..4).await;
    let mut feed = feed::follow(&scratch.broker, Position::New);
    assert_eq!(up(&mut feed).await, 3);
    scratch.change(4..2000).await;
    for expected in 4..2000 {
        assert_eq!(number(&mut feed).await, expected);
    }
    scratch.end().await;
}

#[tokio::test]
async fn a_feed_begins_behind_a_sequence_that_the_stream_still_joins_on_to() {
    let scratch = Scratch::ready().await;
    scratch.change(1..6).await;
    let mut feed = feed::follow(&scratch.broker, Position::After(2));
    assert_eq!(up(&mut feed).await, 2);
    assert_eq!(number(&mut feed).await, 3);

    let stream = scratch.outside.get_stream(scratch.stream("CALL_STATE")).await.unwrap();
    stream.purge().sequence(5).await.unwrap();
    for (after, why) in [(2, "removed unread"), (9, "ends at 5")] {
        match next(&mut feed::follow(&scratch.broker, Position::After(after))).await {
            FeedItem::Reset { seq: 5, reason, .. } => assert!(reason.contains(why), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    scratch.end().await;
}

#[tokio::test]
async fn a_consumer_that_goes_is_replaced_and_nothing_is_left_out_or_said_twice() {
    let scratch = Scratch::ready().await;
    let stream = scratch.outside.get_stream(scratch.stream("CALL_STATE")).await.unwrap();
    // Before its first message too, where an ordered consumer would begin anew.
    scratch.change(1..3).await;
    let mut feed = feed::follow(&scratch.broker, Position::New);
    assert_eq!(up(&mut feed).await, 2);
    for number_now in 3..6 {
        for name in scratch.feeds().await {
            stream.delete_consumer(&name).await.unwrap();
        }
        scratch.change(number_now..number_now + 1).await;
        assert_eq!(number(&mut feed).await, number_now);
    }
    scratch.end().await;
}

#[tokio::test]
async fn a_stream_that_is_deleted_and_made_anew_is_a_reset() {
    let scratch = Scratch::ready().await;
    let mut feed = feed::follow(&scratch.broker, Position::New);
    up(&mut feed).await;
    scratch.change(1..10).await;
    for expected in 1..10 {
        assert_eq!(number(&mut feed).await, expected);
    }
    let before = feed::head(&scratch.broker).await.unwrap();
    scratch.delete_stream("CALL_STATE").await;
    let reset = loop {
        match next(&mut feed).await {
            FeedItem::Reset { stream_created, seq, .. } => break (stream_created, seq),
            FeedItem::Down(_) => {}
            other => panic!("{other:?}"),
        }
    };
    let after = feed::head(&scratch.broker).await.unwrap();
    assert_eq!(reset, (after.created, 0));
    assert_ne!(after.created, before.created);
    // Sequences begin anew, below those already seen.
    scratch.change(1..3).await;
    assert_eq!(number(&mut feed).await, 1);
    assert_eq!(number(&mut feed).await, 2);
    scratch.end().await;
}

#[tokio::test]
async fn a_lost_connection_is_said_and_what_came_meanwhile_is_caught_up_on() {
    let scratch = Scratch::ready().await;
    let proxy = Proxy::to(&setting("NATS_URL")).await;
    let through = Options { nats_url: proxy.url.parse().unwrap(), ..scratch.options.clone() };
    let health = Health::new();
    let broker = Broker::connect(&through, "it", &health).await.unwrap();
    let mut feed = feed::follow(&broker, Position::New);
    up(&mut feed).await;
    scratch.change(1..3).await;
    assert_eq!((number(&mut feed).await, number(&mut feed).await), (1, 2));
    for round in 1..3 {
        proxy.cut();
        let down = next(&mut feed).await;
        assert!(matches!(down, FeedItem::Down(_)), "{down:?}");
        assert!(!broker.is_connected() && health.failures().contains_key("nats"));
        let refused = broker.publish(&[]).await;
        assert!(refused.is_empty());
        let before = round * 10;
        scratch.change(before..before + 5).await;
        // A reader that keeps looking away must not keep the feed from coming back.
        let looking_away = tokio::time::timeout(Duration::from_millis(100), feed.next()).await;
        assert!(looking_away.is_err(), "{looking_away:?}");
        proxy.mend();
        assert_eq!(up(&mut feed).await, u64::from(round * 5 - 3));
        for expected in before..before + 5 {
            assert_eq!(number(&mut feed).await, expected);
        }
        assert!(health.failures().is_empty());
    }
    scratch.end().await;
}

#[tokio::test]
async fn a_server_that_falls_silent_is_said_to_be_down_although_the_connection_stands() {
    let scratch = Scratch::ready().await;
    let proxy = Proxy::to(&setting("NATS_URL")).await;
    let through = Options { nats_url: proxy.url.parse().unwrap(), ..scratch.options.clone() };
    let broker = Broker::connect(&through, "it", &Health::new()).await.unwrap();
    let mut feed = feed::follow(&broker, Position::New);
    up(&mut feed).await;
    proxy.silence();
    let began = Instant::now();
    let down = next(&mut feed).await;
    assert!(matches!(down, FeedItem::Down(_)), "{down:?}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(broker.is_connected());
    scratch.change(1..4).await;
    proxy.mend();
    up(&mut feed).await;
    for expected in 1..4 {
        assert_eq!(number(&mut feed).await, expected);
    }
    scratch.end().await;
}
