//! Selects the rules to check: the `check` directive, the `BUILDKIT_DOCKERFILE_CHECK` build argument, and comments of
//! the same form directly above an instruction.

use std::sync::Arc;

use crate::diag::{Hint, suggest};
use crate::dockerfile::ast::{Dockerfile, Source, Span};
use crate::dockerfile::parse_go_bool;
use crate::plan::Options;

use super::rule::Rule;

/// The build argument that replaces the directive.
pub const BUILD_ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// The error of an invalid `check` directive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SettingsError {
    /// The message, in BuildKit's words.
    pub message: String,
    /// The allowed values.
    pub hint: String,
    /// The location; `None` for the build argument.
    pub place: Option<(Arc<Source>, Span)>,
}

impl Hint for SettingsError {
    fn hint(&self) -> Option<String> {
        match self.place {
            Some(_) => Some(self.hint.clone()),
            None => Some(format!("in --build-arg {BUILD_ARGUMENT}: {}", self.hint)),
        }
    }
}

/// A set of rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Selection {
    all: bool,
    names: Vec<String>,
}

impl Selection {
    fn parse(list: &str) -> Self {
        let names = list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        match list.trim() {
            "all" => Self { all: true, names: Vec::new() },
            _ => Self { all: false, names: names.collect() },
        }
    }

    fn has(&self, rule: Rule) -> bool {
        self.all || self.names.iter().any(|name| name == rule.name())
    }

    fn merge(&mut self, more: Self) {
        self.all |= more.all;
        self.names.extend(more.names);
    }
}

/// Parsed settings: `skip=A,B;error=true;experimental=all`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Settings {
    skip: Selection,
    experimental: Selection,
    /// True if warnings fail the build.
    pub(super) error: bool,
}

impl Settings {
    /// Reads the build argument if it is set, or else the directive.
    pub(super) fn of(dockerfile: &Dockerfile, options: &Options) -> Result<Self, SettingsError> {
        let (text, place) = match (options.build_arg(BUILD_ARGUMENT), &dockerfile.check) {
            (Some(text), _) => (text, None),
            (None, Some(word)) => (word.text.as_str(), Some((Arc::clone(&dockerfile.source), word.span.clone()))),
            (None, None) => return Ok(Self::default()),
        };
        Self::parse(text).map_err(|message| SettingsError {
            message,
            hint: "the options are skip=RULE,…, error=true and experimental=RULE,…, separated by `;`".to_owned(),
            place,
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut settings = Self::default();
        if text.trim().is_empty() {
            return Ok(settings);
        }
        for option in text.split(';') {
            let invalid = || format!("invalid check option \"{}\"", option.trim());
            let (key, value) = option.split_once('=').ok_or_else(invalid)?;
            match key.trim() {
                "skip" => settings.skip = Selection::parse(value),
                "experimental" => settings.experimental = Selection::parse(value),
                "error" => {
                    settings.error = parse_go_bool(value.trim()).ok_or_else(|| {
                        format!("failed to parse check option \"{}\": it is neither true nor false", option.trim())
                    })?;
                }
                _ => return Err(invalid()),
            }
        }
        Ok(settings)
    }

    /// Reports whether a rule is checked at an instruction with these comments above it. An experimental rule that is
    /// named is checked even if all rules are skipped.
    pub(super) fn checks(&self, rule: Rule, comments: &[String]) -> bool {
        let (mut skip, mut experimental) = (self.skip.clone(), self.experimental.clone());
        for comment in comments {
            // A comment is free text: invalid settings in it are ignored, and the warning stays.
            if let Some(settings) = check_comment(comment).and_then(|text| Self::parse(text).ok()) {
                skip.merge(settings.skip);
                experimental.merge(settings.experimental);
            }
        }
        if rule.is_experimental() { experimental.has(rule) } else { !skip.has(rule) }
    }

    /// Returns warnings for unknown names, with the rule that was probably meant. They have no effect, as in BuildKit.
    pub(super) fn unknown_rules(&self) -> Vec<String> {
        let names = self.skip.names.iter().chain(&self.experimental.names);
        let unknown = names.filter(|name| !Rule::ALL.iter().any(|rule| rule.name() == *name));
        unknown
            .map(|name| match suggest(name, Rule::ALL.iter().map(|rule| rule.name())) {
                Some(meant) => format!("there is no rule {name} to check or skip (did you mean {meant}?)"),
                None => format!("there is no rule {name} to check or skip"),
            })
            .collect()
    }
}

/// Returns the settings in a comment `check=…`.
pub(super) fn check_comment(comment: &str) -> Option<&str> {
    let (key, value) = comment.split_once('=')?;
    key.trim().eq_ignore_ascii_case("check").then_some(value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        Settings::parse(text).expect(text)
    }

    #[test]
    fn rules_are_skipped_by_name_or_all() {
        let some = settings(" skip = StageNameCasing , UndefinedVar ; error = 1 ");
        assert!(some.error);
        assert!(!some.checks(Rule::StageNameCasing, &[]) && !some.checks(Rule::UndefinedVar, &[]));
        assert!(some.checks(Rule::FromAsCasing, &[]));
        assert!(settings("skip=stagenamecasing").checks(Rule::StageNameCasing, &[]), "case matters");
        let all = settings("skip=all");
        assert!(Rule::ALL.iter().all(|rule| !all.checks(*rule, &[])));
        assert_eq!(settings(""), Settings::default());
    }

    #[test]
    fn named_experimental_rules_are_not_skipped() {
        let rule = Rule::InvalidDefinitionDescription;
        assert!(!Settings::default().checks(rule, &[]));
        for text in ["experimental=all", "experimental=InvalidDefinitionDescription", "skip=all;experimental=all"] {
            assert!(settings(text).checks(rule, &[]), "{text}");
        }
    }

    #[test]
    fn comments_add_to_the_settings_of_the_file() {
        let comments = |text: &str| vec!["why".to_owned(), text.to_owned()];
        let file = settings("skip=UndefinedVar");
        assert!(!file.checks(Rule::StageNameCasing, &comments("check=skip=StageNameCasing;error=true")));
        assert!(!file.checks(Rule::UndefinedVar, &comments("Check = skip=StageNameCasing")));
        assert!(file.checks(Rule::StageNameCasing, &comments("check=this=out")));
        assert!(file.checks(Rule::StageNameCasing, &comments("checks=skip=all")));
        assert!(file.checks(Rule::InvalidDefinitionDescription, &comments("check=experimental=all")));
    }

    #[test]
    fn invalid_options_are_errors_and_unknown_rules_are_reported() {
        for (text, message) in [
            ("skip", "invalid check option \"skip\""),
            ("ignore=all", "invalid check option \"ignore=all\""),
            ("skip=all;;", "invalid check option \"\""),
            ("error=maybe", "failed to parse check option \"error=maybe\": it is neither true nor false"),
        ] {
            assert_eq!(Settings::parse(text), Err(message.to_owned()), "{text}");
        }
        assert_eq!(
            settings("skip=StageNameCasin,UndefinedVar;experimental=Whatever").unknown_rules(),
            [
                "there is no rule StageNameCasin to check or skip (did you mean StageNameCasing?)",
                "there is no rule Whatever to check or skip"
            ]
        );
    }
}
