//! The clients: each sends call after call over a keep-alive connection and repeats every packet until
//! it is answered 202.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::http::{Answer, Connection, Lost};
use crate::ledger::{Answered, Ledger};
use crate::script::{self, Packet};
use crate::tally::{First, Tally};
use crate::wait;

/// How long a sender waits for an answer before it sends again; no answer may take longer.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// Time between two tries of a packet.
const AGAIN: Duration = Duration::from_millis(150);
/// The time between two packets of a call.
const PACE_MS: std::ops::Range<u64> = 20..300;

/// All clients of a stack.
pub(crate) struct Load {
    pub(crate) shared: Arc<Shared>,
    gate: watch::Sender<Option<usize>>,
    senders: JoinSet<()>,
}

/// What the clients share with the suite.
pub(crate) struct Shared {
    pub(crate) ledger: Ledger,
    ports: Vec<u16>,
    tally: Mutex<Tally>,
    at_rest: AtomicUsize,
    one_store_down: AtomicBool,
    /// The suite holds an ingest still, or both stores are down: silence is not the product's.
    may_be_silent: AtomicBool,
    broken: Mutex<Option<anyhow::Error>>,
}

impl Load {
    /// As many senders as `count`, at rest until the first round begins.
    pub(crate) fn new(ledger: Ledger, ports: Vec<u16>, count: u16, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            ledger,
            ports,
            tally: Mutex::new(Tally::new()),
            at_rest: AtomicUsize::new(0),
            one_store_down: AtomicBool::new(false),
            may_be_silent: AtomicBool::new(false),
            broken: Mutex::new(None),
        });
        let (gate, opened) = watch::channel(None);
        let mut senders = JoinSet::new();
        for number in 0..usize::from(count) {
            let dice = fastrand::Rng::with_seed(seed.wrapping_add(number as u64));
            senders.spawn(send_calls(Arc::clone(&shared), opened.clone(), number, dice));
        }
        Self { shared, gate, senders }
    }

    /// Begins a round: its own ledger, its own counts.
    pub(crate) fn begin(&self, round: usize) -> anyhow::Result<()> {
        self.shared.ledger.begin(round)?;
        *self.shared.tally() = Tally::new();
        self.gate.send_replace(Some(round));
        Ok(())
    }

    /// Lets every sender finish its call and rest; whether all did in time.
    pub(crate) async fn rest(&self, deadline: Duration) -> bool {
        self.gate.send_replace(None);
        wait::until(deadline, async || self.shared.at_rest.load(Ordering::Acquire) == self.senders.len()).await
    }

    /// Why the ledger could not be written, if so: the suite's own fault.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let broken = self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner).take();
        broken.map_or(Ok(()), Err)
    }
}

impl Shared {
    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_one_store_down(&self, is_down: bool) {
        self.one_store_down.store(is_down, Ordering::Relaxed);
    }

    pub(crate) fn set_may_be_silent(&self, may: bool) {
        self.may_be_silent.store(may, Ordering::Relaxed);
    }

    /// Writes a packet down and sends it until it is answered for good: with 202, or with a status
    /// that is a problem of the product.
    pub(crate) async fn send(&self, connection: &mut Sender, packet: &Packet) -> anyhow::Result<()> {
        self.ledger.offer(&packet.offered)?;
        let (path, body) = (packet.path(), packet.body());
        let mut tries = 0;
        loop {
            tries += 1;
            let down = self.one_store_down.load(Ordering::Relaxed);
            let began = Instant::now();
            let answer = connection.current().post(&path, &body, ANSWER_DEADLINE).await;
            let first = self.judge(&answer, packet);
            if tries == 1 {
                self.tally().count(first, down, began.elapsed());
            }
            match answer {
                Ok(answer) if answer.status == 202 => return self.note(packet, tries, &answer),
                Ok(answer) if !matches!(answer.status, 503 | 429) => return Ok(()),
                Ok(_) => {}
                Err(_) => connection.change_over(),
            }
            wait::hold(AGAIN).await;
        }
    }

    fn note(&self, packet: &Packet, tries: u32, answer: &Answer) -> anyhow::Result<()> {
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let word = |field: &str| said.get(field).and_then(Value::as_str).map(str::to_owned);
        let durability = word("durability").filter(|durability| durability == "spooled");
        if durability.is_some() {
            self.tally().spooled += 1;
        }
        let answered = Answered {
            call_id: packet.offered.call_id.clone(),
            sequence: packet.offered.sequence,
            status: word("status").unwrap_or_default(),
            at: Utc::now(),
            tries,
            durability,
        };
        self.ledger.answer(&answered, packet.offered.end)
    }

    /// What kind of answer it is; what should never be is noted.
    fn judge(&self, answer: &Result<Answer, Lost>, packet: &Packet) -> First {
        let said = |answer: &Answer| String::from_utf8_lossy(&answer.body).chars().take(300).collect::<String>();
        match answer {
            Ok(Answer { status: 202, .. }) => First::Accepted,
            Ok(answer @ Answer { status: 503 | 429, .. }) => {
                if answer.retry_after.is_none() {
                    self.tally().problem(|| format!("{} without Retry-After: {}", answer.status, said(answer)));
                }
                First::Refused
            }
            Ok(answer) => {
                let id = &packet.offered.call_id;
                self.tally().problem(|| format!("{} for a packet of {id}: {}", answer.status, said(answer)));
                First::Refused
            }
            Err(Lost::Silent) => {
                if !self.may_be_silent.load(Ordering::Relaxed) {
                    self.tally().problem(|| format!("no answer to a packet within {ANSWER_DEADLINE:?}"));
                }
                First::Silent
            }
            Err(Lost::Refused | Lost::Broken) => First::Lost,
        }
    }
}

/// A client's connections: one to each ingest, one of them in use.
pub(crate) struct Sender {
    connections: Vec<Connection>,
    current: usize,
}

impl Sender {
    pub(crate) fn new(shared: &Shared, number: usize) -> Self {
        let connections: Vec<Connection> = shared.ports.iter().map(|port| Connection::new(*port)).collect();
        let current = number % connections.len().max(1);
        Self { connections, current }
    }

    /// The connection in use.
    #[expect(clippy::indexing_slicing, reason = "there is an ingest, and `current` is one of them")]
    fn current(&mut self) -> &mut Connection {
        &mut self.connections[self.current]
    }

    fn change_over(&mut self) {
        self.current = (self.current + 1) % self.connections.len();
    }
}

async fn send_calls(
    shared: Arc<Shared>,
    mut gate: watch::Receiver<Option<usize>>,
    number: usize,
    mut dice: fastrand::Rng,
) {
    let mut sender = Sender::new(&shared, number);
    for serial in 0_u64.. {
        let round = *gate.borrow_and_update();
        let round = match round {
            Some(round) => round,
            None => {
                shared.at_rest.fetch_add(1, Ordering::AcqRel);
                let opened = gate.wait_for(Option::is_some).await.map(|round| *round);
                shared.at_rest.fetch_sub(1, Ordering::AcqRel);
                let Ok(Some(round)) = opened else { return };
                round
            }
        };
        for packet in script::call(&mut dice, &name(round, number, serial)) {
            wait::hold(Duration::from_millis(dice.u64(PACE_MS))).await;
            if let Err(error) = shared.send(&mut sender, &packet).await {
                shared.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                return;
            }
        }
    }
}

/// A call's name tells its round, so that a round can be checked by itself.
fn name(round: usize, sender: usize, serial: u64) -> String {
    format!("{}{sender}-{serial}", prefix(round))
}

/// What the names of a round's calls begin with.
pub(crate) fn prefix(round: usize) -> String {
    format!("r{round:04}-")
}
