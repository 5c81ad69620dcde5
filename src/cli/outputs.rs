//! What `--output`, `--load`, `--push` and `--annotation` ask for. Pure: texts in, [`Outputs`] out.
//!
//! The grammar and the rules are buildx's: one line of comma-separated `key=value` fields, where a field may
//! stand in quotes; a bare path is a folder and a bare `-` a tar on standard output; names of `-t` take the
//! place of `name=`. Unlike there, an attribute that nobody knows is a mistake, not ignored.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::base::diag::closest;
use crate::build::{Archive, Output, Package, Place, Remote};
use crate::oci::{ArchiveKind, Encoding, ImageForm, Packing, Platform, Reference};

/// The kinds of outputs.
const TYPES: &[&str] = &["local", "tar", "oci", "docker", "image", "registry", "cacheonly"];
/// What every output of an image knows.
const OF_IMAGES: &[&str] =
    &["compression", "compression-level", "force-compression", "name", "oci-mediatypes", "rewrite-timestamp"];
/// What archives know beyond that.
const OF_ARCHIVES: &[&str] = &["dest", "tar"];
/// What `image` and `registry` know beyond that.
const OF_STORES: &[&str] = &["push"];
/// What `local` and `tar` know.
const OF_FILES: &[&str] = &["dest"];
/// What BuildKit knows and shipway does not yet.
const MISSING: &[&str] = &[
    "attestation-prefix",
    "buildinfo",
    "buildinfo-attrs",
    "dangling-name-prefix",
    "force-inline",
    "mode",
    "name-canonical",
    "oci-artifact",
    "platform-split",
    "prefer-nondist-layers",
    "push-by-digest",
    "registry.insecure",
    "store",
    "unpack",
];

/// What becomes of an image.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Outputs {
    /// The names that it gets in the store; `None` if it is not kept there.
    pub(super) store: Option<Vec<Reference>>,
    /// Whether the engine gets it under these names.
    pub(super) engine: bool,
    /// Where else it goes.
    pub(super) others: Vec<Output>,
    /// What is worth saying about it.
    pub(super) warnings: Vec<String>,
}

/// The flags that decide about outputs.
#[derive(Debug, Default)]
pub(super) struct Wanted<'f> {
    /// `--output`.
    pub(super) outputs: &'f [String],
    /// `--load`.
    pub(super) load: bool,
    /// `--push`.
    pub(super) push: bool,
    /// `--annotation`.
    pub(super) annotations: &'f [String],
    /// `--tag`.
    pub(super) names: &'f [Reference],
}

/// What the flags ask for; relative paths are of `folder`. The error is a sentence for the user.
pub(super) fn outputs(wanted: &Wanted<'_>, folder: &Path) -> Result<Outputs, String> {
    let annotations = annotations(wanted.annotations)?;
    let mut specs = wanted.outputs.iter().map(|text| Spec::parse(text)).collect::<Result<Vec<_>, _>>()?;
    if wanted.push && !specs.iter_mut().map(Spec::push).fold(false, |one, other| one | other) {
        specs.push(Spec::of("registry"));
    }
    if wanted.load && !specs.iter().any(Spec::loads) {
        specs.push(Spec::of("docker"));
    }
    if specs.is_empty() {
        specs.push(Spec::of("image"));
    }
    let mut outputs = Outputs::default();
    for spec in &specs {
        spec.add(&mut outputs, wanted.names, &annotations, folder)
            .map_err(|problem| format!("--output {}: {problem}", spec.text))?;
    }
    check(&outputs)?;
    let takes = |other: &Output| matches!(other, Output::Archive(_) | Output::Remote(_));
    if !annotations.is_empty() && !outputs.others.iter().any(takes) {
        let text =
            "annotations have no effect: they go into a manifest, which only archives and registries get";
        outputs.warnings.push(text.to_owned());
    }
    Ok(outputs)
}

/// Two outputs must not write over each other.
fn check(outputs: &Outputs) -> Result<(), String> {
    let places: Vec<_> = outputs.others.iter().filter_map(place).collect();
    for (index, place) in places.iter().enumerate() {
        if places[..index].contains(place) {
            return Err(match place {
                Place::Output => "only one output can go to standard output".to_owned(),
                Place::File(path) => format!("two outputs go to {}", path.display()),
            });
        }
    }
    Ok(())
}

fn remote(names: &[Reference], package: Package) -> Result<Output, String> {
    if names.is_empty() {
        return Err("a push needs a name for the image: -t or name=".to_owned());
    }
    Ok(Output::Remote(Remote { names: names.to_vec(), package }))
}

/// Where an output goes, if it goes to one place of this machine.
pub(super) fn place(output: &Output) -> Option<Place> {
    match output {
        Output::Folder(path) => Some(Place::File(path.clone())),
        Output::Tar(place) => Some(place.clone()),
        Output::Archive(archive) => Some(archive.place.clone()),
        Output::Remote(_) => None,
    }
}

/// One `--output`, its fields in the order in which they were written.
struct Spec {
    text: String,
    kind: &'static str,
    fields: Vec<(String, String)>,
}

impl Spec {
    fn of(kind: &'static str) -> Self {
        Self { text: format!("type={kind}"), kind, fields: Vec::new() }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let problem = |problem: String| format!("--output {text}: {problem}");
        let words = fields(text).map_err(problem)?;
        if let [word] = words.as_slice()
            && !word.contains('=')
        {
            let kind = if word == "-" { "tar" } else { "local" };
            let fields = vec![("dest".to_owned(), word.clone())];
            return Ok(Self { text: text.to_owned(), kind, fields });
        }
        let mut fields = Vec::new();
        for word in &words {
            let (key, value) =
                word.split_once('=').ok_or_else(|| problem(format!("`{word}` is not key=value")))?;
            let key = key.trim();
            let annotates = key.starts_with("annotation");
            let key = if annotates { key.to_owned() } else { key.to_ascii_lowercase() };
            fields.push((key, value.to_owned()));
        }
        let kind = fields.iter().rev().find(|(key, _)| key == "type");
        let kind = kind.ok_or_else(|| {
            problem(format!("it needs a type: {}; a path alone is a folder", TYPES.join(", ")))
        })?;
        let known = TYPES.iter().find(|known| **known == kind.1).ok_or_else(|| {
            problem(format!("there is no type `{}`{}", kind.1, advice(&kind.1, TYPES.iter().copied())))
        })?;
        let spec = Self { text: text.to_owned(), kind: known, fields };
        spec.check().map_err(problem)?;
        Ok(spec)
    }

    /// Refuses attributes that the type does not know.
    fn check(&self) -> Result<(), String> {
        let known: Vec<&str> = match self.kind {
            "local" | "tar" => OF_FILES.to_vec(),
            "oci" | "docker" => [OF_IMAGES, OF_ARCHIVES].concat(),
            "image" | "registry" => [OF_IMAGES, OF_STORES].concat(),
            _ => Vec::new(),
        };
        for (key, _) in &self.fields {
            let annotates = key.starts_with("annotation") && key.contains('.') && known.contains(&"name");
            if key == "type" || known.contains(&key.as_str()) || annotates {
                continue;
            }
            if MISSING.contains(&key.as_str()) {
                return Err(format!("not supported yet: `{key}`"));
            }
            let hint = advice(key, known.iter().copied().chain(["type"]));
            return Err(format!("type={} has no attribute `{key}`{hint}", self.kind));
        }
        Ok(())
    }

    /// Makes it one that pushes, as `--push` asks for; whether it can.
    fn push(&mut self) -> bool {
        if self.kind == "image" {
            self.fields.push(("push".to_owned(), "true".to_owned()));
        }
        matches!(self.kind, "image" | "registry")
    }

    /// Whether it is what `--load` asks for.
    fn loads(&self) -> bool {
        self.kind == "docker" && self.get("dest").is_none()
    }

    /// The last value of an attribute.
    fn get(&self, key: &str) -> Option<&str> {
        self.fields.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// A yes or no in Go's spellings.
    fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        match self.get(key) {
            None => Ok(None),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(other) => Err(format!("{key} must be true or false, not `{other}`")),
        }
    }

    fn add(
        &self,
        outputs: &mut Outputs,
        names: &[Reference],
        annotations: &Annotations,
        folder: &Path,
    ) -> Result<(), String> {
        match self.kind {
            "local" => outputs.others.push(Output::Folder(self.local(folder)?)),
            "tar" => outputs.others.push(Output::Tar(self.place(folder))),
            "oci" => {
                let archive = self.archive(ArchiveKind::Oci, names, annotations, folder, outputs)?;
                outputs.others.push(Output::Archive(archive));
            }
            "docker" if !self.loads() => {
                let archive = self.archive(ArchiveKind::Docker, names, annotations, folder, outputs)?;
                outputs.others.push(Output::Archive(archive));
            }
            "docker" | "image" => {
                let package = self.package(annotations, outputs)?;
                let names = self.names(names)?;
                if self.flag("push")? == Some(true) {
                    outputs.others.push(remote(&names, package)?);
                }
                outputs.store.get_or_insert_default().extend(names);
                outputs.engine = true;
            }
            "registry" if self.flag("push")? == Some(false) => {
                return Err("type=registry pushes; type=image keeps the image here".to_owned());
            }
            "registry" => {
                let package = self.package(annotations, outputs)?;
                outputs.others.push(remote(&self.names(names)?, package)?);
            }
            _ => {}
        }
        Ok(())
    }

    fn local(&self, folder: &Path) -> Result<PathBuf, String> {
        match self.get("dest") {
            Some("-") => Err("a folder cannot go to standard output; type=tar can".to_owned()),
            Some(dest) if !dest.is_empty() => Ok(folder.join(dest)),
            _ => Err("it needs a dest: the folder to write to".to_owned()),
        }
    }

    /// A file, else standard output.
    fn place(&self, folder: &Path) -> Place {
        match self.get("dest") {
            None | Some("" | "-") => Place::Output,
            Some(dest) => Place::File(folder.join(dest)),
        }
    }

    fn archive(
        &self,
        kind: ArchiveKind,
        names: &[Reference],
        annotations: &Annotations,
        folder: &Path,
        outputs: &mut Outputs,
    ) -> Result<Archive, String> {
        if self.flag("tar")? == Some(false) {
            return Err("not supported yet: `tar=false`".to_owned());
        }
        let package = self.package(annotations, outputs)?;
        Ok(Archive { kind, place: self.place(folder), names: self.names(names)?, package })
    }

    /// The names of `-t`, else those of `name=`.
    fn names(&self, names: &[Reference]) -> Result<Vec<Reference>, String> {
        if !names.is_empty() {
            return Ok(names.to_vec());
        }
        let listed = self.get("name").unwrap_or_default().split(',').filter(|name| !name.is_empty());
        let parsed = listed.map(|name| Ok(Reference::parse(name)?.with_default_tag()));
        parsed.collect::<Result<_, _>>().map_err(|error: crate::oci::InvalidReference| error.to_string())
    }

    fn package(&self, annotations: &Annotations, outputs: &mut Outputs) -> Result<Package, String> {
        if self.flag("rewrite-timestamp")? == Some(false) {
            return Err("not supported yet: `rewrite-timestamp=false`".to_owned());
        }
        let packing = self.packing()?;
        let mut own = annotations.clone();
        for (key, value) in self.fields.iter().filter(|(key, _)| key.starts_with("annotation")) {
            let (kind, name) = key.split_once('.').unwrap_or((key, ""));
            own.add(
                kind.strip_prefix("annotation").unwrap_or_default().trim_start_matches('-'),
                name,
                value,
            )?;
        }
        let wanted = self.flag("oci-mediatypes")?;
        let mut docker_types = !wanted.unwrap_or(self.kind != "docker");
        // BuildKit does the same: Docker's words have no place for these.
        let needs = [("annotations", !own.is_empty()), ("zstd", packing.encoding == Encoding::Zstd)];
        if docker_types && let Some((what, _)) = needs.iter().find(|(_, needs)| *needs) {
            docker_types = false;
            if wanted.is_some() {
                outputs
                    .warnings
                    .push(format!("{what} need OCI media types: oci-mediatypes=false has no effect"));
            }
        }
        let (annotations, descriptor_annotations) = (own.manifest, own.descriptor);
        Ok(Package { packing, form: ImageForm { docker_types, annotations, descriptor_annotations } })
    }

    fn packing(&self) -> Result<Packing, String> {
        const KNOWN: &[&str] = &["uncompressed", "gzip", "zstd", "estargz"];
        let encoding = match self.get("compression") {
            None | Some("gzip") => Encoding::Gzip,
            Some("uncompressed") => Encoding::Plain,
            Some("zstd") => Encoding::Zstd,
            Some("estargz") => return Err("not supported yet: `compression=estargz`".to_owned()),
            Some(other) => {
                let hint = advice(other, KNOWN.iter().copied());
                return Err(format!("there is no compression `{other}`{hint}"));
            }
        };
        let most = if encoding == Encoding::Zstd { 22 } else { 9 };
        let level = match self.get("compression-level") {
            None => None,
            Some(text) => match text.parse::<u32>() {
                Ok(level) if level <= most => Some(level),
                _ => {
                    return Err(format!("compression-level must be a number from 0 to {most}, not `{text}`"));
                }
            },
        };
        Ok(Packing { encoding, level, force: self.flag("force-compression")? == Some(true) })
    }
}

/// Annotations by what they are put on.
#[derive(Clone, Debug, Default)]
struct Annotations {
    manifest: BTreeMap<String, String>,
    descriptor: BTreeMap<String, String>,
}

impl Annotations {
    fn is_empty(&self) -> bool {
        self.manifest.is_empty() && self.descriptor.is_empty()
    }

    /// Adds one; `kind` may name a platform: `manifest[linux/amd64]`.
    fn add(&mut self, kind: &str, name: &str, value: &str) -> Result<(), String> {
        const KINDS: &[&str] = &["manifest", "manifest-descriptor", "index", "index-descriptor"];
        let (kind, platform) = match kind.strip_suffix(']').and_then(|kind| kind.split_once('[')) {
            Some((kind, platform)) => (kind, Some(platform)),
            None => (kind, None),
        };
        if let Some(platform) = platform {
            let named: Platform = platform.parse().map_err(|error| format!("{error}"))?;
            if !Platform::host().accepts(&named) {
                return Ok(());
            }
        }
        if name.is_empty() {
            return Err("an annotation needs a name".to_owned());
        }
        let pair = (name.to_owned(), value.to_owned());
        match kind {
            "" | "manifest" => drop(self.manifest.insert(pair.0, pair.1)),
            "manifest-descriptor" => drop(self.descriptor.insert(pair.0, pair.1)),
            "index" | "index-descriptor" => {
                return Err(format!("{kind} annotations need an image of several platforms"));
            }
            other => {
                let hint = advice(other, KINDS.iter().copied());
                return Err(format!("there are no annotations on `{other}`{hint}"));
            }
        }
        Ok(())
    }
}

/// `[KIND[,KIND]:]NAME=VALUE` each.
fn annotations(texts: &[String]) -> Result<Annotations, String> {
    let mut annotations = Annotations::default();
    for text in texts {
        let problem = |problem: String| format!("--annotation {text}: {problem}");
        let (left, value) = text.split_once('=').ok_or_else(|| problem("it is not NAME=VALUE".to_owned()))?;
        let (kinds, name) = left.split_once(':').unwrap_or(("", left));
        kinds.split(',').try_for_each(|kind| annotations.add(kind, name, value)).map_err(problem)?;
    }
    Ok(annotations)
}

/// The fields of a line of comma-separated values; one in double quotes may hold commas, and quotes doubled.
fn fields(text: &str) -> Result<Vec<String>, String> {
    let (mut fields, mut rest) = (Vec::new(), text);
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            None => rest
                .split_once(',')
                .map_or((rest.to_owned(), None), |(field, rest)| (field.to_owned(), Some(rest))),
            Some(quoted) => {
                let end = closing(quoted).ok_or("a quote is not closed")?;
                let field = quoted[..end].replace("\"\"", "\"");
                match &quoted[end + 1..] {
                    "" => (field, None),
                    after => (field, Some(after.strip_prefix(',').ok_or("text follows a closing quote")?)),
                }
            }
        };
        fields.push(field);
        match after {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// Where the quote that ends a quoted field stands.
fn closing(quoted: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let quote = from + quoted[from..].find('"')?;
        if !quoted[quote + 1..].starts_with('"') {
            return Some(quote);
        }
        from = quote + 2;
    }
}

fn advice<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    closest(word, known).map_or_else(String::new, |known| format!("; did you mean `{known}`?"))
}

/// One line an output, for tests and plans.
impl fmt::Display for Outputs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |names: &[Reference]| names.iter().map(Reference::familiar).collect::<Vec<_>>().join(" ");
        if let Some(store) = &self.store {
            let engine = if self.engine { " and engine" } else { "" };
            writeln!(out, "store{engine}: {}", names(store))?;
        }
        for other in &self.others {
            match other {
                Output::Folder(path) => writeln!(out, "files to {}", path.display())?,
                Output::Tar(place) => writeln!(out, "tar to {}", shown(place))?,
                Output::Remote(Remote { names: named, package }) => {
                    writeln!(out, "push: {}; {}", names(named), packed(package))?;
                }
                Output::Archive(archive) => {
                    let Archive { kind, place, names: named, package } = archive;
                    writeln!(
                        out,
                        "{kind:?} archive to {}: {}; {}",
                        shown(place),
                        names(named),
                        packed(package)
                    )?;
                }
            }
        }
        self.warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))
    }
}

fn shown(place: &Place) -> String {
    match place {
        Place::File(path) => path.display().to_string(),
        Place::Output => "standard output".to_owned(),
    }
}

fn packed(package: &Package) -> String {
    let Package { packing, form } = package;
    let mut words = vec![format!("{:?}", packing.encoding).to_lowercase()];
    words.extend(packing.level.map(|level| format!("level {level}")));
    words.extend(packing.force.then(|| "forced".to_owned()));
    words.push(if form.docker_types { "docker types".to_owned() } else { "oci types".to_owned() });
    words.extend(form.annotations.iter().map(|(name, value)| format!("{name}={value}")));
    words
        .extend(form.descriptor_annotations.iter().map(|(name, value)| format!("descriptor {name}={value}")));
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Arguments, Command, Image};

    /// The text of what a line of flags asks for.
    fn read(line: &str) -> String {
        let words = shell_words::split(&format!("shipway image build {line} .")).unwrap();
        let Command::Image(Image::Build(flags)) = Arguments::parse_from(words).command else { panic!() };
        let names: Vec<_> =
            flags.tags.iter().map(|tag| Reference::parse(tag).unwrap().with_default_tag()).collect();
        let wanted = Wanted {
            outputs: &flags.outputs,
            load: flags.load,
            push: flags.push,
            annotations: &flags.annotations,
            names: &names,
        };
        match outputs(&wanted, Path::new("/here")) {
            Ok(outputs) => outputs.to_string(),
            Err(sentence) => format!("error: {sentence}\n"),
        }
    }

    /// Every line of `testdata/output/flags` with what it means.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test's own switch")]
    fn flags_mean_what_the_golden_file_says() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/output");
        let lines = std::fs::read_to_string(folder.join("flags")).unwrap();
        let meant: String = lines.lines().map(|line| format!("$ {line}\n{}", read(line))).collect();
        let expected = folder.join("expected");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&expected, &meant).unwrap();
        }
        assert_eq!(meant, std::fs::read_to_string(expected).unwrap_or_default());
    }

    #[test]
    fn fields_are_those_of_a_csv_line() {
        let read = |text| fields(text).map(|fields| fields.join("|"));
        assert_eq!(read(r#"a=1,"b=2,3",c"#).unwrap(), "a=1|b=2,3|c");
        assert_eq!(read(r#""a=""b""","#).unwrap(), r#"a="b"|"#);
        assert!(read(r#""a"#).is_err() && read(r#""a"b"#).is_err());
    }
}
