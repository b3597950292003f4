//! The names of subjects, without an environment's prefix, which the broker adds.

use crate::domain::{CallKey, Class, Lane, State, Tenant};

/// All jobs: `call.work.<lane>.<tenant>.<key>`.
pub const WORK: &str = "call.work.>";
/// All changes of state: `call.state.<tenant>.<state>.<key>`.
pub const STATE: &str = "call.state.>";
/// All dead letters: `call.dlq.<class>.<tenant>.<key>.<generation>`.
pub const DLQ: &str = "call.dlq.>";

/// All spooled batches: `call.spool.<ingest>`.
pub const SPOOL: &str = "call.spool.>";

/// Where an ingest spools what it accepts.
#[must_use]
pub fn spool(ingest: uuid::Uuid) -> String {
    format!("call.spool.{}", ingest.simple())
}

/// Where a message of the spool, or an entry of one, is laid down that could not be stored.
#[must_use]
pub fn spool_letter(id: uuid::Uuid) -> String {
    format!("call.dlq.unreadable.spool.{}.1", id.simple())
}

/// Where a call's job goes.
#[must_use]
pub fn work(lane: Lane, tenant: &Tenant, key: CallKey) -> String {
    format!("call.work.{lane}.{tenant}.{key}")
}

/// The jobs of one lane.
#[must_use]
pub fn work_of(lane: Lane) -> String {
    format!("call.work.{lane}.>")
}

/// Where a call's change of state is announced.
#[must_use]
pub fn state(tenant: &Tenant, state: State, key: CallKey) -> String {
    format!("call.state.{tenant}.{state}.{key}")
}

/// Where a call that was given up is laid down.
#[must_use]
pub fn dead_letter(class: Class, tenant: &Tenant, key: CallKey, generation: i32) -> String {
    format!("call.dlq.{class}.{tenant}.{key}.{generation}")
}
