//! What compose has and shipway has not yet: refused by name, never ignored and never mistaken for a typing
//! error.
//!
//! The table's flags become hidden arguments, so that the parser reads them as compose would; whatever of
//! them was given is then refused with one sentence each.

use clap::{Arg, ArgAction, ArgMatches, Command};

/// Flags of a command: the command's path, those that take a value, those that take none. A short form
/// stands before the name: `e|env`.
struct Missing {
    command: &'static [&'static str],
    valued: &'static [&'static str],
    plain: &'static [&'static str],
}

const FLAGS: &[Missing] = &[
    Missing { command: &["build"], valued: &["builder", "m|memory"], plain: &["print"] },
    Missing { command: &["up"], valued: &[], plain: &["w|watch"] },
    Missing {
        command: &["image", "build"],
        valued: &[
            "builder",
            "cgroup-parent",
            "cpu-period",
            "cpu-quota",
            "c|cpu-shares",
            "cpuset-cpus",
            "cpuset-mems",
            "isolation",
            "m|memory",
            "memory-swap",
            "security-opt",
        ],
        plain: &["squash"],
    },
    Missing { command: &["image", "import"], valued: &["m|message"], plain: &[] },
];

/// Commands of compose and of ours that are missing.
const COMMANDS: &[&[&str]] = &[&["bridge"], &["commit"], &["export"], &["publish"], &["watch"], &["alpha"]];

/// Flags that compose and buildx keep for old scripts and that do nothing there: accepted and without effect.
const NO_EFFECT: &[(&[&str], &[&str])] = &[
    (&["build"], &["compress", "force-rm", "no-rm", "parallel"]),
    (&["image", "build"], &["compress", "force-rm", "rm"]),
];

/// `command` with everything of the tables as hidden arguments and commands.
pub(super) fn with_refused(mut command: Command) -> Command {
    for missing in FLAGS {
        command = within(command, missing.command, &|mut found| {
            for flag in missing.valued {
                found = found.arg(hidden(flag).action(ArgAction::Append).num_args(1));
            }
            for flag in missing.plain {
                found =
                    found.arg(hidden(flag).action(ArgAction::Append).num_args(0..=1).require_equals(true));
            }
            found
        });
    }
    for (path, flags) in NO_EFFECT {
        command = within(command, path, &|found| {
            flags.iter().fold(found, |found, flag| found.arg(hidden(flag).action(ArgAction::SetTrue)))
        });
    }
    for path in COMMANDS {
        let Some((name, parents)) = path.split_last() else { continue };
        command = within(command, parents, &|found| {
            let rest = Arg::new("rest").num_args(0..).allow_hyphen_values(true).trailing_var_arg(true);
            found.subcommand(Command::new(*name).hide(true).disable_help_flag(true).arg(rest))
        });
    }
    command
}

/// One sentence for each thing in `matches` that is missing.
pub(super) fn refusals(matches: &ArgMatches) -> Vec<String> {
    let mut found = Vec::new();
    let (mut path, mut level) = (Vec::new(), Some(matches));
    while let Some(matches) = level {
        if COMMANDS.contains(&path.as_slice()) {
            found.push(format!("not supported yet: `shipway {}`", path.join(" ")));
        }
        for missing in FLAGS.iter().filter(|missing| missing.command == path.as_slice()) {
            for flag in missing.valued.iter().chain(missing.plain) {
                let (_, name) = split(flag);
                // An occurrence without a value counts too.
                if matches.value_source(name).is_some() {
                    found.push(format!("not supported yet: --{name}"));
                }
            }
        }
        // A command that no table names has nothing below it that one does.
        level = matches.subcommand().and_then(|(name, matches)| {
            path.push(known(name)?);
            Some(matches)
        });
    }
    found
}

/// The static spelling of a command's name in the tables; none if no table knows it.
fn known(name: &str) -> Option<&'static str> {
    let paths = COMMANDS.iter().copied().chain(FLAGS.iter().map(|missing| missing.command));
    paths.flatten().copied().find(|known| *known == name)
}

/// Changes the sub-command of `command` at `path`.
fn within(command: Command, path: &[&str], change: &dyn Fn(Command) -> Command) -> Command {
    match path.split_first() {
        None => change(command),
        Some((first, rest)) => command.mut_subcommand(*first, |found| within(found, rest, change)),
    }
}

fn split(flag: &'static str) -> (Option<char>, &'static str) {
    match flag.split_once('|') {
        Some((short, name)) => (short.chars().next(), name),
        None => (None, flag),
    }
}

fn hidden(flag: &'static str) -> Arg {
    let (short, name) = split(flag);
    let arg = Arg::new(name).long(name).hide(true);
    match short {
        Some(short) => arg.short(short),
        None => arg,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::args::Arguments;
    use super::*;

    fn refused(line: &str) -> Vec<String> {
        let matches = with_refused(Arguments::command()).try_get_matches_from(line.split(' '));
        refusals(&matches.unwrap())
    }

    #[test]
    fn the_command_line_is_consistent() {
        with_refused(Arguments::command()).debug_assert();
    }

    #[test]
    fn what_is_missing_is_refused_by_name() {
        assert_eq!(refused("shipway up -d --watch web"), ["not supported yet: --watch"]);
        assert_eq!(refused("shipway publish -it web sh -c ls"), ["not supported yet: `shipway publish`"]);
        assert_eq!(refused("shipway build --builder=x"), ["not supported yet: --builder"]);
        assert_eq!(refused("shipway image build --isolation x ."), ["not supported yet: --isolation"]);
    }

    #[test]
    fn what_is_there_is_not_refused() {
        assert_eq!(refused("shipway build --force-rm --parallel --no-cache web"), Vec::<String>::new());
        for line in ["up -d --no-deps", "version", "cache du", "-f a.yml why web", "image ls -q"] {
            assert_eq!(refused(&format!("shipway {line}")), Vec::<String>::new());
        }
    }

    #[test]
    fn a_typing_mistake_is_met_with_a_suggestion() {
        let error = with_refused(Arguments::command()).try_get_matches_from(["shipway", "up", "--detatch"]);
        assert!(error.unwrap_err().to_string().contains("--detach"));
        let error = with_refused(Arguments::command()).try_get_matches_from(["shipway", "biuld"]);
        assert!(error.unwrap_err().to_string().contains("build"));
    }
}
