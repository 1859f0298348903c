//! The layer cache of one build.
//!
//! Before anything runs, the definition keys of all steps are computed ([`inputs`] reads their inputs) and looked up in
//! parallel ([`lookup`]). An [`attempt`] uses the hits that fit together, and looks up the other steps by content when
//! their inputs exist. New layers are written in the background ([`writer`]).

mod attempt;
mod environment;
mod inputs;
mod lookup;
mod writer;

pub(super) use attempt::Attempt;
pub(super) use environment::Environment;
pub(super) use lookup::StepCache;
