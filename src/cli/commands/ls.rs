//! `ls`. The texts are pure.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::args::{Ls, TableFormat};
use crate::cli::failure::Failure;
use crate::cli::render::Table;
use crate::engine::Engine;
use crate::up::{ANY_PROJECT, Stack, stacks};

use super::{Context, Ended};

/// Lists the projects that the engine has containers of.
pub(in crate::cli) fn ls(context: &Context<'_>, flags: &Ls) -> Ended {
    let filters = flags.filter.iter().map(|text| name_filter(text)).collect::<Result<Vec<_>, _>>();
    let filters = filters.map_err(Failure::Usage)?;
    let engine = context.needed_engine()?;
    let mut found = stacks(&engine.containers(&[ANY_PROJECT])?, flags.all);
    found.retain(|stack| filters.is_empty() || filters.iter().any(|filter| filter.holds(&stack.name)));
    let text = match (flags.quiet, flags.format) {
        (true, _) => found.iter().map(|stack| format!("{}\n", stack.name)).collect(),
        (_, TableFormat::Table) => table(&found),
        (_, TableFormat::Json) => json_text(&found),
    };
    context.screen.result(&text);
    Ok(ExitCode::SUCCESS)
}

/// Part of a project's name, which may have to stand at its beginning or end.
struct NameFilter {
    text: String,
    first: bool,
    last: bool,
}

impl NameFilter {
    fn holds(&self, name: &str) -> bool {
        match (self.first, self.last) {
            (true, true) => name == self.text,
            (true, false) => name.starts_with(&self.text),
            (false, true) => name.ends_with(&self.text),
            (false, false) => name.contains(&self.text),
        }
    }
}

/// `name=TEXT`. Docker Compose takes a regular expression: of those, only `^` and `$` are understood.
fn name_filter(filter: &str) -> Result<NameFilter, String> {
    let text = match filter.split_once('=') {
        Some(("name", text)) => text,
        Some((key, _)) => return Err(format!("there is no filter `{key}`: only name=TEXT")),
        None => return Err(format!("a filter must be name=TEXT, not `{filter}`")),
    };
    let (first, last) = (text.starts_with('^'), text.ends_with('$'));
    let text = text.trim_start_matches('^').trim_end_matches('$').to_owned();
    if text.contains(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-' || letter == '_')) {
        return Err(format!("not supported: the regular expression in --filter {filter}"));
    }
    Ok(NameFilter { text, first, last })
}

fn table(found: &[Stack]) -> String {
    let mut table = Table::spaced(&["NAME", "STATUS", "CONFIG FILES"], 20, 3);
    for stack in found {
        table.row(vec![stack.name.clone(), stack.status.clone(), stack.config_files.clone()]);
    }
    table.text()
}

fn json_text(found: &[Stack]) -> String {
    let object = |stack: &Stack| json!({"Name": stack.name, "Status": stack.status, "ConfigFiles": stack.config_files});
    format!("{}\n", serde_json::Value::from(found.iter().map(object).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects_are_shown_as_compose_shows_them() {
        let stack = |name: &str| Stack {
            name: name.to_owned(),
            status: "exited(1), running(3)".to_owned(),
            config_files: "/c.yaml".to_owned(),
        };
        let expected = "NAME                STATUS                  CONFIG FILES\n\
            hw-look             exited(1), running(3)   /c.yaml\n";
        assert_eq!(table(&[stack("hw-look")]), expected);
        let expected =
            "[{\"Name\":\"a\",\"Status\":\"exited(1), running(3)\",\"ConfigFiles\":\"/c.yaml\"}]\n";
        assert_eq!(json_text(&[stack("a")]), expected);
        assert_eq!(json_text(&[]), "[]\n");
    }

    #[test]
    fn names_are_filtered() {
        let holds = |filter: &str| name_filter(filter).unwrap().holds("hw-look");
        assert!(holds("name=look") && holds("name=^hw-look$") && holds("name=^hw") && holds("name=ok$"));
        assert!(!holds("name=^look") && !holds("name=hw$"));
        for wrong in ["name=a.*", "label=x", "hw"] {
            assert!(name_filter(wrong).is_err());
        }
    }
}
