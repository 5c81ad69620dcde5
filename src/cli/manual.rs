//! Manual pages: one for the program, with its variables, and one for each command. Pure.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::variables::{Group, VARIABLES};

/// One page.
pub(super) struct Page {
    /// The name of its file: `shipway-image-build.1`.
    pub(super) file: String,
    /// Its text, as roff.
    pub(super) text: Vec<u8>,
}

/// The pages of `command` and of all commands below it that are shown.
pub(super) fn pages(command: Command) -> io::Result<Vec<Page>> {
    let mut command = command;
    command.build();
    let mut pages = Vec::new();
    add(&command, true, &mut pages)?;
    Ok(pages)
}

fn add(command: &Command, top: bool, pages: &mut Vec<Page>) -> io::Result<()> {
    let manual =
        Man::new(command.clone()).source(concat!("shipway ", env!("CARGO_PKG_VERSION"))).manual("Shipway");
    let mut text = Vec::new();
    manual.render(&mut text)?;
    if top {
        variables().to_writer(&mut text)?;
    }
    pages.push(Page { file: manual.get_filename(), text });
    let mut shown = command.get_subcommands().filter(|inner| !inner.is_hide_set());
    shown.try_for_each(|inner| add(inner, false, pages))
}

/// The section about the environment.
fn variables() -> Roff {
    let mut roff = Roff::default();
    roff.control("SH", ["ENVIRONMENT"]);
    for group in Group::ALL {
        roff.control("SS", [group.heading()]);
        for variable in VARIABLES.iter().filter(|variable| variable.group == group) {
            let flag = variable.flag.map(|flag| format!(" ({flag})")).unwrap_or_default();
            roff.control("TP", []);
            roff.text([bold(variable.name), roman(flag)]);
            roff.text([roman(variable.meaning)]);
        }
    }
    roff
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::args::Arguments;
    use super::*;

    #[test]
    fn every_command_has_a_page_that_names_it() {
        let pages = pages(Arguments::command()).unwrap();
        let names: Vec<&str> = pages.iter().map(|page| page.file.as_str()).collect();
        for name in
            ["shipway.1", "shipway-up.1", "shipway-image.1", "shipway-image-build.1", "shipway-cache-du.1"]
        {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        assert!(!names.contains(&"shipway-manual.1"), "a hidden command has a page");
        for page in &pages {
            let text = std::str::from_utf8(&page.text).unwrap();
            let command = page.file.trim_end_matches(".1");
            let typed = command.replace('-', " ").replace(' ', "\\~");
            assert!(text.contains(&format!(".TH {command} 1")), "{}: {text}", page.file);
            let typed = [typed.replace("\\~", " "), typed];
            assert!(typed.iter().any(|typed| text.contains(typed)), "{}: {text}", page.file);
        }
        let top = String::from_utf8(pages[0].text.clone()).unwrap();
        assert!(top.contains("SHIPWAY_STORE") && top.contains("shipway\\-up(1)"), "{top}");
    }
}
