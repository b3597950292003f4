//! `callfleet watch`: the live feed in the terminal, as any plain client gets it.
//!
//! Promises that it says when it lost the feed and when it has it again, and that whatever a call is
//! named, the terminal is not steered by it. Never sends anything. Lets out [`Options`] and [`run`].

mod link;
mod screen;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::target::ApiOptions;
use crate::domain::{CallId, State};
use crate::service::duration;
use crate::wire::feed::Frame;
use link::{Link, NoLink};
use screen::Screen;

/// The first pause before connecting again; it doubles from there.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// The longest pause before connecting again.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Follow the live feed: what every call is, then every change as it comes
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Only calls in these states, such as `FAILED,PROCESSING_AI`
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',')]
    pub states: Vec<State>,
    /// Only calls of these queues
    #[arg(long = "queue", value_name = "QUEUE", value_delimiter = ',')]
    pub queues: Vec<String>,
    /// Only these calls
    #[arg(long = "call", value_name = "CALL_ID", value_parser = read_call_id)]
    pub calls: Vec<String>,
    /// Print every frame as it came, one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Stop after this time
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse_positive)]
    pub duration: Option<Duration>,
    /// Stop after this many changes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it as help of every flag in it")]
    pub api: ApiOptions,
    /// The folder of `callfleet up`, whose `env` file says where it listens
    #[arg(long, env = "CALLFLEET_DATA_DIR", default_value = ".callfleet", value_name = "DATA_DIR")]
    pub data_dir: PathBuf,
}

fn read_call_id(id: &str) -> Result<String, String> {
    CallId::new(id).map(|id| id.as_str().to_owned()).map_err(|error| error.to_string())
}

/// Prints the feed until it is told to stop, by a signal, `--for` or `--count`.
///
/// # Errors
/// When nobody answers at the start, or whoever answers has no feed for us.
pub async fn run(options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut screen = Screen::new(options.json);
    let deadline = options.duration.map(|duration| Instant::now() + duration);
    let mut link = None;
    let watched = tokio::select! {
        watched = watch(&options, &mut screen, &mut link) => watched,
        () = shutdown.cancelled() => Ok(()),
        () = passed(deadline) => Ok(()),
    };
    screen.leave();
    if let Some(link) = link {
        link.close().await;
    }
    match watched {
        // Whoever reads our output has had enough.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        other => other,
    }
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

async fn watch(options: &Options, screen: &mut Screen, link: &mut Option<Link>) -> anyhow::Result<()> {
    let urls = link::urls(options)?;
    let mut changes = 0;
    let mut pause = PAUSE_MIN;
    let mut open = match Link::open(&urls).await {
        Ok(opened) => link.insert(opened),
        Err(NoLink::Refused(why) | NoLink::Away(why)) => bail!(why),
    };
    loop {
        let lost = follow(open, options, screen, &mut changes).await?;
        let Some(Lost { reason, had_everything, come_back_after }) = lost else { return Ok(()) };
        *link = None;
        if had_everything {
            pause = PAUSE_MIN;
        }
        let mut wait = come_back_after.unwrap_or_else(|| jittered(pause));
        screen.notice(&format!("{reason}: connecting again"));
        open = loop {
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(PAUSE_MAX);
            wait = jittered(pause);
            match Link::open(&urls).await {
                Ok(opened) => break link.insert(opened),
                Err(NoLink::Refused(why)) => bail!(why),
                Err(NoLink::Away(why)) => screen.notice(&why),
            }
        };
    }
}

/// Between a half of `pause` and one and a half, so that a floor of terminals does not come back as one.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64())
}

/// How a connection was lost.
struct Lost {
    reason: String,
    had_everything: bool,
    come_back_after: Option<Duration>,
}

/// Prints frames until the connection is lost, or enough changes have come.
async fn follow(
    link: &mut Link,
    options: &Options,
    screen: &mut Screen,
    changes: &mut u64,
) -> anyhow::Result<Option<Lost>> {
    let mut lost = Lost { reason: String::new(), had_everything: false, come_back_after: None };
    loop {
        let text = match link.next().await {
            Ok(text) => text,
            Err(reason) => {
                lost.reason = reason;
                return Ok(Some(lost));
            }
        };
        let frame = serde_json::from_str(&text).ok();
        screen.show(&text, frame.as_ref())?;
        match frame {
            Some(Frame::SnapshotEnd { .. }) => lost.had_everything = true,
            Some(Frame::GoingAway { reconnect_after_ms }) => {
                lost.come_back_after = Some(Duration::from_millis(reconnect_after_ms));
            }
            Some(Frame::Hello { heartbeat_ms, .. }) => link.expect_every(Duration::from_millis(heartbeat_ms)),
            Some(Frame::CallStateChanged { .. } | Frame::CallLeftView { .. }) => {
                *changes += 1;
                if options.count.is_some_and(|count| *changes >= count) {
                    return Ok(None);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
