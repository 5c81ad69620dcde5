//! What a YAML scalar is, as go-yaml v3 decides it: `yes`, `on` and `22:22` are text, `0755` and `0o755` are
//! octal, an unquoted date is a date.
//!
//! Only the text and an explicit core tag count; nothing here knows where the scalar stands.

/// A resolved scalar.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    /// Nothing, `~`, `null`.
    Null,
    /// `true`, `false` in three spellings each.
    Bool(bool),
    /// A whole number that fits.
    Int(i64),
    /// Another number.
    Float(f64),
    /// Anything else.
    Text(String),
    /// A date or a time of day on a date.
    Date(String),
    /// `<<`.
    Merge,
}

/// What a plain (unquoted, untagged) scalar is.
pub(super) fn plain(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        "<<" => return Scalar::Merge,
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    match text.as_bytes()[0] {
        b'.' => float(text).map_or_else(|| Scalar::Text(text.to_owned()), Scalar::Float),
        b'0'..=b'9' | b'+' | b'-' => number(text),
        _ => Scalar::Text(text.to_owned()),
    }
}

/// What begins like a number: a date, a number, or text after all.
fn number(text: &str) -> Scalar {
    if is_date(text) {
        return Scalar::Date(text.to_owned());
    }
    let bare = text.replace('_', "");
    if let Some(value) = integer(&bare) {
        return value;
    }
    match float(&bare) {
        Some(value) => Scalar::Float(value),
        None => Scalar::Text(text.to_owned()),
    }
}

/// Go's `ParseInt(text, 0, 64)`, numbers beyond it as floats.
fn integer(text: &str) -> Option<Scalar> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    match i128::from_str_radix(digits, radix).ok().map(|value| if negative { -value } else { value }) {
        // Go has a type for these; no key of a compose file has a use for it but as text.
        Some(value) if (i64::MAX as i128..=u64::MAX as i128).contains(&value) => {
            Some(Scalar::Text(value.to_string()))
        }
        Some(value) => Some(i64::try_from(value).map_or(Scalar::Float(value as f64), Scalar::Int)),
        None => digits.parse().ok().map(Scalar::Float),
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn float(text: &str) -> Option<f64> {
    let bare = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match bare.find(['e', 'E']) {
        Some(at) => (&bare[..at], Some(&bare[at + 1..])),
        None => (bare, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mantissa_is_good = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    let exponent_is_good = exponent.is_none_or(|text| digits(text.strip_prefix(['-', '+']).unwrap_or(text)));
    (mantissa_is_good && exponent_is_good).then(|| text.parse().ok())?
}

/// `2006-1-2`, alone or before a time of day.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() < 8 || !bytes[..4].iter().all(u8::is_ascii_digit) || bytes[4] != b'-' {
        return false;
    }
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let mut parts = date[5..].splitn(2, '-').map(str::parse::<u8>);
    let good = matches!((parts.next(), parts.next()), (Some(Ok(1..=12)), Some(Ok(1..=31))));
    good && time.is_none_or(is_time)
}

/// `15:4:5`, with a fraction and a zone.
fn is_time(text: &str) -> bool {
    let end = text.find(|letter: char| !(letter.is_ascii_digit() || letter == ':' || letter == '.'));
    let clock = &text[..end.unwrap_or(text.len())];
    clock.split(':').count() == 3 && clock.split(':').all(|part| part.parse::<f64>().is_ok())
}

/// What a scalar with an explicit core tag (`!!str`, `!!int` …) is; `None` when the text is no such thing.
pub(super) fn tagged(kind: &str, text: &str) -> Option<Scalar> {
    match (kind, plain(text)) {
        ("str" | "binary", _) => Some(Scalar::Text(text.to_owned())),
        ("null", Scalar::Null) => Some(Scalar::Null),
        ("bool", value @ Scalar::Bool(_))
        | ("int", value @ Scalar::Int(_))
        | ("float", value @ Scalar::Float(_))
        | ("timestamp", value @ Scalar::Date(_)) => Some(value),
        ("float", Scalar::Int(value)) => Some(Scalar::Float(value as f64)),
        _ => None,
    }
}

/// A number's text as Go's `fmt.Sprint` gives it for a `float64`: short, with an exponent from 1e21 on.
pub(super) fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    format!("{value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_what_go_yaml_makes_of_them() {
        let text = |text: &str| Scalar::Text(text.to_owned());
        for (written, meant) in [
            ("yes", text("yes")),
            ("on", text("on")),
            ("22:22", text("22:22")),
            ("1.2.3", text("1.2.3")),
            ("0755", Scalar::Int(493)),
            ("0o755", Scalar::Int(493)),
            ("08", Scalar::Float(8.0)),
            ("1_000", Scalar::Int(1000)),
            ("0x1F", Scalar::Int(31)),
            ("-3", Scalar::Int(-3)),
            ("1.50", Scalar::Float(1.5)),
            ("1e3", Scalar::Float(1000.0)),
            (".5", Scalar::Float(0.5)),
            ("", Scalar::Null),
            ("True", Scalar::Bool(true)),
            ("2024-01-31", Scalar::Date("2024-01-31".into())),
            ("2024-13-01", text("2024-13-01")),
            ("-", text("-")),
            ("1-2", text("1-2")),
        ] {
            assert_eq!(plain(written), meant, "{written}");
        }
    }

    #[test]
    fn numbers_print_as_go_prints_them() {
        for (value, text) in [(1.5, "1.5"), (8.0, "8"), (1e21, "1e+21"), (1e-5, "1e-05"), (0.1, "0.1")] {
            assert_eq!(float_text(value), text);
        }
    }
}
