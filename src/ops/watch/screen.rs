//! Frames as lines for people, or raw for machines.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use chrono::{DateTime, Local, Utc};

use crate::domain::State;
use crate::wire::call::CallSummary;
use crate::wire::feed::{Frame, Upstream, UpstreamStatus};

/// Where frames are shown. On a terminal the last line says how fresh the view is.
#[derive(Debug)]
pub(super) struct Screen {
    json: bool,
    is_terminal: bool,
    /// The last line on the terminal.
    as_of: String,
    upstream: Option<UpstreamStatus>,
    /// The snapshot under way.
    seen: BTreeMap<State, usize>,
    last_notice: String,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        let is_terminal = !json && io::stdout().is_terminal();
        Self {
            json,
            is_terminal,
            as_of: String::new(),
            upstream: None,
            seen: BTreeMap::new(),
            last_notice: String::new(),
        }
    }

    /// Shows a frame.
    ///
    /// # Errors
    /// When the output is gone.
    pub(super) fn show(&mut self, text: &str, frame: Option<&Frame>) -> io::Result<()> {
        self.last_notice.clear();
        if self.json {
            return writeln!(io::stdout().lock(), "{text}");
        }
        match frame {
            Some(Frame::Subscribed { .. }) => self.seen.clear(),
            Some(Frame::Snapshot { calls }) => {
                for call in calls {
                    *self.seen.entry(call.state).or_default() += 1;
                }
            }
            Some(Frame::Heartbeat { server_time, upstream, .. }) => {
                self.as_of(*server_time, upstream);
                let before = self.upstream.replace(upstream.status).unwrap_or(UpstreamStatus::Ok);
                return self.line(if before == upstream.status { "" } else { upstream_line(upstream.status) });
            }
            _ => {}
        }
        match frame.and_then(|frame| line(frame, &self.seen)) {
            Some(line) => self.line(&line),
            None => Ok(()),
        }
    }

    /// Says something about the watching itself, apart from what is watched; once, however often.
    pub(super) fn notice(&mut self, text: &str) {
        if self.last_notice == text {
            return;
        }
        text.clone_into(&mut self.last_notice);
        self.clear();
        // Nobody to tell is nobody to tell.
        let _gone = writeln!(io::stderr().lock(), "{text}");
    }

    /// Leaves the terminal as it should be.
    pub(super) fn leave(&mut self) {
        self.clear();
    }

    fn as_of(&mut self, server_time: DateTime<Utc>, upstream: &Upstream) {
        let status = match upstream.status {
            UpstreamStatus::Ok => "live",
            UpstreamStatus::Lagging => "LATE",
            UpstreamStatus::Down => "NO NEWS",
        };
        self.as_of = format!("data as of {} · {status} · last change took {} ms", clock(server_time), upstream.lag_ms);
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.is_terminal {
            write!(out, "\r\x1b[K")?;
        }
        if !text.is_empty() {
            writeln!(out, "{text}")?;
        }
        if self.is_terminal {
            write!(out, "{}", self.as_of)?;
        }
        out.flush()
    }

    fn clear(&mut self) {
        if self.is_terminal {
            self.as_of.clear();
            let _gone = self.line("");
        }
    }
}

/// A frame in a line; none when people need not see it.
fn line(frame: &Frame, seen: &BTreeMap<State, usize>) -> Option<String> {
    match frame {
        Frame::SnapshotEnd { .. } => Some(header(seen)),
        Frame::CallStateChanged { from, to, at, call, .. } => Some(change(*from, *to, *at, call)),
        Frame::CallLeftView { call_id, reason, .. } => {
            Some(format!("{:12}  {:24}  left the view, {}", "", escaped(call_id), escaped(reason)))
        }
        Frame::Gap { dropped } => Some(format!("-- {dropped} changes were missed; here is everything anew --")),
        Frame::GoingAway { .. } => Some("-- the notifier ends --".to_owned()),
        Frame::Error { code, detail, .. } => Some(format!("-- {}: {} --", escaped(code), escaped(detail))),
        _ => None,
    }
}

fn header(seen: &BTreeMap<State, usize>) -> String {
    let total: usize = seen.values().sum();
    let by_state: Vec<String> = seen.iter().map(|(state, count)| format!("{count} {state}")).collect();
    match total {
        0 => "-- no calls yet --".to_owned(),
        1 => format!("-- 1 call: {} --", by_state.join(", ")),
        _ => format!("-- {total} calls: {} --", by_state.join(", ")),
    }
}

fn change(from: Option<State>, to: State, at: DateTime<Utc>, call: &CallSummary) -> String {
    let from = from.map_or("(new)", State::as_str);
    let attempts = match call.attempts {
        0 => String::new(),
        1 => "  1 attempt".to_owned(),
        n => format!("  {n} attempts"),
    };
    format!("{}  {:24}  {from:>13} → {to:13}  {:15}{attempts}", clock(at), escaped(&call.call_id), call.ai_status)
        .trim_end()
        .to_owned()
}

const fn upstream_line(status: UpstreamStatus) -> &'static str {
    match status {
        UpstreamStatus::Ok => "-- news come --",
        UpstreamStatus::Lagging => "-- news come late --",
        UpstreamStatus::Down => "-- no news come: what you see may be old --",
    }
}

fn clock(at: DateTime<Utc>) -> String {
    at.with_timezone(&Local).format("%H:%M:%S%.3f").to_string()
}

/// Text from outside, fit for a terminal: no control characters, no marks that turn the writing around.
pub(super) fn escaped(text: &str) -> String {
    let mut fit = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '"' | '\'' | '\\') {
            fit.push(c);
        } else {
            fit.extend(c.escape_debug());
        }
    }
    fit
}
