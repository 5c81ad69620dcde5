//! Moments as users write them on the command line and as Docker's commands print them. Pure.
//!
//! A moment is a number of nanoseconds since 1970, UTC. Times without a zone count as UTC: the machine's own
//! zone is never asked for.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::store::Stamp;

use super::quantity;

/// Nanoseconds of a second.
pub(super) const SECOND: i64 = 1_000_000_000;

/// A stamp as a moment.
pub(super) fn nanoseconds(stamp: Stamp) -> i64 {
    i64::try_from(stamp.seconds).unwrap_or(i64::MAX).saturating_mul(SECOND).saturating_add(stamp.nanos.into())
}

/// A moment in one of docker's forms: RFC 3339, the same without a zone or without a time, a Unix time with
/// or without a fraction, or a duration before `now`.
pub(super) fn moment(text: &str, now: Stamp) -> Result<i64, String> {
    let zoned = [text.to_owned(), format!("{text}Z"), format!("{text}:00Z"), format!("{text}T00:00:00Z")];
    if let Some(moment) = zoned.iter().find_map(|text| OffsetDateTime::parse(text, &Rfc3339).ok()) {
        return Ok(i64::try_from(moment.unix_timestamp_nanos()).unwrap_or(i64::MAX));
    }
    if let Some(moment) = unix(text) {
        return Ok(moment);
    }
    let before = quantity::duration(text).map_err(|_| {
        format!("`{text}` is no time such as 2026-01-02T13:23:37Z and no duration such as 42m")
    })?;
    let before = i64::try_from(before.as_nanos()).unwrap_or(i64::MAX);
    Ok(nanoseconds(now).saturating_sub(before).max(0))
}

/// `1700000000`, `1700000000.5`.
fn unix(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(seconds.parse::<i64>().ok()?.saturating_mul(SECOND).saturating_add(nanos))
}

/// To the microsecond: `2026-01-02 13:23:37.000005`.
pub(super) fn micro(moment: i64) -> String {
    let (date, rest) = parts(moment);
    format!("{date}.{:06}", rest / 1000)
}

/// As Go prints a time of whole seconds: `2026-01-02 13:23:37 +0000 UTC`.
pub(super) fn go(seconds: i64) -> String {
    format!("{} +0000 UTC", parts(seconds.saturating_mul(SECOND)).0)
}

/// RFC 3339 with as many digits of the second as there are.
pub(super) fn rfc3339(moment: i64) -> String {
    let (date, rest) = parts(moment);
    let digits = format!("{rest:09}");
    let fraction = match digits.trim_end_matches('0') {
        "" => String::new(),
        digits => format!(".{digits}"),
    };
    format!("{}{fraction}Z", date.replace(' ', "T"))
}

/// Date and time, and the nanoseconds within the second.
fn parts(moment: i64) -> (String, i64) {
    let seconds = OffsetDateTime::from_unix_timestamp(moment.div_euclid(SECOND));
    let time = seconds.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let date = format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    );
    (date, moment.rem_euclid(SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_several_forms() {
        let now = Stamp { seconds: 10_000, nanos: 5 };
        let table = [
            ("1970-01-01T01:00:00Z", 3600 * SECOND),
            ("1970-01-01T01:00:00.5+01:00", SECOND / 2),
            ("1970-01-01T01:00:00", 3600 * SECOND),
            ("1970-01-01T01:00", 3600 * SECOND),
            ("1970-01-02", 86_400 * SECOND),
            ("77", 77 * SECOND),
            ("77.000000001", 77 * SECOND + 1),
            ("1h", 6400 * SECOND + 5),
            ("10h", 0),
        ];
        for (text, expected) in table {
            assert_eq!(moment(text, now), Ok(expected), "{text}");
        }
        assert!(moment("yesterday", now).is_err());
    }

    #[test]
    fn moments_are_printed_as_go_prints_them() {
        let moment = 1_700_000_000 * SECOND + 120_000_500;
        assert_eq!(micro(moment), "2023-11-14 22:13:20.120000");
        assert_eq!(rfc3339(moment), "2023-11-14T22:13:20.1200005Z");
        assert_eq!(rfc3339(SECOND), "1970-01-01T00:00:01Z");
        assert_eq!(go(1_700_000_000), "2023-11-14 22:13:20 +0000 UTC");
    }
}
