//! One socket from `hello` to its close: a snapshot, then every change, then a snapshot again where
//! one was missed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocket;
use chrono::TimeDelta;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::hub::{Lane, LaneEnd};
use super::snapshot::{Snapshot, SnapshotError};
use super::socket::{End, Socket};
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
/// Time for an answer to a ping to come after all.
const PONG_GRACE: Duration = Duration::from_secs(1);
/// The time over which clients are spread when they are sent away: the more, the longer.
const SPREAD_PER_CLIENT: Duration = Duration::from_millis(2);
const SPREAD_MIN: Duration = Duration::from_secs(1);
const SPREAD_MAX: Duration = Duration::from_secs(30);

/// What a socket is woken by, beside changes of calls.
enum Happening {
    Inbound(Result<(), End>),
    Heartbeat,
    Source,
    Shutdown,
}

struct Session {
    socket: Socket,
    notifier: Notifier,
    filter: Arc<Filter>,
    source: watch::Receiver<Source>,
    heartbeats: Interval,
    /// The client has everything up to here.
    seq: u64,
    heard_at: Instant,
    frames_in: u32,
    /// Between `subscribed` and `snapshot_end` there is no heartbeat: the one says where the other
    /// will be, and `seq` must not seem to fall. One follows at the end.
    in_snapshot: bool,
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
    session.socket.end(end).await;
    metrics::gauge!("callfleet_ws_connections").decrement(1);
}

impl Session {
    fn new(socket: WebSocket, notifier: Notifier, filter: Filter) -> Self {
        let period = notifier.shared.options.ws_heartbeat;
        let mut heartbeats = tokio::time::interval_at(Instant::now() + period, period);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            socket: Socket::new(socket, notifier.shared.options.ws_write_timeout),
            source: notifier.shared.hub.source(),
            notifier,
            filter: Arc::new(filter),
            heartbeats,
            seq: 0,
            heard_at: Instant::now(),
            frames_in: 0,
            in_snapshot: false,
        }
    }

    async fn run(&mut self, supervisor_id: &str) -> Result<Infallible, End> {
        let heartbeat_ms = self.notifier.shared.options.ws_heartbeat.as_millis();
        self.socket
            .send(&Frame::Hello {
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
            self.socket.send(&Frame::Gap { dropped }).await?;
        }
    }

    /// Sends the present.
    async fn show(&mut self, lane: &Lane, view: &mut View) -> Result<(), End> {
        let (notifier, filter) = (self.notifier.clone(), Arc::clone(&self.filter));
        let shared = &*notifier.shared;
        let mut snapshot = Snapshot::new(shared, &filter);
        let visible = self.meanwhile(Box::pin(snapshot.count())).await?.map_err(|error| store_away(&error))?;
        self.in_snapshot = true;
        self.socket.send(&Frame::Subscribed { seq: lane.start, visible }).await?;
        let mut pages = SnapshotPages::default();
        while let Some(calls) = self.meanwhile(Box::pin(snapshot.next())).await?.map_err(|error| store_away(&error))? {
            let had_passed = shared.hub.had_passed(calls.iter().map(|call| (call.key, call.version)), lane.start);
            let announced = shared.store.now() - ANNOUNCED_WITHIN;
            for (call, had_passed) in calls.iter().zip(had_passed) {
                view.show(call.key, call.version, call.state, had_passed || call.updated_at < announced);
                if let Some(page) = pages.push(&CallSummary::from(call)) {
                    self.socket.send_all([page.into()]).await?;
                }
            }
        }
        if let Some(page) = pages.finish() {
            self.socket.send_all([page.into()]).await?;
        }
        self.seq = self.seq.max(lane.start);
        self.socket.send(&Frame::SnapshotEnd { seq: self.seq }).await?;
        self.in_snapshot = false;
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
            self.socket.send_all(frames).await?;
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
            inbound = self.socket.hear() => Happening::Inbound(inbound),
            _ = self.heartbeats.tick() => Happening::Heartbeat,
            Ok(()) = self.source.changed() => Happening::Source,
        }
    }

    async fn handle(&mut self, happening: Happening, lane: Option<&Lane>) -> Result<(), End> {
        match happening {
            Happening::Shutdown => {
                let clients = u32::try_from(self.notifier.shared.connections.len()).unwrap_or(u32::MAX);
                let reconnect_after_ms = spread(clients, fastrand::f64());
                self.socket.send(&Frame::GoingAway { reconnect_after_ms }).await?;
                Err(End::Close(Close::GoingAway, "this notifier ends".to_owned()))
            }
            Happening::Inbound(heard) => {
                heard?;
                self.heard()
            }
            Happening::Heartbeat => {
                self.check_silence()?;
                self.frames_in = 0;
                self.heartbeat(lane).await?;
                self.socket.ping().await
            }
            Happening::Source => self.heartbeat(lane).await,
        }
    }

    async fn heartbeat(&mut self, lane: Option<&Lane>) -> Result<(), End> {
        if self.in_snapshot {
            self.source.mark_unchanged();
            return Ok(());
        }
        // Only with an empty lane is the client as far as the news are.
        self.seq = self.seq.max(lane.and_then(Lane::caught_up).unwrap_or(0));
        let upstream = self.source.borrow_and_update().upstream(Instant::now());
        let server_time = self.notifier.shared.store.now();
        self.socket.send(&Frame::Heartbeat { seq: self.seq, server_time, upstream }).await
    }

    fn heard(&mut self) -> Result<(), End> {
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
        if self.heard_at.elapsed() > longest + PONG_GRACE {
            let detail = format!("no answer to {SILENT_HEARTBEATS} pings");
            return Err(End::Close(Close::Silent, detail));
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{MISSES_MAX, MISSES_WITHIN, note_miss, spread};

    #[test]
    fn a_reader_that_misses_again_and_again_is_closed_and_one_that_recovers_is_not() {
        let now = Instant::now();
        let (mut misses, mut rare) = (VecDeque::new(), VecDeque::new());
        for n in 1..=MISSES_MAX {
            assert_eq!(note_miss(&mut misses, now).is_err(), n == MISSES_MAX);
            assert!(note_miss(&mut rare, now + MISSES_WITHIN * u32::try_from(n).unwrap()).is_ok());
        }
    }

    #[test]
    fn the_more_clients_the_longer_the_time_over_which_they_come_back() {
        assert_eq!((spread(1, 0.0), spread(1, 1.0)), (0, 1000));
        assert_eq!(spread(5000, 0.5), 5000);
        assert_eq!(spread(u32::MAX / 2, 1.0), u64::try_from(Duration::from_secs(30).as_millis()).unwrap());
    }
}
