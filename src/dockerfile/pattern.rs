//! The patterns of `${x#p}`, `${x%p}` and `${x/p/r}`: `*`, `?` and plain characters.
//!
//! A pattern is matched by walking all its states at once over the value, so the time is the product of
//! the two lengths whatever they hold. As in BuildKit, neither wildcard matches a newline, and there are
//! no brackets.

use super::words::WordError;

/// A parsed pattern.
#[derive(Debug)]
pub(super) struct Pattern(Vec<Piece>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Piece {
    Many,
    One,
    Letter(char),
}

impl Pattern {
    /// `\` makes `*`, `?` and itself plain; before `}` and `/` it is only there for the lexer.
    pub(super) fn parse(text: &str) -> Result<Self, WordError> {
        let mut pieces = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(letter) = rest.next() {
            pieces.push(match letter {
                '*' => Piece::Many,
                '?' => Piece::One,
                '\\' if matches!(rest.peek(), Some('}' | '/')) => continue,
                '\\' => match rest.next() {
                    Some(plain @ ('*' | '?' | '\\')) => Piece::Letter(plain),
                    other => {
                        let escaped = other.map(String::from).unwrap_or_default();
                        return Err(WordError::InvalidPattern { pattern: text.to_owned(), escaped });
                    }
                },
                plain => Piece::Letter(plain),
            });
        }
        pieces.dedup_by(|later, earlier| *later == Piece::Many && *earlier == Piece::Many);
        Ok(Self(pieces))
    }

    /// The value without the shortest or longest prefix that matches; the value itself where none does.
    pub(super) fn without_prefix(&self, value: &str, longest: bool) -> String {
        let letters: Vec<char> = value.chars().collect();
        let cut = prefix(&self.0, &letters, longest).unwrap_or(0);
        letters[cut..].iter().collect()
    }

    /// The same from the end.
    pub(super) fn without_suffix(&self, value: &str, longest: bool) -> String {
        let letters: Vec<char> = value.chars().rev().collect();
        let pieces: Vec<Piece> = self.0.iter().rev().copied().collect();
        let cut = prefix(&pieces, &letters, longest).unwrap_or(0);
        letters[cut..].iter().rev().collect()
    }

    /// The value with the first or every match replaced; each match is the leftmost, then longest one.
    /// Nothing where that is longer than `limit`.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool, limit: usize) -> Option<String> {
        let letters: Vec<char> = value.chars().collect();
        let (mut out, mut at, mut last_end) = (String::new(), 0, None);
        while let Some((start, end)) = find(&self.0, &letters, at) {
            out.extend(&letters[at..start]);
            // An empty match that touches the match before it does not count.
            if start < end || last_end != Some(start) {
                out.push_str(replacement);
            }
            last_end = Some(end);
            at = end;
            if start == end {
                out.extend(letters.get(at));
                at += 1;
            }
            if out.len() > limit {
                return None;
            }
            if !all || at > letters.len() {
                break;
            }
        }
        out.extend(letters.get(at..).unwrap_or_default());
        (out.len() <= limit).then_some(out)
    }
}

/// The end of the shortest or longest match that begins at the start.
fn prefix(pieces: &[Piece], letters: &[char], longest: bool) -> Option<usize> {
    let mut states = States::new(pieces);
    states.enter(0, 0);
    let mut end = None;
    for at in 0..=letters.len() {
        if states.accepted().is_some() {
            end = Some(at);
            if !longest {
                break;
            }
        }
        if at == letters.len() || states.is_empty() {
            break;
        }
        states = states.step(letters[at]);
    }
    end
}

/// The leftmost, then longest match at or after `from`.
fn find(pieces: &[Piece], letters: &[char], from: usize) -> Option<(usize, usize)> {
    let mut states = States::new(pieces);
    let mut best: Option<(usize, usize)> = None;
    for at in from..=letters.len() {
        match best {
            None => states.enter(0, at),
            Some((start, _)) => states.keep_from(start),
        }
        if let Some(start) = states.accepted() {
            best = Some((start, at));
            states.keep_from(start);
        }
        if at == letters.len() || (best.is_some() && states.is_empty()) {
            break;
        }
        states = states.step(letters[at]);
    }
    best
}

/// For each position in the pattern, the smallest start from which the text so far reaches it.
struct States<'a> {
    pieces: &'a [Piece],
    starts: Vec<Option<usize>>,
}

impl<'a> States<'a> {
    fn new(pieces: &'a [Piece]) -> Self {
        Self { pieces, starts: vec![None; pieces.len() + 1] }
    }

    /// Reaches a position, and those behind a `*` that matches nothing.
    fn enter(&mut self, position: usize, start: usize) {
        let mut position = position;
        loop {
            let slot = &mut self.starts[position];
            *slot = Some(slot.map_or(start, |earlier| earlier.min(start)));
            if self.pieces.get(position) != Some(&Piece::Many) {
                return;
            }
            position += 1;
        }
    }

    fn step(&self, letter: char) -> Self {
        let mut next = Self::new(self.pieces);
        for (position, piece) in self.pieces.iter().enumerate() {
            let Some(start) = self.starts[position] else { continue };
            match piece {
                Piece::Many if letter != '\n' => next.enter(position, start),
                Piece::One if letter != '\n' => next.enter(position + 1, start),
                Piece::Letter(wanted) if *wanted == letter => next.enter(position + 1, start),
                _ => {}
            }
        }
        next
    }

    fn accepted(&self) -> Option<usize> {
        self.starts[self.pieces.len()]
    }

    fn keep_from(&mut self, wanted: usize) {
        for start in &mut self.starts {
            *start = start.filter(|start| *start <= wanted);
        }
    }

    fn is_empty(&self) -> bool {
        self.starts.iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(pattern: &str, value: &str, all: bool) -> String {
        Pattern::parse(pattern).unwrap().replace(value, "X", all, 1 << 20).unwrap()
    }

    #[test]
    fn empty_matches_count_as_in_gos_regexp() {
        assert_eq!(replaced("", "abc", true), "XaXbXcX");
        assert_eq!(replaced("*", "abc", true), "X");
        assert_eq!(replaced("*", "", true), "X");
        assert_eq!(replaced("", "abc", false), "Xabc");
        assert_eq!(replaced("a*c", "xabcc-ac", false), "xX");
        assert_eq!(replaced("b", "abcb", true), "aXcX");
    }

    #[test]
    fn long_values_take_no_quadratic_time() {
        let value = "a".repeat(200_000);
        assert_eq!(replaced("a*b", &value, true), value);
        let pattern = Pattern::parse("*a*b").unwrap();
        assert_eq!(pattern.without_suffix(&value, true), value);
    }
}
