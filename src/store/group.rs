//! Group commit: requests that come at the same time share a transaction.
//!
//! Promises that a flush takes what waits as soon as a writer is free, with no timer; that every
//! request is answered after its own commit; that a request which the database refuses never fails
//! its neighbours; and that what waits is bounded.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::StoreError;

/// The asking side. A clone asks the same writers.
#[derive(Debug)]
pub struct Group<T, R> {
    queue: mpsc::Sender<Waiting<T, R>>,
}

/// The writing side: each clone that runs is one writer, and has one transaction open at a time.
#[derive(Debug)]
pub struct Writer<T, R> {
    name: &'static str,
    max_rows: usize,
    queue: Arc<Mutex<mpsc::Receiver<Waiting<T, R>>>>,
}

#[derive(Debug)]
struct Waiting<T, R> {
    request: T,
    answer: oneshot::Sender<Result<R, Unanswered>>,
}

/// Why a request has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unanswered {
    /// As many requests wait as may: the request was not taken.
    #[error("too many requests wait for PostgreSQL")]
    Full,
    /// The transaction that held it failed, and so did it alone where that could help.
    #[error(transparent)]
    Failed(Arc<StoreError>),
    /// No writer is left. What became of the request is not known.
    #[error("the writers are gone")]
    Gone,
}

impl Unanswered {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Full => true,
            Self::Failed(error) => error.is_transient(),
            Self::Gone => false,
        }
    }
}

/// A group under `name` (for metrics) in which at most `max_waiting` requests wait and at most
/// `max_rows` share a transaction.
#[must_use]
pub fn group<T, R>(name: &'static str, max_waiting: usize, max_rows: usize) -> (Group<T, R>, Writer<T, R>) {
    let (sender, receiver) = mpsc::channel(max_waiting.max(1));
    let queue = Arc::new(Mutex::new(receiver));
    (Group { queue: sender }, Writer { name, max_rows: max_rows.max(1), queue })
}

impl<T, R> Group<T, R> {
    /// Asks, unless too many wait already.
    ///
    /// # Errors
    /// [`Unanswered::Full`] at once; the others as for [`Group::ask`].
    pub async fn try_ask(&self, request: T) -> Result<R, Unanswered> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Waiting { request, answer }).map_err(|error| match error {
            TrySendError::Full(_) => Unanswered::Full,
            TrySendError::Closed(_) => Unanswered::Gone,
        })?;
        answered.await.unwrap_or(Err(Unanswered::Gone))
    }

    /// Asks, waiting for a place in the queue.
    ///
    /// A caller that goes away before the answer cannot tell whether the request was carried out.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn ask(&self, request: T) -> Result<R, Unanswered> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(Waiting { request, answer }).await.map_err(|_closed| Unanswered::Gone)?;
        answered.await.unwrap_or(Err(Unanswered::Gone))
    }
}

/// What a writer does with a batch.
pub trait Flush<T, R>: Send {
    /// Stores the requests in one transaction and returns one answer for each, in their order.
    fn flush(&mut self, requests: &[T]) -> impl Future<Output = Result<Vec<R>, StoreError>> + Send;
}

impl<T: Send + Sync, R: Send> Writer<T, R> {
    /// Carries out what is asked until every [`Group`] is dropped and nothing waits.
    pub async fn run(self, mut flush: impl Flush<T, R>) {
        let mut waiting = Vec::with_capacity(self.max_rows);
        loop {
            // Only the wait is under the lock: while one writer flushes, the next one collects.
            if self.queue.lock().await.recv_many(&mut waiting, self.max_rows).await == 0 {
                return;
            }
            let (requests, answers): (Vec<T>, Vec<_>) =
                waiting.drain(..).map(|waiting| (waiting.request, waiting.answer)).unzip();
            metrics::histogram!("callfleet_group_rows", "group" => self.name).record(count(requests.len()));
            let begun = Instant::now();
            match flush.flush(&requests).await {
                Ok(results) => answer_all(answers, results),
                Err(error) if error.is_transient() || requests.len() == 1 => {
                    refuse_all(answers, &Unanswered::Failed(Arc::new(error)));
                }
                Err(error) => {
                    tracing::warn!(group = self.name, rows = requests.len(), %error, "a batch was refused: one by one");
                    one_by_one(&mut flush, &requests, answers).await;
                }
            }
            metrics::histogram!("callfleet_group_flush_seconds", "group" => self.name).record(begun.elapsed());
        }
    }
}

impl<T, R> Clone for Group<T, R> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<T, R> Clone for Writer<T, R> {
    fn clone(&self) -> Self {
        Self { name: self.name, max_rows: self.max_rows, queue: Arc::clone(&self.queue) }
    }
}

type Answer<R> = oneshot::Sender<Result<R, Unanswered>>;

async fn one_by_one<T, R>(flush: &mut impl Flush<T, R>, requests: &[T], answers: Vec<Answer<R>>) {
    for (request, answer) in requests.iter().zip(answers) {
        match flush.flush(std::slice::from_ref(request)).await {
            Ok(results) => answer_all(vec![answer], results),
            Err(error) => refuse_all(vec![answer], &Unanswered::Failed(Arc::new(error))),
        }
    }
}

/// Whoever no longer waits for its answer has gone away; that is its own affair.
fn answer_all<R>(answers: Vec<Answer<R>>, results: Vec<R>) {
    debug_assert_eq!(answers.len(), results.len(), "one answer for each request");
    for (answer, result) in answers.into_iter().zip(results) {
        let _gone = answer.send(Ok(result));
    }
}

fn refuse_all<R>(answers: Vec<Answer<R>>, why: &Unanswered) {
    for answer in answers {
        let _gone = answer.send(Err(why.clone()));
    }
}

#[expect(clippy::cast_precision_loss, reason = "batches hold hundreds of rows")]
fn count(rows: usize) -> f64 {
    rows as f64
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::task::JoinSet;

    use super::{Flush, Unanswered, group};
    use crate::store::StoreError;

    /// Doubles what it is asked, refuses 7, and is away for 8.
    #[derive(Clone, Default)]
    struct Doubling {
        batches: Arc<Mutex<Vec<usize>>>,
    }

    impl Flush<u32, u32> for Doubling {
        async fn flush(&mut self, requests: &[u32]) -> Result<Vec<u32>, StoreError> {
            self.batches.lock().unwrap().push(requests.len());
            match requests {
                some if some.contains(&7) => Err(StoreError::from(sqlx::Error::RowNotFound)),
                some if some.contains(&8) => Err(StoreError::from(sqlx::Error::PoolTimedOut)),
                some => Ok(some.iter().map(|n| n * 2).collect()),
            }
        }
    }

    /// Asks all of `numbers`, of which up to 40 share a batch, and only then starts the writer.
    async fn ask_all(numbers: impl Iterator<Item = u32>) -> (Vec<(u32, Result<u32, Unanswered>)>, Vec<usize>) {
        let (group, writer) = group::<u32, u32>("test", 100, 40);
        let mut asking = JoinSet::new();
        for n in numbers {
            let group = group.clone();
            asking.spawn(async move { (n, group.ask(n).await) });
        }
        drop(group);
        while writer.queue.lock().await.len() < asking.len() {
            tokio::task::yield_now().await;
        }
        let doubling = Doubling::default();
        writer.run(doubling.clone()).await;
        let batches = doubling.batches.lock().unwrap().clone();
        (asking.join_all().await, batches)
    }

    #[tokio::test]
    async fn requests_that_wait_share_a_flush_and_each_gets_its_own_answer() {
        let (answers, batches) = ask_all(100..200).await;
        assert_eq!(batches, [40, 40, 20]);
        for (n, answer) in answers {
            assert_eq!(answer.unwrap(), n * 2);
        }
    }

    #[tokio::test]
    async fn a_bad_request_never_fails_its_neighbours() {
        let (answers, _) = ask_all((0..8).chain(9..20)).await;
        for (n, answer) in answers {
            match answer {
                Ok(answer) => assert_eq!(answer, n * 2),
                Err(error) => assert!(n == 7 && !error.is_transient(), "{n}: {error}"),
            }
        }
    }

    #[tokio::test]
    async fn while_the_database_is_away_nothing_is_tried_one_by_one() {
        let (answers, batches) = ask_all((0..7).chain(8..20)).await;
        assert!(answers.into_iter().all(|(_, answer)| answer.is_err_and(|error| error.is_transient())));
        assert_eq!(batches, [19]);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_lost_writers_are_noticed() {
        let (group, writer) = group::<u32, u32>("test", 1, 1);
        let first = group.ask(1);
        tokio::pin!(first);
        assert!(futures_util::poll!(&mut first).is_pending());
        assert!(matches!(group.try_ask(2).await, Err(Unanswered::Full)));
        drop(writer);
        assert!(matches!(first.await, Err(Unanswered::Gone)));
        assert!(matches!(group.try_ask(2).await, Err(Unanswered::Gone)));
    }
}
