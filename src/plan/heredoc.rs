//! Converts here-documents: to a RUN's command, or to a COPY's file.

use std::path::{Component, Path};

use crate::dockerfile::ast::{Command, Heredoc, Instruction, Run};
use crate::dockerfile::expand;

use super::{PlanError, SCRIPT_DIRECTORY, TextFile};

/// Returns the command of a RUN, and the script that it needs.
///
/// A here-document that is the whole command is a program if it starts with `#!`, or else text for the shell, whichever
/// it is. If it is only a part of the command, the shell gets the lines as written, and reads the here-documents
/// itself. Variables are expanded by the shell in every case.
pub(super) fn command(run: &Run, instruction: &Instruction) -> Result<(Command, Option<TextFile>), PlanError> {
    let Command::Shell(text) = &run.command else { return Ok((run.command.clone(), None)) };
    if let Some(document) = run.script() {
        if !document.body.starts_with("#!") {
            return Ok((Command::Shell(document.body.clone()), None));
        }
        let script = TextFile { name: file_name(document, instruction)?, content: document.body.clone() };
        return Ok((Command::Shell(format!("{SCRIPT_DIRECTORY}/{}", script.name)), Some(script)));
    }
    let mut lines = text.clone();
    for document in &run.heredocs {
        lines.push('\n');
        // With tabs: the shell removes them for `<<-`.
        lines.push_str(instruction.source.text.get(document.body_span.clone()).unwrap_or(&document.body));
        lines.push_str(&document.name);
    }
    Ok((Command::Shell(lines), None))
}

/// Returns the file that a COPY or ADD creates from a here-document.
pub(super) fn file(
    document: &Heredoc,
    instruction: &Instruction,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<TextFile, PlanError> {
    let name = file_name(document, instruction)?;
    if !document.expand {
        return Ok(TextFile { name, content: document.body.clone() });
    }
    let content = expand::expand_heredoc(&document.body, &mut |name| lookup(name)).map_err(|error| {
        PlanError::new(format!("failed to process the here-document {name}: {}", error.message))
            .at(&instruction.source, &place_in_body(document, instruction, error.offset))
            .with_hint(format!("<<'{name}' leaves the text as it is"))
    })?;
    Ok(TextFile { name, content })
}

/// Returns the line of the file with an offset of the body. Offsets are the same in both unless tabs were removed.
fn place_in_body(document: &Heredoc, instruction: &Instruction, offset: usize) -> std::ops::Range<usize> {
    let number = document.body.get(..offset).map_or(0, |before| before.matches('\n').count());
    let body = instruction.source.text.get(document.body_span.clone()).unwrap_or_default();
    let before: usize = body.split_inclusive('\n').take(number).map(str::len).sum();
    let line = body.get(before..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let start = document.body_span.start + before + (line.len() - line.trim_start().len());
    start..start + line.trim().len()
}

/// Returns the name of a here-document as a file name, which has no directory.
fn file_name(document: &Heredoc, instruction: &Instruction) -> Result<String, PlanError> {
    let mut components = Path::new(document.name.trim_start_matches('/')).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(_)), None) => Ok(document.name.trim_matches('/').to_owned()),
        _ => Err(PlanError::new(format!("a here-document cannot make a file called {:?}", document.name))
            .at(&instruction.source, &document.span)
            .with_hint("the word after << is the file's name; directories belong in the destination")),
    }
}
