//! One socket from `hello` to its close: a snapshot, then every change, then a snapshot again where
//! one was missed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::SinkExt;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};

use super::hub::{Lane, LaneEnd};
use super::snapshot::{Snapshot, SnapshotError};
use super::source::Source;
use super::view::View;
use super::{Filter, Notifier};
use crate::wire::call::CallSummary;
use crate::wire::feed::{Close, Frame, PROTOCOL, SnapshotPages};

/// Frames that are written together before they are flushed.
const BATCH_FRAMES: usize = 64;
/// Frames that a client may send between two heartbeats.
const FRAMES_IN_MAX: u32 = 1000;
/// Heartbeats in which nothing is heard of a client, not even an answer to a ping, before it is closed.
const SILENT_HEARTBEATS: u32 = 3;
/// Times that a reader may miss changes within [`MISSES_WITHIN`] before it is closed.
const MISSES_MAX: usize = 3;
const MISSES_WITHIN: Duration = Duration::from_mins(1);
/// Age from which on a call's last change is taken to have been announced before a snapshot.
const ANNOUNCED_WITHIN: TimeDelta = TimeDelta::seconds(60);
/// Time that a client gets to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The time over which clients are spread when they are sent away: the more, the longer.
const SPREAD_PER_CLIENT: Duration = Duration::from_millis(2);
const SPREAD_MIN: Duration = Duration::from_secs(1);
const SPREAD_MAX: Duration = Duration::from_secs(30);

/// Why a socket ends.
#[derive(Debug)]
enum End {
    /// The client went, or the network did.
    Gone,
    /// It took no data for too long.
    Stuck,
    /// We close it, and say why.
    Close(Close, String),
}

/// What a socket is woken by, beside changes of calls.
enum Happening {
    Inbound(Option<Result<Message, axum::Error>>),
    Heartbeat,
    Source,
    Shutdown,
}

struct Session {
    socket: WebSocket,
    notifier: Notifier,
    filter: Arc<Filter>,
    source: watch::Receiver<Source>,
    heartbeats: Interval,
    /// The client has everything up to here.
    seq: u64,
    heard_at: Instant,
    frames_in: u32,
}

/// Serves one client until it goes, or the notifier does.
pub(super) async fn serve(socket: WebSocket, notifier: Notifier, supervisor_id: String, filter: Filter) {
    metrics::gauge!("callfleet_ws_connections").increment(1);
    let mut session = Session::new(socket, notifier, filter);
    let end = match session.run(&supervisor_id).await {
        Ok(never) => match never {},
        Err(end) => end,
    };
    tracing::debug!(supervisor_id, ?end, "supervisor's socket ends");
    session.end(end).await;
    metrics::gauge!("callfleet_ws_connections").decrement(1);
}

impl Session {
    fn new(socket: WebSocket, notifier: Notifier, filter: Filter) -> Self {
        let period = notifier.shared.options.ws_heartbeat;
        let mut heartbeats = tokio::time::interval_at(Instant::now() + period, period);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            socket,
            source: notifier.shared.hub.source(),
            notifier,
            filter: Arc::new(filter),
            heartbeats,
            seq: 0,
            heard_at: Instant::now(),
            frames_in: 0,
        }
    }

    async fn run(&mut self, supervisor_id: &str) -> Result<Infallible, End> {
        let heartbeat_ms = self.notifier.shared.options.ws_heartbeat.as_millis();
        self.send(&Frame::Hello {
            protocol: PROTOCOL.to_owned(),
            server: env!("CARGO_PKG_VERSION").to_owned(),
            supervisor_id: supervisor_id.to_owned(),
            heartbeat_ms: u64::try_from(heartbeat_ms).unwrap_or(u64::MAX),
        })
        .await?;
        let mut misses = VecDeque::with_capacity(MISSES_MAX);
        loop {
            // The stream first, then the present: what changes in between comes twice, not never.
            let mut lane = self.notifier.shared.hub.subscribe(Arc::clone(&self.filter));
            let mut view = View::new(Arc::clone(&self.filter));
            // Boxed: a socket at rest need not hold room for it.
            Box::pin(self.show(&lane, &mut view)).await?;
            let dropped = match self.follow(&mut lane, &mut view).await? {
                LaneEnd::Reset => {
                    metrics::counter!("callfleet_ws_resnapshots_total", "reason" => "reset").increment(1);
                    0
                }
                LaneEnd::Full(dropped) => {
                    metrics::counter!("callfleet_ws_resnapshots_total", "reason" => "slow").increment(1);
                    note_miss(&mut misses, Instant::now())?;
                    dropped
                }
            };
            self.send(&Frame::Gap { dropped }).await?;
        }
    }

    /// Sends the present.
    async fn show(&mut self, lane: &Lane, view: &mut View) -> Result<(), End> {
        let (notifier, filter) = (self.notifier.clone(), Arc::clone(&self.filter));
        let shared = &*notifier.shared;
        let mut snapshot = Snapshot::new(shared, &filter);
        let visible = self.meanwhile(Box::pin(snapshot.count())).await?.map_err(|error| store_away(&error))?;
        self.send(&Frame::Subscribed { seq: lane.start, visible }).await?;
        let mut pages = SnapshotPages::default();
        while let Some(calls) = self.meanwhile(Box::pin(snapshot.next())).await?.map_err(|error| store_away(&error))? {
            let had_passed = shared.hub.had_passed(calls.iter().map(|call| (call.key, call.version)), lane.start);
            let announced = shared.store.now() - ANNOUNCED_WITHIN;
            for (call, had_passed) in calls.iter().zip(had_passed) {
                view.show(call.key, call.version, call.state, had_passed || call.updated_at < announced);
                if let Some(page) = pages.push(&CallSummary::from(call)) {
                    self.send_all([page.into()]).await?;
                }
            }
        }
        if let Some(page) = pages.finish() {
            self.send_all([page.into()]).await?;
        }
        self.seq = self.seq.max(lane.start);
        self.send(&Frame::SnapshotEnd { seq: self.seq }).await?;
        // At once: were our source down now, the client would take the present for live until the next one.
        self.heartbeat(Some(lane)).await
    }

    /// Sends every change, until one is missed.
    async fn follow(&mut self, lane: &mut Lane, view: &mut View) -> Result<LaneEnd, End> {
        loop {
            let mut next = tokio::select! {
                happening = self.happening() => {
                    self.handle(happening, Some(lane)).await?;
                    continue;
                }
                next = lane.next() => next.map(Some),
            };
            let mut frames = Vec::new();
            loop {
                let event = match next {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(end) => return Ok(end),
                };
                self.seq = self.seq.max(event.seq);
                frames.extend(view.take(&event).map(|shown| event.frame(shown)));
                if frames.len() >= BATCH_FRAMES {
                    break;
                }
                next = lane.try_next();
            }
            self.send_all(frames).await?;
            if view.is_overgrown() {
                return Ok(LaneEnd::Full(0));
            }
        }
    }

    /// Waits for `work` and lives on meanwhile.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        tokio::pin!(work);
        loop {
            let happening = tokio::select! {
                done = &mut work => return Ok(done),
                happening = self.happening() => happening,
            };
            self.handle(happening, None).await?;
        }
    }

    /// What comes next; dropped before it is ready, nothing is lost.
    async fn happening(&mut self) -> Happening {
        tokio::select! {
            () = self.notifier.shared.shutdown.cancelled() => Happening::Shutdown,
            inbound = self.socket.recv() => Happening::Inbound(inbound),
            _ = self.heartbeats.tick() => Happening::Heartbeat,
            Ok(()) = self.source.changed() => Happening::Source,
        }
    }

    async fn handle(&mut self, happening: Happening, lane: Option<&Lane>) -> Result<(), End> {
        match happening {
            Happening::Shutdown => {
                let clients = u32::try_from(self.notifier.shared.connections.len()).unwrap_or(u32::MAX);
                let reconnect_after_ms = spread(clients, fastrand::f64());
                self.send(&Frame::GoingAway { reconnect_after_ms }).await?;
                Err(End::Close(Close::GoingAway, "this notifier ends".to_owned()))
            }
            Happening::Inbound(None | Some(Ok(Message::Close(_)))) => Err(End::Gone),
            Happening::Inbound(Some(Err(error))) => Err(broken(error)),
            // Plain clients have nothing to say: that they live is what counts.
            Happening::Inbound(Some(Ok(_))) => self.hear(),
            Happening::Heartbeat => {
                self.check_silence()?;
                self.frames_in = 0;
                self.heartbeat(lane).await?;
                self.write(async |socket| socket.send(Message::Ping(Bytes::new())).await).await
            }
            Happening::Source => self.heartbeat(lane).await,
        }
    }

    async fn heartbeat(&mut self, lane: Option<&Lane>) -> Result<(), End> {
        // Only with an empty lane is the client as far as the news are.
        self.seq = self.seq.max(lane.and_then(Lane::caught_up).unwrap_or(0));
        let upstream = self.source.borrow_and_update().upstream(Instant::now());
        let server_time = self.notifier.shared.store.now();
        self.send(&Frame::Heartbeat { seq: self.seq, server_time, upstream }).await
    }

    fn hear(&mut self) -> Result<(), End> {
        self.heard_at = Instant::now();
        self.frames_in += 1;
        if self.frames_in > FRAMES_IN_MAX {
            let detail = format!("a client may send {FRAMES_IN_MAX} frames between two heartbeats");
            return Err(End::Close(Close::TooManyFrames, detail));
        }
        Ok(())
    }

    fn check_silence(&self) -> Result<(), End> {
        let longest = self.notifier.shared.options.ws_heartbeat * SILENT_HEARTBEATS;
        if self.heard_at.elapsed() > longest + CLOSE_TIMEOUT {
            let detail = format!("no answer to {SILENT_HEARTBEATS} pings");
            return Err(End::Close(Close::Silent, detail));
        }
        Ok(())
    }

    async fn send(&mut self, frame: &Frame) -> Result<(), End> {
        self.send_all([frame.to_json().into()]).await
    }

    async fn send_all(&mut self, frames: impl IntoIterator<Item = Utf8Bytes>) -> Result<(), End> {
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

    async fn write(&mut self, write: impl AsyncFnOnce(&mut WebSocket) -> Result<(), axum::Error>) -> Result<(), End> {
        let deadline = self.notifier.shared.options.ws_write_timeout;
        match tokio::time::timeout(deadline, write(&mut self.socket)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_broken)) => Err(End::Gone),
            Err(_elapsed) => Err(End::Stuck),
        }
    }

    /// Says why, and gives the client a moment to take it in.
    async fn end(mut self, end: End) {
        let (close, detail) = match end {
            End::Gone => return,
            End::Stuck => (Close::TooSlow, "took no data for too long".to_owned()),
            End::Close(close, detail) => (close, detail),
        };
        metrics::counter!("callfleet_ws_closed_total", "reason" => close.as_str()).increment(1);
        let goodbye = async {
            if close != Close::GoingAway {
                let frame = Frame::Error { code: close.as_str().to_owned(), detail, retryable: close.is_retryable() };
                self.socket.send(Message::Text(frame.to_json().into())).await?;
            }
            let frame = CloseFrame { code: close.code(), reason: Utf8Bytes::from_static(close.as_str()) };
            self.socket.send(Message::Close(Some(frame))).await?;
            while let Some(Ok(_)) = self.socket.recv().await {}
            Ok::<_, axum::Error>(())
        };
        let _said_or_not = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
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

fn store_away(error: &SnapshotError) -> End {
    tracing::warn!(%error, "no snapshot for a supervisor");
    End::Close(Close::StoreAway, "the present cannot be read now: come back".to_owned())
}

fn note_miss(misses: &mut VecDeque<Instant>, now: Instant) -> Result<(), End> {
    misses.retain(|at| now.duration_since(*at) < MISSES_WITHIN);
    misses.push_back(now);
    if misses.len() >= MISSES_MAX {
        let detail = format!("missed changes {MISSES_MAX} times within {} s", MISSES_WITHIN.as_secs());
        return Err(End::Close(Close::TooSlow, detail));
    }
    Ok(())
}

/// When one of `clients` is to come back, `share` (from 0 to 1) of the way through their time.
fn spread(clients: u32, share: f64) -> u64 {
    let over = (SPREAD_PER_CLIENT * clients).clamp(SPREAD_MIN, SPREAD_MAX);
    u64::try_from(over.mul_f64(share).as_millis()).unwrap_or(0)
}
