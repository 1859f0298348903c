//! Shared code for output to the user: progress lines, interruption, redaction, suggestions.
//!
//! Errors stay typed in their modules; only `cli` turns them into text and an exit code.

mod causes;
mod disk;
mod hint;
pub mod interrupt;
pub mod line;
pub mod progress;
mod rawjson;
pub mod redact;
mod step;
mod suggestion;
mod summary;
mod terminal;
mod units;

pub use causes::{messages, with_causes, with_hint};
pub use hint::{BoxedError, Hint};
pub use step::Step;
pub use suggestion::suggest;
pub use summary::{CacheMountsSummary, CacheSummary, Phase, Summary};
