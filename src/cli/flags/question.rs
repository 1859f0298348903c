//! The flags of a build that ask something about the Dockerfile instead.

use std::str::FromStr;

use clap::ArgAction;

use crate::builder::{Format, Question};

/// What is asked instead of a build.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
#[command(next_help_heading = "Questions")]
pub struct QuestionFlags {
    /// What to do: build, check, outline or targets; with ,format=json the answer is a JSON object.
    ///
    /// check reports what is wrong with the Dockerfile or could be written better, outline the arguments, secrets and
    /// caches of the target, targets the stages that can be built. Nothing is built then, and no other output is
    /// written.
    #[arg(long, value_name = "KIND[,format=FORMAT]", default_value = "build")]
    pub call: Called,

    /// The same as --call=check.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub check: bool,

    /// Print the plan and do nothing: stages and steps, what is pulled, skipped, pushed and written.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub dryrun: bool,
}

/// Two questions at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuestionFlagError {
    /// Two different things to do.
    #[error("--check means --call=check: only one of the two can be given")]
    CheckAndCall,
    /// A plan, and something other than a build.
    #[error("--dryrun prints the plan of a build: it does not go with --check or --call")]
    DryRunAndCall,
}

impl QuestionFlags {
    /// Returns the question; `None` for a build.
    ///
    /// # Errors
    /// There are two questions.
    pub(crate) fn question(self) -> Result<Option<Question>, QuestionFlagError> {
        match (self.check, self.call.question, self.dryrun) {
            (false, question, false) => Ok(question),
            (true, None | Some(Question::Check), false) => Ok(Some(Question::Check)),
            (true, Some(_), false) => Err(QuestionFlagError::CheckAndCall),
            (false, None, true) => Ok(Some(Question::Plan)),
            (_, _, true) => Err(QuestionFlagError::DryRunAndCall),
        }
    }
}

/// The value of `--call`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Called {
    /// What is asked instead of a build.
    pub question: Option<Question>,
    /// How the answer is written.
    pub format: Format,
}

/// A word that is not a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected build, check, outline or targets, and then ,format=text or ,format=json")]
pub struct NotCall;

impl FromStr for Called {
    type Err = NotCall;

    /// Reads `KIND`, `KIND,format=json` or `format=json,KIND`.
    fn from_str(text: &str) -> Result<Self, NotCall> {
        let mut called = Self::default();
        for word in text.split(',') {
            match word {
                "build" => called.question = None,
                "check" => called.question = Some(Question::Check),
                "outline" => called.question = Some(Question::Outline),
                "targets" => called.question = Some(Question::Targets),
                "format=text" => called.format = Format::Text,
                "format=json" => called.format = Format::Json,
                _ => return Err(NotCall),
            }
        }
        Ok(called)
    }
}
