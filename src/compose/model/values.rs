//! Values with a text form of their own: byte sizes, time spans, processor shares, file modes.
//!
//! Each reads what compose files may hold and prints what `config` prints. They hold no policy.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes; negative numbers mean "no limit" where the engine says so (`memswap_limit: -1`).
///
/// Prints as a decimal string; reads `64m`, `1.5gb`, `2GiB`, `1024` (units are powers of 1024, as in
/// docker/go-units).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteSize(pub i64);

impl ByteSize {
    /// Reads a size; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Ok(plain) = text.parse::<i64>() {
            return Some(Self(plain));
        }
        let digits = text.find(|letter: char| !(letter.is_ascii_digit() || letter == '.'))?;
        let number: f64 = text[..digits].parse().ok()?;
        let unit = text[digits..].trim_start().to_ascii_lowercase();
        let power = match unit.trim_end_matches('b').trim_end_matches('i') {
            "" if unit == "b" => 0,
            "k" => 1,
            "m" => 2,
            "g" => 3,
            "t" => 4,
            "p" => 5,
            _ => return None,
        };
        let well_formed =
            ["", "b", "ib"].iter().any(|tail| unit.len() == tail.len() + usize::from(power > 0));
        let bytes = number * 1024_f64.powi(power);
        (well_formed && bytes < 9.2e18).then_some(Self(bytes as i64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// A time span with Go's text form: `1m30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interval(pub Duration);

impl Interval {
    /// Reads `1h2m3.5s`, `100ms`, `1.5d` or `2w` (days and weeks are compose's own); `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim();
        if rest == "0" {
            return Some(Self(Duration::ZERO));
        }
        let mut total: f64 = 0.0;
        let mut some = false;
        while !rest.is_empty() {
            let digits = rest.find(|letter: char| !(letter.is_ascii_digit() || letter == '.'))?;
            let number: f64 = rest[..digits].parse().ok()?;
            rest = &rest[digits..];
            let unit =
                rest.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(rest.len());
            total += number * nanoseconds(&rest[..unit])?;
            rest = &rest[unit..];
            some = true;
        }
        (some && total < i64::MAX as f64).then(|| Self(Duration::from_nanos(total.round() as u64)))
    }
}

/// The nanoseconds of one unit.
fn nanoseconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3_600e9,
        "d" => 24.0 * 3_600e9,
        "w" => 7.0 * 24.0 * 3_600e9,
        _ => return None,
    })
}

impl fmt::Display for Interval {
    /// As Go's `time.Duration.String`: the largest unit first, a fraction only in the last.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let (unit, name) = match nanos {
            0 => return formatter.write_str("0s"),
            1..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            1_000_000..1_000_000_000 => (1_000_000, "ms"),
            _ => (1_000_000_000, "s"),
        };
        let whole = nanos / unit;
        let fraction = format!("{:0width$}", nanos % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        if name == "s" && whole >= 60 {
            if whole >= 3_600 {
                write!(formatter, "{}h", whole / 3_600)?;
            }
            write!(formatter, "{}m", whole / 60 % 60)?;
        }
        let rest = if name == "s" { whole % 60 } else { whole };
        match fraction {
            "" => write!(formatter, "{rest}{name}"),
            fraction => write!(formatter, "{rest}.{fraction}{name}"),
        }
    }
}

/// A share of processors: `0.5` is half of one. Kept to the precision that compose prints (32 bits).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cpus(pub f64);

impl Cpus {
    /// Reads a number; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let short: f32 = text.trim().parse().ok()?;
        format!("{short}").parse().ok().filter(|number: &f64| number.is_finite()).map(Self)
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// Permission bits of a file. Prints as an octal string (`"0440"`), reads that or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileMode(pub u32);

impl FileMode {
    /// Reads octal digits, with or without leading `0` or `0o`; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        u32::from_str_radix(digits, 8).ok().map(Self)
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "0{:o}", self.0)
    }
}

/// Serde's text form for a type with `parse` and `Display`; plain numbers go through `$number`.
macro_rules! text_form {
    ($type:ident, $what:literal, $number:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str($what)
                    }
                    fn visit_str<E: Error>(self, text: &str) -> Result<$type, E> {
                        $type::parse(text).ok_or_else(|| E::custom(concat!("expected ", $what)))
                    }
                    fn visit_i64<E: Error>(self, number: i64) -> Result<$type, E> {
                        let read: fn(f64) -> Option<$type> = $number;
                        read(number as f64).ok_or_else(|| E::custom(concat!("expected ", $what)))
                    }
                    fn visit_u64<E: Error>(self, number: u64) -> Result<$type, E> {
                        let read: fn(f64) -> Option<$type> = $number;
                        read(number as f64).ok_or_else(|| E::custom(concat!("expected ", $what)))
                    }
                    fn visit_f64<E: Error>(self, number: f64) -> Result<$type, E> {
                        let read: fn(f64) -> Option<$type> = $number;
                        read(number).ok_or_else(|| E::custom(concat!("expected ", $what)))
                    }
                }
                deserializer.deserialize_any(Text)
            }
        }
    };
}

text_form!(ByteSize, "a byte size", |number| Some(ByteSize(number as i64)));
text_form!(Interval, "a duration", |_| None);
text_form!(Cpus, "a number of processors", |number| Cpus::parse(&number.to_string()));
text_form!(FileMode, "octal permission bits", |number| Some(FileMode(number as u32)));

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for FileMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Cpus {
    /// A whole number prints without a fraction, as Go prints it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 && self.0.abs() < 1e15 {
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_go_units() {
        for (text, bytes) in
            [("64m", 64 << 20), ("1.5GB", 3 << 29), ("2GiB", 2 << 30), ("10b", 10), ("-1", -1)]
        {
            assert_eq!(ByteSize::parse(text), Some(ByteSize(bytes)), "{text}");
        }
        for text in ["", "m", "1x", "1bb", "1ibb", "1kk", "1mmb"] {
            assert_eq!(ByteSize::parse(text), None, "{text}");
        }
    }

    #[test]
    fn intervals_print_as_go_prints_them() {
        for (text, printed) in [
            ("90s", "1m30s"),
            ("1500ms", "1.5s"),
            ("1d", "24h0m0s"),
            ("0", "0s"),
            ("10us", "10µs"),
            ("1h", "1h0m0s"),
        ] {
            assert_eq!(Interval::parse(text).unwrap().to_string(), printed, "{text}");
        }
        assert_eq!(Interval::parse("5"), None);
        assert_eq!(Interval::parse("x"), None);
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(FileMode::parse("0440").unwrap().to_string(), "0440");
        assert_eq!(FileMode::parse("0o440"), FileMode::parse("440"));
    }
}
