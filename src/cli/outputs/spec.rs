//! One `--output` as it was written, and what it asks for.

use std::path::{Path, PathBuf};

use super::Outputs;
use super::annotations::Annotations;
use super::fields::fields;
use crate::base::diag::meant;
use crate::build::{Archive, Layout, Output, Package, Place, Remote};
use crate::oci::{ArchiveKind, Encoding, ImageForm, Packing, Reference};

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

/// One `--output`, its fields in the order in which they were written.
pub(super) struct Spec {
    pub(super) text: String,
    kind: &'static str,
    fields: Vec<(String, String)>,
}

impl Spec {
    pub(super) fn of(kind: &'static str) -> Self {
        Self { text: format!("type={kind}"), kind, fields: Vec::new() }
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
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
            problem(format!("there is no type `{}`{}", kind.1, meant(&kind.1, TYPES.iter().copied())))
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
            let hint = meant(key, known.iter().copied().chain(["type"]));
            return Err(format!("type={} has no attribute `{key}`{hint}", self.kind));
        }
        Ok(())
    }

    /// Makes it one that pushes, as `--push` asks for; whether it can.
    pub(super) fn push(&mut self) -> bool {
        if self.kind == "image" {
            self.fields.push(("push".to_owned(), "true".to_owned()));
        }
        matches!(self.kind, "image" | "registry")
    }

    /// Whether it is what `--load` asks for.
    pub(super) fn loads(&self) -> bool {
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

    pub(super) fn add(
        &self,
        outputs: &mut Outputs,
        names: &[Reference],
        annotations: &Annotations,
        folder: &Path,
    ) -> Result<(), String> {
        match self.kind {
            "local" => outputs.others.push(Output::Folder(self.local(folder)?)),
            "tar" => outputs.others.push(Output::Tar(self.place(folder))),
            "oci" if self.flag("tar")? == Some(false) => {
                let (folder, package) = (self.local(folder)?, self.package(annotations, outputs)?);
                outputs.others.push(Output::Layout(Layout { folder, names: self.names(names)?, package }));
            }
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
            return Err("type=docker is always one file; type=oci,tar=false is a folder".to_owned());
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
                let hint = meant(other, KNOWN.iter().copied());
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

fn remote(names: &[Reference], package: Package) -> Result<Output, String> {
    if names.is_empty() {
        return Err("a push needs a name for the image: -t or name=".to_owned());
    }
    if let Some(name) = names.iter().find(|name| name.digest().is_some()) {
        return Err(format!("a push goes to a tag, and {} names a digest", name.familiar()));
    }
    Ok(Output::Remote(Remote { names: names.to_vec(), package }))
}
