//! What the service remembers: its settings, its dice, its counts, and the keys it has seen.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::Options;
use super::control::{Control, Mode};

/// Idempotency keys remembered, as 8-byte hashes; beyond it the oldest is forgotten.
const MAX_KEYS: usize = 500_000;

/// The body of `GET /stats`, counted since the service started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Requests that reached the AI path
    pub requests: u64,
    /// Those answered with a whole transcript
    pub successes: u64,
    /// Those that ended in any other way, the client leaving included
    pub failures: u64,
    /// Requests being worked on now
    pub in_flight: u64,
    /// The most there were at once
    pub in_flight_max: u64,
    /// Requests whose Idempotency-Key had come before (of the latest 500,000 keys)
    pub repeated_keys: u64,
}

/// A running AI service; a clone is the same service.
#[derive(Clone, Debug)]
pub struct MockAi {
    memory: Arc<Mutex<Memory>>,
    stopping: CancellationToken,
}

#[derive(Debug)]
struct Memory {
    control: Control,
    dice: fastrand::Rng,
    stats: Stats,
    keys: Keys,
}

impl MockAi {
    /// A service that behaves as `options` say and lets go of hanging requests at `stopping`.
    ///
    /// # Errors
    /// When an option is out of range.
    pub fn new(options: &Options, stopping: CancellationToken) -> anyhow::Result<Self> {
        let memory = Memory {
            control: Control::from_options(options)?,
            dice: fastrand::Rng::with_seed(options.seed),
            stats: Stats::default(),
            keys: Keys::default(),
        };
        Ok(Self { memory: Arc::new(Mutex::new(memory)), stopping })
    }

    /// How the service behaves now.
    #[must_use]
    pub fn control(&self) -> Control {
        self.memory().control.clone()
    }

    /// What it has counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.memory().stats
    }

    /// Resolves once the service is told to stop.
    pub(super) async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    pub(super) fn change_control<E>(&self, change: impl FnOnce(Control) -> Result<Control, E>) -> Result<Control, E> {
        let mut memory = self.memory();
        let control = change(memory.control.clone())?;
        memory.control = control.clone();
        Ok(control)
    }

    /// Counts a request in and decides, in the order of arrival, what becomes of it.
    pub(super) fn arrive(&self, key: Option<&[u8]>) -> Visit {
        let mut memory = self.memory();
        let memory = &mut *memory;
        memory.stats.requests += 1;
        memory.stats.in_flight += 1;
        memory.stats.in_flight_max = memory.stats.in_flight_max.max(memory.stats.in_flight);
        let seen_before = key.map_or(0, |key| memory.keys.count(key));
        memory.stats.repeated_keys += u64::from(seen_before > 0);

        let control = memory.control.clone();
        // Both dice are thrown for every request, so that a request's fate hangs on its place alone.
        let (failure, stray) = (memory.dice.f64(), memory.dice.f64().mul_add(2.0, -1.0));
        let works = matches!(control.mode, Mode::Normal | Mode::Hang | Mode::Drip | Mode::Garbage);
        let full = works && control.capacity.is_some_and(|capacity| memory.stats.in_flight > u64::from(capacity));
        let fails_first = key.is_some() && seen_before < control.fail_first;
        let fate = match control.mode {
            _ if full => Fate::Answer(Mode::RateLimit),
            Mode::Normal if fails_first || failure < control.failure_rate => Fate::Fail,
            mode => Fate::Answer(mode),
        };
        let delay = strayed(control.latency_ms, control.jitter_ms, stray);
        Visit { mock: self.clone(), fate, delay, retry_after_s: control.retry_after_s, succeeded: false }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in hand: counted in flight until dropped, and then as the success or failure it was.
#[derive(Debug)]
pub(super) struct Visit {
    mock: MockAi,
    pub(super) fate: Fate,
    pub(super) delay: Duration,
    pub(super) retry_after_s: u16,
    succeeded: bool,
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Fail,
    Answer(Mode),
}

impl Visit {
    /// Marks the request as answered with a whole transcript.
    pub(super) fn succeed(&mut self) {
        self.succeeded = true;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let stats = &mut self.mock.memory().stats;
        stats.in_flight -= 1;
        if self.succeeded {
            stats.successes += 1;
        } else {
            stats.failures += 1;
        }
    }
}

/// How often each key has come, for the latest [`MAX_KEYS`] keys.
#[derive(Debug, Default)]
struct Keys {
    hasher: RandomState,
    counts: HashMap<u64, u32>,
    oldest_first: VecDeque<u64>,
}

impl Keys {
    /// Notes that `key` came; how often it had come before.
    fn count(&mut self, key: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(key);
        if let Some(count) = self.counts.get_mut(&hash) {
            *count = count.saturating_add(1);
            return *count - 1;
        }
        if self.oldest_first.len() == MAX_KEYS
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.counts.remove(&oldest);
        }
        self.counts.insert(hash, 1);
        self.oldest_first.push_back(hash);
        0
    }
}

/// `latency_ms` moved by `stray` (-1 to 1) times `jitter_ms`, never below zero.
fn strayed(latency_ms: u64, jitter_ms: u64, stray: f64) -> Duration {
    let (latency, jitter) = (Duration::from_millis(latency_ms), Duration::from_millis(jitter_ms));
    let moved = jitter.mul_f64(stray.abs());
    if stray < 0.0 { latency.saturating_sub(moved) } else { latency.saturating_add(moved) }
}

/// `GET /stats`
pub(super) async fn show(State(mock): State<MockAi>) -> Json<Stats> {
    Json(mock.stats())
}
