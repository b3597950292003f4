//! The questions asked over HTTP besides the load: how calls are, and what mock-ai shall do.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::path;
use crate::wire::call::{CallView, Timeline};
use crate::wire::receipt::{EndReceipt, Receipt};

/// Time a server gets to answer one question.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Time it gets to take the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pauses between tries of a request that may pass: 0.1 s, 0.2 s, 0.3 s …
const PAUSE: Duration = Duration::from_millis(100);
/// How often a request is tried.
const TRIES: u32 = 10;

/// A running Callfleet, and the AI service behind it.
#[derive(Clone, Debug)]
pub(super) struct Server {
    client: Client,
    url: String,
    ai_url: String,
}

impl Server {
    /// # Errors
    /// When no HTTP client can be made.
    pub(super) fn new(url: &str, ai_url: String) -> anyhow::Result<Self> {
        // Fails only when there is a provider already, which then serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            // Plain HTTP only: a machine without certificates will do.
            .tls_certs_only(std::iter::empty())
            .build()
            .context("no HTTP client")?;
        Ok(Self { client, url: url.to_owned(), ai_url })
    }

    /// # Errors
    /// When nobody answers, or somebody else than Callfleet.
    pub(super) async fn reachable(&self) -> anyhow::Result<()> {
        let url = &self.url;
        let health = self.client.get(format!("{url}/healthz")).send().await;
        let health =
            health.map_err(|_| anyhow!("nothing answers at {url}: start it with scripts/up or callfleet up"))?;
        if !health.status().is_success() {
            bail!("{url} answers, but not as Callfleet does ({} to /healthz): is --url right?", health.status());
        }
        Ok(())
    }

    /// Has mock-ai fail this share of its requests.
    ///
    /// # Errors
    /// When there is no mock-ai at the AI's address.
    pub(super) async fn set_ai_failure_rate(&self, rate: f64) -> anyhow::Result<()> {
        let control = Url::parse(&self.ai_url).and_then(|url| url.join("/control"));
        let control = control.with_context(|| format!("the AI's address `{}` is not a URL", self.ai_url))?;
        let answer = self.client.put(control.clone()).json(&json!({ "failure_rate": rate })).send().await;
        match answer {
            Err(_) => bail!("nothing answers at {control}: --ai-failure-rate needs mock-ai there (--ai-url, AI_URL)"),
            Ok(answer) if !answer.status().is_success() => {
                bail!("{control} answers {}: --ai-failure-rate needs mock-ai there", answer.status())
            }
            Ok(_) => Ok(()),
        }
    }

    /// A call, if there is one by this id.
    ///
    /// # Errors
    /// When the server does not say.
    pub(super) async fn call(&self, call_id: &str) -> anyhow::Result<Option<CallView>> {
        self.look_up(&path::call(call_id)).await
    }

    /// What happened to a call, if there is one by this id.
    ///
    /// # Errors
    /// When the server does not say.
    pub(super) async fn timeline(&self, call_id: &str) -> anyhow::Result<Option<Timeline>> {
        self.look_up(&path::timeline(call_id)).await
    }

    /// Sends one packet.
    ///
    /// # Errors
    /// When it is not answered 202, tried again where that may help.
    pub(super) async fn packet(&self, call_id: &str, packet: &Value) -> anyhow::Result<Receipt> {
        self.post(&path::packet(call_id), packet).await
    }

    /// Ends a call.
    ///
    /// # Errors
    /// When it is not answered 202, tried again where that may help.
    pub(super) async fn end(&self, call_id: &str, final_sequence: u32) -> anyhow::Result<EndReceipt> {
        self.post(&path::end(call_id), &json!({ "reason": "hangup", "final_sequence": final_sequence })).await
    }

    async fn post<B: Serialize, A: DeserializeOwned>(&self, path: &str, body: &B) -> anyhow::Result<A> {
        let mut pause = Duration::ZERO;
        let mut last = anyhow!("never tried");
        for _ in 0..TRIES {
            tokio::time::sleep(pause).await;
            pause += PAUSE;
            last = match self.client.post(format!("{}{path}", self.url)).json(body).send().await {
                Ok(answer) if answer.status() == StatusCode::ACCEPTED => {
                    return answer.json().await.with_context(|| format!("the answer to {path} cannot be read"));
                }
                Ok(answer) if answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS => {
                    failure(path, answer).await
                }
                Ok(answer) => return Err(failure(path, answer).await),
                Err(error) => error.into(),
            };
        }
        Err(last)
    }

    async fn look_up<A: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Option<A>> {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => {
                let read = answer.json().await;
                read.map(Some).with_context(|| format!("the answer to {path} cannot be read"))
            }
            _ => Err(failure(path, answer).await),
        }
    }
}

async fn failure(path: &str, answer: Response) -> anyhow::Error {
    let status = answer.status();
    let said: Value = answer.json().await.unwrap_or_default();
    match said.get("detail").and_then(Value::as_str) {
        Some(detail) => anyhow!("{path} answers {status}: {detail}"),
        None => anyhow!("{path} answers {status}"),
    }
}
