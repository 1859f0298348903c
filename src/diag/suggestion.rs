//! Finds suggestions for misspelt words: "Did you mean …?"

/// Returns the candidate closest to `word`, if it is close enough to be a typing error.
///
/// Case is ignored; an exact match in a different case is a suggestion too.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let wanted = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::suggest;

    #[test]
    fn a_typing_error_is_corrected_and_a_different_word_is_not() {
        let flags = ["destination", "dockerfile", "context"];
        assert_eq!(suggest("destinaton", flags), Some("destination".to_owned()));
        assert_eq!(suggest("Dockerfile", flags), Some("dockerfile".to_owned()));
        assert_eq!(suggest("platform", flags), None);
    }
}
