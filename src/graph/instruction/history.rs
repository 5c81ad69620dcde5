//! History lines as BuildKit writes them: values in the notation of Go's `fmt` package, verb `%q`.

use super::super::op::Copy;
use crate::oci::Healthcheck;

/// `RUN |1 A=b /bin/sh -c text # buildkit`: the number of declared arguments and their values, then the
/// command.
pub(super) fn run(arguments: &[(String, String)], argv: &[String]) -> String {
    let mut words = vec!["RUN".to_owned()];
    if !arguments.is_empty() {
        words.push(format!("|{}", arguments.len()));
        words.extend(arguments.iter().map(|(name, value)| format!("{name}={value}")));
    }
    words.extend(argv.iter().cloned());
    words.push("# buildkit".to_owned());
    words.join(" ")
}

/// `COPY --chown=user --chmod=600 source <<heredoc destination # buildkit`: other flags are not shown but
/// `--parents`.
pub(super) fn copy(name: &str, copy: &Copy, (sources, destination): (&[String], &str)) -> String {
    let mut words = vec![name.to_owned()];
    words.extend(copy.parents.then(|| "--parents".to_owned()));
    words.extend(copy.owner.iter().map(|owner| format!("--chown={owner}")));
    words.extend(copy.mode.iter().map(|mode| format!("--chmod={mode}")));
    words.extend(sources.iter().cloned());
    words.extend(copy.files.iter().map(|file| format!("<<{}", file.name)));
    words.extend([destination.to_owned(), "# buildkit".to_owned()]);
    words.join(" ")
}

/// `["a" "b c"]`.
pub(super) fn quoted_list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", quoted.join(" "))
}

/// `&{["CMD" "true"] "30s" "0s" "0s" "0s" '\x03'}`: the number of retries is shown as a character.
pub(super) fn healthcheck(check: &Healthcheck) -> String {
    let times = [check.interval, check.timeout, check.start_period, check.start_interval];
    let times = times.map(|time| quoted(&duration(time)));
    let retries = u32::try_from(check.retries).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
    format!("&{{{} {} '{}'}}", quoted_list(&check.test), times.join(" "), escaped(retries, '\''))
}

fn quoted(word: &str) -> String {
    let text: String = word.chars().map(|character| escaped(character, '"')).collect();
    format!("\"{text}\"")
}

fn escaped(character: char, quote: char) -> String {
    match character {
        '\\' => "\\\\".to_owned(),
        '\u{7}' => "\\a".to_owned(),
        '\u{8}' => "\\b".to_owned(),
        '\u{c}' => "\\f".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        '\u{b}' => "\\v".to_owned(),
        character if character == quote => format!("\\{quote}"),
        character if character < ' ' || character == '\u{7f}' => format!("\\x{:02x}", u32::from(character)),
        // Only a plain space is printable there, not the other separators.
        character if character.is_control() || (character.is_whitespace() && character != ' ') => {
            format!("\\u{:04x}", u32::from(character))
        }
        character => character.to_string(),
    }
}

/// Nanoseconds as Go writes a duration: `1h0m30s`, `1.5s`, `500ms`, `0s`.
fn duration(nanoseconds: i64) -> String {
    let total = nanoseconds.unsigned_abs();
    let decimal = |unit: u64| {
        let (whole, rest) = (total / unit, total % unit);
        let digits = unit.ilog10() as usize;
        let fraction = format!("{rest:0digits$}");
        match fraction.trim_end_matches('0') {
            "" => whole.to_string(),
            fraction => format!("{whole}.{fraction}"),
        }
    };
    let sign = if nanoseconds < 0 { "-" } else { "" };
    match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{total}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(1_000_000)),
        _ => {
            let minutes = total / 60_000_000_000;
            let rest = total % 60_000_000_000;
            let fraction = format!("{:09}", rest % 1_000_000_000);
            let seconds = format!("{}.{fraction}", rest / 1_000_000_000);
            let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_go_does() {
        let words = ["a\tb", "\"c\" \\d", "é\u{a0}\u{1}'"].map(str::to_owned);
        assert_eq!(quoted_list(&words), r#"["a\tb" "\"c\" \\d" "é\u00a0\x01'"]"#);
        assert_eq!(quoted_list(&[]), "[]");
    }

    #[test]
    fn durations_are_written_as_go_does() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (60_000_000_000, "1m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (100_000_000_000, "1m40s"),
            (10_000_000_000, "10s"),
        ] {
            assert_eq!(duration(nanoseconds), expected);
        }
    }

    #[test]
    fn retries_are_a_character() {
        let check = |retries| healthcheck(&Healthcheck { retries, ..Healthcheck::default() });
        assert_eq!(check(3), r#"&{[] "0s" "0s" "0s" "0s" '\x03'}"#);
        assert_eq!(check(39), r#"&{[] "0s" "0s" "0s" "0s" '\''}"#);
        assert_eq!(check(65), r#"&{[] "0s" "0s" "0s" "0s" 'A'}"#);
    }
}
