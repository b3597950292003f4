//! Asking the AI service over HTTP: one request, one outcome, within one deadline.

use std::error::Error;
use std::time::Duration;

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use chrono::Utc;
use reqwest::{Response, Url, header, redirect, retry};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::classify::{Failed, Outcome, classify};
use super::options::Options;

/// Bytes of the longest answer that is read: it is stored whole.
pub const ANSWER_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of a refusal that are read, in search of its code.
const REFUSAL_MAX_BYTES: usize = 64 * 1024;
/// Time to get a connection, at most.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections idle for longer are closed by us, before the service closes one that we are about to use.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// The AI service. A clone uses the same connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
}

/// A request, ready to be sent.
#[derive(Clone, Debug)]
pub struct Question {
    /// Names the job, the same on every attempt.
    pub job_id: String,
    /// Which attempt this is.
    pub attempt: u32,
    /// Tells this attempt's span from others of the same job.
    pub span: Uuid,
    /// [`crate::wire::ai::Request`] as JSON.
    pub body: Bytes,
}

impl Client {
    /// A client for the service that `options` name; no connection is made yet.
    ///
    /// # Errors
    /// When TLS is asked for and this machine has no certificates to trust.
    pub fn new(options: &Options) -> anyhow::Result<Self> {
        // Whichever room came first has installed the same.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("callfleet/", env!("CARGO_PKG_VERSION")))
            .timeout(options.ai_timeout)
            .connect_timeout(options.ai_timeout.min(CONNECT_TIMEOUT))
            .pool_max_idle_per_host(usize::try_from(options.worker_concurrency).unwrap_or(usize::MAX))
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(15))
            .redirect(redirect::Policy::none())
            // Every try is counted, so every try is ours.
            .retry(retry::never());
        let url = options.url()?;
        if url.scheme() == "http" {
            // Looks up no certificates: a container may have none.
            builder = builder.tls_certs_only([]);
        }
        if url.host_str().is_some_and(is_loopback) {
            builder = builder.no_proxy();
        }
        let http = builder.build().context("no HTTP client for AI_URL: has this machine CA certificates installed?")?;
        Ok(Self { http, url })
    }

    /// Asks, and takes the answer apart.
    pub async fn ask(&self, question: &Question) -> Outcome {
        let sent = self
            .http
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .header("idempotency-key", &question.job_id)
            .header("x-attempt", question.attempt)
            .header("traceparent", traceparent(&question.job_id, question.span))
            .body(question.body.clone())
            .send()
            .await;
        match sent {
            Ok(response) => read(response).await,
            Err(error) => Outcome::Failed(Failed::unanswered(&describe(&error))),
        }
    }
}

async fn read(mut response: Response) -> Outcome {
    let status = response.status();
    let limit = if status.is_success() { ANSWER_MAX_BYTES } else { REFUSAL_MAX_BYTES };
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.map(ToOwned::to_owned);
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= limit => body.extend_from_slice(&chunk),
            Ok(Some(_)) if status.is_success() => {
                let message = format!("the answer is over {ANSWER_MAX_BYTES} bytes");
                return Outcome::Failed(Failed::unreadable(status.as_u16(), &message));
            }
            Err(error) if status.is_success() => return Outcome::Failed(Failed::unanswered(&describe(&error))),
            // The end; and a refusal says enough with its status.
            Ok(_) | Err(_) => break,
        }
    }
    classify(status.as_u16(), retry_after.as_deref(), &body, Utc::now())
}

/// What went wrong on the way, without the URL, which may hold a password.
fn describe(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() && error.is_connect() {
        "no connection to the AI service in time"
    } else if error.is_timeout() {
        return "the AI service did not answer in time".to_owned();
    } else if error.is_connect() {
        "no connection to the AI service"
    } else {
        "the connection to the AI service broke"
    };
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(Error::source) {
        cause = Some(deeper);
    }
    cause.map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}"))
}

/// W3C trace context: all attempts of a job share the trace, each is a span of its own.
fn traceparent(job_id: &str, span: Uuid) -> String {
    let digest = Sha256::digest(job_id);
    let trace = digest.iter().take(16).fold(0_u128, |id, byte| id << 8 | u128::from(*byte)).max(1);
    let span = span.as_u64_pair().1.max(1);
    format!("00-{trace:032x}-{span:016x}-01")
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::traceparent;

    #[test]
    fn attempts_of_a_job_share_a_trace_and_differ_in_their_span() {
        let (first, second) = (traceparent("job-1", Uuid::new_v4()), traceparent("job-1", Uuid::new_v4()));
        let parts: Vec<&str> = first.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2]);
        assert!(first.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-')));
        assert_eq!(first.get(..35), second.get(..35));
        assert_ne!(first, second);
        assert_ne!(first.get(..35), traceparent("job-2", Uuid::nil()).get(..35));
        assert!(traceparent("job-2", Uuid::nil()).contains("-0000000000000001-"));
    }
}
