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
fn meaning(arg: &Arg, variables: &[&str]) -> String {
    let mut lines = vec![cell(&plain(arg.get_long_help().or_else(|| arg.get_help())))];
    if arg.get_action().takes_values() {
        let values = arg.get_possible_values();
        lines.extend(values.iter().filter(|value| !value.is_hide_set()).map(possible));
    }
    if !variables.is_empty() {
        lines.push(format!("Variable: `{}`", variables.join("`, `")));
    }
    lines.join("<br>")
}

/// The variables that stand in for an argument of the command at `path`; `top` is the program itself.
fn variables_of(arg: &Arg, path: &str, top: &Command) -> Vec<&'static str> {
    let Some(name) = arg.get_long() else { return Vec::new() };
    let of_all = path.is_empty() || !top.get_arguments().any(|arg| arg.get_long() == Some(name));
    let short = format!("--{name}");
    let long = format!("{path} {short}");
    let stands = |flag: &str| (of_all && flag == short) || flag == long;
    VARIABLES.iter().filter(|row| row.flag.is_some_and(stands)).map(|row| row.name).collect()
}

fn default(arg: &Arg) -> String {
    let values = arg.get_default_values().iter().map(|value| value.to_string_lossy());
    let values: Vec<_> = values.filter(|value| !value.is_empty()).collect();
    match arg.get_action().takes_values() && !values.is_empty() {
        true => format!("`{}`", cell(&values.join(" "))),
        false => String::new(),
    }
}

/// A table of arguments: what is written, the default, the meaning.
fn table<'a>(
    text: &mut String,
    column: &str,
    args: impl Iterator<Item = &'a Arg>,
    row: impl Fn(&Arg) -> [String; 3],
) {
    let mut rows = args.filter(|arg| !arg.is_hide_set()).map(row).peekable();
    if rows.peek().is_some() {
        writeln!(text, "\n| {column} | default | what it does |\n| --- | --- | --- |").unwrap();
    }
    for row in rows {
        writeln!(text, "| {} |", row.join(" | ")).unwrap();
    }
}

/// The section of the command at `path` (empty for the program itself), and those of the commands below it.
fn section(text: &mut String, command: &Command, path: &str, top: &Command) {
    let name = format!("shipway {path}");
    let level = if path.contains(' ') { "###" } else { "##" };
    let about = plain(command.get_long_about().or_else(|| command.get_about()));
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().replace("\n       ", "\n");
    write!(text, "\n{level} `{}`\n\n{}.\n", name.trim_end(), about.trim_end_matches('.')).unwrap();
    write!(text, "\n```text\n{usage}\n```\n").unwrap();
    let aliases: Vec<_> = command.get_visible_aliases().map(|alias| format!("`{alias}`")).collect();
    if !aliases.is_empty() {
        write!(text, "\nAlso: {}.\n", aliases.join(", ")).unwrap();
    }
    let positionals = command.get_positionals();
    table(text, "argument", positionals, |arg| [argument(arg), default(arg), meaning(arg, &[])]);
    // The flags of all commands, and those of the parser, stand at the top alone.
    let repeated = |arg: &Arg| arg.is_global_set() || ["help", "version"].contains(&arg.get_id().as_str());
    let flags = command.get_arguments().filter(|arg| !arg.is_positional());
    let flags = flags.filter(|arg| path.is_empty() || !repeated(arg));
    table(text, "flag", flags, |arg| {
        [spelling(arg), default(arg), meaning(arg, &variables_of(arg, path, top))]
    });
    if path.is_empty() {
        let global = command.get_arguments().filter(|arg| arg.is_global_set());
        let global: Vec<_> = global.filter_map(|arg| Some(format!("`--{}`", arg.get_long()?))).collect();
        let list = global.join(", ");
        write!(text, "\nThese stand before the command's name; {list} may stand behind it too.\n").unwrap();
    }
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        section(text, inner, format!("{path} {}", inner.get_name()).trim_start(), top);
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
    section(&mut text, &command, "", &command);
    variables(&mut text);
    text
}

#[test]
fn the_reference_is_that_of_the_program() {
    golden("reference.md", &reference(Arguments::command()));
}

#[test]
fn variables_stand_in_for_flags_that_there_are() {
    let text = reference(Arguments::command());
    for variable in VARIABLES.iter().filter(|variable| variable.flag.is_some()) {
        let shown = text.lines().any(|line| line.contains("<br>Variable: ") && line.contains(variable.name));
        assert!(shown, "no flag has {}", variable.name);
    }
}
