//! Users and groups by name, as the image itself knows them.
//!
//! `USER` and `--chown` take `user[:group]`, each by name or number. Names are looked up in the image's
//! own `/etc/passwd` and `/etc/group`, through its root, so that a link there cannot reach the host. The
//! lookups are pure functions over the files' texts; malformed lines are passed over, as libc does.

use std::path::Path;

use super::error::StepError;
use crate::base::digest::{Digest, FieldHasher};
use crate::base::fs::RootDir;

/// Larger account files are not read.
const LIMIT: u64 = 16 << 20;

/// The account files of an image.
pub(super) struct Accounts {
    passwd: String,
    group: String,
}

/// Who a process is.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// All groups, the first one included, sorted.
    pub(super) groups: Vec<u32>,
    /// The home directory, `/` where none is known.
    pub(super) home: String,
}

impl Accounts {
    /// Reads the files; missing ones are empty.
    pub(super) fn read(root: &RootDir) -> Result<Self, StepError> {
        let text = |path: &str| -> Result<String, StepError> {
            let bytes = root.read(Path::new(path), LIMIT)?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Self { passwd: text("/etc/passwd")?, group: text("/etc/group")? })
    }

    /// The digest of both files.
    pub(super) fn digest(&self) -> Digest {
        FieldHasher::new("accounts").field(&self.passwd).field(&self.group).finish()
    }

    /// The identity of a process whose user is `text`; empty is root. As runc has it: a number without an
    /// entry is taken as it is, with group 0; a name must exist; a named group replaces the further ones.
    pub(super) fn process(&self, text: &str) -> Result<Identity, StepError> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let user = if user.is_empty() { "0" } else { user };
        let entry = self.user(user);
        let (uid, mut gid, name, home) = match (entry, user.parse::<u32>()) {
            (Some(entry), _) => (entry.uid, entry.gid, entry.name.to_owned(), entry.home.to_owned()),
            (None, Ok(uid)) => (uid, 0, String::new(), "/".to_owned()),
            (None, Err(_)) => return Err(unknown("user", user)),
        };
        let mut groups = self.groups_of(&name);
        if let Some(group) = group.filter(|group| !group.is_empty()) {
            gid = self.group(group)?;
            groups.clear();
        }
        // runc's callers always add the group itself.
        groups.push(gid);
        groups.sort_unstable();
        groups.dedup();
        Ok(Identity { uid, gid, groups, home })
    }

    /// The owner that `--chown` names. A number without a group is its own group (dockerfile reference,
    /// "COPY --chown"), a name brings its group. A name that the image does not know means root, or the
    /// user's own group, as in BuildKit; who that is comes back to be told.
    pub(super) fn owner(&self, text: &str) -> (u32, u32, Option<StepError>) {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let (mut stranger, entry) = (None, self.user(user));
        let (uid, own_group) = match (user.parse::<u32>(), entry) {
            (Ok(uid), _) => (uid, uid),
            (Err(_), Some(entry)) => (entry.uid, entry.gid),
            (Err(_), None) => {
                stranger = Some(unknown("user", user)).filter(|_| !user.is_empty());
                (0, 0)
            }
        };
        let gid = match group.filter(|group| !group.is_empty()).map(|group| self.group(group)) {
            Some(Ok(gid)) => gid,
            Some(Err(error)) => {
                stranger = Some(error);
                own_group
            }
            None => own_group,
        };
        (uid, gid, stranger)
    }

    /// By name, else by number.
    fn user(&self, wanted: &str) -> Option<Entry<'_>> {
        let entries = || self.passwd.lines().filter_map(Entry::parse);
        entries()
            .find(|entry| entry.name == wanted)
            .or_else(|| entries().find(|entry| wanted.parse() == Ok(entry.uid)))
    }

    fn group(&self, wanted: &str) -> Result<u32, StepError> {
        let named = self.group.lines().filter_map(group_line).find(|(name, ..)| *name == wanted);
        match (named, wanted.parse()) {
            (Some((_, gid, _)), _) | (None, Ok(gid)) => Ok(gid),
            (None, Err(_)) => Err(unknown("group", wanted)),
        }
    }

    fn groups_of(&self, user: &str) -> Vec<u32> {
        let lines = self.group.lines().filter_map(group_line);
        lines
            .filter(|(.., members)| !user.is_empty() && members.split(',').any(|member| member == user))
            .map(|(_, gid, _)| gid)
            .collect()
    }
}

fn unknown(kind: &'static str, name: &str) -> StepError {
    let file = if kind == "user" { "/etc/passwd" } else { "/etc/group" };
    StepError::UnknownUser { kind, name: name.to_owned(), file }
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let home = fields.nth(1).filter(|home| !home.is_empty()).unwrap_or("/");
        Some(Self { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    }
}

fn group_line(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
    Some((name, gid.parse().ok()?, fields.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34:w:/var/www:/bin/sh\nx:x:bad:1::/:\n"
                .into(),
            group: "root:x:0:\nwww:x:34:\nlog:x:40:web,other\naudio:x:29:web\n".into(),
        }
    }

    fn process(text: &str) -> (u32, u32, Vec<u32>, String) {
        let identity = accounts().process(text).unwrap();
        (identity.uid, identity.gid, identity.groups, identity.home)
    }

    #[test]
    fn processes_get_what_the_image_says() {
        assert_eq!(process(""), (0, 0, vec![0], "/root".into()));
        assert_eq!(process("web"), (33, 34, vec![29, 34, 40], "/var/www".into()));
        assert_eq!(process("33"), (33, 34, vec![29, 34, 40], "/var/www".into()));
        assert_eq!(process("web:log"), (33, 40, vec![40], "/var/www".into()));
        assert_eq!(process("1000"), (1000, 0, vec![0], "/".into()));
        assert_eq!(process("1000:7"), (1000, 7, vec![7], "/".into()));
        for text in ["nobody", "web:nogroup", "x"] {
            assert!(accounts().process(text).is_err(), "{text}");
        }
    }

    #[test]
    fn owners_without_a_group() {
        let owner = |text: &str| {
            let (uid, gid, stranger) = accounts().owner(text);
            (uid, gid, stranger.is_some())
        };
        assert_eq!(owner("55"), (55, 55, false));
        assert_eq!(owner("web"), (33, 34, false));
        assert_eq!(owner("web:40"), (33, 40, false));
        assert_eq!(owner(":www"), (0, 34, false));
        assert_eq!(owner("nobody"), (0, 0, true));
        assert_eq!(owner("web:nogroup"), (33, 34, true));
    }
}
