//! `--timestamp`: the time that images say they were made at, where nothing else gives it.

use crate::base::cancel::Cancel;
use crate::base::worktree::Worktree;
use crate::build::{asked_head, commit_time};
use crate::cli::failure::Failure;
use crate::store::Store;

use std::path::Path;

/// The value of `SOURCE_DATE_EPOCH` that the flag means: seconds as they are, or the time of the commit that
/// the work tree of `folder` is at.
pub(super) fn timestamp(
    flag: Option<&str>,
    folder: &Path,
    store: &Store,
    cancel: &Cancel,
) -> Result<Option<String>, Failure> {
    let Some(flag) = flag else { return Ok(None) };
    if flag != "commit" {
        let wrong = || Failure::Usage(format!("--timestamp {flag}: give `commit` or seconds since 1970"));
        return flag.parse::<i64>().map(|seconds| Some(seconds.to_string())).map_err(|_| wrong());
    }
    let refused =
        |problem: &str| Failure::Usage(format!("--timestamp commit: {} {problem}", folder.display()));
    let real = std::fs::canonicalize(folder).map_err(|error| refused(&error.to_string()))?;
    let worktree = Worktree::of(&real).ok_or_else(|| refused("is in no git repository"))?;
    let head = worktree.head().or_else(|| asked_head(&worktree.root, cancel));
    let commit = head.ok_or_else(|| refused("is at no commit"))?;
    Ok(Some(commit_time(store, &worktree.root, &commit, cancel)?.to_string()))
}
