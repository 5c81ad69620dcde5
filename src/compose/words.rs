//! Command lines as one string: split into words as compose does (mattn/go-shellwords).
//!
//! Quotes and backslashes as in a shell, no variables, no globs. Where a shell would see an operator
//! (`;`, `&`, `|`, `<`, `>`), compose silently drops the rest; so do we, and the caller says it.

/// The words of a command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Split {
    /// The words.
    pub words: Vec<String>,
    /// The operator at which the rest was dropped.
    pub cut: Option<char>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    None,
    Single,
    Double,
    Back,
    Dollar,
}

/// Splits a command line.
///
/// # Errors
/// What is wrong with it, in a few words.
pub(super) fn split(line: &str) -> Result<Split, &'static str> {
    let mut result = Split::default();
    let mut word: Option<String> = None;
    let mut quote = Quote::None;
    let mut escaped = false;
    for letter in line.chars() {
        if escaped {
            let meant = match letter {
                't' => '\t',
                'n' => '\n',
                other => other,
            };
            word.get_or_insert_default().push(if quote == Quote::None { letter } else { meant });
            escaped = false;
            continue;
        }
        match (letter, quote) {
            ('\\', Quote::Single) => word.get_or_insert_default().push('\\'),
            ('\\', _) => escaped = true,
            (' ' | '\t' | '\r' | '\n', Quote::None) => result.words.extend(word.take()),
            ('"', Quote::None) => quote = open(&mut word, Quote::Double),
            ('\'', Quote::None) => quote = open(&mut word, Quote::Single),
            ('"', Quote::Double) | ('\'', Quote::Single) => quote = Quote::None,
            ('`', Quote::None) => {
                word.get_or_insert_default().push('`');
                quote = Quote::Back;
            }
            ('`', Quote::Back) => {
                word.get_or_insert_default().push('`');
                quote = Quote::None;
            }
            ('(', Quote::None) if word.as_ref().is_some_and(|word| word.ends_with('$')) => {
                word.get_or_insert_default().push('(');
                quote = Quote::Dollar;
            }
            ('(', Quote::None | Quote::Dollar) => return Err("a bracket outside of quotes"),
            (')', Quote::None) => return Err("a closing bracket without an opening one"),
            (')', Quote::Dollar) => {
                word.get_or_insert_default().push(')');
                quote = Quote::None;
            }
            (';' | '&' | '|' | '<' | '>', Quote::None) => {
                // `2>` is one operator.
                let number =
                    word.as_ref().is_some_and(|word| word.starts_with(|first: char| first.is_ascii_digit()));
                if letter == '>' && number {
                    word = None;
                }
                result.cut = Some(letter);
                break;
            }
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    result.words.extend(word);
    match (quote, escaped) {
        (Quote::None, false) => Ok(result),
        (_, true) => Err("it ends with a backslash"),
        _ => Err("a quote is never closed"),
    }
}

fn open(word: &mut Option<String>, quote: Quote) -> Quote {
    word.get_or_insert_default();
    quote
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_split_as_compose_splits_them() {
        for (line, words) in [
            ("a 'b c' \"d\" e\\ f", vec!["a", "b c", "d", "e f"]),
            ("", vec![]),
            ("  a  ", vec!["a"]),
            ("a '' \"\"", vec!["a", "", ""]),
            ("sh -c \"a && b\"", vec!["sh", "-c", "a && b"]),
            ("a'b'c", vec!["abc"]),
            ("a $(b c) d", vec!["a", "$(b c)", "d"]),
            ("a 2>b", vec!["a"]),
            ("a x2>b", vec!["a", "x2"]),
        ] {
            assert_eq!(split(line).unwrap().words, words, "{line}");
        }
        let cut = split("echo a && b").unwrap();
        assert_eq!((cut.words, cut.cut), (vec!["echo".to_owned(), "a".to_owned()], Some('&')));
        assert!(split("a 'b").is_err());
        assert!(split("a \\").is_err() && split("a (b)").is_err() && split("a b) c").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(line in ".*") {
            let _ = split(&line);
        }
    }
}
