//! A container is replaced exactly when something that it sees has changed: tables of compose texts before
//! and after, with the cause that is given.
//!
//! The texts go through the whole reader, so that forms with the same meaning are those of real files.

use std::path::PathBuf;

use super::super::super::files::Content;
use super::*;
use crate::compose;

/// A project in a folder of its own, from files in memory.
fn loaded(folder: &str, files: &[(&str, &str)]) -> Project {
    let files: BTreeMap<PathBuf, String> =
        files.iter().map(|(name, text)| (PathBuf::from(folder).join(name), (*text).to_owned())).collect();
    let mut options = compose::Options::new(folder);
    options.project_name = Some("p".to_owned());
    compose::load(&options, &files).unwrap_or_else(|mistakes| panic!("{files:?}: {mistakes:?}")).project
}

/// A service `web` with this text.
fn web(text: &str) -> Project {
    let more =
        "  db: {image: db}\nnetworks: {n: , m: }\nvolumes: {data: , other: }\nconfigs: {c: {content: x}}";
    loaded("/p", &[("compose.yaml", &format!("services:\n  web: {{image: web{text}}}\n{more}"))])
}

/// What the engine has after `up`.
fn launched(project: &Project, images: &Images, files: &Files) -> Observed {
    let mut seen = Observed::default();
    let plan = reconcile(project, images, files, &seen, &Options::default()).unwrap();
    apply(&mut seen, &plan);
    seen
}

/// Why the container of `web` is replaced; empty if it stays as it is, with everything else.
fn cause_with(before: (&Project, &Images, &Files), after: (&Project, &Images, &Files)) -> String {
    let seen = launched(before.0, before.1, before.2);
    let plan = reconcile(after.0, after.1, after.2, &seen, &Options::default()).unwrap();
    let create =
        |step: &&crate::up::Step| matches!(&step.action, Action::Create(one) if one.service == "web");
    match plan.steps.iter().find(create) {
        Some(step) => step.cause.to_string(),
        None => plan.steps.iter().map(|step| format!("{step}\n")).collect(),
    }
}

fn cause(before: &Project, after: &Project) -> String {
    let mut files = Files::default();
    files.configs.insert("c".to_owned(), Content::Inline(b"x".to_vec()));
    cause_with((before, &images(before), &files), (after, &images(after), &files))
}

#[test]
fn every_key_that_a_container_sees_replaces_it_by_name() {
    let table = [
        ("command: [a]", "command"),
        ("entrypoint: [a]", "entrypoint"),
        ("environment: {A: b}", "environment"),
        ("user: '5'", "user"),
        ("working_dir: /x", "working_dir"),
        ("hostname: h", "hostname"),
        ("domainname: d", "domainname"),
        ("tty: true", "tty"),
        ("stdin_open: true", "stdin_open"),
        ("stop_signal: SIGINT", "stop_signal"),
        ("stop_grace_period: 3s", "stop_grace_period"),
        ("healthcheck: {test: 'true'}", "healthcheck"),
        ("healthcheck: {disable: true}", "healthcheck"),
        ("labels: {a: b}", "labels"),
        ("annotations: {a: b}", "annotations"),
        ("expose: ['80']", "expose"),
        ("ports: ['80']", "ports"),
        ("ports: ['127.0.0.1:80:80']", "ports"),
        ("volumes: ['./a:/a']", "volumes"),
        ("volumes: ['data:/a']", "volumes"),
        ("volumes: ['/a']", "volumes"),
        ("volumes: [{type: tmpfs, target: /a}]", "volumes"),
        ("tmpfs: /a", "tmpfs"),
        ("networks: [n]", "networks"),
        ("networks: {default: {aliases: [x]}}", "networks"),
        ("networks: {default: {ipv4_address: 10.0.0.9}}", "networks"),
        ("networks: {default: {mac_address: '02:42:ac:11:65:43'}}", "networks"),
        ("networks: {default: {driver_opts: {a: b}}}", "networks"),
        ("networks: {default: {gw_priority: 1}}", "networks"),
        ("networks: {default: {interface_name: eth5}}", "networks"),
        ("networks: {default: {link_local_ips: [169.254.8.8]}}", "networks"),
        ("mac_address: '02:42:ac:11:65:43'", "networks"),
        ("network_mode: host", "networks"),
        ("links: [db]", "networks"),
        ("external_links: [x]", "networks"),
        ("dns: 8.8.8.8", "dns"),
        ("dns_opt: [a]", "dns_opt"),
        ("dns_search: a", "dns_search"),
        ("extra_hosts: ['a:1.2.3.4']", "extra_hosts"),
        ("restart: always", "restart"),
        ("deploy: {restart_policy: {condition: any}}", "restart"),
        ("init: true", "init"),
        ("runtime: r", "runtime"),
        ("platform: linux/arm64", "platform"),
        ("logging: {driver: none}", "logging"),
        ("logging: {options: {a: b}}", "logging"),
        ("read_only: true", "read_only"),
        ("privileged: true", "privileged"),
        ("cap_add: [ALL]", "cap_add"),
        ("cap_drop: [ALL]", "cap_drop"),
        ("security_opt: ['label=disable']", "security_opt"),
        ("security_opt: ['systempaths=unconfined']", "security_opt"),
        ("group_add: ['5']", "group_add"),
        ("sysctls: {a.b: 1}", "sysctls"),
        ("storage_opt: {size: 1G}", "storage_opt"),
        ("ipc: host", "ipc"),
        ("pid: host", "pid"),
        ("uts: host", "uts"),
        ("userns_mode: host", "userns_mode"),
        ("cgroup: host", "cgroup"),
        ("isolation: default", "isolation"),
        ("shm_size: 1m", "shm_size"),
        ("cpus: 1", "cpus"),
        ("deploy: {resources: {limits: {cpus: '1'}}}", "cpus"),
        ("cpu_shares: 5", "cpu_shares"),
        ("cpu_period: 5", "cpu_period"),
        ("cpu_quota: 5", "cpu_quota"),
        ("cpu_rt_period: 5", "cpu_rt_period"),
        ("cpu_rt_runtime: 5", "cpu_rt_runtime"),
        ("cpu_count: 5", "cpu_count"),
        ("cpu_percent: 5", "cpu_percent"),
        ("cpuset: '0'", "cpuset"),
        ("mem_limit: 9m", "mem_limit"),
        ("deploy: {resources: {limits: {memory: 9m}}}", "mem_limit"),
        ("mem_reservation: 9m", "mem_reservation"),
        ("deploy: {resources: {reservations: {memory: 9m}}}", "mem_reservation"),
        ("memswap_limit: 9m", "memswap_limit"),
        ("mem_swappiness: 9", "mem_swappiness"),
        ("oom_kill_disable: true", "oom_kill_disable"),
        ("oom_score_adj: 9", "oom_score_adj"),
        ("pids_limit: 9", "pids_limit"),
        ("deploy: {resources: {limits: {pids: 9}}}", "pids_limit"),
        ("cgroup_parent: a", "cgroup_parent"),
        ("ulimits: {core: 0}", "ulimits"),
        ("device_cgroup_rules: ['c 1:3 mr']", "device_cgroup_rules"),
        ("devices: [/dev/null]", "devices"),
        ("devices: ['a.b/c=d']", "devices"),
        ("gpus: all", "devices"),
        ("deploy: {resources: {reservations: {devices: [{capabilities: [a]}]}}}", "devices"),
        ("blkio_config: {weight: 300}", "blkio_config"),
        ("volumes_from: ['container:x']", "volumes_from"),
    ];
    for (text, key) in table {
        let expected = format!("{key} changed");
        let (plain, changed) = (web(""), web(&format!(", {text}")));
        assert_eq!(cause(&plain, &changed), expected, "{text} was added");
        assert_eq!(cause(&changed, &plain), expected, "{text} was taken away");
    }
}

#[test]
fn what_else_makes_another_container() {
    let name = web(", container_name: mine");
    assert_eq!(cause(&web(""), &name), "it is called p-web-1");
    assert_eq!(cause(&web(""), &web(", configs: [c]")), "the content of a config or secret changed");
    assert_eq!(cause(&web(""), &web(", use_api_socket: true")), "environment, volumes changed");
    let several = web(", volumes: ['./a:/a', /b], user: '5', mem_limit: 9m, cpus: 1");
    assert_eq!(cause(&web(""), &several), "cpus, mem_limit, user, volumes changed");
    assert_eq!(cause(&web(""), &web(", pid: 'service:db'")), "it shares with db, which is replaced");
}

#[test]
fn keys_that_a_container_does_not_see_leave_it_alone() {
    for text in [
        "depends_on: [db]",
        "depends_on: {db: {condition: service_started, restart: true}}",
        "profiles: []",
        "pull_policy: always",
        "scale: 1",
        "attach: false",
        "deploy: {replicas: 1}",
        "deploy: {labels: {a: b}, mode: replicated, update_config: {parallelism: 2}}",
        "develop: {watch: [{path: ., action: rebuild}]}",
        "build: .",
        "build: {context: ., args: {A: b}}",
        "post_start: [{command: 'true'}]",
        "pre_stop: [{command: 'true'}]",
        "x-own: 5",
        "networks: {default: {priority: 5}}",
        "credential_spec: {file: x}",
    ] {
        let changed = web(&format!(", {text}"));
        assert_eq!(cause(&web(""), &changed), "", "{text} was added");
        assert_eq!(cause(&changed, &web("")), "", "{text} was taken away");
    }
}

#[test]
fn two_ways_to_say_the_same_are_one_container() {
    for (one, other) in [
        ("command: a 'b c'", "command: [a, 'b c']"),
        ("environment: {A: 1, B: ''}", "environment: ['B=', 'A=1']"),
        ("ports: ['8080:80']", "ports: [{target: 80, published: 8080, protocol: tcp, mode: ingress}]"),
        ("ports: ['8080-8081:80-81']", "ports: ['8080:80', '8081:81']"),
        ("expose: ['7000-7001']", "expose: [7000, '7001/tcp']"),
        ("volumes: ['data:/d:ro']", "volumes: [{type: volume, source: data, target: /d, read_only: true}]"),
        (
            "volumes: ['./a:/a']",
            "volumes: [{type: bind, source: /p/a, target: /a, bind: {create_host_path: true}}]",
        ),
        ("volumes: ['./a:/a']", "volumes: [{type: bind, source: ./a, target: /a/}]"),
        ("networks: [n]", "networks: {n: {}}"),
        ("networks: [n, m]", "networks: {m: , n: }"),
        ("networks: [default]", "networks: {default: {aliases: [web]}}"),
        ("labels: [a=b]", "labels: {a: b}"),
        ("extra_hosts: ['a:1.2.3.4']", "extra_hosts: {a: 1.2.3.4}"),
        ("dns: 8.8.8.8", "dns: [8.8.8.8]"),
        ("tmpfs: /a", "tmpfs: [/a]"),
        ("tmpfs: [/a, /b]", "tmpfs: [/b, /a]"),
        ("sysctls: [a.b=1]", "sysctls: {a.b: 1}"),
        ("ulimits: {core: 5}", "ulimits: {core: {soft: 5, hard: 5}}"),
        ("healthcheck: {test: x}", "healthcheck: {test: [CMD-SHELL, x]}"),
        ("healthcheck: {test: x, interval: 60s}", "healthcheck: {test: x, interval: 1m}"),
        ("healthcheck: {disable: true}", "healthcheck: {test: [NONE]}"),
        ("stop_grace_period: 90s", "stop_grace_period: 1m30s"),
        ("mem_limit: 1g", "mem_limit: 1073741824"),
        ("mem_limit: 9m", "deploy: {resources: {limits: {memory: 9m}}}"),
        ("cpus: 0.5", "cpus: '.5'"),
        ("cpus: 0.5", "deploy: {resources: {limits: {cpus: '0.50'}}}"),
        ("pids_limit: 5", "deploy: {resources: {limits: {pids: 5}}}"),
        ("restart: 'no'", "init: null"),
        ("restart: always", "deploy: {restart_policy: {condition: any}}"),
        ("restart: 'on-failure:3'", "deploy: {restart_policy: {condition: on-failure, max_attempts: 3}}"),
        ("devices: [/dev/null]", "devices: [{source: /dev/null, target: /dev/null, permissions: rwm}]"),
        ("cap_add: [net_admin, SYS_TIME]", "cap_add: [CAP_SYS_TIME, NET_ADMIN]"),
        ("security_opt: ['label:disable']", "security_opt: ['label=disable']"),
        ("tty: false", "tty: null"),
        ("privileged: false", "read_only: false"),
        ("configs: [c]", "configs: [{source: c, target: /c}]"),
        ("env_file: [{path: no, required: false}]", "env_file: []"),
    ] {
        // A key with nothing after it is no key in the first file: these are about what others mean.
        let text = |form: &str| if form.contains("null") { String::new() } else { format!(", {form}") };
        assert_eq!(cause(&web(&text(one)), &web(&text(other))), "", "{one} became {other}");
        assert_eq!(cause(&web(&text(other)), &web(&text(one))), "", "{other} became {one}");
    }
}

#[test]
fn an_image_counts_by_its_content() {
    let (project, files) = (web(""), Files::default());
    let before = images(&project);
    let mut retagged = before.clone();
    retagged.get_mut("web").unwrap().reference = "web:2".to_owned();
    assert_eq!(cause_with((&project, &before, &files), (&project, &retagged, &files)), "");
    let mut other = before.clone();
    other.get_mut("web").unwrap().id = Digest::of("other");
    assert_eq!(cause_with((&project, &before, &files), (&project, &other, &files)), "its image changed");
}

#[test]
fn files_count_by_their_content() {
    let text = "services: {web: {image: web, configs: [c, i], secrets: [s], security_opt: ['seccomp=p.json']}}\n\
                configs: {c: {file: ./c}, i: {content: x}}\nsecrets: {s: {file: ./s}}";
    let project = loaded("/p", &[("compose.yaml", text)]);
    let images = images(&project);
    let read = |config: &str, inline: &str, secret: &str, profile: &str| {
        let host = |name: &str, content: &str| Content::Host {
            path: format!("/p/{name}"),
            digest: Digest::of(content),
        };
        let mut files = Files::default();
        files.configs.insert("c".to_owned(), host("c", config));
        files.configs.insert("i".to_owned(), Content::Inline(inline.into()));
        files.secrets.insert("s".to_owned(), host("s", secret));
        files.seccomp.insert("p.json".to_owned(), profile.to_owned());
        files
    };
    let before = read("1", "1", "1", "{\"a\": 1}");
    let cause = |after: &Files| cause_with((&project, &images, &before), (&project, &images, after));
    let content = "the content of a config or secret changed";
    // Replaced by a file with the same content, or written anew: nothing.
    assert_eq!(cause(&read("1", "1", "1", "{\"a\": 1}")), "");
    assert_eq!(cause(&read("1", "1", "1", "{ \"a\":1 }\n")), "");
    assert_eq!(cause(&read("2", "1", "1", "{\"a\": 1}")), content);
    assert_eq!(cause(&read("1", "2", "1", "{\"a\": 1}")), content);
    assert_eq!(cause(&read("1", "1", "2", "{\"a\": 1}")), content);
    assert_eq!(cause(&read("1", "1", "1", "{\"a\": 2}")), "security_opt changed");
}

#[test]
fn files_of_variables_and_labels_count_by_what_is_in_them() {
    let text = "services: {web: {image: web, env_file: v, label_file: l}}";
    let moved = "services: {web: {image: web, env_file: w, label_file: m}}";
    let with = |text: &str, v: &str, l: &str| {
        loaded("/p", &[("compose.yaml", text), ("v", v), ("w", v), ("l", l), ("m", l)])
    };
    let before = with(text, "A=1\n", "a=1\n");
    assert_eq!(cause(&before, &with(text, "A=2\n", "a=1\n")), "environment changed");
    assert_eq!(cause(&before, &with(text, "A=1\n", "a=2\n")), "labels changed");
    assert_eq!(cause(&before, &with(text, "# a remark\nA='1'\n", "a=1\n")), "");
    assert_eq!(cause(&before, &with(moved, "A=1\n", "a=1\n")), "");
    let inline = "services: {web: {image: web, environment: {A: 1}, labels: {a: 1}}}";
    assert_eq!(cause(&before, &with(inline, "", "")), "");
}

#[test]
fn a_moved_project_keeps_what_has_no_path_of_the_host() {
    let with = |folder: &str, more: &str| {
        let text = format!(
            "services: {{web: {{image: web, build: ., env_file: v, configs: [i]{more}}}}}\n\
                            configs: {{i: {{content: x}}}}\nvolumes: {{data: }}"
        );
        loaded(folder, &[("compose.yaml", &text), ("v", "A=1\n")])
    };
    for more in ["", ", volumes: ['data:/d', /anonymous, /srv/d:/srv]", ", tmpfs: /a, ports: ['80']"] {
        assert_eq!(cause(&with("/p", more), &with("/elsewhere", more)), "", "{more}");
    }
    // A folder below the project is mounted by its absolute path: the old one is not the project's any more.
    let more = ", volumes: ['./d:/d']";
    assert_eq!(cause(&with("/p", more), &with("/elsewhere", more)), "volumes changed");
}

#[test]
fn other_services_and_our_version_leave_a_container_alone() {
    let with = |other: &str| {
        let text = format!("services: {{web: {{image: web, profiles: []}}, other: {{image: other{other}}}}}");
        loaded("/p", &[("compose.yaml", &text)])
    };
    let steps = cause(&with(""), &with(", command: a"));
    assert!(steps.contains("p-other-1") && !steps.contains("p-web-1"), "{steps}");
    // What a container of an earlier shipway or Docker Compose has in its labels beside the identity.
    let project = web("");
    let mut seen = launched(&project, &images(&project), &Files::default());
    for container in &mut seen.containers {
        for label in ["version", "config-hash", "project.config_files", "project.working_dir", "image"] {
            container.labels.insert(format!("com.docker.compose.{label}"), "of before".to_owned());
        }
    }
    let plan = reconcile(&project, &images(&project), &Files::default(), &seen, &Options::default()).unwrap();
    assert!(plan.is_empty(), "{plan}");
}

#[test]
fn networks_are_made_anew_and_volumes_stay() {
    let with = |network: &str, volume: &str| {
        let text = format!(
            "services: {{web: {{image: web, volumes: ['data:/d']}}}}\n\
             networks: {{default: {{{network}}}}}\nvolumes: {{data: {{{volume}}}}}"
        );
        loaded("/p", &[("compose.yaml", &text)])
    };
    let before = with("", "");
    for network in
        ["internal: true", "driver_opts: {a: b}", "labels: {a: b}", "ipam: {config: [{subnet: 10.9.0.0/24}]}"]
    {
        let steps = cause(&before, &with(network, ""));
        assert!(steps.contains("network p_default: remove (its options changed)"), "{network}: {steps}");
        assert!(
            steps.contains("connect to network p_default"),
            "{network}: the container keeps its id: {steps}"
        );
    }
    for volume in ["driver_opts: {a: b}", "labels: {a: b}", "driver: other"] {
        let seen = launched(&before, &images(&before), &Files::default());
        let after = with("", volume);
        let plan = reconcile(&after, &images(&after), &Files::default(), &seen, &Options::default()).unwrap();
        assert!(
            plan.is_empty() && plan.warnings[0].contains("was made with other options"),
            "{volume}: {plan}"
        );
    }
    // Another name is another volume; the old one stays.
    let steps = cause(&before, &with("", "name: other"));
    assert_eq!(steps, "volumes changed");
}
