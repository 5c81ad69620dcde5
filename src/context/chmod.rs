//! The argument of `--chmod`: an octal mode, or symbolic clauses as chmod(1) has them.
//!
//! Pure: a [`Chmod`] turns the mode of a source into the mode that is written. Symbolic clauses without
//! `ugoa` mean all, regardless of any umask, so that the result is the same everywhere.

use std::fmt;
use std::str::FromStr;

/// A parsed `--chmod`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Chmod {
    text: String,
    form: Form,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Form {
    Octal(u32),
    Symbolic(Vec<Clause>),
}

/// `u=rwX` of `u=rwX,go=rX`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Clause {
    /// Of `ugo`, as 4, 2, 1.
    who: u32,
    actions: Vec<(char, Vec<char>)>,
}

/// A text that is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an octal mode like 0755 nor a symbolic one like u=rwX,go=rX")]
pub struct InvalidChmod(pub String);

impl Chmod {
    /// The mode if it is an octal one: it then also holds for folders that a copy makes above its
    /// destination (BuildKit, observed).
    pub fn octal(&self) -> Option<u32> {
        match self.form {
            Form::Octal(mode) => Some(mode),
            Form::Symbolic(_) => None,
        }
    }

    /// As it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The permission bits (`0o7777`) that a source with `mode` gets.
    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        match &self.form {
            Form::Octal(mode) => *mode,
            Form::Symbolic(clauses) => {
                clauses.iter().fold(mode & 0o7777, |mode, clause| clause.apply(mode, directory))
            }
        }
    }
}

impl Clause {
    fn parse(text: &str) -> Option<Self> {
        let actions_at = text.find(['+', '-', '='])?;
        let (who_text, mut rest) = text.split_at(actions_at);
        let mut who = 0;
        for letter in who_text.chars() {
            who |= match letter {
                'u' => 4,
                'g' => 2,
                'o' => 1,
                'a' => 7,
                _ => return None,
            };
        }
        let mut actions = Vec::new();
        while let Some(operator) = rest.chars().next() {
            let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
            let permissions: Vec<char> = rest[1..end].chars().collect();
            let copies = permissions.iter().any(|letter| "ugo".contains(*letter));
            let known = permissions.iter().all(|letter| "rwxXstugo".contains(*letter));
            if !known || (copies && permissions.len() != 1) {
                return None;
            }
            actions.push((operator, permissions));
            rest = &rest[end..];
        }
        Some(Self { who: if who == 0 { 7 } else { who }, actions })
    }

    fn apply(&self, mode: u32, directory: bool) -> u32 {
        self.actions.iter().fold(mode, |mode, (operator, permissions)| {
            let bits = permissions.iter().fold(0, |bits, letter| bits | self.bits(*letter, mode, directory));
            match operator {
                '+' => mode | bits,
                '-' => mode & !bits,
                _ => (mode & !self.covered()) | bits,
            }
        })
    }

    /// The bits that `letter` stands for, among those that `who` covers.
    fn bits(&self, letter: char, mode: u32, directory: bool) -> u32 {
        let spread = |three: u32| self.spread(three);
        match letter {
            'r' => spread(4),
            'w' => spread(2),
            'x' => spread(1),
            'X' if directory || mode & 0o111 != 0 => spread(1),
            's' => {
                (if self.who & 4 != 0 { 0o4000 } else { 0 }) | (if self.who & 2 != 0 { 0o2000 } else { 0 })
            }
            't' => 0o1000,
            'u' => spread(mode >> 6 & 7),
            'g' => spread(mode >> 3 & 7),
            'o' => spread(mode & 7),
            _ => 0,
        }
    }

    fn spread(&self, three: u32) -> u32 {
        let place = |who: u32, shift: u32| if self.who & who != 0 { three << shift } else { 0 };
        place(4, 6) | place(2, 3) | place(1, 0)
    }

    /// What `=` clears.
    fn covered(&self) -> u32 {
        let special = |who: u32, bit: u32| if self.who & who != 0 { bit } else { 0 };
        self.spread(7) | special(4, 0o4000) | special(2, 0o2000) | special(1, 0o1000)
    }
}

impl FromStr for Chmod {
    type Err = InvalidChmod;

    fn from_str(text: &str) -> Result<Self, InvalidChmod> {
        let invalid = || InvalidChmod(text.to_owned());
        let form = if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            let mode = u32::from_str_radix(text, 8).map_err(|_| invalid())?;
            if mode > 0o7777 {
                return Err(invalid());
            }
            Form::Octal(mode)
        } else {
            let clauses: Option<Vec<_>> = text.split(',').map(Clause::parse).collect();
            Form::Symbolic(clauses.ok_or_else(invalid)?)
        };
        Ok(Self { text: text.to_owned(), form })
    }
}

impl fmt::Display for Chmod {
    /// As written.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_result_as_chmod_makes_them() {
        let cases = [
            ("755", 0o644, false, 0o755),
            ("4711", 0o644, false, 0o4711),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o640, false, 0o751),
            ("a-w", 0o777, false, 0o555),
            ("g=u", 0o740, false, 0o770),
            ("u+s,g-x", 0o755, false, 0o4745),
            ("o+t", 0o755, true, 0o1755),
            ("u=", 0o4755, false, 0o055),
            ("u+r-w", 0o200, false, 0o400),
        ];
        for (text, mode, directory, result) in cases {
            let chmod: Chmod = text.parse().unwrap();
            assert_eq!(chmod.apply(mode, directory), result, "{text} on {mode:o}");
            assert_eq!(chmod.to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "8", "99999", "755,", "u", "u=rwz", "q+x", "g=uo", "0x1ed", "-1"] {
            assert!(text.parse::<Chmod>().is_err(), "{text}");
        }
        assert_eq!("0755".parse::<Chmod>().unwrap().octal(), Some(0o755));
        assert_eq!("+x".parse::<Chmod>().unwrap().octal(), None);
    }
}
