//! A server of the test's own, which dies, comes back, and loses its store.

use std::time::Duration;

use callfleet::broker::feed::{self, Feed, FeedItem, Position};
use callfleet::broker::{ConsumeError, PublishError, Published, PullError, topology};
use callfleet::dev::data_dir::DataDir;
use callfleet::dev::nats::PrivateNats;
use callfleet::dev::programs::Programs;
use callfleet::dev::servers::Durability;
use callfleet::domain::Lane;

use super::feed as changes;
use super::jobs::{self, job};
use super::scratch::{Scratch, soon};

struct Server {
    nats: PrivateNats,
    folder: tempfile::TempDir,
    _data: DataDir,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        let nats_server = std::env::var_os("CALLFLEET_NATS_SERVER").map(Into::into);
        let programs = Programs { nats_server, postgres_bin: None };
        let nats = PrivateNats::start(&data, &programs, Durability::None).await.unwrap();
        Self { nats, folder, _data: data }
    }

    fn lose_the_store(&self) {
        std::fs::remove_dir_all(self.folder.path().join("nats/store")).unwrap();
    }
}

async fn down(feed: &mut Feed) {
    match changes::next(feed).await {
        FeedItem::Down(_) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_was_killed_and_comes_back_is_worked_with_as_before() {
    let mut server = Server::start().await;
    let scratch = Scratch::at(server.nats.url()).await;
    topology::ensure(&scratch.broker).await.unwrap();
    let consumer = scratch.broker.consumer(Lane::Live);
    let mut feed = feed::follow(&scratch.broker, Position::New);
    changes::up(&mut feed).await;
    scratch.change(1..4).await;
    for expected in 1..4 {
        assert_eq!(changes::number(&mut feed).await, expected);
    }
    scratch.publish_one(job("a", "a-1")).await.unwrap();
    let held = jobs::next(&consumer).await;
    let mut pull = consumer.pull(1, Duration::from_secs(30)).await.unwrap();

    server.nats.kill().await.unwrap();
    let ended = soon("the end of the pull", pull.next()).await;
    assert!(matches!(ended, Err(ConsumeError::Pull(PullError::Disconnected))), "{ended:?}");
    assert_eq!(scratch.publish_one(job("b", "b-1")).await, Err(PublishError::Disconnected));
    down(&mut feed).await;

    server.nats.restart().await.unwrap();
    soon("the connection", scratch.broker.connected()).await;
    assert_eq!(changes::up(&mut feed).await, 3);
    scratch.change(4..6).await;
    assert_eq!((changes::number(&mut feed).await, changes::number(&mut feed).await), (4, 5));
    assert_eq!(scratch.publish_one(job("a", "a-2")).await, Ok(Published::AlreadyQueued));
    // A server notes deliveries some 100 ms after it made them. One killed before that knows nothing of
    // this one: an acknowledgement from before says nothing to it, and the job comes again.
    if held.ack_confirmed().await.is_err() {
        jobs::next(&consumer).await.ack_confirmed().await.unwrap();
    }
    assert_eq!(scratch.publish_one(job("a", "a-3")).await, Ok(Published::Stored));
    jobs::next(&consumer).await.ack().await.unwrap();
    server.nats.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_comes_back_without_its_store_is_set_up_again() {
    let mut server = Server::start().await;
    let scratch = Scratch::at(server.nats.url()).await;
    topology::ensure(&scratch.broker).await.unwrap();
    let consumer = scratch.broker.consumer(Lane::Live);
    let mut feed = feed::follow(&scratch.broker, Position::New);
    changes::up(&mut feed).await;
    scratch.change(1..4).await;
    for expected in 1..4 {
        assert_eq!(changes::number(&mut feed).await, expected);
    }
    scratch.publish_one(job("a", "a-1")).await.unwrap();

    server.nats.stop().await.unwrap();
    server.lose_the_store();
    down(&mut feed).await;
    server.nats.restart().await.unwrap();
    soon("the connection", scratch.broker.connected()).await;
    let reset = changes::next(&mut feed).await;
    assert!(matches!(reset, FeedItem::Reset { seq: 0, .. }), "{reset:?}");
    // The same job under the same name: nothing of the lost one is remembered.
    assert_eq!(scratch.publish_one(job("a", "a-1")).await, Ok(Published::Stored));
    let delivery = soon("the job", async {
        loop {
            // The consumer may be found missing first.
            if let Ok(mut pull) = consumer.pull(1, Duration::from_secs(5)).await
                && let Ok(Some(delivery)) = pull.next().await
            {
                return delivery;
            }
        }
    })
    .await;
    assert_eq!(delivery.deliveries, 1);
    delivery.ack().await.unwrap();
    scratch.change(7..8).await;
    assert_eq!(changes::number(&mut feed).await, 7);
    assert_eq!(topology::check(&scratch.broker).await.unwrap(), []);
    server.nats.stop().await.unwrap();
}
