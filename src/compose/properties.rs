//! What must hold for every project: tests over generated files, and over hostile ones.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use proptest::prelude::*;

use super::{Loaded, Options, Project, load, to_json, to_yaml};
use crate::base::diag::Diagnostic;

/// Loads files in memory, `compose.yaml` and `compose.override.yaml` among them by default.
fn read(files: &[(&str, &str)], change: impl Fn(&mut Options)) -> Result<Loaded, Vec<Diagnostic>> {
    let files: BTreeMap<PathBuf, String> =
        files.iter().map(|(name, text)| (PathBuf::from("/p").join(name), (*text).to_owned())).collect();
    let mut options = Options::new("/p");
    change(&mut options);
    load(&options, &files)
}

fn project(text: &str) -> Project {
    read(&[("compose.yaml", text)], |_| ()).unwrap().project
}

fn mistakes(files: &[(&str, &str)]) -> String {
    let all = read(files, |_| ()).unwrap_err();
    all.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
}

fn service() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        "[a-z]{1,8}".prop_map(|text| format!("hostname: {text}")),
        "[ -~]{0,20}".prop_map(|text| format!("labels: {{a: {}}}", quote(&text))),
        "[ -~é\\n\\t]{0,20}".prop_map(|text| format!("environment: {{A: {}}}", quote(&text))),
        "[ -~]{0,20}".prop_map(|text| format!("command: [{}, b]", quote(&text))),
        (1..65535_u16, 1..65535_u16).prop_map(|(host, target)| format!("ports: ['{host}:{target}']")),
        "[a-z/.]{1,10}".prop_map(|path| format!("volumes: ['./{path}:/x/{path}']")),
        (0..1000_i64).prop_map(|size| format!("mem_limit: {size}k")),
        any::<bool>().prop_map(|value| format!("init: {value}")),
        (0..4000_u32).prop_map(|time| format!("stop_grace_period: {time}ms")),
        Just("build: {context: ., args: [A=1]}".to_owned()),
        Just("healthcheck: {test: a b, interval: 90s}".to_owned()),
        Just("x-own: {a: [1, b, null]}".to_owned()),
    ];
    prop::collection::vec(line, 0..6).prop_map(|mut lines| {
        lines.sort_by_key(|line| line.split(':').next().map(str::to_owned));
        lines.dedup_by_key(|line| line.split(':').next().map(str::to_owned));
        lines.iter().fold("    image: x\n".to_owned(), |text, line| format!("{text}    {line}\n"))
    })
}

/// A text as a YAML string that means it, dollars doubled.
fn quote(text: &str) -> String {
    serde_json::Value::String(text.replace('$', "$$")).to_string()
}

fn file() -> impl Strategy<Value = String> {
    prop::collection::btree_map("[a-z][a-z0-9_-]{0,5}", service(), 1..4).prop_map(|services| {
        services.iter().fold("services:\n".to_owned(), |mut text, (name, service)| {
            write!(text, "  s{name}:\n{service}").unwrap();
            text
        })
    })
}

proptest! {
    #[test]
    fn what_is_printed_loads_to_the_same(text in file()) {
        let first = project(&text);
        let again = project(&to_yaml(&first));
        prop_assert_eq!(&first.services, &again.services);
        prop_assert_eq!(to_yaml(&first), to_yaml(&again));
        let again = project(&to_json(&first));
        prop_assert_eq!(to_json(&first), to_json(&again));
    }

    #[test]
    fn merging_nothing_changes_nothing(text in file(), nothing in prop_oneof![
        Just(""), Just("services: {}"), Just("# only words\n"), Just("x-a: 1\nx-a-b: {}"), Just("networks: {}"),
    ]) {
        let alone = project(&text);
        let merged = read(&[("compose.yaml", &text), ("compose.override.yaml", nothing)], |_| ()).unwrap();
        prop_assert_eq!(alone.services, merged.project.services);
        prop_assert_eq!(alone.networks, merged.project.networks);
    }

    #[test]
    fn no_text_panics(text in "[a-z:{}\\[\\],&*!<'\"|>#$ \\n-]{0,80}") {
        let _ = read(&[("compose.yaml", &text)], |_| ());
        let _ = read(&[("compose.yaml", &format!("services:\n  a:\n    {text}"))], |_| ());
    }

    #[test]
    fn no_value_of_any_key_panics(
        at in 0..super::attrs::SERVICE.attrs.len(),
        value in prop_oneof![
            Just("~"), Just("1"), Just("a"), Just("[]"), Just("[1]"), Just("[a: b]"), Just("{}"), Just("{a: 1}"),
            Just("{a: }"), Just("[{}]"), Just("[~]"), Just("true"), Just("2024-01-01"), Just("-1"), Just("''"),
            Just("!reset []"), Just("!override {a: b}"), Just("[a, a]"), Just("{a: {b: {c: d}}}"),
        ],
    ) {
        let key = super::attrs::SERVICE.attrs[at].key;
        let text = format!("services: {{a: {{image: x, {key}: {value}}}, b: {{build: {{{key}: {value}}}}}}}");
        let _ = read(&[("compose.yaml", &text), ("compose.override.yaml", &text)], |_| ());
    }
}

#[test]
fn mistakes_of_all_kinds_and_files_are_told_in_one_run() {
    let text = mistakes(&[
        (
            "compose.yaml",
            "services:\n  a:\n    imge: x\n  b:\n    image: x\n    ports: [99999:1]\n    networks: [nett]\nnetworks: {net: }\n",
        ),
        ("compose.override.yaml", "services:\n  b:\n    tty: maybe\n    depends_on: [c]\n"),
    ]);
    for part in [
        "unknown key `imge`",
        "`99999:1` is no port",
        "there is no network `nett`",
        "did you mean `net`?",
        "`services.b.tty` must be a boolean",
        "there is no service `c`",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("neither"), "{text}");
}

#[test]
fn a_value_from_a_variable_tells_where_it_was_set() {
    let text =
        mistakes(&[(".env", "A=1\nP=many\n"), ("compose.yaml", "services: {a: {image: x, scale: \"$P\"}}")]);
    assert!(text.contains(".env:2:1") && text.contains("`P` is set here"), "{text}");
}

#[test]
fn both_places_of_a_conflict_are_shown() {
    let text = mistakes(&[
        ("compose.yaml", "services: {a: {image: x, network_mode: host}}"),
        ("compose.override.yaml", "services: {a: {networks: [n]}}\nnetworks: {n: }"),
    ]);
    assert!(text.contains("compose.yaml:1:40") && text.contains("compose.override.yaml:1:16"), "{text}");
}

#[test]
fn keys_that_nothing_honours_yet_are_listed() {
    let text = "services: {web: {provider: {type: x}}, off: {profiles: [p], provider: {type: x}}}";
    let loaded = read(&[("compose.yaml", text)], |_| ()).unwrap();
    let listed: Vec<_> = loaded.unsupported.iter().map(|one| one.message.as_str()).collect();
    assert_eq!(listed, ["not supported yet: `services.web.provider`"]);
}

#[test]
fn profiles_are_activated_by_name() {
    let text = "services: {a: {image: x, profiles: [p]}, b: {image: x, profiles: [p, q]}, c: {image: x}}";
    let names = |change: &dyn Fn(&mut Options)| -> Vec<String> {
        let loaded = read(&[("compose.yaml", text)], change).unwrap();
        loaded.project.services.into_keys().collect()
    };
    assert_eq!(names(&|_| ()), ["c"]);
    assert_eq!(names(&|options| options.services = vec!["a".into()]), ["a", "b", "c"]);
    assert_eq!(names(&|options| options.profiles = vec!["*".into()]), ["a", "b", "c"]);
}

#[test]
fn hostile_files_are_refused() {
    let mut wide = "services:\n".to_owned();
    (0..100_000).for_each(|at| writeln!(wide, "  s{at}: {{a: b}}").unwrap());
    let chain: String = (0..20_000).fold("services:\n  s0: {image: x}\n".to_owned(), |mut text, at| {
        writeln!(text, "  s{}: {{extends: s{at}}}", at + 1).unwrap();
        text
    });
    let ports = format!("services: {{a: {{image: x, ports: [{}]}}}}", "'1-65535:1-65535',".repeat(50));
    for text in [
        wide,
        chain,
        ports,
        "[".repeat(100_000),
        "a: ".repeat(50_000),
        "&a [*a]".to_owned(),
        "\0".repeat(1000),
        "services: {a: {image: x, scale: 4294967295}}".to_owned(),
        "services: {a: {image: x, deploy: {replicas: 10001}}}".to_owned(),
    ] {
        assert!(read(&[("compose.yaml", &text)], |_| ()).is_err());
    }
}

#[test]
fn a_long_chain_of_dependencies_is_walked_without_recursion() {
    let text: String = (0..5_000).fold("services:\n  s0: {image: x}\n".to_owned(), |mut text, at| {
        writeln!(text, "  s{}: {{image: x, depends_on: [s{at}]}}", at + 1).unwrap();
        text
    });
    assert_eq!(project(&text).services.len(), 5_001);
}

#[test]
fn keys_without_effect_are_told_once_by_name() {
    let text = "version: '3'\nservices:\n  a: {image: x, isolation: i, secrets: [{source: s, mode: 0400, uid: '1'}]}\n  \
                b: {image: x, isolation: i, ports: [{target: 1, name: n}]}\n  c: {image: x, isolation: i, configs: \
                [{source: k, gid: '1'}]}\nsecrets: {s: {file: ./s}}\nconfigs: {k: {content: t}}\n";
    let loaded = read(&[("compose.yaml", text)], |_| ()).unwrap();
    let told: Vec<_> = loaded.warnings.iter().map(|one| one.message.as_str()).collect();
    assert_eq!(
        told,
        [
            "`services.a.isolation` has no effect here",
            "`services.b.ports.0.name` has no effect here",
            "`version` has no effect here",
            "`uid`, `mode` of `services.a.secrets.0` has no effect: `s` is a file",
        ]
    );
    assert_eq!(loaded.warnings[0].notes, ["nor have `services.b.isolation` and 1 others"]);
}

#[test]
fn all_mistakes_of_an_extended_service_are_told_and_who_extends_it() {
    let text = mistakes(&[
        ("compose.yaml", "services:\n  a: {extends: {file: b.yaml, service: base}}\n"),
        ("b.yaml", "services:\n  base: {image: x, prots: [1], tty: 5}\n  other: {image: 5}\n"),
    ]);
    for part in ["unknown key `prots`", "`services.base.tty`", "compose.yaml:2:", "`base` is extended here"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("other"), "{text}");
}
