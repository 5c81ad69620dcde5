//! Loading a large project: 500 services with anchors, env files and `extends`.
//!
//! `cargo bench --bench compose`. The bound that the program keeps is 100 ms for the whole project, printing
//! aside; files are in memory, so that the disk is not what is measured.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use shipway::compose::{Options, load, to_yaml};

const SERVICES: usize = 500;

fn main() {
    divan::main();
}

/// The files of the project.
fn project() -> BTreeMap<PathBuf, String> {
    let mut text =
        "x-labels: &labels {team: a, tier: backend, version: \"${VERSION:-1}\"}\nx-common: &common\n  \
                    restart: unless-stopped\n  logging: {driver: json-file, options: {max-size: 10m}}\n  \
                    healthcheck: {test: [CMD, 'true'], interval: 10s, retries: 3}\nservices:\n"
            .to_owned();
    let mut files = BTreeMap::new();
    for at in 0..SERVICES {
        let needs = if at > 0 { format!("    depends_on: [s{}]\n", at - 1) } else { String::new() };
        write!(
            text,
            "  s{at}:\n    <<: *common\n    extends: {{file: base/common.yaml, service: base{}}}\n    \
             image: registry.example/app/s{at}:${{VERSION:-1}}\n    labels: {{<<: *labels, number: {at}}}\n    \
             env_file: [common.env, env/s{at}.env]\n    environment: {{NUMBER: {at}, HOST: '${{HOST}}'}}\n    \
             ports: ['{}:80', '127.0.0.1:{}:90/udp']\n    volumes: ['./data/s{at}:/data:ro', 'shared:/shared']\n    \
             networks: {{front: , back: {{aliases: [s{at}.local]}}}}\n{needs}",
            at % 10,
            10_000 + at,
            20_000 + at,
        )
        .unwrap_or_default();
        files.insert(
            PathBuf::from(format!("/p/env/s{at}.env")),
            format!("OWN={at}\nURL=http://${{HOST}}/{at}\n"),
        );
    }
    text.push_str("networks: {front: , back: {internal: true}}\nvolumes: {shared: }\n");
    let base: String = (0..10).fold("services:\n".to_owned(), |mut text, at| {
        write!(
            text,
            "  base{at}:\n    init: true\n    cap_drop: [ALL]\n    ulimits: {{nofile: {{soft: 1024, hard: 2048}}}}\n    \
             environment: {{BASE: {at}}}\n    build: {{context: ./app{at}, args: {{A: 1, B: 2}}}}\n"
        )
        .unwrap_or_default();
        text
    });
    files.insert(PathBuf::from("/p/base/common.yaml"), base);
    let common = (0..20).map(|at| format!("COMMON_{at}=\"value {at}\"\n")).collect();
    files.insert(PathBuf::from("/p/common.env"), common);
    files.insert(PathBuf::from("/p/.env"), "HOST=example.org\n".to_owned());
    files.insert(PathBuf::from("/p/compose.yaml"), text);
    files
}

#[divan::bench]
fn load_500_services(bencher: divan::Bencher<'_, '_>) {
    let files = project();
    let loaded = load(&Options::new("/p"), &files);
    assert_eq!(loaded.map(|loaded| loaded.project.services.len()).ok(), Some(SERVICES));
    bencher.bench(|| load(&Options::new("/p"), &files));
}

#[divan::bench]
fn print_500_services(bencher: divan::Bencher<'_, '_>) {
    let files = project();
    if let Ok(loaded) = load(&Options::new("/p"), &files) {
        bencher.bench(|| to_yaml(&loaded.project));
    }
}
