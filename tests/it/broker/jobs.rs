use std::time::Duration;

use bytes::Bytes;
use callfleet::broker::{ConsumeError, Consumer, Delivery, PublishError, Published, PullError};
use callfleet::domain::{CallId, CallKey, Lane, Tenant};
use callfleet::wire::job::Job;
use callfleet::wire::outgoing::Outgoing;
use callfleet::wire::subject;

use super::scratch::{Scratch, soon};

/// Well over the test's `ack_wait` of 1 s: whatever would be redelivered is, within it.
const LONGER_THAN_ACK_WAIT: Duration = Duration::from_secs(3);

pub(super) fn job(call_id: &str, msg_id: &str) -> Outgoing {
    let tenant = Tenant::open_mode();
    let key = CallKey::derive(&tenant, &CallId::new(call_id).unwrap());
    let body = Job { v: 1, key: key.as_uuid(), generation: 1 };
    Outgoing {
        msg_id: msg_id.to_owned(),
        subject: subject::work(Lane::Live, &tenant, key),
        payload: serde_json::to_vec(&body).unwrap().into(),
        replaces: false,
    }
}

impl Scratch {
    pub(super) async fn publish_one(&self, message: Outgoing) -> Result<Published, PublishError> {
        self.broker.publish(&[message]).await.remove(0)
    }
}

pub(super) async fn next(consumer: &Consumer) -> Delivery {
    soon("a job", async {
        loop {
            let mut pull = consumer.pull(1, Duration::from_secs(5)).await.unwrap();
            if let Some(delivery) = pull.next().await.unwrap() {
                return delivery;
            }
        }
    })
    .await
}

async fn nothing_comes(consumer: &Consumer) {
    let mut pull = consumer.pull(1, LONGER_THAN_ACK_WAIT).await.unwrap();
    let unwanted = pull.next().await.unwrap();
    assert!(unwanted.is_none(), "{unwanted:?}");
}

#[tokio::test]
async fn one_message_per_call() {
    let scratch = Scratch::ready().await;
    let consumer = scratch.broker.consumer(Lane::Live);
    let first = job("a", "a-1");
    assert_eq!(scratch.publish_one(first.clone()).await, Ok(Published::Stored));
    assert_eq!(scratch.publish_one(first).await, Ok(Published::Duplicate));
    // The same refused message again and again: its name must not be remembered as stored.
    let second = || scratch.publish_one(job("a", "a-2"));
    assert_eq!(second().await, Ok(Published::AlreadyQueued), "while the first waits");
    let delivery = next(&consumer).await;
    assert_eq!(second().await, Ok(Published::AlreadyQueued), "while the first is worked on");
    delivery.retry_after(Duration::from_millis(300)).await.unwrap();
    assert_eq!(second().await, Ok(Published::AlreadyQueued), "while the first is delayed");
    let delivery = next(&consumer).await;
    assert_eq!(delivery.deliveries, 2);
    assert_eq!(scratch.publish_one(job("b", "b-1")).await, Ok(Published::Stored), "another call is not concerned");
    next(&consumer).await.ack().await.unwrap();
    delivery.ack_confirmed().await.unwrap();
    assert_eq!(second().await, Ok(Published::Stored), "after the acknowledgement");
    let delivery = next(&consumer).await;
    delivery.terminate("no use\r\n").await.unwrap();
    soon("a free subject", async { while scratch.publish_one(job("a", "a-3")).await != Ok(Published::Stored) {} })
        .await;
    scratch.end().await;
}

#[tokio::test]
async fn a_job_that_nobody_acknowledged_comes_again_unless_progress_is_told() {
    let scratch = Scratch::ready().await;
    let consumer = scratch.broker.consumer(Lane::Live);
    scratch.publish_one(job("a", "a-1")).await.unwrap();
    let held = next(&consumer).await;
    let mut told = tokio::time::interval(Duration::from_millis(300));
    let mut pull = consumer.pull(1, LONGER_THAN_ACK_WAIT).await.unwrap();
    let came = loop {
        tokio::select! {
            came = pull.next() => break came.unwrap(),
            _ = told.tick() => held.progress().await.unwrap(),
        }
    };
    assert!(came.is_none(), "{came:?}");
    let again = next(&consumer).await;
    assert_eq!((again.deliveries, again.sequence), (2, held.sequence));
    assert_eq!(again.job.unwrap().generation, 1);
    scratch.end().await;
}

#[tokio::test]
async fn a_replacing_job_takes_the_place_of_one_in_dead_hands() {
    let scratch = Scratch::ready().await;
    let consumer = scratch.broker.consumer(Lane::Live);
    scratch.publish_one(job("a", "a-1")).await.unwrap();
    let dead = next(&consumer).await;
    let replacing = Outgoing { replaces: true, ..job("a", "a-2") };
    assert_eq!(scratch.publish_one(replacing.clone()).await, Ok(Published::Stored));
    let delivery = next(&consumer).await;
    assert_eq!((delivery.sequence, delivery.deliveries), (2, 1));
    // A second relay with the same row does not tear the job out of the new holder's hands.
    assert_eq!(scratch.publish_one(replacing).await, Ok(Published::Duplicate));
    dead.ack_confirmed().await.unwrap();
    assert_eq!(scratch.publish_one(job("a", "a-3")).await, Ok(Published::AlreadyQueued));
    delivery.ack_confirmed().await.unwrap();
    nothing_comes(&consumer).await;
    scratch.end().await;
}

#[tokio::test]
async fn a_message_that_is_no_job_says_so() {
    let scratch = Scratch::ready().await;
    for payload in ["{\"v\":1}", "{\"v\":9,\"key\":\"00000000-0000-0000-0000-000000000000\",\"generation\":1}"] {
        let mut message = job("a", payload);
        message.payload = Bytes::from_static(payload.as_bytes());
        scratch.publish_one(message).await.unwrap();
        let delivery = next(&scratch.broker.consumer(Lane::Live)).await;
        assert!(delivery.job.is_err(), "{:?}", delivery.job);
        delivery.ack_confirmed().await.unwrap();
    }
    scratch.end().await;
}

#[tokio::test]
async fn a_job_published_after_the_store_was_wiped_finds_its_stream_again() {
    let scratch = Scratch::ready().await;
    let consumer = scratch.broker.consumer(Lane::Live);
    // A first job shows that the server has the pull, whose end it then tells.
    scratch.publish_one(job("first", "first")).await.unwrap();
    let mut pull = consumer.pull(2, Duration::from_secs(30)).await.unwrap();
    soon("a job", pull.next()).await.unwrap().unwrap();
    for name in ["CALL_WORK", "CALL_STATE", "CALL_DLQ"] {
        scratch.delete_stream(name).await;
    }
    let gone = soon("the end of the pull", pull.next()).await;
    assert!(matches!(gone, Err(ConsumeError::Pull(PullError::Gone(_)))), "{gone:?}");
    let all: Vec<_> = (0..50).map(|n| job(&format!("call {n}"), &format!("m-{n}"))).collect();
    assert!(scratch.broker.publish(&all).await.iter().all(|outcome| *outcome == Ok(Published::Stored)));
    for _ in 0..50 {
        next(&consumer).await.ack().await.unwrap();
    }
    scratch.end().await;
}

#[tokio::test]
async fn a_consumer_that_was_deleted_is_made_again() {
    let scratch = Scratch::ready().await;
    let consumer = scratch.broker.consumer(Lane::Replay);
    let stream = scratch.outside.get_stream(scratch.stream("CALL_WORK")).await.unwrap();
    stream.delete_consumer("replay").await.unwrap();
    let gone = soon("a refusal", async {
        let mut pull = consumer.pull(1, Duration::from_secs(5)).await.unwrap();
        pull.next().await
    })
    .await;
    assert!(matches!(gone, Err(ConsumeError::Pull(PullError::Gone(_)))), "{gone:?}");
    nothing_comes(&consumer).await;
    stream.get_consumer::<async_nats::jetstream::consumer::pull::Config>("replay").await.unwrap();
    scratch.end().await;
}

#[tokio::test]
async fn jobs_come_as_they_are_queued_while_a_pull_waits() {
    let scratch = Scratch::ready().await;
    let mut pull = scratch.broker.consumer(Lane::Live).pull(10, Duration::from_secs(10)).await.unwrap();
    for n in 0..3 {
        scratch.publish_one(job(&format!("call {n}"), &format!("m-{n}"))).await.unwrap();
        let delivery = soon("a job", pull.next()).await.unwrap().unwrap();
        delivery.ack().await.unwrap();
    }
    scratch.end().await;
}
