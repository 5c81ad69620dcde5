//! Where the parts of a project were written: a tree beside the typed one, shared by all its copies.

use std::sync::Arc;

use crate::base::diag::Span;

/// Places in the user's files by the path of the key or list item: `["services", "web", "ports", "0"]`.
///
/// Two tables of spans are equal to each other always: where something was written is not part of what it means.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    whole: Option<Arc<Place>>,
}

/// One place and those inside of it.
#[derive(Debug)]
pub(in crate::compose) struct Place {
    /// Where the key or item stands; `None` for the whole.
    pub(in crate::compose) span: Option<Span>,
    /// What it holds.
    pub(in crate::compose) inner: Inner,
}

/// What a place holds.
#[derive(Debug)]
pub(in crate::compose) enum Inner {
    /// Nothing further.
    Nothing,
    /// Keys, in alphabetical order.
    Keys(Vec<(String, Place)>),
    /// The items of a list.
    Items(Vec<Place>),
}

impl Spans {
    /// The places of a whole project.
    pub(in crate::compose) fn new(whole: Place) -> Self {
        Self { whole: Some(Arc::new(whole)) }
    }

    /// The place of a key or list item, or else of the nearest parent that has one.
    pub fn nearest(&self, path: &[&str]) -> Option<&Span> {
        let mut place = self.whole.as_deref()?;
        for part in path {
            let inner = match &place.inner {
                Inner::Nothing => None,
                Inner::Keys(keys) => {
                    let found = keys.binary_search_by(|(key, _)| key.as_str().cmp(part));
                    found.ok().map(|at| &keys[at].1)
                }
                Inner::Items(items) => part.parse::<usize>().ok().and_then(|at| items.get(at)),
            };
            match inner {
                Some(inner) => place = inner,
                None => break,
            }
        }
        place.span.as_ref()
    }
}

impl PartialEq for Spans {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}
