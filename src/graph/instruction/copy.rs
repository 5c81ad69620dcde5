//! COPY and ADD: what is taken from where, and where it goes.

use std::collections::BTreeMap;

use super::super::elsewhere::Place;
use super::super::mount::literal;
use super::super::op::{Copy, NodeId, Op, Take, WrittenFile};
use super::super::stage::Made;
use super::super::wanted::FileSource;
use super::{Applying, history, join};
use crate::base::diag::Diagnostic;
use crate::dockerfile::{self as df, Word, words};
use crate::remote::{GitSource, is_http};

/// Where a source of ADD is.
enum Added {
    /// In the build context.
    Pattern,
    /// In a file system of its own.
    Elsewhere(NodeId, Take),
}

impl Applying<'_, '_, '_> {
    pub(super) fn copy(&mut self, copy: &df::Copy) -> Option<()> {
        let destination = self.destination(&copy.destination)?;
        let owner = self.optional(copy.chown.as_ref())?;
        let mode = self.optional(copy.chmod.as_ref())?;
        let excludes = patterns(&copy.excludes);
        let files = self.heredocs(&copy.heredocs)?;
        let (mut takes, mut sources) = (Vec::new(), Vec::new());
        let written = self.list(&copy.sources)?;
        if !copy.sources.is_empty() {
            takes.push(Take { patterns: written.clone(), unpack: false });
            sources.push(match &copy.from {
                Some(from) => {
                    let text = self.instruction.text.clone();
                    let source = self.lowering.copy_source(self.id, from, &text)?;
                    source.unwrap_or_else(|| self.nothing())
                }
                None => self.local(),
            });
        }
        let op = Copy { takes, files, destination, owner, mode, excludes, parents: copy.parents };
        self.copied("COPY", op, sources, copy.link, (&written, &copy.destination))
    }

    pub(super) fn add(&mut self, add: &df::Add) -> Option<()> {
        let destination = self.destination(&add.destination)?;
        let owner = self.optional(add.chown.as_ref())?;
        let mode = self.optional(add.chmod.as_ref())?;
        let excludes = patterns(&add.excludes);
        let files = self.heredocs(&add.heredocs)?;
        let (mut takes, mut sources) = (Vec::<Take>::new(), Vec::new());
        let mut from_context = false;
        let checksum = self.checksum(add)?;
        let written = self.list(&add.sources)?;
        for (word, text) in add.sources.iter().zip(written.iter().cloned()) {
            match (self.added(add, word, &text, checksum.as_deref())?, takes.last_mut()) {
                (Added::Elsewhere(node, take), _) => {
                    takes.push(take);
                    sources.push(node);
                    from_context = false;
                }
                // Neighbours from the context are one source.
                (Added::Pattern, Some(take)) if from_context => take.patterns.push(text),
                (Added::Pattern, _) => {
                    takes.push(Take { patterns: vec![text], unpack: add.unpack != Some(false) });
                    sources.push(self.local());
                    from_context = true;
                }
            }
        }
        let op = Copy { takes, files, destination, owner, mode, excludes, parents: false };
        self.copied("ADD", op, sources, add.link, (&written, &add.destination))
    }

    /// Where a source of ADD is: a repository, a file behind a URL, else a pattern for the build context.
    fn added(&mut self, add: &df::Add, word: &Word, text: &str, checksum: Option<&str>) -> Option<Added> {
        let instruction = self.instruction.text.clone();
        let place = Place { span: &word.span, text: &instruction };
        let mut mistake = |message: String| {
            self.lowering.mistake(Diagnostic::error(message).at(word.span.clone(), ""));
            None
        };
        let source = match GitSource::parse(text, false) {
            Ok(source) => source,
            Err(error) => return mistake(error),
        };
        if let Some(source) = source {
            if add.keep_git_dir.zip(source.keep_git_dir).is_some_and(|(flag, query)| flag != query) {
                return mistake("--keep-git-dir and the address say different things".to_owned());
            }
            if checksum.zip(source.checksum.as_deref()).is_some_and(|(flag, query)| flag != query) {
                return mistake("--checksum and the address say different things".to_owned());
            }
            let keep = add.keep_git_dir.or(source.keep_git_dir).unwrap_or(false);
            let node = self.lowering.repository(self.id, &source, keep, checksum, place)?;
            return Some(Added::Elsewhere(node, Take { patterns: vec!["/".to_owned()], unpack: false }));
        }
        if is_http(text) {
            let checksum = match checksum.map(str::parse).transpose() {
                Ok(checksum) => checksum,
                Err(_) => {
                    return mistake(format!(
                        "the checksum `{}` is not sha256:…",
                        checksum.unwrap_or_default()
                    ));
                }
            };
            let source = FileSource { url: text.to_owned(), checksum };
            let (node, name) = self.lowering.file(self.id, source, place)?;
            let take = Take { patterns: vec![literal(&name)], unpack: add.unpack == Some(true) };
            return Some(Added::Elsewhere(node, take));
        }
        if checksum.is_some() {
            return mistake("--checksum is for files behind URLs and git repositories".to_owned());
        }
        Some(Added::Pattern)
    }

    /// The value of `--checksum`, which is for a single source.
    fn checksum(&mut self, add: &df::Add) -> Option<Option<String>> {
        let Some(word) = &add.checksum else { return Some(None) };
        if add.sources.len() + add.heredocs.len() != 1 {
            let message = "--checksum is for one source only".to_owned();
            self.lowering.mistake(Diagnostic::error(message).at(word.span.clone(), ""));
            return None;
        }
        self.expand(word).map(Some)
    }

    /// Adds a copy. With `--link` it knows nothing of the file system so far but the accounts that name an
    /// owner, and is laid over it as it is (dockerfile reference, "COPY --link").
    fn copy_step(&mut self, op: Copy, mut sources: Vec<NodeId>, link: bool) {
        let Some(parent) = self.state.node.filter(|_| link) else {
            return self.step(Op::Copy(op), sources, BTreeMap::new());
        };
        if op.owner.as_deref().is_some_and(is_named) {
            sources.push(parent);
        }
        self.state.node = None;
        self.step(Op::Copy(op), sources, BTreeMap::new());
        let copied = self.state.node.replace(parent);
        let text = format!("layer of {}", self.instruction.text);
        self.step_called(&text, Op::Merge, copied.into_iter().collect(), BTreeMap::new());
    }

    /// The files of heredocs.
    fn heredocs(&mut self, heredocs: &[df::Heredoc]) -> Option<Vec<WrittenFile>> {
        let mut files = Vec::new();
        for heredoc in heredocs {
            let content = if heredoc.expand {
                let state = &*self.state;
                match words::expand_heredoc(&heredoc.content, &|name| state.variable(name)) {
                    Ok(content) => content,
                    Err(error) => {
                        let word = Word::new(heredoc.content.clone(), heredoc.span.clone());
                        self.lowering.mistake(error.diagnostic(&word));
                        return None;
                    }
                }
            } else {
                heredoc.content.clone()
            };
            files.push(WrittenFile { name: heredoc.name.clone(), content });
        }
        Some(files)
    }

    /// The step and its line. BuildKit passes over `--link` beside `--chmod`.
    fn copied(
        &mut self,
        name: &str,
        copy: Copy,
        sources: Vec<NodeId>,
        link: bool,
        (written, destination): (&[String], &Word),
    ) -> Option<()> {
        let line = history::copy(name, &copy, (written, &self.expand(destination)?));
        let link = link && copy.mode.is_none();
        self.copy_step(copy, sources, link);
        self.state.record(line, Made::Layer);
        Some(())
    }

    /// An absolute destination; a trailing slash (or `.`) stays a trailing slash.
    fn destination(&mut self, word: &Word) -> Option<String> {
        let path = self.expand(word)?;
        let directory = path.ends_with('/') || path == "." || path.ends_with("/.") || path.ends_with("/..");
        let joined = join(&self.state.directory(), &path);
        Some(if directory && joined != "/" { format!("{joined}/") } else { joined })
    }
}

/// Whether an owner has to be looked up.
fn is_named(owner: &str) -> bool {
    owner.split(':').any(|part| !part.is_empty() && part.parse::<u32>().is_err())
}

/// The patterns of `--exclude`, in which BuildKit puts no variables.
fn patterns(words: &[Word]) -> Vec<String> {
    words.iter().map(|word| word.text.clone()).collect()
}
