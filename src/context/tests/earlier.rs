//! A copy that shares files with an earlier one is the same copy, and shares what it can.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::super::*;
use super::changes::{apply, change};
use super::{Place, placement, request, tree_text};
use crate::base::testing::{as_root, available};

/// `tree_text` with all times.
fn timed_text(root: &Path) -> String {
    let timed = |line: &str| {
        let path = root.join(line.split(' ').next().unwrap());
        let meta = fs::symlink_metadata(path).unwrap();
        format!("{line} {}.{:09}\n", meta.mtime(), meta.mtime_nsec())
    };
    tree_text(root).lines().map(timed).collect()
}

/// Copies in two halves into the new folder `name`, as a step does.
fn copy(
    place: &Place,
    (source, to): (&str, &Placement),
    name: &str,
    earlier: Option<&Earlier>,
) -> (Earlier, Option<Mapping>) {
    fs::create_dir(place.path(name)).unwrap();
    copy_into(place, (source, to), name, earlier)
}

/// The same, into a folder that is there.
fn copy_into(
    place: &Place,
    (source, to): (&str, &Placement),
    name: &str,
    earlier: Option<&Earlier>,
) -> (Earlier, Option<Mapping>) {
    let target = place.path(name);
    let root = || RootDir::open(&target).unwrap();
    let context = place.context("");
    let selection = context.select(&request(&[source])).unwrap();
    let rest = context.begin_copy(&selection, &root(), to).unwrap();
    let mapping = rest.mapping();
    rest.write(&root(), earlier).unwrap();
    (Earlier { tree: root(), listing: selection.listing() }, mapping)
}

#[test]
fn what_is_the_same_is_shared_and_nothing_else() {
    if !as_root() {
        return;
    }
    let place = Place::new();
    let names = ["dir/same", "dir/content", "dir/time", "dir/mode", "dir/sub/same"];
    let file = |name: &str| place.path("context").join(name);
    for name in names {
        place.write(name, "before");
        File::open(file(name)).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }
    let inode =
        |target: &str, name: &str| fs::metadata(place.path(target).join("to").join(name)).unwrap().ino();
    let to = placement("/to/");
    let (earlier, mapping) = copy(&place, ("dir", &to), "one", None);
    let expected = Mapping { from: "dir/".to_owned(), to: "to".to_owned() };
    assert_eq!(mapping, Some(expected));

    place.write("dir/content", "after!");
    File::open(file("dir/content")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let later = SystemTime::UNIX_EPOCH + Duration::from_nanos(1);
    File::open(file("dir/time")).unwrap().set_modified(later).unwrap();
    fs::set_permissions(file("dir/mode"), fs::Permissions::from_mode(0o600)).unwrap();
    copy(&place, ("dir", &to), "two", Some(&earlier));
    let shared = |target: &str| {
        let names = ["same", "content", "time", "mode", "sub/same"];
        names.map(|name| inode("one", name) == inode(target, name))
    };
    assert_eq!(shared("two"), [true, false, false, false, true]);
    assert_eq!(fs::read_to_string(place.path("two/to/content")).unwrap(), "after!");
    assert_eq!(fs::read_to_string(place.path("one/to/content")).unwrap(), "before");

    // Who gives files to somebody shares those that were given to him.
    let given = Placement { owner: Some((7, 8)), ..to.clone() };
    let (theirs, _) = copy(&place, ("dir", &given), "three", Some(&earlier));
    assert_eq!(shared("three"), [false; 5]);
    copy(&place, ("dir", &given), "four", Some(&theirs));
    assert_eq!(inode("three", "same"), inode("four", "same"));
    // A file in the way, or gone from where it was.
    fs::remove_file(place.path("one/to/same")).unwrap();
    copy(&place, ("dir", &to), "five", Some(&earlier));
    assert_eq!(fs::read_to_string(place.path("five/to/same")).unwrap(), "before");
}

/// What a folder gives to what is made in it is in no selection.
#[test]
fn access_lists_that_differ_are_not_shared() {
    if !as_root() {
        return;
    }
    let place = Place::new();
    place.write("dir/sub/file", "text");
    let to = placement("/to/");
    let inode = |target: &str| fs::metadata(place.path(target).join("to/sub/file")).unwrap().ino();
    // user::rwx, user:33:rwx, group::r-x, mask::rwx, other::r-x (acl(5), as the kernel's headers lay it out).
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, u32::MAX), (2, 7, 33), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, bits, id) in entries {
        list.extend([&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    let with_list = |name: &str| {
        fs::create_dir_all(place.path(name).join("to")).unwrap();
        let (path, flags) = (place.path(name).join("to"), rustix::fs::XattrFlags::empty());
        rustix::fs::setxattr(path, "system.posix_acl_default", &list, flags).is_ok()
    };
    if !available(with_list("two") && with_list("three"), "a file system with access lists") {
        return;
    }
    fs::create_dir_all(place.path("one/to")).unwrap();
    let (earlier, _) = copy_into(&place, ("dir", &to), "one", None);
    let (listed, _) = copy_into(&place, ("dir", &to), "two", Some(&earlier));
    assert_ne!(inode("one"), inode("two"));
    copy_into(&place, ("dir", &to), "three", Some(&listed));
    assert_eq!(inode("two"), inode("three"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_in_between_it_is_the_same_copy(changes in prop::collection::vec(change(), 5..50)) {
        if !as_root() {
            return Ok(());
        }
        let place = Place::new();
        let mut earlier = None;
        for (number, changes) in changes.chunks(4).enumerate() {
            for change in changes {
                // What the tree does not allow does not happen.
                drop(apply(&place.path("context"), change));
            }
            let to = placement("/to");
            let (plain, sharing) = (format!("plain {number}"), format!("sharing {number}"));
            copy(&place, (".", &to), &plain, None);
            let (next, _) = copy(&place, (".", &to), &sharing, earlier.as_ref());
            prop_assert_eq!(timed_text(&place.path(&plain).join("to")), timed_text(&place.path(&sharing).join("to")));
            earlier = Some(next);
        }
    }
}
