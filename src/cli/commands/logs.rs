//! `logs`.

use std::process::ExitCode;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::args::Logs;
use crate::cli::failure::Failure;
use crate::cli::quantity;
use crate::cli::render::LogView;
use crate::cli::signals::Interrupts;
use crate::engine::LogOptions;
use crate::store::Stamp;
use crate::up::{label_width, logs as read, observe, sources};

use super::{Context, Ended};

/// Shows the logs of the project's containers.
pub(in crate::cli) fn logs(context: &mut Context<'_>, flags: &Logs) -> Ended {
    let (name, _) = context.named(&flags.services)?;
    let options = options(flags, Stamp::now())?;
    let engine = context.needed_engine()?;
    let seen = observe(&engine, &name)?;
    let mut sources = sources(&name, &seen, &flags.services);
    if let Some(index) = flags.index {
        sources.retain(|source| source.label.ends_with(&format!("-{index}")));
    }
    let view = LogView {
        width: label_width(&sources),
        names: !flags.no_log_prefix,
        colour: !flags.no_color && context.screen.colours_stdout(),
    };
    let interrupts = Interrupts::catch(1)?;
    read(&engine, &sources, &options, &mut |line| context.screen.log(&view, &line), &interrupts.stop)?;
    if interrupts.stop.is_cancelled() {
        return Err(Failure::Stopped);
    }
    Ok(ExitCode::SUCCESS)
}

fn options(flags: &Logs, now: Stamp) -> Result<LogOptions, Failure> {
    let tail = match flags.tail.as_str() {
        "all" => None,
        text => {
            let wrong =
                |_| Failure::Usage(format!("--tail must be `all` or a number of lines, not `{text}`"));
            Some(text.parse().map_err(wrong)?)
        }
    };
    let moment = |text: &Option<String>| text.as_deref().map(|text| moment(text, now)).transpose();
    let (since, until) = (moment(&flags.since)?, moment(&flags.until)?);
    Ok(LogOptions { follow: flags.follow, timestamps: flags.timestamps, tail, since, until })
}

/// A moment in Unix seconds: RFC 3339, a Unix time, or a duration before `now`.
fn moment(text: &str, now: Stamp) -> Result<i64, Failure> {
    let now = Duration::from_secs(now.seconds);
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(moment.unix_timestamp());
    }
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let before = quantity::duration(text).map_err(|_| {
        Failure::Usage(format!(
            "`{text}` is no time such as 2026-01-02T13:23:37Z and no duration such as 42m"
        ))
    })?;
    Ok(i64::try_from(now.saturating_sub(before).as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_three_forms() {
        let now = Stamp { seconds: 10_000, nanos: 0 };
        let moments = ["1970-01-01T01:00:00Z", "77", "1h", "10h"].map(|text| moment(text, now).unwrap());
        assert_eq!(moments, [3600, 77, 6400, 0]);
        assert!(moment("yesterday", now).is_err());
        let flags = Logs { tail: "x".to_owned(), ..Logs::default() };
        assert!(options(&flags, now).is_err());
    }
}
