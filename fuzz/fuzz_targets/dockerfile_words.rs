//! Any word expands or is refused, as a whole and as a list alike.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shipway::dockerfile::words;

fuzz_target!(|input: (&str, &str, bool)| {
    let (word, value, backtick) = input;
    let escape = if backtick { '`' } else { '\\' };
    let lookup = |name: &str| (name != "unset").then(|| value.to_owned());
    let whole = words::expand(word, &lookup, escape);
    let list = words::expand_to_list(word, &lookup, escape);
    assert_eq!(whole.is_ok(), list.is_ok());
    let _ = words::expand_heredoc(word, &lookup);
});
