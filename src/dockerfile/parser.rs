//! Parses a complete file: directives, then each instruction, grouped into stages.

use std::sync::Arc;

use super::ast::{Dockerfile, Instruction, Kind, Source, Span, Stage};
use super::directive::{self, foreign_syntax, text_start};
use super::error::{ParseError, Problem};
use super::heredoc::{self, Opening};
use super::instruction::{Converted, PlacedHeredoc, check_trigger, convert};
use super::keyword::Keyword;
use super::lines::{LINE_LIMIT, LineReader, LogicalLine};
use super::statement::Statement;

/// The errors of a file, and the valid part of it.
#[derive(Debug, Clone)]
pub struct Invalid {
    /// In the order of the file; never empty.
    pub errors: Vec<ParseError>,
    /// The valid instructions, if they can be grouped into stages: to find further errors.
    pub rest: Option<Dockerfile>,
}

/// Parses a Dockerfile.
///
/// # Errors
/// Every error that does not follow from a different one, in the order of the file.
pub fn parse(source: Source) -> Result<Dockerfile, Invalid> {
    let source = Arc::new(source);
    let mut file = File::new(&source);
    if source.text.is_empty() {
        file.error(0..0, "the Dockerfile cannot be empty", None);
        return Err(Invalid { errors: file.errors, rest: None });
    }
    if let Some(frontend) = foreign_syntax(&source.text) {
        let hint = "only the Dockerfile language itself is built in; other frontends are not run".to_owned();
        file.error(frontend.span, format!("unsupported frontend {}", frontend.text), Some(hint));
        return Err(Invalid { errors: file.errors, rest: None });
    }
    let directives = directive::read(&source.text);
    for (span, message, hint) in directives.errors {
        file.error(span, message, hint);
    }
    let mut stages = Stages::default();
    let mut reader = LineReader::new(&source.text, text_start(&source.text), directives.escape);
    reader.comments_from = directives.end;
    let mut found_any = false;
    while let Some(line) = reader.logical() {
        found_any = true;
        let outcome = file.read_instruction(&mut reader, &line, directives.escape, false);
        stages.add(outcome, &mut file);
    }
    for span in reader.too_long {
        let hint = "break it with continuation lines, or copy a file instead".to_owned();
        file.error(span, format!("dockerfile line greater than max allowed size of {LINE_LIMIT}"), Some(hint));
    }
    if !found_any {
        file.error(0..0, "file with no instructions", Some("an image starts with FROM".to_owned()));
    } else if stages.stages.is_empty() && !stages.lost_from && file.errors.is_empty() {
        let hint = "add a FROM instruction: an image starts with it".to_owned();
        file.error(0..0, "dockerfile contains no stages to build", Some(hint));
    }
    let mut errors = file.errors;
    let sorted = !stages.stages.is_empty() && !stages.lost_from;
    let dockerfile = Dockerfile {
        escape: directives.escape,
        syntax: directives.syntax,
        check: directives.check,
        global_args: stages.global_args,
        stages: stages.stages,
        source,
    };
    if errors.is_empty() {
        return Ok(dockerfile);
    }
    errors.sort_by_key(|error| error.span.start);
    Err(Invalid { errors, rest: sorted.then_some(dockerfile) })
}

/// Parses the text of one `ONBUILD` trigger, as [`super::ast::Onbuild`] stores it.
///
/// # Errors
/// As for [`parse`]; also if the text is more than one instruction, or one that is not allowed as a trigger.
pub fn parse_trigger(source: Source, escape: char) -> Result<Vec<Instruction>, Vec<ParseError>> {
    let source = Arc::new(source);
    let mut file = File::new(&source);
    let mut reader = LineReader::new(&source.text, 0, escape);
    let mut instructions = Vec::new();
    let mut count = 0;
    while let Some(line) = reader.logical() {
        count += 1;
        if let Some(Parsed::Instruction(instruction)) = file.read_instruction(&mut reader, &line, escape, true) {
            instructions.push(*instruction);
        }
    }
    if count != 1 {
        file.error(0..source.text.len(), "onbuild trigger should be a single expression", None);
    }
    if file.errors.is_empty() { Ok(instructions) } else { Err(file.errors) }
}

/// A parsed line of the file.
enum Parsed {
    From(Box<super::ast::From>),
    Instruction(Box<Instruction>),
    /// An invalid instruction; `from` is true if it was meant to start a stage.
    Wrong {
        from: bool,
    },
}

/// The stages so far.
#[derive(Default)]
struct Stages {
    global_args: Vec<Instruction>,
    stages: Vec<Stage>,
    /// True if a `FROM` is invalid, so that the following instructions belong to no stage.
    lost_from: bool,
    /// True after an instruction before the first `FROM`; further ones are the same error.
    orphan: bool,
}

impl Stages {
    fn add(&mut self, parsed: Option<Parsed>, file: &mut File<'_>) {
        match parsed {
            Some(Parsed::From(from)) => {
                self.stages.push(Stage { from: *from, instructions: Vec::new() });
            }
            Some(Parsed::Wrong { from }) => self.lost_from |= from,
            Some(Parsed::Instruction(instruction)) => match self.stages.last_mut() {
                Some(stage) => stage.instructions.push(*instruction),
                None if matches!(instruction.kind, Kind::Arg(_)) => self.global_args.push(*instruction),
                None if self.lost_from || self.orphan => {}
                None => {
                    self.orphan = true;
                    let hint = format!("only ARG may precede the first FROM, not {}", instruction.keyword());
                    file.error(instruction.span, "no build stage in current context", Some(hint));
                }
            },
            None => {}
        }
    }
}

/// A source and its errors.
struct File<'a> {
    source: &'a Arc<Source>,
    errors: Vec<ParseError>,
}

impl<'a> File<'a> {
    fn new(source: &'a Arc<Source>) -> Self {
        Self { source, errors: Vec::new() }
    }

    fn error(&mut self, span: Span, message: impl Into<String>, hint: Option<String>) {
        self.errors.push(ParseError { span, message: message.into(), hint, source: Arc::clone(self.source) });
    }

    fn problem(&mut self, line: &LogicalLine, problem: Problem) {
        self.error(line.span(problem.range), problem.message, problem.hint);
    }

    /// Reads the here-documents of a line even if the line is invalid, so that the next line read is an instruction.
    fn read_instruction(
        &mut self,
        reader: &mut LineReader<'_>,
        line: &LogicalLine,
        escape: char,
        trigger: bool,
    ) -> Option<Parsed> {
        let statement = match Statement::split(line, 0..line.text.len(), escape) {
            Ok(statement) => statement,
            Err(problem) => {
                let meant = problem_keyword(line, &problem);
                self.problem(line, problem);
                if meant.is_some_and(Keyword::takes_heredocs) {
                    // A misspelt RUN still has its here-documents; a missing end is not worth a second error.
                    self.read_heredocs(reader, line).ok()?;
                }
                return Some(Parsed::Wrong { from: meant == Some(Keyword::From) });
            }
        };
        let wrong = Parsed::Wrong { from: statement.keyword == Keyword::From };
        let heredocs = if statement.takes_heredocs() {
            match self.read_heredocs(reader, line) {
                Ok(heredocs) => heredocs,
                Err(problem) => {
                    self.problem(line, problem);
                    return Some(wrong);
                }
            }
        } else {
            Vec::new()
        };
        if trigger && let Err(problem) = check_trigger(&statement) {
            self.problem(line, problem);
            return Some(wrong);
        }
        let end = match heredocs.last() {
            Some(_) => self.source.text[..reader.position()].trim_end_matches(['\n', '\r']).len(),
            None => line.span(0..line.text.trim_end().len()).end,
        };
        match convert(&statement, heredocs, &self.source.text) {
            Ok(Converted::From(from)) => Some(Parsed::From(from)),
            Ok(Converted::Kind(kind)) => Some(Parsed::Instruction(Box::new(Instruction {
                span: line.span(0..line.text.len()).start..end,
                text: line.text.trim().to_owned(),
                source: Arc::clone(self.source),
                escape,
                written: statement.written(),
                kind: *kind,
            }))),
            Err(problems) => {
                for problem in problems {
                    self.problem(line, problem);
                }
                Some(wrong)
            }
        }
    }

    fn read_heredocs(&self, reader: &mut LineReader<'_>, line: &LogicalLine) -> Result<Vec<PlacedHeredoc>, Problem> {
        let mut heredocs = Vec::new();
        for opening in heredoc::openings(&line.text) {
            let body = heredoc::read_body(reader, line, &opening)?;
            let Opening { range, .. } = opening;
            heredocs.push((range, body));
        }
        Ok(heredocs)
    }
}

/// Returns the keyword that a misspelt one probably means.
fn problem_keyword(line: &LogicalLine, problem: &Problem) -> Option<Keyword> {
    Keyword::find(&Keyword::suggest(&line.text[problem.range.clone()])?)
}
