//! Git repositories, by the `git` command.
//!
//! [`Git::commit`] asks what a branch or tag means now, [`Git::check_out`] writes a commit's files into a
//! folder. Nothing of the user's or the machine's configuration takes part, no hook runs, nobody is asked
//! for a password, and only the protocols that a Dockerfile may name are spoken, by submodules too. What
//! comes out depends on the commit alone: modes are set to those that git knows. A caller's text never
//! becomes an option: [`GitSource`] lets none begin with `-`, and `--` stands before what it says.

use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::RemoteError;
use super::source::{GitSource, shown_url};
use crate::base::cancel::Cancel;
use crate::base::fs::{AtPath, PathError};

/// What of git's surroundings would change what it does.
const FORGOTTEN: &[&str] = &[
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_TEMPLATE_DIR",
    "GIT_EXTERNAL_DIFF",
    "GIT_PROXY_COMMAND",
    "GIT_SSH",
    "GIT_SSH_VARIANT",
    "GIT_ATTR_SOURCE",
    "GIT_TRACE",
];

/// Settings that stand above those of the repository.
const SETTINGS: &[&str] = &[
    "advice.detachedHead=false",
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.autocrlf=false",
    "core.fileMode=true",
    "core.fsmonitor=false",
    "core.symlinks=true",
    "credential.helper=",
    "init.defaultBranch=main",
    "init.templateDir=",
    "submodule.recurse=false",
];

/// A work tree may belong to somebody else than who builds.
const OWNED_BY_ANYBODY: [&str; 2] = ["-c", "safe.directory=*"];

/// What keeps git at what is there: a commit that a partial clone lacks would be fetched, through whatever
/// program the repository's own settings name.
const FETCH_NOTHING: [(&str, &str); 2] = [("GIT_ALLOW_PROTOCOL", ""), ("GIT_NO_LAZY_FETCH", "1")];

/// The protocols that a Dockerfile may name.
const PROTOCOLS: &str = "git:http:https:ssh";

/// What a reference means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Commit {
    /// The commit, in full.
    pub id: String,
    /// The annotated tag object that leads to it, if it is named by one.
    pub tag: Option<String>,
}

/// What is to be written of a commit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Checkout {
    /// What `git` is given.
    pub remote: String,
    /// The branch or tag by which the commit was found: a server may give it out by that name only.
    pub reference: Option<String>,
    /// The commit, in full.
    pub commit: String,
    /// The folder whose content is written; empty for all.
    pub folder: String,
    /// Whether `.git` is written too; never for a folder (as BuildKit has it).
    pub keep_git_dir: bool,
    /// Whether submodules are fetched.
    pub submodules: bool,
}

/// The `git` command.
pub struct Git<'a> {
    /// What stops it.
    pub cancel: &'a Cancel,
}

impl Git<'_> {
    /// The commit that a source means now. Whole commits are taken as they are.
    pub fn commit(&self, source: &GitSource) -> Result<Commit, RemoteError> {
        if let Some(id) = source.commit() {
            return Ok(Commit { id: id.to_owned(), tag: None });
        }
        let remote = source.remote.as_str();
        let names = match source.reference.as_deref() {
            None => vec!["HEAD".to_owned()],
            Some(name) => candidates(name),
        };
        let mut arguments = vec!["ls-remote", "--", remote];
        arguments.extend(names.iter().map(String::as_str));
        let listed = self.run("ask", remote, None, &arguments)?;
        chosen(&listed, &names).ok_or_else(|| RemoteError::NoReference {
            remote: shown_url(remote),
            reference: source.reference.clone().unwrap_or_else(|| "HEAD".to_owned()),
        })
    }

    /// The commit that the work tree `folder` is at.
    pub fn head(&self, folder: &Path) -> Result<String, RemoteError> {
        let text = self.read("ask", folder, &["rev-parse", "--verify", "HEAD^{commit}"])?;
        Ok(text.trim().to_owned())
    }

    /// When a commit of the repository of the work tree `folder` was made, in seconds since 1970.
    pub fn commit_time(&self, folder: &Path, commit: &str) -> Result<i64, RemoteError> {
        // Another commit may stand in for it here (`git replace`), but not elsewhere.
        let arguments = ["--no-replace-objects", "cat-file", "commit", commit];
        let text = self.read("read the commit of", folder, &arguments)?;
        committed(&text).ok_or_else(|| RemoteError::Git {
            action: "read the commit of",
            remote: folder.display().to_string(),
            problem: format!("{commit} does not say when it was made"),
        })
    }

    /// Writes what a checkout wants into the empty folder `into`, working in the empty folder `scratch`,
    /// which lies on the same file system and may be thrown away afterwards.
    pub fn check_out(&self, wanted: &Checkout, scratch: &Path, into: &Path) -> Result<(), RemoteError> {
        let tree = scratch.join("tree");
        fs::create_dir(&tree).at_path("create", &tree)?;
        self.run("prepare for", &wanted.remote, Some(&tree), &["init", "--quiet"])?;
        self.run(
            "prepare for",
            &wanted.remote,
            Some(&tree),
            &["remote", "add", "--", "origin", &wanted.remote],
        )?;
        self.fetch(wanted, &tree)?;
        let checkout = ["checkout", "--quiet", "--force", "--detach", &wanted.commit, "--"];
        self.run("check out of", &wanted.remote, Some(&tree), &checkout)?;
        if wanted.submodules && tree.join(".gitmodules").is_file() {
            let update = ["submodule", "update", "--quiet", "--init", "--recursive", "--depth=1"];
            self.run("fetch the submodules of", &wanted.remote, Some(&tree), &update)?;
        }
        let keeps = wanted.keep_git_dir && wanted.folder.is_empty();
        if !keeps {
            remove_git_folders(&tree, 0)?;
        }
        let chosen = folder_of(wanted, &tree)?;
        settle(&chosen)?;
        for entry in fs::read_dir(&chosen).at_path("read", &chosen)? {
            let from = entry.at_path("read", &chosen)?.path();
            let to = into.join(from.file_name().unwrap_or_default());
            fs::rename(&from, &to).at_path("move", &from)?;
        }
        Ok(())
    }

    /// The commit alone if the server gives it out, else its name's history, else everything.
    fn fetch(&self, wanted: &Checkout, tree: &Path) -> Result<(), RemoteError> {
        let fetch = |more: &[&str]| {
            let mut arguments = vec!["fetch", "--quiet", "--no-tags", "--force"];
            arguments.extend(more);
            self.run("fetch from", &wanted.remote, Some(tree), &arguments)
        };
        let there = || {
            let object = format!("{}^{{commit}}", wanted.commit);
            self.run("read", &wanted.remote, Some(tree), &["cat-file", "-e", &object]).is_ok()
        };
        let cancelled =
            |error: &RemoteError| matches!(error, RemoteError::Cancelled | RemoteError::NoGit { .. });
        match fetch(&["--depth=1", "--", "origin", &wanted.commit]) {
            Ok(_) => return Ok(()),
            Err(error) if cancelled(&error) => return Err(error),
            Err(_) => {}
        }
        if let Some(name) = &wanted.reference {
            match fetch(&["--depth=1", "--", "origin", name]) {
                Err(error) if cancelled(&error) => return Err(error),
                _ if there() => return Ok(()),
                _ => {}
            }
        }
        fetch(&["--", "origin", "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"])?;
        if there() {
            return Ok(());
        }
        let (remote, reference) = (shown_url(&wanted.remote), wanted.commit.clone());
        Err(RemoteError::NoReference { remote, reference })
    }

    /// Runs git to its end; what it printed.
    fn run(
        &self,
        action: &'static str,
        remote: &str,
        folder: Option<&Path>,
        arguments: &[&str],
    ) -> Result<String, RemoteError> {
        let mut command = command(folder);
        command.args(arguments);
        self.finish(action, remote, command)
    }

    /// Asks the repository of a work tree that may be anybody's: no program that it names is run, and nothing
    /// is fetched.
    fn read(&self, action: &'static str, folder: &Path, arguments: &[&str]) -> Result<String, RemoteError> {
        let mut command = command(Some(folder));
        command.args(OWNED_BY_ANYBODY).args(arguments).envs(FETCH_NOTHING);
        self.finish(action, &folder.display().to_string(), command)
    }

    /// Runs a command to its end; what it wrote.
    fn finish(
        &self,
        action: &'static str,
        remote: &str,
        mut command: Command,
    ) -> Result<String, RemoteError> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let no_git = |problem| RemoteError::NoGit { remote: shown_url(remote), problem };
        let mut child = command.process_group(0).spawn().map_err(no_git)?;
        let (out, err) = (collect(child.stdout.take()), collect(child.stderr.take()));
        let status = self.wait(&mut child).map_err(no_git)?;
        let text = |thread: std::thread::JoinHandle<Vec<u8>>| {
            String::from_utf8_lossy(&thread.join().unwrap_or_default()).into_owned()
        };
        let (out, err) = (text(out), text(err));
        if self.cancel.is_cancelled() {
            return Err(RemoteError::Cancelled);
        }
        if status {
            return Ok(out);
        }
        let problem = last_line(&err).replace(remote, &shown_url(remote));
        Err(RemoteError::Git { action, remote: shown_url(remote), problem })
    }

    /// Whether it ended well; killed with its children when the user stops the command.
    fn wait(&self, child: &mut Child) -> io::Result<bool> {
        let mut pause = Duration::from_millis(1);
        let mut killed = false;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status.success());
            }
            if self.cancel.is_cancelled() && !killed {
                let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                if let Some(group) = group {
                    // It may have ended meanwhile; then there is nothing to kill.
                    let _ = rustix::process::kill_process_group(group, Signal::KILL);
                }
                killed = true;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

/// The time in a commit's `committer` line: name, address, seconds, zone.
fn committed(commit: &str) -> Option<i64> {
    let header = commit.lines().take_while(|line| !line.is_empty());
    let line = header.filter_map(|line| line.strip_prefix("committer ")).last()?;
    line.rsplit(' ').nth(1)?.parse().ok()
}

/// Git, free of what surrounds it, working on the repository in `folder`.
fn command(folder: Option<&Path>) -> Command {
    let mut command = Command::new("git");
    FORGOTTEN.iter().for_each(|name| {
        command.env_remove(name);
    });
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "true")
        .env("SSH_ASKPASS", "true")
        .env("GIT_SSH_COMMAND", "ssh -F none -o BatchMode=yes")
        .env("GIT_ALLOW_PROTOCOL", PROTOCOLS)
        .env("LC_ALL", "C");
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    // Never a repository that lies above.
    let folder = folder.unwrap_or(Path::new("/"));
    command.env("GIT_CEILING_DIRECTORIES", folder.parent().unwrap_or(folder)).current_dir(folder);
    command
}

/// Reads a pipe to its end beside everything else.
fn collect(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A pipe that breaks has said what it had to say.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// What git said in the end, without the word that it begins with.
fn last_line(text: &str) -> String {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let fatal = lines().find_map(|line| line.strip_prefix("fatal: "));
    fatal.or_else(|| lines().next_back()).unwrap_or("it failed without a word").to_owned()
}

/// The full names that a short one may mean, the strongest first (gitrevisions, "refname"; an annotated
/// tag means the commit that it leads to).
fn candidates(name: &str) -> Vec<String> {
    if name == "HEAD" {
        return vec!["HEAD".to_owned()];
    }
    let bare = |prefix: &str| name.strip_prefix(prefix).unwrap_or(name).to_owned();
    let tag = format!("refs/tags/{}", bare("refs/tags/"));
    let head = format!("refs/heads/{}", bare("refs/heads/"));
    vec![format!("{tag}^{{}}"), tag, head, format!("refs/{}", bare("refs/"))]
}

/// The first of `names` that `listed`, the output of `ls-remote`, has.
fn chosen(listed: &str, names: &[String]) -> Option<Commit> {
    let find = |wanted: &str| {
        let mut lines = listed.lines().filter_map(|line| line.split_once('\t'));
        lines.find(|(_, name)| *name == wanted).map(|(id, _)| id.to_owned())
    };
    let (name, id) = names.iter().find_map(|name| Some((name, find(name)?)))?;
    Some(Commit { tag: name.strip_suffix("^{}").and_then(find), id })
}

/// The folder of the checkout that counts; links do not.
fn folder_of(wanted: &Checkout, tree: &Path) -> Result<PathBuf, RemoteError> {
    let mut reached = tree.to_owned();
    for part in wanted.folder.split('/').filter(|part| !part.is_empty()) {
        reached.push(part);
        if !fs::symlink_metadata(&reached).is_ok_and(|meta| meta.is_dir()) {
            let (remote, folder) = (shown_url(&wanted.remote), wanted.folder.clone());
            return Err(RemoteError::NoFolder { remote, folder, commit: wanted.commit.clone() });
        }
    }
    Ok(reached)
}

/// Removes what git keeps for itself: of the repository, and of the submodules in it.
fn remove_git_folders(folder: &Path, depth: usize) -> Result<(), PathError> {
    for entry in fs::read_dir(folder).at_path("read", folder)? {
        let path = entry.at_path("read", folder)?.path();
        let meta = fs::symlink_metadata(&path).at_path("stat", &path)?;
        let own = path.file_name().is_some_and(|name| name == ".git");
        match (own, meta.is_dir()) {
            (true, true) => fs::remove_dir_all(&path).at_path("remove", &path)?,
            (true, false) if depth > 0 => fs::remove_file(&path).at_path("remove", &path)?,
            (false, true) => remove_git_folders(&path, depth + 1)?,
            _ => {}
        }
    }
    Ok(())
}

/// Gives everything in a checkout the modes that git knows, whatever the umask is: 0644, 0755, folders 0755.
fn settle(folder: &Path) -> Result<(), PathError> {
    for entry in fs::read_dir(folder).at_path("read", folder)? {
        let path = entry.at_path("read", folder)?.path();
        let meta = fs::symlink_metadata(&path).at_path("stat", &path)?;
        if meta.is_symlink() {
            continue;
        }
        let mode = if meta.is_dir() || meta.mode() & 0o100 != 0 { 0o755 } else { 0o644 };
        fs::set_permissions(&path, Permissions::from_mode(mode)).at_path("set the mode of", &path)?;
        if meta.is_dir() {
            settle(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_says_when_it_was_made() {
        let text = "tree 1\nauthor A <a> 1 +0000\ncommitter B C <b> 1700000000 -0800\n\ncommitter x 5 +0\n";
        assert_eq!(committed(text), Some(1_700_000_000));
        assert_eq!(committed("tree 1\n\ncommitter B <b> 1 +0"), None);
    }

    /// A partial clone names where to get what it lacks, and by which program. Whose checkout is built must not
    /// choose what runs as whoever builds it.
    #[test]
    fn no_program_that_a_work_tree_names_is_run() {
        let folder = tempfile::tempdir().unwrap();
        let (root, ran) = (folder.path().join("checkout"), folder.path().join("ran"));
        fs::create_dir(&root).unwrap();
        if !crate::base::testing::git(&root, &["init", "--quiet"]) {
            return;
        }
        let program = folder.path().join("program");
        fs::write(&program, format!("#!/bin/sh\ntouch '{}'\nexit 1\n", ran.display())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        for (name, value) in [
            ("core.repositoryFormatVersion", "1"),
            ("extensions.partialClone", "origin"),
            ("remote.origin.promisor", "true"),
            ("remote.origin.url", "git://127.0.0.1/none"),
            ("core.gitProxy", program.to_str().unwrap()),
        ] {
            crate::base::testing::git(&root, &["config", name, value]);
        }
        let (cancel, missing) = (Cancel::new().unwrap(), "12".repeat(20));
        let git = Git { cancel: &cancel };
        assert!(git.commit_time(&root, &missing).is_err());
        fs::write(root.join(".git/HEAD"), &missing).unwrap();
        assert!(git.head(&root).is_err());
        assert!(!ran.exists(), "a program of the checkout ran");
    }

    #[test]
    fn names_mean_tags_before_branches() {
        let listed =
            "1\trefs/heads/v1\n2\trefs/tags/v1\n3\trefs/tags/v1^{}\n4\trefs/heads/main\n5\trefs/pull/7\n";
        let id = |name: &str| chosen(listed, &candidates(name)).map(|commit| (commit.id, commit.tag));
        assert_eq!(id("v1"), Some(("3".into(), Some("2".into()))));
        assert_eq!(id("main"), Some(("4".into(), None)));
        assert_eq!(id("refs/heads/v1"), Some(("1".into(), None)));
        assert_eq!(id("pull/7"), Some(("5".into(), None)));
        assert_eq!(id("none"), None);
        assert_eq!(chosen("6\tHEAD\n", &candidates("HEAD")).unwrap().id, "6");
    }

    #[test]
    fn the_last_of_what_git_says_is_kept() {
        assert_eq!(
            last_line("warning: x\nfatal: no such repository\n\nPlease make sure\n"),
            "no such repository"
        );
        assert_eq!(last_line("error: a\nerror: b\n"), "error: b");
        assert_eq!(last_line(""), "it failed without a word");
    }

    #[test]
    fn only_a_real_folder_counts() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("a", folder.path().join("l")).unwrap();
        let of = |name: &str| {
            let wanted = Checkout {
                remote: "https://me:word@h/r.git".into(),
                reference: None,
                commit: "c".into(),
                folder: name.into(),
                keep_git_dir: false,
                submodules: true,
            };
            folder_of(&wanted, folder.path()).map_err(|error| error.to_string())
        };
        assert_eq!(of("a/b").unwrap(), folder.path().join("a/b"));
        assert_eq!(of("").unwrap(), folder.path());
        assert_eq!(of("l/b").unwrap_err(), "https://me:…@h/r.git has no folder `l/b` in c");
        assert!(of("a/none").is_err());
    }
}
