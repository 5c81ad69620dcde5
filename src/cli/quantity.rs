//! Sizes and durations as users write them on the command line. Pure.

use std::time::Duration;

use super::settings::CacheLimit;

/// Bytes: `512`, `512MB`, `20g`, `1.5GiB`. Units are powers of 1024, as docker reads them.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size such as 512MB or 20GB");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let exponent = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(wrong()),
    };
    Ok((number * 1024_f64.powi(exponent)) as u64)
}

/// How large the store may become: a size, a share of its file system (`20%`), or `none`.
pub(super) fn limit(text: &str) -> Result<CacheLimit, String> {
    let wrong = || format!("`{text}` is not a size such as 20GB, a share such as 20%, or `none`");
    if text.eq_ignore_ascii_case("none") {
        return Ok(CacheLimit::None);
    }
    match text.strip_suffix('%') {
        Some(share) => match share.trim().parse() {
            Ok(share @ 1..=100) => Ok(CacheLimit::Share(share)),
            _ => Err(wrong()),
        },
        None => bytes(text).map(CacheLimit::Bytes).map_err(|_| wrong()),
    }
}

/// A duration in Go's form: `24h`, `1h30m`, `1.5h`, `90s`; days (`7d`) and weeks (`2w`) too.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as 24h or 1h30m");
    let (mut rest, mut seconds) = (text, 0.0);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let unit_at = rest.find(|letter: char| letter.is_ascii_alphabetic()).ok_or_else(wrong)?;
        let after = rest[unit_at..].find(|letter: char| !letter.is_ascii_alphabetic());
        let end = after.map_or(rest.len(), |after| unit_at + after);
        let number: f64 = rest[..unit_at].parse().map_err(|_| wrong())?;
        seconds += number
            * match &rest[unit_at..end] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                "w" => 604_800.0,
                _ => return Err(wrong()),
            };
        rest = &rest[end..];
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// A number that is not negative, and the unit after it.
fn split(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let read = ["0", "512", "1k", "2MB", "1.5GiB", "1 tb"].map(|text| bytes(text).unwrap());
        assert_eq!(read, [0, 512, 1024, 2 << 20, 3 << 29, 1 << 40]);
        for text in ["", "GB", "-1", "1x", "1.2.3"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits() {
        let read = ["20GB", "25%", "none"].map(|text| limit(text).unwrap());
        assert_eq!(read, [CacheLimit::Bytes(20 << 30), CacheLimit::Share(25), CacheLimit::None]);
        for text in ["", "0%", "101%", "-1", "some"] {
            assert!(limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        let read = ["24h", "1h30m", "1.5h", "90s", "7d", "2w", "500ms"].map(|text| duration(text).unwrap());
        let expected =
            [86400.0, 5400.0, 5400.0, 90.0, 604_800.0, 1_209_600.0, 0.5].map(Duration::from_secs_f64);
        assert_eq!(read, expected);
        for text in ["", "h", "24", "-1h", "1y", "1h30"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
