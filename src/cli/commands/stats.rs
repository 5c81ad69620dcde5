//! `stats`. The texts are pure.

use std::io;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::args::Stats;
use crate::cli::failure::Failure;
use crate::cli::moment;
use crate::cli::render::text::size;
use crate::cli::render::{Item, Listing, go, listing};
use crate::cli::signals::Interrupts;
use crate::engine::Usage;
use crate::store::Stamp;
use crate::up::{Sample, Watched, follow_usage, usage};

use super::{Context, Ended};

/// Shows what the project's containers use: once, or until the user stops it.
pub(in crate::cli) fn stats(context: &mut Context<'_>, flags: &Stats) -> Ended {
    let services: Vec<_> = flags.service.iter().cloned().collect();
    let (name, _) = context.named(&services)?;
    // A mistake in the template is said before anything is measured.
    text(&[], flags)?;
    let engine = context.needed_engine()?;
    let watched = Watched { project: &name, service: flags.service.as_deref(), all: flags.all };
    let interrupts = Interrupts::catch(1)?;
    if flags.no_stream {
        let samples = usage(&engine, &watched, &interrupts.stop)?;
        context.screen.result(&text(&samples, flags)?);
    } else {
        let (screen, terminal) = (context.screen, context.screen.stdout_is_terminal());
        let mut show = |samples: &[Sample]| {
            let text = text(samples, flags).map_err(io::Error::other)?;
            screen.flow(&if terminal { over_the_last(&text) } else { text })
        };
        let listed = moment::nanoseconds(Stamp::now());
        follow_usage(&engine, &watched, listed, &mut show, &interrupts.stop)?;
    }
    if interrupts.stop.is_cancelled() {
        return Err(Failure::Stopped);
    }
    Ok(ExitCode::SUCCESS)
}

/// Written over what stands on the terminal.
fn over_the_last(text: &str) -> String {
    format!("\u{1b}[H{}\u{1b}[J", text.replace('\n', "\u{1b}[K\n"))
}

const STATS: Listing = Listing {
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    raw: None,
    headers: &[
        ("BlockIO", "BLOCK I/O"),
        ("CPUPerc", "CPU %"),
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("MemPerc", "MEM %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("Name", "NAME"),
        ("NetIO", "NET I/O"),
        ("PIDs", "PIDS"),
    ],
};

fn text(samples: &[Sample], flags: &Stats) -> Result<String, Failure> {
    let items: Vec<_> = samples.iter().map(|sample| item(sample, flags.no_trunc)).collect();
    listing(&STATS, &flags.format, &items).map_err(Failure::Usage)
}

/// The fields of the docker command.
fn item(sample: &Sample, whole: bool) -> Item {
    let pair = |left: String, right: String| format!("{left} / {right}");
    let short = if whole { sample.id.as_str() } else { sample.id.get(..12).unwrap_or(&sample.id) };
    let [block, cpu, share, memory, net, processes] = match &sample.usage {
        Some(usage) => [
            pair(size(usage.read), size(usage.written)),
            format!("{:.2}%", processor_share(usage)),
            format!("{:.2}%", memory_share(usage)),
            pair(go::binary_size(usage.memory), go::binary_size(usage.memory_limit)),
            pair(size(usage.received), size(usage.sent)),
            usage.processes.to_string(),
        ],
        None => ["--", "--", "--", "-- / --", "--", "--"].map(str::to_owned),
    };
    let fields = [
        ("BlockIO", block),
        ("CPUPerc", cpu),
        ("Container", sample.id.clone()),
        ("ID", short.to_owned()),
        ("MemPerc", share),
        ("MemUsage", memory),
        ("Name", sample.name.clone()),
        ("NetIO", net),
        ("PIDs", processes),
    ];
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    Item { fields, ..Item::default() }
}

/// Hundredths of one processor.
fn processor_share(usage: &Usage) -> f64 {
    let own = usage.cpu.saturating_sub(usage.cpu_before) as f64;
    let all = usage.system.saturating_sub(usage.system_before) as f64;
    if own > 0.0 && all > 0.0 { own / all * f64::from(usage.processors) * 100.0 } else { 0.0 }
}

fn memory_share(usage: &Usage) -> f64 {
    if usage.memory_limit == 0 { 0.0 } else { usage.memory as f64 / usage.memory_limit as f64 * 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Sample {
        let usage = Usage {
            cpu: 300,
            cpu_before: 100,
            system: 2000,
            system_before: 1000,
            processors: 2,
            memory: 1_454_080,
            memory_limit: 25_276_121_088,
            received: 1320,
            sent: 126,
            processes: 8,
            ..Usage::default()
        };
        Sample { id: "c6b52b0e3353ffff".to_owned(), name: "hw-look-web-1".to_owned(), usage: Some(usage) }
    }

    fn shown(format: &str, samples: &[Sample]) -> String {
        text(samples, &Stats { format: format.to_owned(), ..Stats::default() }).unwrap()
    }

    #[test]
    fn usage_is_shown_as_the_docker_command_shows_it() {
        let expected = "CONTAINER ID   NAME            CPU %     MEM USAGE / LIMIT     MEM %     NET I/O         BLOCK I/O   PIDS\n\
            c6b52b0e3353   hw-look-web-1   40.00%    1.387MiB / 23.54GiB   0.01%     1.32kB / 126B   0B / 0B     8\n";
        assert_eq!(shown("", &[sample()]), expected);
        let unknown = Sample { usage: None, ..sample() };
        let expected = r#"{"BlockIO":"--","CPUPerc":"--","Container":"c6b52b0e3353ffff","ID":"c6b52b0e3353","MemPerc":"--","MemUsage":"-- / --","Name":"hw-look-web-1","NetIO":"--","PIDs":"--"}"#;
        assert_eq!(shown("json", &[unknown]), format!("{expected}\n"));
        assert_eq!(shown("{{.Name}} {{.PIDs}}", &[sample()]), "hw-look-web-1 8\n");
    }

    #[test]
    fn a_terminal_is_written_over() {
        assert_eq!(over_the_last("a\nb\n"), "\u{1b}[Ha\u{1b}[K\nb\u{1b}[K\n\u{1b}[J");
    }
}
