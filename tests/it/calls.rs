//! Calls as tests need them, put into a world past its doors.

use std::time::Duration;

use callfleet::broker::Delivery;
use callfleet::domain::{Call, CallId, CallKey, End, Lane, Metadata, Packet, State, Tenant};
use callfleet::store::calls::EndMark;
use callfleet::store::{calls, change, packets};

use crate::wait;
use crate::world::World;

impl World {
    /// Lets time pass at once.
    pub(crate) fn advance(&self, by: Duration) {
        self.store.clock().advance(by);
    }

    /// A call in progress with packets of these sequences.
    pub(crate) async fn open(&self, id: &str, sequences: &[i64]) -> CallKey {
        let now = self.store.now();
        let call_id = CallId::new(id).unwrap();
        let opening = Call::open(Tenant::open_mode(), call_id, Metadata::default(), now, &self.policy);
        let key = opening.call.key;
        let mut tx = self.store.begin().await.unwrap();
        let (_, outgoing) = calls::open(&mut tx, &[opening], now).await.unwrap();
        tx.commit().await.unwrap();
        self.relay.send(outgoing);
        self.packets(key, sequences).await;
        key
    }

    /// Further packets of a call.
    pub(crate) async fn packets(&self, key: CallKey, sequences: &[i64]) {
        let packet = |sequence: &i64| Packet {
            key,
            sequence: *sequence,
            data: format!("word{sequence}").into_bytes(),
            sent_at: None,
            received_at: self.store.now(),
            end: None,
            metadata: Metadata::default(),
        };
        let new: Vec<Packet> = sequences.iter().map(packet).collect();
        let mut tx = self.store.begin().await.unwrap();
        packets::store(&mut tx, &new.iter().collect::<Vec<_>>()).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// The end signal of a call.
    pub(crate) async fn end(&self, key: CallKey, final_sequence: Option<i64>) -> End {
        let now = self.store.now();
        let reason = "hangup".to_owned();
        let mark = EndMark { key, reason: reason.clone(), final_sequence, settled_at: now + self.policy.settle };
        let mut tx = self.store.begin().await.unwrap();
        calls::mark_ended(&mut tx, &[mark], now).await.unwrap();
        tx.commit().await.unwrap();
        End { at: now, reason, final_sequence }
    }

    /// A completed call of three packets, its job on the work stream soon.
    pub(crate) async fn completed(&self, id: &str) -> CallKey {
        let key = self.open(id, &[1, 2, 3]).await;
        self.complete(key).await;
        key
    }

    /// Completes a call, so that its job is on the work stream soon.
    pub(crate) async fn complete(&self, key: CallKey) {
        let complete = |call: &Call, now| call.complete("test", "ended and whole", now, &self.policy).ok();
        let changed = change::change(&self.store, &[key], complete).await.unwrap();
        assert_eq!(changed.stored.len(), 1);
        self.relay.send(changed.outgoing);
    }

    /// The call as it is.
    pub(crate) async fn call(&self, key: CallKey) -> Call {
        calls::find(&self.store, key).await.unwrap().expect("the call is there")
    }

    /// Waits until the call is in `state`.
    pub(crate) async fn until_state(&self, key: CallKey, state: State) {
        wait::until(state.as_str(), async || self.call(key).await.state == state).await;
    }

    /// The next job of the live lane, in hand until it is acknowledged.
    pub(crate) async fn take_job(&self) -> Delivery {
        let mut job = None;
        let consumer = self.broker.consumer(Lane::Live);
        wait::until("a job", async || {
            let mut deliveries = consumer.pull(1, Duration::from_secs(2)).await.unwrap();
            job = deliveries.next().await.unwrap();
            job.is_some()
        })
        .await;
        job.unwrap()
    }

    /// The number that a statement counts.
    pub(crate) async fn count(&self, statement: &str) -> u64 {
        self.value(statement).await.as_u64().unwrap()
    }

    /// Waits until everything committed is published.
    pub(crate) async fn until_relayed(&self) {
        self.until("SELECT count(*) FROM outbox", 0).await;
    }

    /// Waits until a stream holds so many messages.
    pub(crate) async fn until_messages(&self, stream: &str, count: u64) {
        wait::until(&format!("{count} in {stream}"), async || self.messages(stream).await == count).await;
    }

    /// Loses all messages of a stream.
    pub(crate) async fn purge(&self, stream: &str) {
        self.jetstream().await.get_stream(self.stream(stream)).await.unwrap().purge().await.unwrap();
    }

    /// Loses a stream.
    pub(crate) async fn delete_stream(&self, stream: &str) {
        self.jetstream().await.delete_stream(self.stream(stream)).await.unwrap();
    }

    /// Puts a message onto a stream past the program.
    pub(crate) async fn publish(&self, subject: &str, body: &str) {
        let jetstream = self.jetstream().await;
        let sent = jetstream.publish(format!("{}.{subject}", self.name), body.to_owned().into()).await.unwrap();
        sent.await.unwrap();
    }
}
