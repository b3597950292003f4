//! A WebSocket that is written to within a deadline, read from within limits, and closed with a reason.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::SinkExt;
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};

use crate::wire::feed::{Close, Frame};

/// Time that a client gets to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a socket ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client went, or the network did.
    Gone,
    /// It took no data for too long.
    Stuck,
    /// We close it, and say why.
    Close(Close, String),
}

/// One client's socket.
#[derive(Debug)]
pub(super) struct Socket {
    inner: WebSocket,
    write_timeout: Duration,
}

impl Socket {
    pub(super) const fn new(inner: WebSocket, write_timeout: Duration) -> Self {
        Self { inner, write_timeout }
    }

    pub(super) async fn send(&mut self, frame: &Frame) -> Result<(), End> {
        self.send_all([frame.to_json().into()]).await
    }

    /// Sends frames that are written already, flushed together.
    pub(super) async fn send_all(&mut self, frames: impl IntoIterator<Item = Utf8Bytes>) -> Result<(), End> {
        self.write(async |socket| {
            let mut sent = 0;
            for frame in frames {
                socket.feed(Message::Text(frame)).await?;
                sent += 1;
            }
            metrics::counter!("callfleet_ws_frames_total").increment(sent);
            socket.flush().await
        })
        .await
    }

    pub(super) async fn ping(&mut self) -> Result<(), End> {
        self.write(async |socket| socket.send(Message::Ping(Bytes::new())).await).await
    }

    /// Waits until the client is heard. Dropped before it is ready, nothing is lost.
    pub(super) async fn hear(&mut self) -> Result<(), End> {
        match self.inner.recv().await {
            None | Some(Ok(Message::Close(_))) => Err(End::Gone),
            // Plain clients have nothing to say: that they live is what counts.
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(broken(error)),
        }
    }

    /// Says why, and gives the client a moment to take it in.
    pub(super) async fn end(mut self, end: End) {
        let (close, detail) = match end {
            End::Gone => return,
            End::Stuck => (Close::TooSlow, "took no data for too long".to_owned()),
            End::Close(close, detail) => (close, detail),
        };
        metrics::counter!("callfleet_ws_closed_total", "reason" => close.as_str()).increment(1);
        let goodbye = async {
            if close != Close::GoingAway {
                let frame = Frame::Error { code: close.as_str().to_owned(), detail, retryable: close.is_retryable() };
                self.inner.send(Message::Text(frame.to_json().into())).await?;
            }
            let frame = CloseFrame { code: close.code(), reason: Utf8Bytes::from_static(close.as_str()) };
            self.inner.send(Message::Close(Some(frame))).await?;
            while let Some(Ok(_)) = self.inner.recv().await {}
            Ok::<_, axum::Error>(())
        };
        let _said_or_not = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
    }

    async fn write(&mut self, write: impl AsyncFnOnce(&mut WebSocket) -> Result<(), axum::Error>) -> Result<(), End> {
        match tokio::time::timeout(self.write_timeout, write(&mut self.inner)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_broken)) => Err(End::Gone),
            Err(_elapsed) => Err(End::Stuck),
        }
    }
}

/// What a socket that cannot be read from means.
fn broken(error: axum::Error) -> End {
    let error = error.into_inner();
    match error.downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => End::Gone,
        Some(tungstenite::Error::Capacity(_) | tungstenite::Error::Protocol(_) | tungstenite::Error::Utf8(_)) => {
            End::Close(Close::BadFrame, error.to_string())
        }
        _ => End::Gone,
    }
}
