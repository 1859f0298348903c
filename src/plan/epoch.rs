//! Reads the image's time from a Dockerfile: a global `ARG SOURCE_DATE_EPOCH=…`.
//!
//! A build argument of that name takes precedence, even an empty one, which means no time. BuildKit also supports names
//! instead of a number: the time of the context, of a named context or of a stage.

use crate::dockerfile::ast::{ArgDefinition, Dockerfile, Kind};
use crate::image::parse_epoch;

use super::environment::Environment;
use super::{Options, PlanError};

const NAME: &str = "SOURCE_DATE_EPOCH";

/// Returns the default of the argument, unless a build argument overrides it.
pub(super) fn source_date_epoch(
    dockerfile: &Dockerfile,
    options: &Options,
    globals: &Environment,
) -> Result<Option<i64>, PlanError> {
    if options.build_arg(NAME).is_some() {
        return Ok(None);
    }
    let mut definitions = dockerfile.global_args.iter().flat_map(|instruction| match &instruction.kind {
        Kind::Arg(definitions) => definitions.as_slice(),
        _ => &[],
    });
    let is_epoch = |definition: &&ArgDefinition| definition.name.text == NAME && definition.default.is_some();
    let (Some(definition), Some(value)) = (definitions.rfind(is_epoch), globals.get(NAME)) else {
        return Ok(None);
    };
    if value.is_empty() {
        return Ok(None);
    }
    parse_epoch(value).map(Some).map_err(|error| {
        let span = definition.default.as_ref().map_or(&definition.name.span, |default| &default.span);
        PlanError::new(format!("{NAME} cannot be {value:?}: {error}"))
            .at(&dockerfile.source, span)
            .with_hint("the times of contexts and stages cannot be used by name: write the seconds, as `git log -1 --format=%ct` prints them")
    })
}
