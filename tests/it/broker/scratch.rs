//! One test's own streams on the shared server.

use std::future::Future;
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr, jetstream};
use callfleet::broker::{Broker, Options, Settings, topology};
use callfleet::service::health::Health;

/// A broker with a prefix that no other test has, and a plain client beside it that plays the world.
pub(super) struct Scratch {
    pub(super) broker: Broker,
    pub(super) options: Options,
    pub(super) outside: jetstream::Context,
}

impl Scratch {
    /// Connected, with no streams yet.
    pub(super) async fn bare() -> Self {
        Self::at(&std::env::var("NATS_URL").expect("NATS_URL: scripts/test sets it")).await
    }

    /// As [`Scratch::bare`], on another server.
    pub(super) async fn at(url: &str) -> Self {
        let prefix = format!("it-{:016x}", fastrand::u64(..));
        let settings =
            Settings { nats_prefix: prefix.parse().unwrap(), ack_wait: Duration::from_secs(1), ..Settings::default() };
        let options = Options { nats_url: url.parse().unwrap(), settings };
        let broker = Broker::connect(&options, "it", &Health::new()).await.unwrap();
        let outside = jetstream::new(outside(url).await);
        Self { broker, options, outside }
    }

    /// Connected, with all streams and consumers.
    pub(super) async fn ready() -> Self {
        let scratch = Self::bare().await;
        topology::ensure(&scratch.broker).await.unwrap();
        scratch
    }

    pub(super) fn stream(&self, name: &str) -> String {
        self.options.settings.nats_prefix.stream(name)
    }

    pub(super) async fn delete_stream(&self, name: &str) {
        self.outside.delete_stream(self.stream(name)).await.unwrap();
    }

    /// Deletes what the test made.
    pub(super) async fn end(self) {
        for name in ["CALL_WORK", "CALL_STATE", "CALL_DLQ", "CALL_SPOOL"] {
            let _missing = self.outside.delete_stream(self.stream(name)).await;
        }
    }
}

/// A connection as the URL's user: the library itself reads none from URLs.
async fn outside(url: &str) -> async_nats::Client {
    let address: ServerAddr = url.parse().unwrap();
    let options = match (address.username(), address.password()) {
        (Some(user), Some(password)) => ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned()),
        _ => ConnectOptions::new(),
    };
    options.connect(address).await.unwrap()
}

/// What `wanted` gives, which must come soon.
pub(super) async fn soon<T>(what: &str, wanted: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), wanted).await.unwrap_or_else(|_| panic!("{what} did not come"))
}
