//! `reference.md`: every command, flag and variable, written from the tree of commands and the table of
//! variables, so that it cannot say anything else. `UPDATE_GOLDEN=1` writes it anew.

use std::fmt::Write;

use clap::builder::{PossibleValue, StyledStr};
use clap::{Arg, Command, CommandFactory};

use crate::base::testing::golden;

use super::args::Arguments;
use super::variables::{Group, VARIABLES};

/// Text in a cell of a table: one line, no column within.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn plain(text: Option<&StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

/// The value of a flag or an argument: `NAME`, `[=WHEN]`.
fn value(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let names = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let Some(range) = arg.get_num_args().filter(|range| range.takes_values()) else { return String::new() };
    match (range.min_values(), arg.is_require_equals_set()) {
        (0, true) => format!("[={names}]"),
        (0, false) => format!(" [{names}]"),
        (_, true) => format!("={names}"),
        (_, false) => format!(" {names}"),
    }
}

/// How a flag is written: `-f`, `--file FILE`.
fn spelling(arg: &Arg) -> String {
    let short = arg.get_short_and_visible_aliases().unwrap_or_default();
    let long = arg.get_long_and_visible_aliases().unwrap_or_default();
    let short = short.iter().map(|letter| format!("-{letter}"));
    let mut all: Vec<String> = short.chain(long.iter().map(|name| format!("--{name}"))).collect();
    if let Some(last) = all.last_mut() {
        last.push_str(&value(arg));
    }
    all.iter().map(|form| format!("`{}`", cell(form))).collect::<Vec<_>>().join(", ")
}

/// How an argument is written: `[SERVICE]…`.
fn argument(arg: &Arg) -> String {
    let name = value(arg).trim().to_owned();
    let many = arg.get_num_args().is_some_and(|range| range.max_values() > 1);
    let name = if arg.is_required_set() { name } else { format!("[{}]", name.trim_matches(['[', ']'])) };
    format!("`{}{}`", cell(&name), if many { "…" } else { "" })
}

fn possible(value: &PossibleValue) -> String {
    match value.get_help() {
        Some(help) => format!("`{}`: {}", value.get_name(), cell(&help.to_string())),
        None => format!("`{}`", value.get_name()),
    }
}

/// What an argument does, the values that it may have, and the variables that stand in for it.
fn meaning(arg: &Arg) -> String {
    let mut lines = vec![cell(&plain(arg.get_long_help().or_else(|| arg.get_help())))];
    if arg.get_action().takes_values() {
        let values = arg.get_possible_values();
        lines.extend(values.iter().filter(|value| !value.is_hide_set()).map(possible));
    }
    let flag = arg.get_long().map(|name| format!("--{name}"));
    let variables: Vec<_> = VARIABLES
        .iter()
        .filter(|variable| flag.is_some() && variable.flag == flag.as_deref())
        .map(|variable| format!("`{}`", variable.name))
        .collect();
    if !variables.is_empty() {
        lines.push(format!("Variable: {}", variables.join(", ")));
    }
    lines.join("<br>")
}

fn default(arg: &Arg) -> String {
    let values = arg.get_default_values().iter().map(|value| value.to_string_lossy());
    let values: Vec<_> = values.filter(|value| !value.is_empty()).collect();
    match arg.get_action().takes_values() && !values.is_empty() {
        true => format!("`{}`", cell(&values.join(" "))),
        false => String::new(),
    }
}

/// A table of what is written in `column`, its default and its meaning.
fn table<'a>(text: &mut String, column: &str, args: impl Iterator<Item = &'a Arg>, form: fn(&Arg) -> String) {
    let mut rows = args.filter(|arg| !arg.is_hide_set()).peekable();
    if rows.peek().is_none() {
        return;
    }
    writeln!(text, "\n| {column} | default | what it does |\n| --- | --- | --- |").unwrap();
    for arg in rows {
        let cells = [form(arg), default(arg), meaning(arg)];
        writeln!(text, "| {} |", cells.join(" | ")).unwrap();
    }
}

/// Whether a command's own table shows the flag: those of all commands stand at the top alone.
fn is_own(arg: &Arg, top: bool) -> bool {
    let of_the_parser = ["help", "version"].contains(&arg.get_id().as_str());
    top || !(arg.is_global_set() || of_the_parser)
}

fn section(text: &mut String, command: &Command, path: &str, level: usize) {
    let name = if path.is_empty() {
        command.get_name().to_owned()
    } else {
        format!("{path} {}", command.get_name())
    };
    writeln!(text, "\n{} `{name}`\n", "#".repeat(level)).unwrap();
    writeln!(
        text,
        "{}.",
        plain(command.get_long_about().or_else(|| command.get_about())).trim_end_matches('.')
    )
    .unwrap();
    let usage = command.clone().render_usage().to_string();
    writeln!(
        text,
        "\n```text\n{}\n```",
        usage.trim_start_matches("Usage:").trim().replace("\n       ", "\n")
    )
    .unwrap();
    let aliases: Vec<_> = command.get_visible_aliases().map(|alias| format!("`{alias}`")).collect();
    if !aliases.is_empty() {
        writeln!(text, "\nAlso: {}.", aliases.join(", ")).unwrap();
    }
    table(text, "argument", command.get_positionals(), argument);
    let flags = command.get_arguments().filter(|arg| !arg.is_positional() && is_own(arg, path.is_empty()));
    table(text, "flag", flags, spelling);
    if path.is_empty() {
        let global = command.get_arguments().filter(|arg| arg.is_global_set());
        let global: Vec<_> = global.filter_map(|arg| Some(format!("`--{}`", arg.get_long()?))).collect();
        let list = global.join(", ");
        writeln!(text, "\nThese stand before the command's name; {list} may stand behind it too.").unwrap();
    }
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        section(text, inner, &name, if path.is_empty() { 2 } else { 3 });
    }
}

fn variables(text: &mut String) {
    writeln!(
        text,
        "\n## Variables\n\nA flag beats its variable. The environment beats the project's `.env`, which may set \
         those of Shipway, Docker Compose and Docker too. Variables that are true or not are true with `1`, \
         `t`, `true`, `y`, `yes`; an empty one counts as not set."
    )
    .unwrap();
    for group in Group::ALL {
        writeln!(text, "\n### {}\n\n| name | flag | what it does |\n| --- | --- | --- |", group.heading())
            .unwrap();
        for variable in VARIABLES.iter().filter(|variable| variable.group == group) {
            let flag = variable.flag.map(|flag| format!("`{flag}`")).unwrap_or_default();
            writeln!(text, "| `{}` | {flag} | {} |", variable.name, cell(variable.meaning)).unwrap();
        }
    }
}

/// The whole reference.
fn reference(mut command: Command) -> String {
    command.build();
    let mut text = "# Reference\n\nEvery command, flag and variable, written from the program by a test \
                    (`UPDATE_GOLDEN=1 cargo test --lib cli::reference`). What Docker Compose has and Shipway \
                    lacks is refused by name. Keys of compose files stand in \
                    [KEYS.md](testdata/compose/KEYS.md).\n"
        .to_owned();
    section(&mut text, &command, "", 2);
    variables(&mut text);
    text
}

#[test]
fn the_reference_is_that_of_the_program() {
    golden("reference.md", &reference(Arguments::command()));
}

#[test]
fn variables_stand_in_for_flags_that_there_are() {
    fn has(command: &Command, flag: &str) -> bool {
        command.get_arguments().any(|arg| arg.get_long() == Some(flag))
            || command.get_subcommands().any(|inner| has(inner, flag))
    }
    for flag in VARIABLES.iter().filter_map(|variable| variable.flag) {
        assert!(has(&Arguments::command(), flag.trim_start_matches('-')), "{flag}");
    }
}
