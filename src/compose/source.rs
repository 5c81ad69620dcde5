//! Reading: where texts come from, and one file from text to shaped, extended tree.
//!
//! [`Files`] is the only way to a disk, so that tests need none. A file goes through interpolation, shaping,
//! `include` and `extends` here; how several files become one project is [`super::load`]'s.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::attrs::{self, Shape};
use super::extends;
use super::forms::Place;
use super::include;
use super::paths;
use super::shape::Shaper;
use super::tree::{self, Node};
use super::vars::{self, Variables};
use crate::base::diag::{Diagnostic, SourceFile, Span};

/// Gives the texts of files.
pub trait Files {
    /// The bytes of a file; `-` is standard input.
    ///
    /// # Errors
    /// What the system says; a missing file is [`io::ErrorKind::NotFound`].
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Whether a file is there.
    fn exists(&self, path: &Path) -> bool;
}

/// Files in memory, by absolute path: for tests and generated projects.
impl Files for BTreeMap<PathBuf, String> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.get(path).map(|text| text.clone().into_bytes()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn exists(&self, path: &Path) -> bool {
        self.contains_key(path)
    }
}

/// What all files of one project share.
pub(super) struct Sources<'a> {
    /// Where texts come from.
    pub files: &'a dyn Files,
    /// The folder relative to which files are named in messages.
    pub shown_from: &'a Path,
    /// Whether paths are made absolute.
    pub resolve_paths: bool,
    /// Whether variables are replaced.
    pub interpolate: bool,
    /// What is wrong so far.
    pub mistakes: Vec<Diagnostic>,
    /// What is worth saying so far.
    pub warnings: Vec<Diagnostic>,
    /// Whether a file is missing from what was read, so that names may be missing too.
    pub incomplete: bool,
    texts: HashMap<PathBuf, Arc<SourceFile>>,
    /// Documents that were looked at before they are wanted, variables not yet replaced.
    parsed: HashMap<PathBuf, Vec<Node>>,
}

/// A file being read: what its includes and extends need to know.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    /// The folder against which its relative paths count.
    pub folder: &'a Path,
    /// The variables that it sees.
    pub variables: &'a Variables,
    /// The files that include it, outermost first, and itself.
    pub chain: &'a [PathBuf],
}

impl<'a> Sources<'a> {
    /// Nothing read yet.
    pub(super) fn new(files: &'a dyn Files, shown_from: &'a Path, resolve_paths: bool) -> Self {
        Self {
            files,
            shown_from,
            resolve_paths,
            interpolate: true,
            mistakes: Vec::new(),
            warnings: Vec::new(),
            incomplete: false,
            texts: HashMap::new(),
            parsed: HashMap::new(),
        }
    }

    /// The text of a file, read once.
    ///
    /// # Errors
    /// A message without a place; the caller knows who asked.
    pub(super) fn text(&mut self, path: &Path) -> Result<Arc<SourceFile>, Box<Diagnostic>> {
        if let Some(file) = self.texts.get(path) {
            return Ok(Arc::clone(file));
        }
        let shown = path.strip_prefix(self.shown_from).unwrap_or(path).display().to_string();
        let bytes = self.files.read(path).map_err(|error| {
            Box::new(Diagnostic::error(format!("cannot read `{shown}`: {}", reason(&error))))
        })?;
        if bytes.len() > tree::MOST_BYTES {
            let message = format!("`{shown}` is larger than {} MiB", tree::MOST_BYTES >> 20);
            return Err(Box::new(Diagnostic::error(message)));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            Box::new(Diagnostic::error(format!("`{shown}` is not UTF-8: see line {line}")))
        })?;
        let file = SourceFile::new(shown, text);
        self.texts.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    /// The documents of a file, variables replaced if they are to be; mistakes are kept, and `asked` is who wants the file.
    pub(super) fn documents(
        &mut self,
        path: &Path,
        asked: Option<&Span>,
        variables: &Variables,
    ) -> Vec<Node> {
        let file = match self.text(path) {
            Ok(file) => file,
            Err(mistake) => {
                self.incomplete = true;
                self.mistakes.push(match asked {
                    Some(span) => mistake.at(span.clone(), "asked for here"),
                    None => *mistake,
                });
                return Vec::new();
            }
        };
        let mut documents = match self.parsed.remove(path).map_or_else(|| tree::parse(&file), Ok) {
            Ok(documents) => documents,
            Err(mistakes) => {
                self.incomplete = true;
                self.mistakes.extend(mistakes);
                return Vec::new();
            }
        };
        if self.interpolate {
            documents.iter_mut().for_each(|document| vars::interpolate(document, variables));
        }
        documents
    }

    /// The last project name that a file gives itself. A file that cannot be read gives none; that is told
    /// when the file is wanted.
    pub(super) fn name_in(&mut self, path: &Path, variables: &Variables) -> Option<String> {
        let file = self.text(path).ok()?;
        let documents = tree::parse(&file).ok()?;
        let names = documents.iter().rev().find_map(|document| document.get_text("name"));
        let name = names
            .and_then(|name| vars::substitute(name, &|variable| variables.get(variable), &mut |_| ()).ok());
        self.parsed.insert(path.to_owned(), documents);
        name
    }

    /// The documents of a file: each shaped, its includes worked in, its services extended. Marks stay, for
    /// they speak of what earlier documents and files say.
    pub(super) fn load(&mut self, path: &Path, asked: Option<&Span>, context: Context<'_>) -> Vec<Node> {
        let mut documents = self.documents(path, asked, context.variables);
        if let Some(empty) = documents.iter().find(|document| document.is_null()) {
            let mistake = Diagnostic::error("an empty document").at(empty.span.clone(), "");
            self.mistakes.push(mistake.help("take the `---` away"));
        }
        for document in &mut documents {
            self.shape(document, Shape::Object(&attrs::TOP), "", context);
            include::apply(self, document, context);
            extends::apply(self, document, path, context);
        }
        documents
    }

    /// Replaces the variables of what decides which files are read, also where others stay.
    pub(super) fn settle(&self, node: &mut Node, variables: &Variables) {
        if !self.interpolate {
            vars::interpolate(node, variables);
        }
    }

    /// Shapes a part of a file.
    pub(super) fn shape(&mut self, node: &mut Node, shape: Shape, path: &str, context: Context<'_>) {
        let home = context.variables.values.get("HOME").map(String::as_str);
        let place =
            Place { folder: context.folder, home, resolve: self.resolve_paths, literal: !self.interpolate };
        let mut shaper = Shaper::new(place, context.variables);
        shaper.shape(node, shape, path);
        self.mistakes.append(&mut shaper.mistakes);
        self.warnings.append(&mut shaper.warnings);
    }
}

/// A path as a file names it, made absolute.
pub(super) fn locate(path: &str, context: Context<'_>) -> PathBuf {
    let home = context.variables.values.get("HOME").map(String::as_str);
    PathBuf::from(paths::absolute(path, context.folder, home))
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        _ => error.to_string(),
    }
}
