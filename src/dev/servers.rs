//! Both private servers together.

use std::future::Future;

use super::data_dir::DataDir;
use super::nats::PrivateNats;
use super::postgres::PrivatePostgres;
use super::programs::Programs;

/// What a power cut may take from the private servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was acknowledged
    Full,
    /// Everything: for data that are thrown away after a test
    None,
}

/// A private PostgreSQL and a private nats-server.
pub struct Servers {
    /// The PostgreSQL
    pub postgres: PrivatePostgres,
    /// The nats-server
    pub nats: PrivateNats,
}

impl Durability {
    pub(super) fn postgres_settings(self) -> &'static [&'static str] {
        match self {
            Self::Full => &["fsync=on", "synchronous_commit=on", "full_page_writes=on"],
            Self::None => &["fsync=off", "synchronous_commit=on", "full_page_writes=off"],
        }
    }

    /// How long nats-server may keep acknowledged messages off the disk, when not as it likes.
    pub(super) fn nats_sync_interval(self) -> Option<&'static str> {
        match self {
            Self::Full => Some("always"),
            Self::None => None,
        }
    }
}

impl Servers {
    /// Starts both at the same time.
    ///
    /// # Errors
    /// When one does not start; the other is stopped again.
    pub async fn start(data: &DataDir, programs: &Programs, durability: Durability) -> anyhow::Result<Self> {
        let started = tokio::join!(
            PrivatePostgres::start(data, programs, durability),
            PrivateNats::start(data, programs, durability)
        );
        match started {
            (Ok(postgres), Ok(nats)) => Ok(Self { postgres, nats }),
            (Err(error), Err(other)) => Err(error.context(format!("{other:#}"))),
            (Ok(mut postgres), Err(error)) => postgres.stop().await.and(Err(error)),
            (Err(error), Ok(mut nats)) => nats.stop().await.and(Err(error)),
        }
    }

    /// Ready, with what it said last, when one of them has ended without having been asked to.
    pub fn died(&self) -> impl Future<Output = anyhow::Error> + Send + use<> {
        let (postgres, nats) = (self.postgres.died(), self.nats.died());
        async move {
            tokio::select! {
                error = postgres => error,
                error = nats => error,
            }
        }
    }

    /// Ends both cleanly, at the same time: whoever used them has ended before.
    ///
    /// # Errors
    /// When one cannot be ended.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let (postgres, nats) = tokio::join!(self.postgres.stop(), self.nats.stop());
        postgres.and(nats)
    }
}
