//! Splits a logical line into keyword, flags and arguments.

use std::ops::Range;

use super::ast::SourceForm;
use super::error::Problem;
use super::flags::{self, RawFlag};
use super::json;
use super::keyword::Keyword;
use super::lines::LogicalLine;
use super::words::{self, Token, split_first, split_quoted, trim};

/// An instruction whose arguments are not parsed yet.
#[derive(Debug)]
pub(super) struct Statement<'a> {
    pub(super) line: &'a LogicalLine,
    pub(super) escape: char,
    pub(super) keyword: Keyword,
    pub(super) keyword_range: Range<usize>,
    pub(super) flags: Vec<RawFlag>,
    /// The arguments, without surrounding white space.
    pub(super) arguments: Range<usize>,
}

/// The words of `ENV` and `LABEL`: names and values.
#[derive(Debug)]
pub(super) struct Pairs {
    pub(super) pairs: Vec<(Token, Token)>,
    /// `NAME rest of the line` instead of `NAME=value`.
    pub(super) legacy: bool,
}

impl<'a> Statement<'a> {
    /// Splits a line, or the trigger part of an `ONBUILD` line.
    pub(super) fn split(line: &'a LogicalLine, range: Range<usize>, escape: char) -> Result<Self, Problem> {
        let (keyword_range, rest) = split_first(&line.text, trim(&line.text, range));
        let word = &line.text[keyword_range.clone()];
        let Some(keyword) = Keyword::find(word) else {
            return Err(Problem::new(keyword_range, format!("unknown instruction: {word}"))
                .with_suggestion(Keyword::suggest(word)));
        };
        let rest = rest.unwrap_or(keyword_range.end..keyword_range.end);
        let (flags, arguments) = flags::extract(&line.text, rest);
        let arguments = trim(&line.text, arguments);
        Ok(Self { line, escape, keyword, keyword_range, flags, arguments })
    }

    /// Returns the form in which it is written.
    pub(super) fn written(&self) -> SourceForm {
        SourceForm {
            keyword: self.line.text[self.keyword_range.clone()].to_owned(),
            comments: self.line.comments.clone(),
            blank_line: self.line.blank_line.clone(),
        }
    }

    /// Returns the arguments' text.
    pub(super) fn text(&self) -> &'a str {
        &self.line.text[self.arguments.clone()]
    }

    /// Returns the arguments if they are a JSON array.
    pub(super) fn json(&self) -> Result<Option<Vec<Token>>, Problem> {
        json::parse(&self.line.text, self.arguments.clone())
    }

    /// Returns the words between blanks.
    pub(super) fn blanks(&self) -> Vec<Token> {
        words::split_blanks(&self.line.text, self.arguments.clone())
    }

    /// Returns the words between blanks that are not quoted or escaped.
    pub(super) fn quoted(&self) -> Vec<Token> {
        split_quoted(&self.line.text, self.arguments.clone(), self.escape)
    }

    /// Returns the pairs of `ENV` and `LABEL`. The first word decides between the two forms.
    pub(super) fn pairs(&self) -> Result<Pairs, Problem> {
        let line = &self.line.text;
        let tokens = self.quoted();
        let legacy = tokens.first().is_some_and(|first| !first.text.contains('='));
        if legacy {
            let (key, value) = split_first(line, self.arguments.clone());
            let Some(value) = value else {
                return Err(Problem::new(key, format!("{} must have two arguments", self.keyword.name()))
                    .with_hint(format!("write {} NAME=value", self.keyword.name())));
            };
            return Ok(Pairs { pairs: vec![(words::token(line, key), words::token(line, value))], legacy });
        }
        let mut pairs = Vec::with_capacity(tokens.len());
        for token in tokens {
            let Some(pair) = split_assignment(&token) else {
                return Err(Problem::new(
                    token.range,
                    format!(
                        "Syntax error - can't find = in {}. Must be of the form: name=value",
                        super::go_quote(&token.text)
                    ),
                )
                .with_hint("put a value with blanks in double quotes: NAME=\"two words\""));
            };
            pairs.push(pair);
        }
        Ok(Pairs { pairs, legacy })
    }

    /// Reports whether `<<NAME` words on the line open here-documents, of the instruction itself or of an `ONBUILD`
    /// trigger.
    pub(super) fn takes_heredocs(&self) -> bool {
        let not_json = || matches!(self.json(), Ok(None));
        match self.keyword {
            Keyword::Onbuild => Self::split(self.line, self.arguments.clone(), self.escape)
                .is_ok_and(|trigger| trigger.keyword != Keyword::Onbuild && trigger.takes_heredocs()),
            keyword => keyword.takes_heredocs() && not_json(),
        }
    }

    /// Checks the form of an `ONBUILD` trigger before it is stored.
    pub(super) fn check_form(&self) -> Result<(), Problem> {
        match self.keyword {
            Keyword::Env | Keyword::Label => self.pairs().map(|_| ()),
            Keyword::Add
            | Keyword::Cmd
            | Keyword::Copy
            | Keyword::Entrypoint
            | Keyword::Run
            | Keyword::Shell
            | Keyword::Volume => self.json().map(|_| ()),
            Keyword::Arg
            | Keyword::Expose
            | Keyword::From
            | Keyword::Healthcheck
            | Keyword::Maintainer
            | Keyword::Onbuild
            | Keyword::StopSignal
            | Keyword::User
            | Keyword::Workdir => Ok(()),
        }
    }
}

/// Splits `name=value` at the first `=`.
pub(super) fn split_assignment(token: &Token) -> Option<(Token, Token)> {
    let (name, value) = token.text.split_once('=')?;
    let Token { range, .. } = token;
    let name_end = range.start + name.len();
    Some((
        Token { text: name.to_owned(), range: range.start..name_end },
        Token { text: value.to_owned(), range: name_end + 1..range.end },
    ))
}
