//! `RUN --mount`: comma-separated fields, typed once their variables are known.
//!
//! At parse time the keys are checked and `from` is read, because it makes an edge between stages; every
//! other value may hold variables and is read by [`Mount::resolve`]. What a mount does is not known here.

use crate::base::diag::{Diagnostic, Span};

use super::ast::Word;
use super::flags::boolean;
use super::words::{self, Lookup};

const KINDS: [(&str, MountKind); 5] = [
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("tmpfs", MountKind::Tmpfs),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
];

const SHARINGS: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

/// Every key with the name under which it is known here.
const KEYS: [(&str, Key); 19] = [
    ("type", Key::Type),
    ("from", Key::From),
    ("source", Key::Source),
    ("src", Key::Source),
    ("target", Key::Target),
    ("dst", Key::Target),
    ("destination", Key::Target),
    ("readonly", Key::ReadOnly),
    ("ro", Key::ReadOnly),
    ("readwrite", Key::ReadWrite),
    ("rw", Key::ReadWrite),
    ("id", Key::Id),
    ("sharing", Key::Sharing),
    ("required", Key::Required),
    ("size", Key::Size),
    ("mode", Key::Mode),
    ("uid", Key::Uid),
    ("gid", Key::Gid),
    ("env", Key::Env),
];

/// One `--mount` as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The whole value of the flag.
    pub text: Word,
    /// `from`: a stage, an image or a named context; never holds a variable.
    pub from: Option<Word>,
    /// The fields in order.
    fields: Vec<Field>,
}

/// `key` or `key=value`
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    key: Key,
    name: &'static str,
    value: Option<Word>,
    span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Type,
    From,
    Source,
    Target,
    ReadOnly,
    ReadWrite,
    Id,
    Sharing,
    Required,
    Size,
    Mode,
    Uid,
    Gid,
    Env,
}

/// A mount with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// `type`; a bind where it is not given
    pub kind: MountKind,
    /// `from`, as written
    pub from: Option<String>,
    /// `source`, `src`
    pub source: Option<String>,
    /// `target`, `dst`, `destination`
    pub target: Option<String>,
    /// Whether it cannot be written; without a word on it bind, secret and ssh are read-only, cache and
    /// tmpfs are not.
    pub read_only: bool,
    /// `id` of a cache, a secret or an ssh agent
    pub id: Option<String>,
    /// `sharing` of a cache
    pub sharing: Option<Sharing>,
    /// `required` of a secret or an ssh agent
    pub required: bool,
    /// `size` of a tmpfs in bytes
    pub size: Option<u64>,
    /// `mode` of a secret, a socket or a cache folder
    pub mode: Option<u32>,
    /// `uid` of the same
    pub uid: Option<u32>,
    /// `gid` of the same
    pub gid: Option<u32>,
    /// `env`: the variable that gets the secret
    pub env: Option<String>,
}

/// The kinds of mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    Bind,
    /// A folder that outlives the build.
    Cache,
    /// A fresh folder in memory.
    Tmpfs,
    /// A secret as a file or a variable.
    Secret,
    /// A socket of an ssh agent.
    Ssh,
}

impl MountKind {
    /// The name in a Dockerfile.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// Who may use a cache at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All at once.
    Shared,
    /// One each.
    Private,
    /// One after the other.
    Locked,
}

impl Mount {
    /// Reads the fields of a flag's value. Where no value holds a variable, they are checked like in
    /// [`Mount::resolve`]; mistakes go to `wrong`.
    pub(super) fn parse(text: &Word, escape: char, wrong: &mut Vec<Diagnostic>) -> Option<Self> {
        let before = wrong.len();
        let mut mount = Self { text: text.clone(), from: None, fields: Vec::new() };
        for field in fields(text).map_err(|mistake| wrong.push(*mistake)).ok()? {
            match read_field(&field) {
                Ok(field) => mount.fields.push(field),
                Err(mistake) => wrong.push(*mistake),
            }
        }
        mount.from = mount.value(Key::From).cloned();
        if wrong.len() == before && !mount.has_variable(escape) {
            wrong.extend(mount.resolve(&|_| None, escape).err().map(|mistake| *mistake));
        }
        (wrong.len() == before).then_some(mount)
    }

    /// The mount's values, with these variables; the mistake points at the field.
    pub fn resolve(&self, lookup: Lookup<'_>, escape: char) -> Result<MountOptions, Box<Diagnostic>> {
        let mut options = MountOptions::new();
        let mut read_only = None;
        for field in &self.fields {
            let value = match &field.value {
                None => None,
                Some(word) if field.key == Key::From => Some(word.text.clone()),
                Some(word) => Some(
                    words::expand(&word.text, lookup, escape)
                        .map_err(|error| Box::new(error.diagnostic(word)))?,
                ),
            };
            match options.set(field, value) {
                Ok(None) => {}
                Ok(mode) => read_only = mode,
                Err(message) => return Err(Diagnostic::error(message).at(field.span.clone(), "").into()),
            }
        }
        options.read_only = read_only.unwrap_or(!matches!(options.kind, MountKind::Cache | MountKind::Tmpfs));
        self.check(&options)?;
        Ok(options)
    }

    fn value(&self, key: Key) -> Option<&Word> {
        self.fields.iter().rev().find(|field| field.key == key)?.value.as_ref()
    }

    fn has_variable(&self, escape: char) -> bool {
        let values = self.fields.iter().filter_map(|field| field.value.as_ref());
        values.into_iter().any(|word| words::has_variable(&word.text, escape))
    }

    /// What one field does not show: options that this kind of mount does not have.
    fn check(&self, options: &MountOptions) -> Result<(), Box<Diagnostic>> {
        let kind = options.kind;
        let owned = matches!(kind, MountKind::Secret | MountKind::Ssh | MountKind::Cache);
        for field in &self.fields {
            let fits = match field.key {
                Key::Mode | Key::Uid | Key::Gid => owned,
                Key::Size => kind == MountKind::Tmpfs,
                Key::Required => matches!(kind, MountKind::Secret | MountKind::Ssh),
                Key::Sharing => kind == MountKind::Cache,
                Key::Env => kind == MountKind::Secret,
                Key::From => kind != MountKind::Secret,
                _ => true,
            };
            if !fits {
                let message = format!("a mount of type `{}` has no `{}`", kind.name(), field.name);
                return Err(Diagnostic::error(message).at(field.span.clone(), "").into());
            }
        }
        let nameless = options.source.is_none() && options.target.is_none() && options.id.is_none();
        let message = match kind {
            MountKind::Secret if nameless => "a secret mount needs an `id`, a `source` or a `target`",
            MountKind::Secret if options.source.is_some() && options.id.is_some() => {
                "`source` and `id` of a secret mount mean the same: only one can be given"
            }
            _ => return Ok(()),
        };
        Err(Diagnostic::error(message).at(self.text.span.clone(), "").into())
    }
}

impl MountOptions {
    fn new() -> Self {
        let (from, source, target, id, env) = (None, None, None, None, None);
        let (sharing, size, mode, uid, gid) = (None, None, None, None, None);
        let (kind, read_only, required) = (MountKind::Bind, true, false);
        Self { kind, from, source, target, read_only, id, sharing, required, size, mode, uid, gid, env }
    }

    /// Takes one field; what it says about writing is returned.
    fn set(&mut self, field: &Field, value: Option<String>) -> Result<Option<bool>, String> {
        let text = value.as_deref().unwrap_or_default();
        let invalid = || format!("invalid value for `{}`: `{text}`", field.name);
        let flag = || value.as_deref().map_or(Some(true), boolean).ok_or_else(invalid);
        let given = || Some(text.to_owned()).filter(|text| !text.is_empty());
        match field.key {
            Key::Type => self.kind = named(&KINDS, "mount type", text)?,
            Key::Sharing => self.sharing = Some(named(&SHARINGS, "sharing", text)?),
            Key::From => self.from = given(),
            Key::Source => self.source = given(),
            Key::Target => self.target = given(),
            Key::Id => self.id = given(),
            Key::Env => self.env = given(),
            Key::Required => self.required = flag()?,
            Key::ReadOnly => return Ok(Some(flag()?)),
            Key::ReadWrite => return Ok(Some(!flag()?)),
            Key::Size => self.size = Some(bytes(text).ok_or_else(invalid)?),
            Key::Mode => self.mode = Some(u32::from_str_radix(text, 8).map_err(|_| invalid())?),
            Key::Uid => self.uid = Some(text.parse().map_err(|_| invalid())?),
            Key::Gid => self.gid = Some(text.parse().map_err(|_| invalid())?),
        }
        Ok(None)
    }
}

/// The value of a name without regard to case; else what is allowed.
fn named<T: Copy>(table: &[(&str, T)], what: &str, text: &str) -> Result<T, String> {
    let found = table.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
        format!("unsupported {what} `{text}` (there are {})", names.join(", "))
    })
}

/// go-units' `RAMInBytes`: `64m`, `1.5 GiB`; units are powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = text[digits..].strip_prefix(' ').unwrap_or(&text[digits..]).to_ascii_lowercase();
    let (prefix, rest) = match unit.chars().next() {
        Some(letter @ ('k' | 'm' | 'g' | 't' | 'p')) => (Some(letter), &unit[1..]),
        _ => (None, unit.as_str()),
    };
    if !matches!(rest, "" | "b" | "i" | "ib") {
        return None;
    }
    let power = prefix.map_or(0, |letter| "kmgtp".find(letter).map_or(0, |at| at as i32 + 1));
    Some((number * 1024f64.powi(power)) as u64)
}

/// The comma-separated fields of a value, each with its place; a field may be quoted as in CSV.
fn fields(text: &Word) -> Result<Vec<Word>, Box<Diagnostic>> {
    let mut fields = Vec::new();
    let mut rest = text.text.as_str();
    loop {
        let start = text.text.len() - rest.len();
        let (field, used) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted).map(|(field, used)| (field, used + 1)),
            None => plain_field(rest),
        }
        .ok_or_else(|| {
            let message = format!("the quotes of `{}` do not match", text.text);
            Diagnostic::error(message).at(text.span.clone(), "").note("mount options are fields of CSV")
        })?;
        fields.push(Word::new(field, part(text, start, start + used)));
        match rest[used..].strip_prefix(',') {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// A field up to the next comma; quotes may not stand in it.
fn plain_field(text: &str) -> Option<(String, usize)> {
    let used = text.find(',').unwrap_or(text.len());
    (!text[..used].contains('"')).then(|| (text[..used].to_owned(), used))
}

/// The rest of a field after its opening quote, and how much of the text it takes; `""` is a quote.
fn quoted_field(text: &str) -> Option<(String, usize)> {
    let mut field = String::new();
    let mut at = 0;
    loop {
        let quote = at + text[at..].find('"')?;
        field.push_str(&text[at..quote]);
        match text[quote + 1..].chars().next() {
            Some('"') => field.push('"'),
            Some(',') | None => return Some((field, quote + 1)),
            Some(_) => return None,
        }
        at = quote + 2;
    }
}

/// The place of a part of a word; the whole word's where quotes or continuations moved its letters.
fn part(word: &Word, start: usize, end: usize) -> Span {
    let whole = &word.span;
    match whole.text() == word.text {
        true => Span::new(&whole.file, whole.range.start + start..whole.range.start + end),
        false => whole.clone(),
    }
}

fn read_field(field: &Word) -> Result<Field, Box<Diagnostic>> {
    let (name, value) = match field.text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (field.text.as_str(), None),
    };
    let Some(&(known, key)) = KEYS.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)) else {
        return Err(Diagnostic::error(format!("unexpected key `{name}` in `--mount`"))
            .at(part(field, 0, name.len()), "")
            .did_you_mean(name, KEYS.iter().map(|(key, _)| *key))
            .into());
    };
    let may_be_bare = matches!(key, Key::ReadOnly | Key::ReadWrite | Key::Required);
    let Some(value) = value else {
        return match may_be_bare {
            true => Ok(Field { key, name: known, value: None, span: field.span.clone() }),
            false => Err(Diagnostic::error(format!("`{name}` in `--mount` must be a key=value pair"))
                .at(field.span.clone(), "")
                .into()),
        };
    };
    let value = Word::new(value, part(field, name.len() + 1, field.text.len()));
    if key == Key::From && value.text.find('$').is_some_and(|at| at + 1 < value.text.len()) {
        return Err(Diagnostic::error("`from` of a mount does not support variables")
            .at(value.span, "")
            .help("give the image a stage of its own (`FROM … AS name`) and name that")
            .into());
    }
    Ok(Field { key, name: known, value: Some(value), span: field.span.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::diag::SourceFile;

    fn word(text: &str) -> Word {
        let file = SourceFile::new("Dockerfile", text);
        Word::new(text, Span::new(&file, 0..text.len()))
    }

    fn read(text: &str) -> Result<MountOptions, String> {
        let mut wrong = Vec::new();
        match Mount::parse(&word(text), '\\', &mut wrong) {
            Some(mount) => mount.resolve(&|_| Some("value".into()), '\\').map_err(|wrong| wrong.message),
            None => {
                Err(wrong.into_iter().map(|wrong: Diagnostic| wrong.message).collect::<Vec<_>>().join("; "))
            }
        }
    }

    #[test]
    fn options_are_typed() {
        let cache = read("type=cache,TARGET=/root/.cache,sharing=locked,mode=0755,uid=1000").unwrap();
        assert_eq!((cache.kind, cache.target.as_deref()), (MountKind::Cache, Some("/root/.cache")));
        assert_eq!((cache.sharing, cache.mode, cache.uid), (Some(Sharing::Locked), Some(0o755), Some(1000)));
        assert!(!cache.read_only);
        let bind = read("src=.,dst=/src").unwrap();
        assert!(bind.read_only && bind.kind == MountKind::Bind);
        assert!(!read("src=.,dst=/src,rw").unwrap().read_only);
        assert!(read("type=cache,dst=/src,ro=true").unwrap().read_only);
        assert_eq!(read("type=tmpfs,target=/tmp,size=1.5k").unwrap().size, Some(1536));
        let secret = read("type=secret,id=token,env=TOKEN,required").unwrap();
        assert!(secret.required && secret.env.as_deref() == Some("TOKEN"));
        assert_eq!(read("target=/a$b").unwrap().target.as_deref(), Some("/avalue"));
        assert_eq!(read("\"target=/a,b\",ro").unwrap().target.as_deref(), Some("/a,b"));
    }

    #[test]
    fn mistakes_are_named() {
        let table = [
            ("tpye=cache", "unexpected key `tpye` in `--mount`"),
            (
                "type=nfs,target=/x",
                "unsupported mount type `nfs` (there are bind, cache, tmpfs, secret, ssh)",
            ),
            ("type=secret", "a secret mount needs an `id`, a `source` or a `target`"),
            ("type=secret,id=a,from=b", "a mount of type `secret` has no `from`"),
            ("type=bind,mode=0755", "a mount of type `bind` has no `mode`"),
            ("type=tmpfs,size=much", "invalid value for `size`: `much`"),
            ("from=$x", "`from` of a mount does not support variables"),
            ("target", "`target` in `--mount` must be a key=value pair"),
            ("a\"b=c", "the quotes of `a\"b=c` do not match"),
            ("foo=1,bar=2", "unexpected key `foo` in `--mount`; unexpected key `bar` in `--mount`"),
        ];
        for (text, message) in table {
            assert_eq!(read(text).unwrap_err(), message, "{text}");
        }
    }

    #[test]
    fn carets_point_at_the_field() {
        let mut wrong = Vec::new();
        assert!(Mount::parse(&word("type=bind,sorce=x"), '\\', &mut wrong).is_none());
        insta::assert_snapshot!(wrong[0], @r"
        error: unexpected key `sorce` in `--mount`
         --> Dockerfile:1:11
          |
        1 | type=bind,sorce=x
          |           ^^^^^
          |
          = help: did you mean `source`?
        ");
    }
}
