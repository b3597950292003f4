//! The way to the feed: which address, and what a refusal means.

use std::time::Duration;

use anyhow::bail;
use futures_util::StreamExt;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes, http};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::Options;
use crate::ops::target::{DEFAULT_URL, api_url};

/// Where a notifier listens that nobody configured, when it is a program of its own.
const DEFAULT_NOTIFIER_URL: &str = "http://127.0.0.1:8002";
/// Time for one attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for saying goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Time without a frame before `hello` has said how often one comes.
const SILENCE_AT_FIRST: Duration = Duration::from_secs(30);
/// Heartbeats that may fail to come before the feed counts as lost.
const SILENT_HEARTBEATS: u32 = 3;
/// Bytes in the longest frame: a page of calls with much metadata.
const FRAME_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NoLink {
    /// Asking again will not help.
    Refused(String),
    /// Asking later may.
    Away(String),
}

/// The addresses to try in turn.
pub(super) fn urls(options: &Options) -> anyhow::Result<Vec<String>> {
    let mut bases = vec![api_url(&options.api, &options.data_dir)?];
    // Nobody said where: all in one process, or each role on its own.
    if options.api.url.is_none() && bases.first().is_some_and(|url| url == DEFAULT_URL) {
        bases.push(DEFAULT_NOTIFIER_URL.to_owned());
    }
    bases.iter().map(|base| url(base, options)).collect()
}

fn url(base: &str, options: &Options) -> anyhow::Result<String> {
    let base = match base.split_once("://") {
        Some(("http" | "ws", rest)) => format!("ws://{rest}"),
        Some(("https" | "wss", rest)) => format!("wss://{rest}"),
        _ => bail!("{base} is no address of a server: write http://host:port"),
    };
    let states = options.states.iter().map(|state| ("state", state.as_str()));
    let queues = options.queues.iter().map(|queue| ("queue", queue.as_str()));
    let calls = options.calls.iter().map(|call| ("call_id", call.as_str()));
    let query: Vec<String> = states
        .chain(queues)
        .chain(calls)
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .collect();
    let separator = if query.is_empty() { "" } else { "?" };
    Ok(format!("{}/api/v1/ws/supervisor/callfleet-watch{separator}{}", base.trim_end_matches('/'), query.join("&")))
}

/// A connection to the feed.
pub(super) struct Link {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    silence: Duration,
}

impl Link {
    /// Connects to the first of `urls` that has the feed.
    pub(super) async fn open(urls: &[String]) -> Result<Self, NoLink> {
        let mut failure = None;
        for url in urls {
            match Self::open_one(url).await {
                Ok(link) => return Ok(link),
                // What answers without a feed says more than what does not answer.
                Err(NoLink::Refused(why)) => failure = Some(NoLink::Refused(why)),
                Err(away) => failure = failure.or(Some(away)),
            }
        }
        Err(failure.unwrap_or_else(|| NoLink::Refused("no address to connect to".to_owned())))
    }

    async fn open_one(url: &str) -> Result<Self, NoLink> {
        let place = url.split("/api/").next().unwrap_or(url);
        let config =
            WebSocketConfig::default().max_message_size(Some(FRAME_MAX_BYTES)).max_frame_size(Some(FRAME_MAX_BYTES));
        let connecting = tokio_tungstenite::connect_async_with_config(url, Some(config), true);
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok((socket, _))) => Ok(Self { socket, silence: SILENCE_AT_FIRST }),
            Ok(Err(Error::Http(response))) => Err(refusal(place, &response)),
            Ok(Err(Error::Io(error))) => Err(NoLink::Away(format!(
                "nothing answers at {place} ({error}): is Callfleet running, and is --url right?"
            ))),
            Ok(Err(error)) => Err(NoLink::Refused(format!("{place} cannot be used: {error}"))),
            Err(_elapsed) => {
                Err(NoLink::Away(format!("{place} did not answer within {} s", CONNECT_TIMEOUT.as_secs())))
            }
        }
    }

    /// Takes its leave, so that the notifier need not find out.
    pub(super) async fn close(mut self) {
        let _said_or_not = tokio::time::timeout(CLOSE_TIMEOUT, self.socket.close(None)).await;
    }

    /// How often a frame comes at least.
    pub(super) fn expect_every(&mut self, heartbeat: Duration) {
        self.silence = heartbeat * SILENT_HEARTBEATS + CONNECT_TIMEOUT;
    }

    /// The next frame, or why there is none.
    pub(super) async fn next(&mut self) -> Result<Utf8Bytes, String> {
        loop {
            match tokio::time::timeout(self.silence, self.socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => return Ok(text),
                Ok(Some(Ok(Message::Close(Some(close))))) => {
                    return Err(format!(
                        "the feed was closed ({} {})",
                        u16::from(close.code),
                        close.reason.escape_debug()
                    ));
                }
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => return Err(format!("the feed is lost ({error})")),
                Ok(None) => return Err("the feed has ended".to_owned()),
                Err(_elapsed) => return Err("the feed has gone silent".to_owned()),
            }
        }
    }
}

fn refusal(place: &str, response: &http::Response<Option<Vec<u8>>>) -> NoLink {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }
    let status = response.status();
    let problem = response.body().as_deref().and_then(|body| serde_json::from_slice::<Problem>(body).ok());
    let why = match problem {
        Some(Problem { detail }) => format!("{place} refuses: {}", detail.escape_debug()),
        None if status == http::StatusCode::NOT_FOUND => {
            format!("{place} has no live feed: name the notifier with --url")
        }
        None => format!("{place} answers {status}: is it a notifier?"),
    };
    let may_pass = status.is_server_error() || status == http::StatusCode::TOO_MANY_REQUESTS;
    if may_pass { NoLink::Away(why) } else { NoLink::Refused(why) }
}
