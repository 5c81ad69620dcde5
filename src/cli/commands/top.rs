//! `top`. The table is pure.

use std::process::ExitCode;

use crate::cli::args::Services;
use crate::cli::render::Table;
use crate::up::{ContainerProcesses, containers, processes};

use super::{Context, Ended};

/// Shows the processes of the running containers.
pub(in crate::cli) fn top(context: &mut Context<'_>, flags: &Services) -> Ended {
    let (name, _) = context.named(&flags.services)?;
    let engine = context.needed_engine()?;
    let found = processes(&engine, &containers(&engine, &name)?, &flags.services)?;
    context.screen.result(&table(&found));
    Ok(ExitCode::SUCCESS)
}

/// One table for all: the columns in the order in which they appear, the command last.
fn table(found: &[ContainerProcesses]) -> String {
    if found.iter().all(|one| one.processes.rows.is_empty()) {
        return String::new();
    }
    let mut titles: Vec<&str> = vec!["SERVICE", "#"];
    for title in found.iter().flat_map(|one| &one.processes.titles) {
        if !titles.contains(&title.as_str()) {
            titles.push(title);
        }
    }
    if let Some(at) = titles.iter().position(|title| *title == "CMD") {
        let command = titles.remove(at);
        titles.push(command);
    }
    let mut table = Table::spaced(&titles, 4, 2);
    for one in found {
        for row in &one.processes.rows {
            let cell = |title: &&str| match *title {
                "SERVICE" => one.service.clone(),
                "#" => one.number.to_string(),
                title => {
                    let at = one.processes.titles.iter().position(|found| found == title);
                    at.and_then(|at| row.get(at)).cloned().unwrap_or_else(|| "-".to_owned())
                }
            };
            table.row(titles.iter().map(cell).collect());
        }
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Processes;

    #[test]
    fn processes_are_shown_as_compose_shows_them() {
        let one = |service: &str, titles: &[&str], row: &[&str]| ContainerProcesses {
            service: service.to_owned(),
            number: 1,
            processes: Processes {
                titles: titles.iter().map(|&title| title.to_owned()).collect(),
                rows: vec![row.iter().map(|&cell| cell.to_owned()).collect()],
            },
        };
        let found = [
            one("db", &["UID", "CMD", "C"], &["root", "sleep 1000", "0"]),
            one("web", &["UID", "PID", "CMD"], &["1", "2007", "sh"]),
        ];
        let expected = "SERVICE  #   UID   C   PID   CMD\n\
            db       1   root  0   -     sleep 1000\n\
            web      1   1     -   2007  sh\n";
        assert_eq!(table(&found), expected);
        assert_eq!(table(&[]), "");
    }
}
