//! One folder as a walk saw it: its names, and what those stand for that are shown.
//!
//! A walk sees many thousand entries, so they lie close together: the names of a folder in one buffer, its nodes
//! in one vector, which whoever needs one of them holds as a whole.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use rustix::fs::FileType;

use super::content::Content;
use super::ignore::Matched;
use super::stamp::Meta;

/// What a name that is shown stands for.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) meta: Meta,
    /// An excluded folder, shown only as the way to what a `!` rule brings back.
    pub(super) excluded: bool,
    /// For what is in it.
    pub(super) matched: Matched,
    /// Of a regular file, once it is known.
    pub(super) content: OnceLock<Content>,
}

/// A node, held together with the others of its folder.
#[derive(Clone, Debug)]
pub(super) struct NodeRef {
    nodes: Arc<Vec<Node>>,
    at: usize,
}

/// One folder, as it was when it was looked at.
#[derive(Debug)]
pub(super) struct Folder {
    /// Below the root, without slashes at the ends; empty for the root.
    pub(super) path: Vec<u8>,
    pub(super) meta: Meta,
    /// Whether `meta` was settled when the names were read: they can be kept under it.
    pub(super) settled: bool,
    names: Vec<u8>,
    /// In the order of the names.
    slots: Vec<Slot>,
    nodes: Arc<Vec<Node>>,
}

/// A name's place in the buffers: it begins where the one before ends.
#[derive(Debug)]
struct Slot {
    end: usize,
    node: Option<u32>,
    kind: FileType,
}

/// One name of a folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'f> {
    pub(super) name: &'f [u8],
    pub(super) kind: FileType,
    nodes: &'f Arc<Vec<Node>>,
    node: Option<usize>,
}

/// The entries of a folder while it is looked at.
#[derive(Default)]
pub(super) struct Entries {
    names: Vec<u8>,
    slots: Vec<Slot>,
    nodes: Vec<Node>,
}

impl Entries {
    /// None yet; about so many will follow.
    pub(super) fn with_capacity(count: usize) -> Self {
        let (slots, nodes) = (Vec::with_capacity(count), Vec::with_capacity(count));
        Self { names: Vec::with_capacity(count * 16), slots, nodes }
    }

    /// Adds a name, which comes after all that are there; without a node it is not shown.
    pub(super) fn push(&mut self, name: &[u8], kind: FileType, node: Option<Node>) {
        self.names.extend_from_slice(name);
        let at = node.as_ref().map(|_| self.nodes.len() as u32);
        self.nodes.extend(node);
        self.slots.push(Slot { end: self.names.len(), node: at, kind });
    }
}

impl Folder {
    /// The folder at `path` with its entries.
    pub(super) fn new(path: &[u8], meta: Meta, settled: bool, entries: Entries) -> Self {
        let Entries { names, slots, nodes } = entries;
        Self { path: path.to_vec(), meta, settled, names, slots, nodes: Arc::new(nodes) }
    }

    /// How many names it has.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// All names, sorted, also those that are not shown.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        (0..self.slots.len()).map(|index| self.at(index))
    }

    /// The entry of that name.
    pub(super) fn entry(&self, name: &[u8]) -> Option<Entry<'_>> {
        let (mut low, mut high) = (0, self.slots.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.at(middle);
            match entry.name.cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(entry),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn at(&self, index: usize) -> Entry<'_> {
        let Slot { end, node, kind } = self.slots[index];
        let start = index.checked_sub(1).map_or(0, |before| self.slots[before].end);
        let node = node.map(|node| node as usize);
        Entry { name: &self.names[start..end], kind, nodes: &self.nodes, node }
    }
}

impl<'f> Entry<'f> {
    /// What it stands for, if it is shown.
    pub(super) fn node(&self) -> Option<&'f Node> {
        self.node.map(|at| &self.nodes[at])
    }

    /// The same, to keep.
    pub(super) fn held(&self) -> Option<NodeRef> {
        self.node.map(|at| NodeRef { nodes: Arc::clone(self.nodes), at })
    }
}

impl NodeRef {
    /// A node that was looked at without its folder.
    pub(super) fn alone(node: Node) -> Self {
        Self { nodes: Arc::new(vec![node]), at: 0 }
    }
}

impl Deref for NodeRef {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.nodes[self.at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// What goes in comes out, under its name and nothing else.
        #[test]
        fn entries_are_found_by_their_names(
            names in proptest::collection::btree_map("[a-c]{0,4}", proptest::bool::ANY, 0..20),
            other in "[a-c]{0,4}",
        ) {
            let meta = Meta::from(&rustix::fs::stat("/").unwrap());
            let mut entries = Entries::with_capacity(2);
            for (name, shown) in &names {
                let (matched, content) = Default::default();
                let node = shown.then_some(Node { meta, excluded: name.len() > 2, matched, content });
                entries.push(name.as_bytes(), FileType::RegularFile, node);
            }
            let folder = Folder::new(b"f", meta, true, entries);
            let all = folder.entries().map(|entry| (entry.name.to_vec(), entry.node().is_some()));
            let expected = names.iter().map(|(name, shown)| (name.as_bytes().to_vec(), *shown));
            assert!(all.eq(expected) && folder.len() == names.len());
            for name in names.keys().chain([&other]) {
                let found = folder.entry(name.as_bytes());
                assert_eq!(found.is_some(), names.contains_key(name));
                let held = found.and_then(|found| found.held());
                assert_eq!(held.is_some(), names.get(name) == Some(&true));
                assert!(held.is_none_or(|held| held.excluded == (name.len() > 2)));
            }
        }
    }
}
