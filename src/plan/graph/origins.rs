//! Resolves `COPY --from` and the `from` of a mount: a stage, an image, or a directory of `--build-context`.

use crate::dockerfile::ast::Instruction;
use crate::image::Platform;

use super::from::{Origin, origins};
use super::{Head, HeadBase, Planner, parse_reference};
use crate::plan::contexts::NamedSource;
use crate::plan::{CopyFrom, ImageRequest, Images, PlanError};

impl Planner<'_> {
    /// Returns the stage that `from` names in stage `index`: the nearest earlier one, else any; `None` for an image.
    pub(super) fn find_stage(&self, index: usize, from: Origin<'_>) -> Option<usize> {
        let text = &from.word.text;
        let lower = text.to_lowercase();
        let named = |head: &Head| !head.name.is_empty() && head.name == lower;
        self.heads[..index]
            .iter()
            .rposition(named)
            .or_else(|| self.heads.iter().position(named))
            .or_else(|| text.parse().ok().filter(|_| from.numbered && text.bytes().all(|byte| byte.is_ascii_digit())))
    }

    /// Returns the source of a COPY or a mount; `None` if that is an image whose error has been reported.
    pub(super) fn find_origin(
        &mut self,
        index: usize,
        from: Origin<'_>,
        instruction: &Instruction,
        platform: &Platform,
        images: &mut dyn Images,
    ) -> Result<Option<CopyFrom>, PlanError> {
        let word = from.word;
        let place = (&instruction.source, &word.span);
        let named = self.context(&word.text);
        if let Some(NamedSource::Directory(number)) = named {
            return Ok(Some(CopyFrom::Directory(*number)));
        }
        let stage = if named.is_some() { None } else { self.find_stage(index, from) };
        let Some(stage) = stage else {
            let reference = match named {
                Some(NamedSource::Image(reference)) => reference.clone(),
                _ => parse_reference(&word.text, place.0, place.1)?,
            };
            let request = ImageRequest { reference, platform: platform.clone() };
            return Ok(self.image(&request, place, images).map(CopyFrom::Image));
        };
        if stage >= self.heads.len() {
            let stages = match self.heads.len() {
                1 => "there is one stage, number 0".to_owned(),
                count => format!("stages are numbered 0 to {}", count - 1),
            };
            return Err(PlanError::new(format!("invalid stage index {stage}")).at(place.0, place.1).with_hint(stages));
        }
        if stage == index || (stage > index && self.depends_on(stage, index)) {
            return Err(PlanError::new(format!("circular dependency detected on stage: {}", self.stage_name(stage)))
                .at(place.0, place.1)
                .with_hint("a stage can take files only from stages above it"));
        }
        if stage > index {
            return Err(PlanError::new(format!(
                "cannot {} from stage \"{}\", it needs to be defined before current stage \"{}\"",
                from.verb,
                word.text,
                self.stage_name(index)
            ))
            .at(place.0, place.1)
            .with_hint("move that stage up"));
        }
        if self.heads[stage].replaced
            && let Some(NamedSource::Directory(number)) = self.context(&self.heads[stage].name)
        {
            return Ok(Some(CopyFrom::Directory(*number)));
        }
        self.visit(stage, images);
        Ok(Some(CopyFrom::Stage(stage)))
    }

    /// Reports whether building stage `index` needs stage `other`, as far as the file shows.
    fn depends_on(&self, index: usize, other: usize) -> bool {
        let mut open = vec![index];
        let mut seen = vec![false; self.heads.len()];
        while let Some(index) = open.pop() {
            if index >= seen.len() || std::mem::replace(&mut seen[index], true) {
                continue;
            }
            if index == other {
                return true;
            }
            if let HeadBase::Stage(parent) = &self.heads[index].base {
                open.push(*parent);
            }
            let sources = self.instructions(index).iter().flat_map(origins);
            let stages = sources.filter(|from| self.context(&from.word.text).is_none());
            open.extend(stages.filter_map(|from| self.find_stage(index, from)));
        }
        false
    }
}
