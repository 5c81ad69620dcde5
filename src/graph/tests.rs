//! Golden folders: `testdata/graph/CASE/SERVICE/Dockerfile` and `expected` beside the services.
//!
//! A case's `request` file gives arguments and targets, a line each: `SERVICE argument NAME=value`,
//! `SERVICE target NAME`, `SERVICE image NAME`, `SERVICE allow ENTITLEMENT`, `SERVICE unselected`. Every image that no service builds is
//! a base with one layer, every branch the commit `c0ffee…`, every file behind a URL its own address as
//! bytes. `SERVICE context NAME=VALUE` names a context, `SERVICE remote URL` takes it from there.
//! `UPDATE_GOLDEN=1` writes what came out.

use std::fmt::Write as _;
use std::path::Path;

use super::*;
use crate::base::digest::{DiffId, Digest};
use crate::oci::{ImageConfig, Platform, Reference};
use crate::remote::Commit;

const COMMIT: &str = "c0ffee0000000000000000000000000000000000";

#[test]
#[expect(clippy::disallowed_methods, reason = "the switch that rewrites golden files")]
fn golden_folders() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/graph");
    let mut wrong = Vec::new();
    for case in folders(&root) {
        let actual = lowered(&case);
        let expected = case.join("expected");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&expected, &actual).unwrap();
        }
        if std::fs::read_to_string(&expected).unwrap_or_default() != actual {
            wrong.push(format!("{}:\n{actual}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn folders(path: &Path) -> Vec<std::path::PathBuf> {
    let mut folders: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.is_dir());
    folders.sort();
    folders
}

fn lowered(case: &Path) -> String {
    let mut sources = Vec::new();
    for folder in folders(case) {
        let service = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(folder.join("Dockerfile")).unwrap();
        match parse_dockerfile(&SourceFile::new(format!("{service}/Dockerfile"), text)) {
            Ok(dockerfile) => sources.push(source(case, &service, dockerfile)),
            Err(mistakes) => return said(&mistakes),
        }
    }
    let mut known = Known::default();
    loop {
        match lower(&sources, &known, Extent::Target) {
            Err(mistakes) => return said(&mistakes),
            Ok(Lowered::Wanted(wanted)) => {
                wanted.into_keys().for_each(|wanted| find(&mut known, wanted));
            }
            Ok(Lowered::Graph(graph, warnings, _)) => return text(&sources, &graph, &warnings),
        }
    }
}

fn source(case: &Path, service: &str, dockerfile: crate::dockerfile::Dockerfile) -> Source {
    let name = Reference::parse(&format!("case-{service}")).unwrap().with_default_tag();
    let mut request = BuildRequest::new(service, &Path::new("/case").join(service), vec![name]);
    request.platform = Platform::new("linux", "amd64", None);
    let mut selected = true;
    for line in std::fs::read_to_string(case.join("request")).unwrap_or_default().lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [who, "argument", pair] if who == service => {
                let (name, value) = pair.split_once('=').unwrap();
                request.arguments.insert(name.into(), value.into());
            }
            [who, "target", target] if who == service => request.target = Some(target.into()),
            [who, "image", image] if who == service => {
                request.names = vec![Reference::parse(image).unwrap().with_default_tag()];
            }
            [who, "allow", name] if who == service => {
                request.entitlements.insert(Entitlement::named(name).unwrap());
            }
            [who, "context", pair] if who == service => {
                let (name, value) = pair.split_once('=').unwrap();
                let named = NamedContext::parse(value, Path::new("/case")).unwrap();
                request.contexts.insert(context_name(name), named);
            }
            [who, "remote", url] if who == service => request.remote = remote_context(url).unwrap(),
            [who, "unselected"] if who == service => selected = false,
            _ => {}
        }
    }
    let checkout = match &request.remote {
        Some(RemoteContext::Git(source)) => Some(checkout_of(source, COMMIT, false)),
        _ => None,
    };
    Source { request, dockerfile, ignore: None, ignores: Default::default(), checkout, selected }
}

fn find(known: &mut Known, wanted: Wanted) {
    let commit = || Commit { id: COMMIT.to_owned(), tag: None };
    match wanted {
        Wanted::Image(name) => drop(known.images.insert(name.clone(), base(&name.name))),
        Wanted::Layout(layout) => {
            let name = Reference::parse("from-layout").unwrap();
            known.layouts.insert(layout, base(&name));
        }
        Wanted::File(source) => {
            let file = KnownFile { digest: Digest::of(&source.url), modified: 7 };
            known.files.insert(source, file);
        }
        Wanted::Commit(source) => drop(known.commits.insert(source, commit())),
    }
}

fn base(name: &Reference) -> BaseImage {
    let mut config = ImageConfig::empty(&Platform::new("linux", "amd64", None));
    config.rootfs.diff_ids = vec![DiffId(Digest::of(name.to_string()))];
    config.config.env = vec!["PATH=/bin".into(), format!("BASE={}", name.familiar())];
    config.config.cmd = vec!["base-command".into()];
    if name.repository().ends_with("triggers") {
        config.config.on_build =
            vec!["COPY . /src".into(), "RUN --mount=type=bind,source=lib,target=/lib make".into()];
    }
    BaseImage { config, layers: Vec::new() }
}

fn said(mistakes: &[Diagnostic]) -> String {
    mistakes.iter().map(|mistake| mistake.render(false) + "\n").collect()
}

fn text(sources: &[Source], graph: &Graph, warnings: &[Diagnostic]) -> String {
    let mut text = graph.to_string();
    for root in &graph.roots {
        let node = root.node.map_or_else(|| "nothing".to_owned(), |node| node.to_string());
        writeln!(text, "\n{} is {node}", sources[root.source].request.service).unwrap();
        if let Some(epoch) = root.epoch {
            writeln!(text, "made at {}", epoch.seconds()).unwrap();
        }
        writeln!(text, "config {}", serde_json::to_string(&root.draft.config).unwrap()).unwrap();
        for step in &root.draft.history {
            let made = if step.made == Made::Layer { "layer" } else { "     " };
            writeln!(text, "{made} {}", step.created_by).unwrap();
        }
    }
    text + &said(warnings)
}
