//! `HEALTHCHECK`: the probe and its durations, written as Go writes them.

use std::time::Duration;

use crate::base::diag::Diagnostic;

use super::ast::{CommandLine, Healthcheck, Kind, Word};
use super::flags::{Allowed, Flags, Takes};
use super::instructions::Reader;
use super::scan::Line;
use super::syntax::{Arguments, Statement, short};

/// The engine takes no shorter ones.
const SHORTEST: Duration = Duration::from_millis(1);

const FLAGS: Allowed = &[
    ("interval", Takes::Value),
    ("timeout", Takes::Value),
    ("start-period", Takes::Value),
    ("start-interval", Takes::Value),
    ("retries", Takes::Value),
];

const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// Reads `HEALTHCHECK NONE` and `HEALTHCHECK CMD …`.
pub(super) fn read(reader: &mut Reader<'_>, line: &Line, statement: &Statement) -> Option<Kind> {
    let flags = reader.flags(line, "HEALTHCHECK", statement, FLAGS)?;
    let Arguments::Typed(kind, command) = &statement.arguments else {
        reader.refuse(line, statement, "HEALTHCHECK requires at least one argument: NONE or CMD");
        return None;
    };
    match kind.text.to_ascii_uppercase().as_str() {
        "NONE" if **command != Arguments::None => {
            reader.refuse(line, statement, "HEALTHCHECK NONE takes no arguments");
            None
        }
        "NONE" => {
            for (name, span) in flags.places() {
                let message = format!("the flag `--{name}` of HEALTHCHECK NONE does nothing");
                reader.warnings.push(Diagnostic::warning(message).at(span, ""));
            }
            Some(Kind::Healthcheck(Healthcheck::None))
        }
        "CMD" => probe(reader, line, statement, &flags, command),
        _ => {
            let message =
                format!("`{}` is no kind of HEALTHCHECK: there are NONE and CMD", short(&kind.text));
            let mistake = Diagnostic::error(message).at(line.span(kind.range.clone()), "");
            reader.wrong.push(mistake.did_you_mean(&kind.text, ["CMD", "NONE"]));
            None
        }
    }
}

fn probe(
    reader: &mut Reader<'_>,
    line: &Line,
    statement: &Statement,
    flags: &Flags,
    arguments: &Arguments,
) -> Option<Kind> {
    let before = reader.wrong.len();
    let command = reader.command(line, "HEALTHCHECK", arguments);
    if matches!(&command, CommandLine::Shell(text) if text.is_empty()) || command == CommandLine::Exec(vec![])
    {
        reader.refuse(line, statement, "the command after HEALTHCHECK CMD is missing");
    }
    let mut duration = |name: &str| {
        let value = flags.value(name)?;
        checked(&value).map_err(|message| reader.wrong.push(at(&value, message))).ok().flatten()
    };
    let (interval, timeout) = (duration("interval"), duration("timeout"));
    let (start_period, start_interval) = (duration("start-period"), duration("start-interval"));
    let retries = flags.value("retries").and_then(|value| match value.text.parse::<i32>() {
        Ok(count) if count >= 0 => Some(count.unsigned_abs()).filter(|count| *count > 0),
        _ => {
            let message = format!("`--retries` is a count, not `{}`", short(&value.text));
            reader.wrong.push(at(&value, message));
            None
        }
    });
    let check = Healthcheck::Command { command, interval, timeout, start_period, start_interval, retries };
    (reader.wrong.len() == before).then_some(Kind::Healthcheck(check))
}

fn at(value: &Word, message: String) -> Diagnostic {
    Diagnostic::error(message).at(value.span.clone(), "")
}

/// A duration that the engine takes; zero is `None`.
fn checked(value: &Word) -> Result<Option<Duration>, String> {
    match duration(&value.text) {
        None => Err(format!("`{}` is no duration (such as `30s` or `1m30s`)", short(&value.text))),
        Some(Duration::ZERO) => Ok(None),
        Some(time) if time < SHORTEST => Err("a duration cannot be less than 1ms".into()),
        Some(time) => Ok(Some(time)),
    }
}

/// Go's `time.ParseDuration` for durations that are not negative: `1h2m3.5s`, `0`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut nanoseconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let length =
            after.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(after.len());
        let (_, factor) = UNITS.iter().find(|(unit, _)| *unit == &after[..length])?;
        nanoseconds += number * factor;
        rest = &after[length..];
    }
    let valid = !text.is_empty() && nanoseconds.is_finite() && nanoseconds < i64::MAX as f64;
    valid.then(|| Duration::from_nanos(nanoseconds as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        let table = [
            ("5s", Some(5_000_000_000)),
            ("1h2m3.5s", Some(3_723_500_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            (".5s", Some(500_000_000)),
            ("100µs", Some(100_000)),
            ("0", Some(0)),
            ("+3ms", Some(3_000_000)),
            ("", None),
            ("5", None),
            ("s", None),
            ("5 s", None),
            ("-5s", None),
            ("5d", None),
            ("1..5s", None),
            ("99999999999h", None),
        ];
        for (text, expected) in table {
            assert_eq!(duration(text), expected.map(Duration::from_nanos), "{text}");
        }
    }
}
