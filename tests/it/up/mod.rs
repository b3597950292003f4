//! The programs as people run them: `callfleet up`, and every role as a process of its own, over
//! servers that belong to the test and die when it wants.

pub(crate) mod fleet;
pub(crate) mod folder;
mod outage;
pub(crate) mod pbx;
pub(crate) mod processes;
pub(crate) mod program;
mod refused;
mod relay;
pub(crate) mod supervisor;
mod whole;
pub(crate) mod work;
