//! The layer cache of one build: what it has for the steps of the plan, and what the build adds to it.
//!
//! Before anything runs, the definition keys of all steps are computed ([`inputs`] reads what they need) and looked up side by
//! side ([`lookup`]). An [`attempt`] uses those hits that fit together, and looks the other steps up by content once their
//! inputs are there. New layers are written in the background ([`writer`]).

mod attempt;
mod environment;
mod inputs;
mod lookup;
mod writer;

pub(super) use attempt::Attempt;
pub(super) use environment::Environment;
pub(super) use lookup::StepCache;
