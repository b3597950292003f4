//! The connection: made once, kept for ever, its ups and downs told to whoever waits.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, ContextBuilder};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::options::{Credentials, Options, Prefix, Settings};
use crate::service::health::Health;

/// Time that a role waits at its start for a server to answer.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// Time for one attempt to connect.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// A dead connection that nobody closed is noticed after two unanswered pings.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Time for the server to acknowledge a message. What was sent to the leader of a stream that died is
/// never acknowledged, and what is sent next waits for it.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for the server to answer a request.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest pause between attempts to reconnect, about: a part of the 5 s after which all work again.
const RECONNECT_MAX: Duration = Duration::from_secs(1);
/// Messages that may wait for their acknowledgement from the server at a time.
const MAX_ACKS_IN_FLIGHT: usize = 4096;
/// Messages that one subscription may hold; no pull asks for more.
pub(super) const SUBSCRIPTION_CAPACITY: usize = 8192;
/// The oldest server that has what the topology asks for.
const OLDEST_SERVER: (u32, u32) = (2, 12);

/// The part of Callfleet that talks to NATS. A clone is the same connection.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) client: Client,
    pub(super) jetstream: jetstream::Context,
    url: String,
    pub(super) prefix: Prefix,
    pub(super) replicas: u8,
    pub(super) ack_wait: Duration,
    /// Held by whoever creates what is missing, so that a lost stream brings one attempt, not many.
    pub(super) ensuring: Mutex<()>,
    link: watch::Receiver<Link>,
}

/// The connection as last heard of: a new epoch for each that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) up: bool,
    pub(super) epoch: u64,
}

/// Why there is no connection, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody there.
    #[error("nothing answers at {url} ({reason}): is NATS running, and is NATS_URL right?")]
    NoAnswer {
        /// The address, without credentials.
        url: String,
        /// What the last attempt met.
        reason: String,
    },
    /// Somebody there who does not want us.
    #[error("{url} refuses our credentials: put user and password into NATS_URL")]
    Refused {
        /// The address, without credentials.
        url: String,
    },
    /// NATS, but not enough of it.
    #[error("{url} runs nats-server {version}: Callfleet needs 2.12 or later")]
    TooOld {
        /// The address, without credentials.
        url: String,
        /// What it says it is.
        version: String,
    },
    /// NATS without streams.
    #[error("{url} has no JetStream: start nats-server with --jetstream")]
    NoJetStream {
        /// The address, without credentials.
        url: String,
    },
}

impl Broker {
    /// Connects under `name`, and keeps connecting for ever once it has succeeded; `health` has the
    /// connection as its part `nats`.
    ///
    /// # Errors
    /// When nothing answers within 10 s, or what answers cannot be used.
    pub async fn connect(options: &Options, name: &str, health: &Health) -> Result<Self, ConnectError> {
        let url = options.nats_url.to_string();
        let (events, mut link) = Events::new(&url, health);
        let client = first_connection(options, name, &events).await?;
        // The event of this connection, so that nobody takes it for a second one later.
        let told = tokio::time::timeout(REQUEST_TIMEOUT, link.wait_for(|link| link.epoch > 0)).await;
        if !matches!(told.map(|told| told.is_ok()), Ok(true)) {
            return Err(ConnectError::NoAnswer { url, reason: "the connection ended at once".to_owned() });
        }
        let broker = Self::of(client, options, link);
        broker.can_be_used().await?;
        Ok(broker)
    }

    /// As [`Broker::connect`], for roles that work without NATS: connects in its own time, for ever.
    ///
    /// # Errors
    /// When the options make no sense.
    pub async fn open(options: &Options, name: &str, health: &Health) -> Result<Self, ConnectError> {
        let url = options.nats_url.to_string();
        let (events, link) = Events::new(&url, health);
        let library = library_options(options, name, &events).retry_on_initial_connect();
        let client = library.connect(options.nats_url.addresses()).await;
        let client = client.map_err(|error| ConnectError::NoAnswer { url, reason: error.to_string() })?;
        Ok(Self::of(client, options, link))
    }

    fn of(client: Client, options: &Options, link: watch::Receiver<Link>) -> Self {
        let jetstream = ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .ack_timeout(ACK_TIMEOUT)
            .max_ack_inflight(MAX_ACKS_IN_FLIGHT)
            .backpressure_on_inflight(true)
            .build(client.clone());
        let Settings { nats_prefix: prefix, nats_replicas: replicas, ack_wait } = options.settings.clone();
        let url = options.nats_url.to_string();
        let inner = Inner { client, jetstream, url, prefix, replicas, ack_wait, ensuring: Mutex::new(()), link };
        Self { inner: Arc::new(inner) }
    }

    /// Whether the server that is connected has what Callfleet needs.
    ///
    /// # Errors
    /// When it is too old, or has no JetStream.
    pub async fn can_be_used(&self) -> Result<(), ConnectError> {
        let url = self.inner.url.clone();
        let version = self.inner.client.server_info().version;
        if too_old(&version) {
            return Err(ConnectError::TooOld { url, version });
        }
        if self.inner.jetstream.query_account().await.is_err() {
            return Err(ConnectError::NoJetStream { url });
        }
        tracing::debug!(url, version, "connected to NATS");
        Ok(())
    }

    /// Whether the connection stands, as last heard of.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link().borrow().up && self.inner.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Waits until the connection stands.
    pub async fn connected(&self) {
        // The sender lives in the event callback, as long as the client: an error cannot come first.
        let mut link = self.link();
        let _ended = link.wait_for(|link| link.up).await;
    }

    /// Copies of each stream.
    #[must_use]
    pub fn replicas(&self) -> u8 {
        self.inner.replicas
    }

    /// Time after which a job that nobody acknowledged is delivered again.
    #[must_use]
    pub fn ack_wait(&self) -> Duration {
        self.inner.ack_wait
    }

    /// Waits until what was said so far has left this process, for the time of a request at most.
    pub async fn flush(&self) {
        if self.is_connected() {
            let _late = tokio::time::timeout(REQUEST_TIMEOUT, self.inner.client.flush()).await;
        }
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// The connection's ups and downs, from here on.
    pub(super) fn link(&self) -> watch::Receiver<Link> {
        self.inner.link.clone()
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("prefix", &self.inner.prefix).field("link", &*self.inner.link.borrow()).finish()
    }
}

async fn first_connection(options: &Options, name: &str, events: &Events) -> Result<Client, ConnectError> {
    let url = options.nats_url.to_string();
    let deadline = Instant::now() + CONNECT_WAIT;
    let mut waiting = false;
    loop {
        let error = match library_options(options, name, events).connect(options.nats_url.addresses()).await {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        if matches!(error.kind(), ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication) {
            return Err(ConnectError::Refused { url });
        }
        if Instant::now() >= deadline {
            return Err(ConnectError::NoAnswer { url, reason: error.to_string() });
        }
        if !std::mem::replace(&mut waiting, true) {
            tracing::warn!(url, %error, "nothing answers yet, trying for {} s", CONNECT_WAIT.as_secs());
        }
        tokio::time::sleep(jittered(Duration::from_millis(250))).await;
    }
}

fn library_options(options: &Options, name: &str, events: &Events) -> ConnectOptions {
    let events = events.clone();
    let library = ConnectOptions::new()
        .name(name)
        .connection_timeout(ATTEMPT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ping_interval(PING_INTERVAL)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .max_reconnects(None)
        .reconnect_delay_callback(reconnect_delay)
        .event_callback(move |event| {
            let events = events.clone();
            async move { events.tell(&event) }
        });
    match options.nats_url.credentials() {
        Credentials::Nobody => library,
        Credentials::User { name, password } => library.user_and_password(name, password),
        Credentials::Token(token) => library.token(token),
    }
}

/// At once the first time, then doubling from 100 ms, spread so that a fleet does not come back as one.
fn reconnect_delay(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(2).min(5)).unwrap_or(5);
    if attempts <= 1 { Duration::ZERO } else { jittered(Duration::from_millis(100 << doublings).min(RECONNECT_MAX)) }
}

/// Between a half of `pause` and one and a half.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64())
}

fn too_old(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) < OLDEST_SERVER,
        _ => false,
    }
}

/// Where the connection's events go: the log, the process's health and whoever waits for the link.
#[derive(Clone)]
struct Events {
    url: String,
    health: Health,
    link: Arc<watch::Sender<Link>>,
}

impl Events {
    fn new(url: &str, health: &Health) -> (Self, watch::Receiver<Link>) {
        let (link, heard) = watch::channel(Link { up: false, epoch: 0 });
        (Self { url: url.to_owned(), health: health.clone(), link: Arc::new(link) }, heard)
    }

    fn tell(&self, event: &Event) {
        match event {
            Event::Connected => {
                self.health.ok("nats");
                self.link.send_modify(|link| *link = Link { up: true, epoch: link.epoch + 1 });
            }
            Event::Disconnected => {
                metrics::counter!("callfleet_broker_disconnects_total").increment(1);
                self.health.failing("nats", format!("the connection to {} is lost", self.url));
                self.link.send_modify(|link| link.up = false);
            }
            Event::ServerError(error) => tracing::warn!(%error, "NATS refuses something"),
            Event::SlowConsumer(subscription) => tracing::warn!(subscription, "NATS messages dropped: queue full"),
            Event::ClientError(error) => tracing::debug!(%error, "NATS client"),
            Event::LameDuckMode => tracing::info!("the NATS server is about to stop"),
            // Ours: nobody holds the connection any more.
            Event::Closed => self.link.send_modify(|link| link.up = false),
            Event::Draining => tracing::debug!("NATS connection drains"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{RECONNECT_MAX, reconnect_delay, too_old};
    use std::time::Duration;

    #[test]
    fn servers_before_2_12_are_too_old() {
        for version in ["2.11.9", "1.4.0"] {
            assert!(too_old(version), "{version}");
        }
        for version in ["2.12.0", "2.14.6", "3.0.0-dev", "unknown"] {
            assert!(!too_old(version), "{version}");
        }
    }

    #[test]
    fn pauses_between_reconnects_grow_to_a_limit() {
        assert_eq!(reconnect_delay(1), Duration::ZERO);
        for attempts in 2..200 {
            let delay = reconnect_delay(attempts);
            assert!(delay >= Duration::from_millis(50) && delay <= RECONNECT_MAX * 3 / 2, "{attempts}: {delay:?}");
        }
    }
}
