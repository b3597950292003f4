//! What a PBX says of a call beside its packets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a PBX may say of a call; what supervisors filter by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Metadata {
    /// The queue it waited in
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// `inbound`, `outbound` or the PBX's own word
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
    /// The calling party
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The called party
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The agent it belongs to
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Anything else
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl Metadata {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// This with what `newer` says on top; fields it is silent on stay.
    #[must_use]
    pub fn overlaid(&self, newer: &Self) -> Self {
        let mut tags = self.tags.clone();
        tags.extend(newer.tags.iter().map(|(k, v)| (k.clone(), v.clone())));
        Self {
            queue: newer.queue.clone().or_else(|| self.queue.clone()),
            direction: newer.direction.clone().or_else(|| self.direction.clone()),
            from: newer.from.clone().or_else(|| self.from.clone()),
            to: newer.to.clone().or_else(|| self.to.clone()),
            agent: newer.agent.clone().or_else(|| self.agent.clone()),
            tags,
        }
    }
}
