//! Heredoc marks: `<<NAME`, `<<-NAME`, `3<<"NAME"`, several on a line.
//!
//! The line is split into words as a shell would; a word that is a mark opens a body. Reading the body is
//! `scan`'s work, putting it where it belongs that of `ast` (`RUN`) and `instructions` (`COPY`, `ADD`).
//! As in BuildKit the escape character of marks is always a backslash, and a line whose quotes do not
//! match has no heredocs.

use super::words::{Lexer, Style};

/// What a mark says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The terminator without its quotes.
    pub(super) name: String,
    /// No part of it is quoted.
    pub(super) expand: bool,
    /// It is written `<<-`.
    pub(super) strip_tabs: bool,
    /// The number before it.
    pub(super) descriptor: Option<u32>,
}

/// The marks of a line, in order.
pub(super) fn marks(line: &str) -> Vec<Mark> {
    if !line.contains("<<") {
        return Vec::new();
    }
    words(line, true, true).iter().filter_map(|word| mark(word)).collect()
}

/// The mark that a word is, if it is one.
pub(super) fn mark(word: &str) -> Option<Mark> {
    let at = word.find("<<")?;
    let (number, rest) = (&word[..at], &word[at + 2..]);
    if !number.bytes().all(|byte| byte.is_ascii_digit()) || rest.contains('<') {
        return None;
    }
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start();
    let [name] = <[String; 1]>::try_from(words(rest, false, false)).ok()?;
    let quoted = words(rest, true, false);
    let expand = quoted.len() == 1 && quotes(&quoted[0]) == quotes(&name);
    Some(Mark { name, expand, strip_tabs, descriptor: number.parse().ok() })
}

/// Whether a line is one mark and nothing else.
pub(super) fn is_one(line: &str) -> bool {
    mark(line).is_some()
}

/// A body without the tabs that its lines begin with.
pub(super) fn without_tabs(body: &str) -> String {
    body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// The shell words of a text, variables left alone; none where it cannot be split.
fn words(text: &str, raw_quotes: bool, raw_escapes: bool) -> Vec<String> {
    let style = Style { raw_quotes, raw_escapes, keep_unset: true, ..Style::PLAIN };
    Lexer::new(text, &|_| None, '\\', style).run().map(|expanded| expanded.words).unwrap_or_default()
}

fn quotes(text: &str) -> usize {
    text.matches(['\'', '"']).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> Vec<String> {
        let show = |mark: Mark| {
            let tabs = if mark.strip_tabs { "-" } else { "" };
            let fixed = if mark.expand { "" } else { "!" };
            let number = mark.descriptor.map(|number| number.to_string()).unwrap_or_default();
            format!("{number}<<{tabs}{}{fixed}", mark.name)
        };
        marks(line).into_iter().map(show).collect()
    }

    #[test]
    fn marks_are_found_in_all_forms() {
        let table: &[(&str, &[&str])] = &[
            ("RUN <<EOF", &["<<EOF"]),
            ("RUN cat <<A 3<<-B | wc", &["<<A", "3<<-B"]),
            ("RUN <<'EOF'", &["<<EOF!"]),
            ("RUN <<\"one two\"", &["<<one two!"]),
            ("RUN <<eo'f'", &["<<eof!"]),
            ("RUN <<eo\\'f", &["<<eo'f"]),
            ("RUN <<'e'o\\'f", &["<<eo'f!"]),
            ("RUN << EOF", &["<<EOF"]),
            ("RUN <<-EOF", &["<<-EOF"]),
            ("RUN <<-  EOF > x", &["<<-EOF"]),
            ("RUN << -EOF", &["<<-EOF"]),
            ("RUN <<$EOF", &["<<$EOF"]),
            ("RUN <<${EOF}", &["<<${EOF}"]),
            ("RUN \"<<NO\"", &[]),
            ("RUN <<<word", &[]),
            ("RUN a<<EOF", &[]),
            ("RUN echo \"unclosed <<EOF", &[]),
            ("RUN << ", &[]),
        ];
        for (line, expected) in table {
            assert_eq!(shown(line), *expected, "{line}");
        }
    }

    #[test]
    fn tabs_go_at_the_start_of_each_line() {
        assert_eq!(without_tabs("\t\ta\tb\n\n\tc"), "a\tb\n\nc");
    }
}
