//! One repository: what its index says of folders, and under which stamps of its files that holds.
//!
//! An answer is taken between two looks at the stamps of the files that it comes from; whether those were
//! settled before the first one decides if it may be kept. See `stamp`.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::super::stamp::{self, Meta, Stamp, Time, Trust};
use crate::base::worktree::{InvalidIndex, Names, Tracked, Worktree};

/// How often a repository that changes while it is looked at is looked at again.
const ATTEMPTS: usize = 5;

/// What lies at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    Absent,
    Folder,
    File(Stamp),
    /// Something that cannot be told apart from anything else: equal to nothing that is kept.
    Unknown,
}

/// A repository and what it answered.
#[derive(Debug)]
pub(super) struct Repository {
    pub(super) worktree: Worktree,
    /// Whether modes on the disk count.
    pub(super) trusted: bool,
    /// The files that say all this.
    pub(super) settings: [Standing; 4],
    /// The index, if what follows holds for it and may be kept.
    pub(super) index: Standing,
    /// By the path of a folder in the work tree.
    pub(super) answers: HashMap<Vec<u8>, Option<Arc<Names>>>,
    /// Whether the settings' stamps may be kept.
    pub(super) settled: bool,
    /// What this run did with it.
    pub(super) run: Run,
}

/// What a run did with a repository.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// Whether it was seen that the index is still that of the answers.
    checked: bool,
    tracked: Option<Result<Tracked, InvalidIndex>>,
    /// Whether something can be kept that is not.
    learned: bool,
}

impl Standing {
    pub(super) fn of(path: &Path) -> Self {
        match rustix::fs::stat(path) {
            Ok(stat) => {
                let meta = Meta::from(&stat);
                if meta.is_folder() { Self::Folder } else { Self::File(meta.stamp) }
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Self::Absent,
            Err(_) => Self::Unknown,
        }
    }

    /// Whether a change after `moment` would show.
    fn settled(&self, path: &Path, moment: Time) -> bool {
        let trusted = || File::open(path).is_ok_and(|file| stamp::trust(file) != Trust::Nothing);
        match self {
            Self::Absent | Self::Folder => true,
            Self::File(stamp) => stamp.settled(moment) && trusted(),
            Self::Unknown => false,
        }
    }
}

fn all_settled(files: &[PathBuf; 4], standings: &[Standing; 4], moment: Time) -> bool {
    files.iter().zip(standings).all(|(path, standing)| standing.settled(path, moment))
}

impl Repository {
    /// What was kept of a repository.
    pub(super) fn kept(worktree: Worktree, trusted: bool, settings: [Standing; 4]) -> Self {
        let (answers, run) = Default::default();
        Self { worktree, trusted, settings, index: Standing::Unknown, answers, settled: true, run }
    }

    /// The repository whose work tree has this root.
    pub(super) fn look(root: &Path) -> Option<Self> {
        let mut found = None;
        for _ in 0..ATTEMPTS {
            let moment = stamp::now();
            let worktree = Worktree::at(root)?;
            let files = worktree.settings_files();
            let settings = files.each_ref().map(|path| Standing::of(path));
            let trusted = worktree.trusts_modes();
            let same = Worktree::at(root).as_ref() == Some(&worktree)
                && files.each_ref().map(|path| Standing::of(path)) == settings;
            let settled = same && all_settled(&files, &settings, moment);
            let run = Run { learned: settled, ..Run::default() };
            found = Some(Self { settled, run, ..Self::kept(worktree, trusted, settings) });
            if same {
                break;
            }
        }
        found
    }

    /// Whether what was kept of it still holds, but for the index.
    pub(super) fn stands(&self) -> bool {
        let now = self.worktree.settings_files().map(|path| Standing::of(&path));
        now == self.settings && !now.contains(&Standing::Unknown) && self.exists()
    }

    pub(super) fn exists(&self) -> bool {
        self.worktree.exists()
    }

    pub(super) fn root(&self) -> &Path {
        &self.worktree.root
    }

    /// What its index tracks in a folder of its work tree; `None` if nothing in or below it.
    pub(super) fn folder(&mut self, path: &[u8]) -> Option<Arc<Names>> {
        if !std::mem::replace(&mut self.run.checked, true)
            && Standing::of(&self.worktree.index_file()) != self.index
        {
            self.answers.clear();
        }
        if let Some(known) = self.answers.get(path) {
            return known.clone();
        }
        self.read();
        let tracked = self.run.tracked.as_ref().and_then(|read| read.as_ref().ok())?;
        let answer = tracked.folder(path).cloned();
        self.answers.insert(path.to_vec(), answer.clone());
        self.run.learned |= self.settled && self.index != Standing::Unknown;
        answer
    }

    /// Reads the index unless this run has.
    fn read(&mut self) {
        let path = self.worktree.index_file();
        for _ in 0..ATTEMPTS {
            if self.run.tracked.is_some() {
                return;
            }
            let (moment, before) = (stamp::now(), Standing::of(&path));
            let tracked = self.worktree.tracked();
            if Standing::of(&path) != before && tracked.is_ok() {
                continue;
            }
            let settled = tracked.is_ok() && before.settled(&path, moment);
            let index = if settled { before } else { Standing::Unknown };
            if index != self.index {
                self.answers.clear();
            }
            (self.index, self.run.tracked) = (index, Some(tracked));
        }
        let changing = || Err(InvalidIndex("it changes while it is read".to_owned()));
        self.run.tracked.get_or_insert_with(changing);
    }

    /// What could not be read.
    pub(super) fn problem(&self) -> Option<String> {
        let error = self.run.tracked.as_ref()?.as_ref().err()?;
        Some(format!("{}: {error}; its files count with their modes on the disk", self.root().display()))
    }

    /// Whether this run read the index.
    #[cfg(test)]
    pub(super) fn has_read(&self) -> bool {
        self.run.tracked.is_some()
    }

    /// Whether something can be kept that is not; no longer, when that was asked.
    pub(super) fn take_learned(&mut self) -> bool {
        std::mem::take(&mut self.run.learned)
    }
}
