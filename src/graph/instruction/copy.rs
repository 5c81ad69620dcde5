//! COPY and ADD: what is taken from where, and where it goes.

use std::collections::BTreeMap;

use super::super::op::{Copy, NodeId, Op, Take, WrittenFile};
use super::super::stage::Made;
use super::{Applying, history, join};
use crate::dockerfile::{self as df, Word, words};

impl Applying<'_, '_, '_> {
    pub(super) fn copy(&mut self, copy: &df::Copy) -> Option<()> {
        let destination = self.destination(&copy.destination)?;
        let owner = self.optional(copy.chown.as_ref())?;
        let mode = self.optional(copy.chmod.as_ref())?;
        let excludes = patterns(&copy.excludes);
        let files = self.heredocs(&copy.heredocs)?;
        let (mut takes, mut sources) = (Vec::new(), Vec::new());
        if !copy.sources.is_empty() {
            takes.push(Take { patterns: self.list(&copy.sources)?, unpack: false });
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
        self.copied("COPY", op, sources, copy.link, &copy.destination)
    }

    pub(super) fn add(&mut self, add: &df::Add) -> Option<()> {
        for (flag, refused) in
            [("checksum", add.checksum.is_some()), ("keep-git-dir", add.keep_git_dir.is_some())]
        {
            if refused {
                return self.refuse_flag(flag, &add.flags);
            }
        }
        let destination = self.destination(&add.destination)?;
        let owner = self.optional(add.chown.as_ref())?;
        let mode = self.optional(add.chmod.as_ref())?;
        let excludes = patterns(&add.excludes);
        let files = self.heredocs(&add.heredocs)?;
        let (mut takes, mut sources) = (Vec::new(), Vec::new());
        if !add.sources.is_empty() {
            let patterns = self.list(&add.sources)?;
            if let Some(remote) = patterns.iter().position(|source| is_remote(source)) {
                let span = add.sources.get(remote).map_or(&self.instruction.span, |word| &word.span);
                return self.refuse("`ADD` from a URL or a git repository", &span.clone());
            }
            takes.push(Take { patterns, unpack: add.unpack != Some(false) });
            sources.push(self.local());
        }
        let op = Copy { takes, files, destination, owner, mode, excludes, parents: false };
        self.copied("ADD", op, sources, add.link, &add.destination)
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
        destination: &Word,
    ) -> Option<()> {
        let line = history::copy(name, &copy, &self.expand(destination)?);
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

/// What `ADD` fetches instead of reading it from the context.
fn is_remote(source: &str) -> bool {
    ["http://", "https://", "git@", "git://", "ssh://"].iter().any(|prefix| source.starts_with(prefix))
}
