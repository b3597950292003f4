//! Charts as inline SVG: no script, no font, no colour of their own (the page's style has those).

mod frame;
mod latency;
mod states;

pub(super) use latency::latency;
pub(super) use states::{PHASES, states};
