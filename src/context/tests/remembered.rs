//! What is remembered of selections: when it counts, and when it does not.

use std::fs;
use std::path::PathBuf;

use super::super::*;
use super::{Place, request, settle};

/// Selects these as a run of its own, and keeps what was learned.
fn run(place: &Place, ignore: &str, sources: &[&str]) -> Digest {
    let context = place.context(ignore).recalled();
    let digest = context.select(&request(sources)).unwrap().digest();
    context.save_cache().unwrap();
    digest
}

fn remembered(place: &Place, ignore: &str, sources: &[&str]) -> Option<Digest> {
    place.context(ignore).recalled().remembered(&request(sources))
}

fn files(place: &Place) -> Vec<PathBuf> {
    let files = fs::read_dir(place.path("caches")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_string_lossy().contains(".walk-")).collect()
}

#[test]
fn several_runs_are_remembered_together() {
    let place = Place::new();
    ["a", "d/b", "e/c"].iter().for_each(|path| place.write(path, path));
    settle();
    let one = run(&place, "", &["a"]);
    let two = run(&place, "", &["d", "e/*"]);
    assert_eq!(remembered(&place, "", &["a"]), Some(one));
    assert_eq!(remembered(&place, "", &["d", "e/*"]), Some(two));
    assert_eq!(remembered(&place, "", &["e/*", "d"]), None);
    place.write("other", "nothing depends on it");
    assert_eq!(remembered(&place, "", &["a"]), Some(one));
    place.write("e/more", "x");
    assert_eq!(remembered(&place, "", &["a"]), None);
}

#[test]
fn each_ignore_file_has_its_own() {
    let place = Place::new();
    ["a", "b"].iter().for_each(|path| place.write(path, path));
    settle();
    let ways = ["", "b\n", "a\n"].map(|ignore| (ignore, run(&place, ignore, &["."])));
    for (ignore, digest) in ways {
        assert_eq!(remembered(&place, ignore, &["."]), Some(digest), "{ignore}");
    }
    assert_eq!(remembered(&place, "c\n", &["."]), None);
}

#[test]
fn what_is_not_there_is_not_remembered() {
    let place = Place::new();
    place.write("a", "1");
    settle();
    run(&place, "", &["a", "none/*"]);
    assert_eq!(remembered(&place, "", &["a", "none/*"]), None);
    assert!(files(&place).is_empty());
}

#[test]
fn folders_on_the_way_count() {
    let place = Place::new();
    ["d/x/f", "e/f", "t.txt"].iter().for_each(|path| place.write(path, path));
    place.link("l", "d/x/../../e/f");
    settle();
    let digest = run(&place, "", &["*.txt", "l"]);
    assert_eq!(remembered(&place, "", &["*.txt", "l"]), Some(digest));
    fs::rename(place.path("context/d/x"), place.path("context/d/y")).unwrap();
    assert_eq!(remembered(&place, "", &["*.txt", "l"]), None);
}

#[test]
fn damage_remembers_nothing() {
    let place = Place::new();
    ["a", "d/b"].iter().for_each(|path| place.write(path, "1"));
    settle();
    let digest = run(&place, "", &["."]);
    let [file] = &files(&place)[..] else { panic!("one file") };
    let good = fs::read(file).unwrap();
    for at in 0..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 1;
        fs::write(file, &damaged).unwrap();
        assert_eq!(remembered(&place, "", &["."]), None, "byte {at}");
        fs::write(file, &good[..at]).unwrap();
        assert_eq!(remembered(&place, "", &["."]), None, "cut at {at}");
    }
    fs::write(file, good).unwrap();
    assert_eq!(remembered(&place, "", &["."]), Some(digest));
}

#[test]
fn what_contradicts_it_ends_it() {
    let place = Place::new();
    place.write("a", "1");
    settle();
    run(&place, "", &["."]);
    let all = request(&["."]);
    let context = place.context("").recalled();
    assert!(context.remembered(&all).is_some());
    context.forget();
    assert_eq!(context.remembered(&all), None);
    // Modes from elsewhere, other digests.
    assert_eq!(place.context("").recalled().with_git_modes().remembered(&all), None);
    context.distrust();
    assert_eq!(remembered(&place, "", &["."]), None);
}
