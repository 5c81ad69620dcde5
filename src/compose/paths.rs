//! Which strings of a compose file are paths of the host and which are addresses of something remote.
//!
//! Pure text: nothing here looks at a disk.

/// Whether a build context is fetched from a network: a URL, or one of git's short forms.
pub(super) fn is_remote_context(context: &str) -> bool {
    const PREFIXES: &[&str] = &["https://", "http://", "git://", "ssh://", "github.com/", "git@"];
    PREFIXES.iter().any(|prefix| context.starts_with(prefix))
}
