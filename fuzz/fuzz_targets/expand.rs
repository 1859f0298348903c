//! Any word expands, or is refused at a place in it; the first line is the value every variable has.
#![no_main]

use crabwright::dockerfile::expand::{expand, expand_heredoc, expand_words};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (value, word) = text.split_once('\n').unwrap_or(("", text));
    // A short value: a replacement may be as long as its square.
    let value = value.chars().take(64).collect::<String>();
    let mut lookup = |name: &str| (name.len() % 3 != 0).then(|| value.clone());
    for escape in ['\\', '`'] {
        if let Err(error) = expand(word, escape, &mut lookup) {
            assert!(word.is_char_boundary(error.offset));
        }
        drop(expand_words(word, escape, &mut lookup));
    }
    drop(expand_heredoc(word, &mut lookup));
});
