//! `logs`.

use std::process::ExitCode;

use crate::cli::args::Logs;
use crate::cli::failure::Failure;
use crate::cli::moment;
use crate::cli::render::LogView;
use crate::cli::signals::Interrupts;
use crate::engine::LogOptions;
use crate::store::Stamp;
use crate::up::{Following, LogLine, follow, label_width, logs as read, observe, sources};

use super::{Context, Ended};

/// Shows the logs of the project's containers.
pub(in crate::cli) fn logs(context: &mut Context<'_>, flags: &Logs) -> Ended {
    if flags.index.is_some() && flags.services.len() != 1 {
        return Err(Failure::Usage("--index needs exactly one service".to_owned()));
    }
    let (name, _) = context.named(&flags.services)?;
    let options = options(flags, Stamp::now())?;
    let engine = context.needed_engine()?;
    let listed = moment::nanoseconds(Stamp::now());
    let seen = observe(&engine, &name)?;
    let sources = sources(&name, &seen, &flags.services, flags.index);
    if let (Some(index), true) = (flags.index, sources.is_empty()) {
        let service = flags.services.join(" ");
        return Err(Failure::Usage(format!("service {service} has no container of number {index}")));
    }
    let mut view = LogView {
        width: label_width(&sources),
        names: !flags.no_log_prefix,
        colour: !flags.no_color && context.screen.colours_stdout(),
    };
    let screen = context.screen;
    let mut show = |line: LogLine| {
        // A container that started later may have a longer name.
        view.width = view.width.max(line.source.label.chars().count());
        screen.log(&view, &line)
    };
    let interrupts = Interrupts::catch(1)?;
    let services = &flags.services;
    if options.follow {
        let (project, number, sources) = (name.as_str(), flags.index, sources.as_slice());
        let following = Following { project, services, number, sources, listed };
        follow(&engine, &following, &options, &mut show, &interrupts.stop)?;
    } else {
        read(&engine, &sources, &options, &mut show, &interrupts.stop)?;
    }
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
    let seconds = |text: &Option<String>| {
        let found = text.as_deref().map(|text| moment::moment(text, now)).transpose();
        found.map(|found| found.map(|moment| moment.div_euclid(moment::SECOND))).map_err(Failure::Usage)
    };
    let (since, until) = (seconds(&flags.since)?, seconds(&flags.until)?);
    Ok(LogOptions { follow: flags.follow, timestamps: flags.timestamps, tail, since, until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_options() {
        let now = Stamp { seconds: 10_000, nanos: 0 };
        let flags = Logs { since: Some("1h".to_owned()), tail: "7".to_owned(), ..Logs::default() };
        let options_of = options(&flags, now).unwrap();
        assert_eq!((options_of.since, options_of.until, options_of.tail), (Some(6400), None, Some(7)));
        let flags = Logs { tail: "x".to_owned(), ..Logs::default() };
        assert!(options(&flags, now).is_err());
    }
}
