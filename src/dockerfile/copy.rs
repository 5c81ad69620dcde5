//! `COPY` and `ADD`: sources, destination, inline sources, flags.
//!
//! A source that is a heredoc mark becomes the heredoc itself; the other words stay paths (or, with `ADD`,
//! URLs). Neither is looked at further here.

use crate::base::diag::Diagnostic;

use super::ast::{Add, Copy, Heredoc, Kind, Word};
use super::flags::{Allowed, Takes};
use super::heredoc;
use super::instructions::{Reader, word};
use super::scan::Line;
use super::syntax::{Arguments, Piece, Statement};

const COPY_FLAGS: Allowed = &[
    ("from", Takes::Value),
    ("chown", Takes::Value),
    ("chmod", Takes::Value),
    ("link", Takes::Switch),
    ("parents", Takes::Switch),
    ("exclude", Takes::Values),
];
const ADD_FLAGS: Allowed = &[
    ("chown", Takes::Value),
    ("chmod", Takes::Value),
    ("link", Takes::Switch),
    ("exclude", Takes::Values),
    ("checksum", Takes::Value),
    ("keep-git-dir", Takes::Switch),
    ("unpack", Takes::Switch),
];

/// Reads `COPY`.
pub(super) fn copy(reader: &mut Reader<'_>, line: &Line, statement: &Statement) -> Option<Kind> {
    let flags = reader.flags(line, "COPY", statement, COPY_FLAGS)?;
    let paths = paths(reader, line, "COPY", statement)?;
    let from = flags.value("from");
    if let Some(from) = from.as_ref().filter(|from| has_dollar(&from.text)) {
        let mistake = Diagnostic::error("`--from` does not support variables").at(from.span.clone(), "");
        let help = "give the image a stage of its own (`FROM … AS name`) and name that";
        reader.wrong.push(mistake.help(help));
        return None;
    }
    Some(Kind::Copy(Copy {
        sources: paths.sources,
        destination: paths.destination,
        heredocs: paths.heredocs,
        from,
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.switch("link").unwrap_or(false),
        parents: flags.switch("parents").unwrap_or(false),
        excludes: flags.values("exclude"),
        flags: flags.places(),
    }))
}

/// Reads `ADD`.
pub(super) fn add(reader: &mut Reader<'_>, line: &Line, statement: &Statement) -> Option<Kind> {
    let flags = reader.flags(line, "ADD", statement, ADD_FLAGS)?;
    let paths = paths(reader, line, "ADD", statement)?;
    Some(Kind::Add(Add {
        sources: paths.sources,
        destination: paths.destination,
        heredocs: paths.heredocs,
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.switch("link").unwrap_or(false),
        excludes: flags.values("exclude"),
        checksum: flags.value("checksum"),
        keep_git_dir: flags.switch("keep-git-dir"),
        unpack: flags.switch("unpack"),
        flags: flags.places(),
    }))
}

struct Paths {
    sources: Vec<Word>,
    heredocs: Vec<Heredoc>,
    destination: Word,
}

fn paths(reader: &mut Reader<'_>, line: &Line, name: &str, statement: &Statement) -> Option<Paths> {
    let (pieces, json) = match &statement.arguments {
        Arguments::Json(pieces) => (pieces.clone(), true),
        Arguments::Words(pieces) => (joined_marks(line, pieces), false),
        _ => (Vec::new(), false),
    };
    if !json {
        let rest = statement.rest.clone();
        let text = Piece { text: line.text[rest.clone()].to_owned(), range: rest };
        let instead = format!("they are read as {} paths", pieces.len());
        reader.warn_of_broken_array(line, name, &text, &instead);
    }
    let (destination, sources) = match pieces.split_last() {
        Some((destination, sources)) if !sources.is_empty() => (destination, sources),
        _ => {
            let message = format!("{name} requires at least two arguments: the last one is the destination");
            reader.refuse(line, statement, message);
            return None;
        }
    };
    if !json && heredoc::is_one(&destination.text) {
        let message = format!("{name} cannot accept a heredoc as a destination");
        reader.wrong.push(Diagnostic::error(message).at(line.span(destination.range.clone()), ""));
        return None;
    }
    let body = |piece: &Piece| {
        let mark = heredoc::mark(&piece.text).filter(|_| !json)?;
        line.heredocs.iter().rev().find(|heredoc| heredoc.name == mark.name).cloned()
    };
    Some(Paths {
        sources: sources
            .iter()
            .filter(|piece| body(piece).is_none())
            .map(|piece| word(line, piece))
            .collect(),
        heredocs: sources.iter().filter_map(body).collect(),
        destination: word(line, destination),
    })
}

/// `<< NAME` and `<<"a name"` are one mark though a blank stands in it.
fn joined_marks(line: &Line, pieces: &[Piece]) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces {
        match joined.last_mut().filter(|last| is_open_mark(&last.text)) {
            Some(last) => {
                last.range.end = piece.range.end;
                last.text = line.text[last.range.clone()].to_owned();
            }
            None => joined.push(piece.clone()),
        }
    }
    joined
}

/// The beginning of a mark whose name is not there yet, or whose quote is not closed.
fn is_open_mark(text: &str) -> bool {
    let Some(name) = text.trim_start_matches(|letter: char| letter.is_ascii_digit()).strip_prefix("<<")
    else {
        return false;
    };
    let name = name.strip_prefix('-').unwrap_or(name).trim_start();
    (name.is_empty() || name.starts_with(['"', '\''])) && !heredoc::is_one(text)
}

fn has_dollar(text: &str) -> bool {
    text.find('$').is_some_and(|at| at + 1 < text.len())
}
