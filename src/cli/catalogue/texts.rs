//! Small texts of users, each with one mistake of a kind that no golden folder has: those are under
//! `testdata/compose/*/expected.errors`, `testdata/dockerfile/*/expected` and `testdata/graph/*/expected`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::diag::{Diagnostic, SourceFile};
use crate::base::digest::Digest;
use crate::compose::{self, Loaded};
use crate::context::Ignore;
use crate::up::{self, Files, Observed};
use crate::{dockerfile, graph};

use super::Entry;

/// What a service has that is wrong, and the top level beside it.
const SERVICES: &[(&str, &str, &str)] = &[
    ("extends-without-service", "{extends: {file: a.yaml}}", ""),
    ("extends-from-afar", "{extends: {service: a, file: 'https://example.com/a.yaml'}}", ""),
    ("name-expected", "{image: a, networks: [[a]]}", ""),
    ("pair-expected", "{image: a, extra_hosts: [[a]]}", ""),
    ("octal", "{image: a, configs: [{source: c, mode: '9'}]}", "configs: {c: {content: x}}"),
    ("no-boolean", "{image: a, privileged: '${X:-maybe}'}", ""),
    ("external", "{image: a}", "volumes: {v: {external: [a]}}"),
    ("external-key", "{image: a}", "volumes: {v: {external: {nmae: a}}}"),
    ("volume-expected", "{image: a, volumes: [[a]]}", ""),
    ("device", "{image: a, devices: ['/a:/b:rw:x']}", ""),
    ("include-from-afar", "{image: a}", "include: ['https://example.com/a.yaml']"),
    ("env-file-missing", "{image: a, env_file: none.env}", ""),
    ("replicas", "{image: a, scale: 100000}", ""),
    ("ports-backwards", "{image: a, ports: ['90-80:80']}", ""),
    ("tag", "{image: !thing a}", ""),
    ("number-tag", "{image: a, labels: {a: !!int x}}", ""),
    ("merge-key", "{image: a, labels: {<<: a}}", ""),
    ("alias-in-itself", "&a {image: a, labels: *a}", ""),
    ("build-network", "{build: {context: ., network: mine}}", ""),
    ("build-attestation", "{build: {context: ., sbom: true}}", ""),
    ("build-platforms", "{build: {context: ., platforms: [linux/amd64, linux/arm64]}}", ""),
    ("build-platform", "{build: {context: ., platforms: [linux/]}}", ""),
    ("build-limit", "{build: {context: ., ulimits: {nofil: 1}}}", ""),
    ("build-limit-order", "{build: {context: ., ulimits: {nofile: {soft: 2, hard: 1}}}}", ""),
    ("build-cache", "{build: {context: ., cache_to: ['type=local']}}", ""),
    ("build-context", "{build: {context: 'https://example.com/a.tar'}}", ""),
    ("build-tag", "{build: {context: ., tags: ['a:b:c']}}", ""),
    ("build-contexts", "{build: {context: ., additional_contexts: {b: 'docker-image://A'}}}", ""),
    ("build-entitlement", "{build: {context: ., entitlements: [device]}}", ""),
    ("build-secret", "{build: {context: ., secrets: [s]}}", ""),
    ("build-secret-kind", "{build: {context: ., secrets: [s]}}", "secrets: {s: {external: true}}"),
    ("build-agent", "{build: {context: ., ssh: [default]}}", ""),
    ("build-agent-keys", "{build: {context: ., ssh: ['default=a,b']}}", ""),
    ("modes", "{build: {context: ., x-shipway: {modes: dsik}}}", "x-shipway: {modes: dsik}"),
    ("modes-key", "{build: .}", "x-shipway: {mods: disk}"),
    ("modes-shape", "{build: .}", "x-shipway: disk"),
    ("config-external", "{image: a, configs: [c]}", "configs: {c: {external: true}}"),
    ("secret-variable", "{image: a, secrets: [s]}", "secrets: {s: {environment: NOWHERE}}"),
    ("secret-file", "{image: a, secrets: [s]}", "secrets: {s: {file: /nowhere/secret}}"),
    ("seccomp", "{image: a, security_opt: ['seccomp=/nowhere/profile.json']}", ""),
    ("provider", "{provider: {type: a}}", ""),
    ("restart", "{image: a, deploy: {restart_policy: {condition: any, max_attempts: 2}}}", ""),
    ("hook", "{image: a, post_start: [{command: a, image: b}]}", ""),
    ("config-read-only", "{image: a, read_only: true, configs: [c]}", "configs: {c: {content: x}}"),
    ("config-owner", "{image: a, configs: [{source: c, uid: me}]}", "configs: {c: {content: x}}"),
    ("image-missing", "{image: missing}", ""),
];

const DOCKERFILES: &[(&str, &str)] = &[
    ("secret-source-and-id", "FROM a\nRUN --mount=type=secret,id=a,source=b true\n"),
    ("mount-fields", "FROM a\nRUN --mount=type=bind,a\"b true\n"),
    ("continues-nothing", "FROM a\n\\\n"),
    ("legacy", "FROM a\nENV A\n"),
];

const IGNORES: &[(&str, &str)] = &[("bracket", "*.log\n[a\n"), ("exception", "!\n")];

fn all(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
}

/// What is said of a project, by the first of those who find something.
fn of_project(text: &str) -> Result<(), Vec<Diagnostic>> {
    let files = BTreeMap::from([(PathBuf::from("/project/compose.yaml"), text.to_owned())]);
    let Loaded { project, .. } = compose::load(&compose::Options::new("/project"), &files)?;
    graph::requests_of(&project)?;
    let services: Vec<String> = project.services.keys().cloned().collect();
    let files = Files::read(&project, &services)?;
    let name = |service: &String| project.image_of(service).filter(|name| name != "missing");
    let image = |name: String| up::Image { id: Digest::of(&name), reference: name };
    let image = |service: &String| name(service).map(|name| (service.clone(), image(name)));
    let (images, seen): (up::Images, _) = (services.iter().filter_map(image).collect(), Observed::default());
    up::reconcile(&project, &images, &files, &seen, &up::Options::default()).map(drop)
}

fn entries<'t>(
    texts: impl Iterator<Item = (&'t str, String)>,
    check: impl Fn(&str) -> Result<(), Vec<Diagnostic>>,
) -> Vec<Entry> {
    let entry = |(name, text): (&str, String)| {
        let said = check(&text).expect_err(name);
        (name.to_owned(), all(&said))
    };
    texts.map(entry).collect()
}

fn file(name: &str, text: &str) -> Arc<SourceFile> {
    SourceFile::new(name, text)
}

/// The kinds of texts, each with its entries.
pub(super) fn modules() -> Vec<(&'static str, Vec<Entry>)> {
    let pairs = |texts: &'static [(&str, &str)]| texts.iter().map(|(name, text)| (*name, (*text).to_owned()));
    let projects = SERVICES
        .iter()
        .map(|(name, service, beside)| (*name, format!("services:\n  web: {service}\n{beside}\n")));
    vec![
        ("(a compose file)", entries(projects, of_project)),
        (
            "(a Dockerfile)",
            entries(pairs(DOCKERFILES), |text| dockerfile::parse(&file("Dockerfile", text)).map(drop)),
        ),
        (
            "(an ignore file)",
            entries(pairs(IGNORES), |text| Ignore::parse(&file(".dockerignore", text)).map(drop)),
        ),
    ]
}
