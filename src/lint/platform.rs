//! Checks platforms: of `FROM` lines, and of their images.

use crate::dockerfile::ast::From;
use crate::dockerfile::expand::has_variable;
use crate::image::Platform;

use super::findings::Findings;
use super::rule::Rule;
use super::stages::Head;

/// Checks `RedundantTargetPlatform` and `FromPlatformFlagConstDisallowed`.
pub(super) fn flag(from: &From, head: &Head, escape: char, findings: &mut Findings<'_>) {
    let Some(written) = &from.platform else { return };
    let text = written.text.as_str();
    if matches!(text, "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
        let detail =
            format!("Setting platform to predefined {text} in FROM is redundant as this is the default behavior");
        findings.add(Rule::RedundantTargetPlatform, &from.written, &from.span, detail);
    }
    if !has_variable(text, escape) && !is_named_after_platform(&head.name, text) {
        let detail = format!("FROM --platform flag should not use constant value \"{text}\"");
        findings.add(Rule::FromPlatformFlagConstDisallowed, &from.written, &from.span, detail);
    }
}

/// Reports whether a stage's name shows that its fixed platform is intended.
fn is_named_after_platform(name: &str, platform: &str) -> bool {
    platform.parse::<Platform>().is_ok_and(|platform| {
        [&platform.os, &platform.architecture].iter().any(|part| !part.is_empty() && name.contains(part.as_str()))
    })
}

/// Checks `InvalidBaseImagePlatform`.
pub(super) fn base_image(from: &From, head: &Head, wanted: &Platform, actual: &Platform, findings: &mut Findings<'_>) {
    if (&wanted.os, &wanted.architecture) == (&actual.os, &actual.architecture) {
        return;
    }
    let detail = format!(
        "Base image {} was pulled with platform \"{actual}\", expected \"{wanted}\" for current build",
        head.base_name
    );
    findings.add(Rule::InvalidBaseImagePlatform, &from.written, &from.span, detail);
}
