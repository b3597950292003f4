//! One change of a call on its way to all sockets, written as JSON once for each way of showing it.

use std::sync::OnceLock;

use axum::extract::ws::Utf8Bytes;

use crate::domain::CallKey;
use crate::wire::feed::{Frame, StateChanged, ViewChange};

/// A change of a call, shared by all sockets that show it.
#[derive(Debug)]
pub(super) struct Event {
    /// Its place in this notifier's order.
    pub(super) seq: u64,
    /// Whose change it is.
    pub(super) key: CallKey,
    /// The change.
    pub(super) change: StateChanged,
    enter: OnceLock<Utf8Bytes>,
    update: OnceLock<Utf8Bytes>,
    left: OnceLock<Utf8Bytes>,
}

/// How a client is told of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// The call comes into its view.
    Enter,
    /// The call changes within it.
    Update,
    /// The call leaves it.
    Left,
}

impl Event {
    pub(super) const fn new(seq: u64, key: CallKey, change: StateChanged) -> Self {
        Self { seq, key, change, enter: OnceLock::new(), update: OnceLock::new(), left: OnceLock::new() }
    }

    /// The frame, written by the first socket that needs it.
    pub(super) fn frame(&self, shown: Shown) -> Utf8Bytes {
        let (frame, view_change) = match shown {
            Shown::Enter => (&self.enter, Some(ViewChange::Enter)),
            Shown::Update => (&self.update, Some(ViewChange::Update)),
            Shown::Left => (&self.left, None),
        };
        frame.get_or_init(|| self.write(view_change).to_json().into()).clone()
    }

    fn write(&self, view_change: Option<ViewChange>) -> Frame {
        let StateChanged { from, to, at, call, .. } = &self.change;
        match view_change {
            Some(change) => Frame::CallStateChanged {
                seq: self.seq,
                version: call.version,
                call_id: call.call_id.clone(),
                from: *from,
                to: *to,
                change,
                at: *at,
                call: Box::new(call.clone()),
            },
            None => Frame::CallLeftView {
                seq: self.seq,
                call_id: call.call_id.clone(),
                reason: format!("now {to}: {}", self.change.reason),
            },
        }
    }
}
