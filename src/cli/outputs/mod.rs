//! What `--output`, `--load`, `--push` and `--annotation` ask for. Pure: texts in, [`Outputs`] out.
//!
//! The grammar and the rules are buildx's: one line of comma-separated `key=value` fields, where a field may
//! stand in quotes; a bare path is a folder and a bare `-` a tar on standard output; names of `-t` take the
//! place of `name=`. Unlike there, an attribute that nobody knows is a mistake, not ignored.

mod annotations;
mod fields;
mod spec;

use std::fmt;
use std::path::Path;

use crate::build::{Archive, Layout, Output, Package, Place, Remote};
use crate::oci::Reference;

use annotations::annotations;
use spec::Spec;

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
    let takes = |other: &Output| matches!(other, Output::Archive(_) | Output::Layout(_) | Output::Remote(_));
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

/// Where an output goes, if it goes to one place of this machine.
pub(super) fn place(output: &Output) -> Option<Place> {
    match output {
        Output::Folder(path) => Some(Place::File(path.clone())),
        Output::Tar(place) => Some(place.clone()),
        Output::Archive(archive) => Some(archive.place.clone()),
        Output::Layout(layout) => Some(Place::File(layout.folder.clone())),
        Output::Remote(_) => None,
    }
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
                Output::Layout(Layout { folder, names: named, package }) => {
                    writeln!(
                        out,
                        "OCI layout in {}: {}; {}",
                        folder.display(),
                        names(named),
                        packed(package)
                    )?;
                }
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
}
