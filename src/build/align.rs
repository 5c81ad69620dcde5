//! Which step of the last build a step of today was. Pure.
//!
//! [`align`] compares the instructions of one stage then and now. Equal ones are matched in their order, as
//! many as possible; what is left between two matches was edited where both sides have something, and is
//! new where only today has. So an instruction that is put in the middle does not make all others look
//! edited.

/// For each of `new` the index of the one of `old` that it was; `None` where it is new.
pub(super) fn align(old: &[&str], new: &[&str]) -> Vec<Option<usize>> {
    let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let mut found: Vec<Option<usize>> = (0..same).map(Some).collect();
    let (old, new) = (&old[same..], &new[same..]);
    let same_end = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let (middle_old, middle_new) = (&old[..old.len() - same_end], &new[..new.len() - same_end]);
    found.extend(edited(middle_old, middle_new).into_iter().map(|at| at.map(|at| at + same)));
    found.extend((old.len() - same_end..old.len()).map(|at| Some(at + same)));
    found
}

/// The same for what begins and ends differently: the longest common subsequence, and in each gap between
/// its members one for one.
fn edited(old: &[&str], new: &[&str]) -> Vec<Option<usize>> {
    let matches = common(old, new);
    let mut found = vec![None; new.len()];
    let (mut old_at, mut new_at) = (0, 0);
    for (old_match, new_match) in matches.into_iter().chain([(old.len(), new.len())]) {
        // The last of a gap are paired: an edit and a new line before it are told apart more often so.
        let pairs = (old_match - old_at).min(new_match - new_at);
        for back in 1..=pairs {
            found[new_match - back] = Some(old_match - back);
        }
        if new_match < new.len() {
            found[new_match] = Some(old_match);
        }
        (old_at, new_at) = (old_match + 1, new_match + 1);
    }
    found
}

/// The longest common subsequence, as pairs of indices.
fn common(old: &[&str], new: &[&str]) -> Vec<(usize, usize)> {
    // The length for what is left from each pair of places on.
    let mut longest = vec![vec![0usize; new.len() + 1]; old.len() + 1];
    for left in (0..old.len()).rev() {
        for right in (0..new.len()).rev() {
            longest[left][right] = if old[left] == new[right] {
                longest[left + 1][right + 1] + 1
            } else {
                longest[left + 1][right].max(longest[left][right + 1])
            };
        }
    }
    let (mut left, mut right, mut pairs) = (0, 0, Vec::new());
    while left < old.len() && right < new.len() {
        if old[left] == new[right] {
            pairs.push((left, right));
            (left, right) = (left + 1, right + 1);
        } else if longest[left + 1][right] >= longest[left][right + 1] {
            left += 1;
        } else {
            right += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(old: &str, new: &str) -> String {
        let words = |text: &'static str| text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>();
        let (old, new) = (old.to_owned().leak(), new.to_owned().leak());
        let found = align(&words(old), &words(new));
        let names: Vec<String> = found
            .iter()
            .map(|at| at.map_or_else(|| "new".to_owned(), |at| words(old)[at].to_owned()))
            .collect();
        names.join(" ")
    }

    #[test]
    fn an_edit_is_told_from_an_insertion() {
        assert_eq!(of("a b c", "a b c"), "a b c");
        assert_eq!(of("a b c", "a x c"), "a b c");
        assert_eq!(of("a b c", "a x b c"), "a new b c");
        assert_eq!(of("a b c", "x a b c"), "new a b c");
        assert_eq!(of("a b c", "a b c x"), "a b c new");
        assert_eq!(of("a b c", "a c"), "a c");
        assert_eq!(of("a b c d", "a x c y"), "a b c d");
        assert_eq!(of("a b c d", "a x y d"), "a b c d");
        assert_eq!(of("a b", "a x y z"), "a new new b");
        assert_eq!(of("a b c", "c a b"), "new a b");
        assert_eq!(of("", "a b"), "new new");
        assert_eq!(of("a b", ""), "");
    }
}
