//! The servers under `callfleet up`: its own where no address was given.

use std::future::Future;

use super::data_dir::DataDir;
use super::nats::PrivateNats;
use super::postgres::PrivatePostgres;
use super::servers::Durability;
use super::up::UpOptions;

/// The servers that this process owns, and the addresses of all it works with.
pub(super) struct Owned {
    postgres: Option<PrivatePostgres>,
    nats: Option<PrivateNats>,
    database_url: String,
    nats_url: String,
}

impl Owned {
    /// Starts what is missing, at the same time.
    pub(super) async fn start(options: &UpOptions, data: &DataDir) -> anyhow::Result<Self> {
        let (postgres, nats) = tokio::join!(
            async {
                match options.database_url {
                    Some(_) => Ok(None),
                    None => PrivatePostgres::start(data, &options.programs, Durability::Full).await.map(Some),
                }
            },
            async {
                match options.nats_url {
                    Some(_) => Ok(None),
                    None => PrivateNats::start(data, &options.programs, Durability::Full).await.map(Some),
                }
            },
        );
        let (mut postgres, mut nats) = match (postgres, nats) {
            (Ok(postgres), Ok(nats)) => (postgres, nats),
            (postgres, nats) => {
                let error =
                    postgres.as_ref().err().or(nats.as_ref().err()).map(|e| format!("{e:#}")).unwrap_or_default();
                let mut started = Self {
                    postgres: postgres.ok().flatten(),
                    nats: nats.ok().flatten(),
                    database_url: String::new(),
                    nats_url: String::new(),
                };
                started.stop().await?;
                anyhow::bail!(error);
            }
        };
        let database_url = postgres.as_mut().map(|own| own.url().to_owned()).or(options.database_url.clone());
        let nats_url = nats.as_mut().map(|own| own.url().to_owned()).or(options.nats_url.clone());
        Ok(Self {
            postgres,
            nats,
            database_url: database_url.unwrap_or_default(),
            nats_url: nats_url.unwrap_or_default(),
        })
    }

    pub(super) fn database_url(&self) -> &str {
        &self.database_url
    }

    pub(super) fn nats_url(&self) -> &str {
        &self.nats_url
    }

    pub(super) fn owns_nats(&self) -> bool {
        self.nats.is_some()
    }

    /// Ready when a server of our own has ended unasked; never when there is none.
    pub(super) fn died(&self) -> impl Future<Output = anyhow::Error> + Send + use<> {
        let postgres = self.postgres.as_ref().map(PrivatePostgres::died);
        let nats = self.nats.as_ref().map(PrivateNats::died);
        async move {
            tokio::select! {
                Some(error) = async { Some(postgres?.await) } => error,
                Some(error) = async { Some(nats?.await) } => error,
                else => std::future::pending().await,
            }
        }
    }

    /// Ends our own servers, both at the same time.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        let (postgres, nats) = (self.postgres.as_mut(), self.nats.as_mut());
        let (postgres, nats) =
            tokio::join!(async { if let Some(postgres) = postgres { postgres.stop().await } else { Ok(()) } }, async {
                if let Some(nats) = nats { nats.stop().await } else { Ok(()) }
            },);
        postgres.and(nats)
    }
}
