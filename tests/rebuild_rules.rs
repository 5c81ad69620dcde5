//! What must miss and what must hit: the rules of the cache, one edit a case.
//!
//! Each case builds a Dockerfile, edits one thing and builds again. The rules are BuildKit's
//! (dockerfile reference; observed on Docker Engine 28.5), but for the last test, which holds where we
//! are right and it is not.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use crate::scene::{Ran, Scene};

/// One edit and what it must run again.
struct Rule {
    name: &'static str,
    before: &'static str,
    arguments: &'static [&'static str],
    edit: Edit,
    /// The instructions that run again, by how they begin.
    runs: &'static [&'static str],
}

enum Edit {
    Dockerfile(&'static str),
    Arguments(&'static [&'static str]),
    Files(fn(&Scene)),
}

fn build(scene: &Scene, arguments: &[&str]) -> Ran {
    let fixed = ["--engine", "none", "--progress", "plain", "image", "build", "-t", "rule", "."];
    scene.shipway(&[&fixed, arguments].concat()).ok()
}

/// The instructions that ran.
fn ran(build: &Ran) -> Vec<String> {
    let lines = build.err.lines().filter_map(|line| line.split_once("  done in "));
    let mut steps: Vec<String> =
        lines.filter_map(|(step, _)| Some(step.split_once("] ")?.1.to_owned())).collect();
    steps.sort();
    steps
}

fn holds(rule: &Rule) {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write("Dockerfile", rule.before).write("a.txt", "a\n").write("folder/b.txt", "b\n");
    scene.write(".dockerignore", "*.log\n").age(".");
    build(&scene, rule.arguments);
    assert_eq!(ran(&build(&scene, rule.arguments)), [""; 0], "{}: the second build", rule.name);
    let mut arguments = rule.arguments;
    match &rule.edit {
        Edit::Dockerfile(after) => {
            scene.write("Dockerfile", after);
        }
        Edit::Arguments(after) => arguments = after,
        Edit::Files(edit) => edit(&scene),
    }
    let after = ran(&build(&scene, arguments));
    let same = after.len() == rule.runs.len()
        && after.iter().zip(rule.runs).all(|(ran, wanted)| ran.starts_with(wanted));
    assert!(same, "{}: ran {after:?}, not {:?}", rule.name, rule.runs);
}

const CHAIN: &str = "FROM busybox\nCOPY a.txt folder /x/\nRUN cat /x/a.txt\n";

#[test]
fn edits_of_the_context() {
    let all: &[&str] = &["COPY a.txt folder /x/", "RUN cat /x/a.txt"];
    let case = |name, edit: fn(&Scene), runs| Rule {
        name,
        before: CHAIN,
        arguments: &[],
        edit: Edit::Files(edit),
        runs,
    };
    let rules = [
        case("content", |scene| write(scene, "a.txt", "A\n"), all),
        case("a file added to a copied folder", |scene| write(scene, "folder/c", ""), all),
        case(
            "a file removed",
            |scene| std::fs::remove_file(scene.project().join("folder/b.txt")).unwrap(),
            all,
        ),
        case(
            "a file renamed",
            |scene| {
                let folder = scene.project().join("folder");
                std::fs::rename(folder.join("b.txt"), folder.join("c.txt")).unwrap();
            },
            all,
        ),
        case("the mode of a file", |scene| mode(scene, "a.txt", 0o755), all),
        case(
            "a link in the place of a file",
            |scene| {
                let path = scene.project().join("folder/b.txt");
                std::fs::remove_file(&path).unwrap();
                std::os::unix::fs::symlink("../a.txt", path).unwrap();
            },
            all,
        ),
        case(
            "the time of a file",
            |scene| {
                let file = std::fs::File::open(scene.project().join("a.txt")).unwrap();
                file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
            },
            &[],
        ),
        case(
            "the owner of a file",
            |scene| std::os::unix::fs::chown(scene.project().join("a.txt"), Some(7), Some(8)).unwrap(),
            &[],
        ),
        case("a file that nothing copies", |scene| write(scene, "README.md", "new"), &[]),
        case("an ignored file", |scene| write(scene, "folder.log", ""), &[]),
        case("a file that the rule does not reach", |scene| write(scene, "folder/x.log", ""), all),
    ];
    rules.iter().for_each(holds);
}

#[test]
fn edits_of_the_dockerfile() {
    let case = |name, before, after, runs| Rule {
        name,
        before,
        arguments: &[],
        edit: Edit::Dockerfile(after),
        runs,
    };
    let rules = [
        case("a comment", CHAIN, "# new\nFROM busybox\nCOPY a.txt folder /x/\nRUN cat /x/a.txt\n", &[]),
        case(
            "metadata above a step",
            CHAIN,
            "FROM busybox\nLABEL a=b\nEXPOSE 80\nCMD [\"x\"]\nCOPY a.txt folder /x/\nRUN cat /x/a.txt\n",
            &[],
        ),
        case(
            "the exec form that the shell form stands for",
            "FROM busybox\nRUN echo a > /a\n",
            "FROM busybox\nRUN [\"/bin/sh\", \"-c\", \"echo a > /a\"]\n",
            &[],
        ),
        case(
            "an argument without a value",
            "FROM busybox\nRUN echo a > /a\n",
            "FROM busybox\nARG NEW\nRUN echo a > /a\n",
            &[],
        ),
        case(
            "the value of a variable above a command",
            "FROM busybox\nENV A=1\nRUN echo a > /a\nCOPY a.txt /\n",
            "FROM busybox\nENV A=2\nRUN echo a > /a\nCOPY a.txt /\n",
            &["COPY a.txt /", "RUN echo a"],
        ),
        case(
            "a variable below a command",
            "FROM busybox\nRUN echo a > /a\n",
            "FROM busybox\nRUN echo a > /a\nENV A=2\n",
            &[],
        ),
        case(
            "the name of a stage",
            "FROM busybox AS one\nRUN echo a > /a\nFROM busybox\nCOPY --from=one /a /a\n",
            "FROM busybox AS two\nRUN echo a > /a\nFROM busybox\nCOPY --from=two /a /a\n",
            &[],
        ),
        case(
            "a stage that nothing reaches",
            "FROM busybox AS one\nRUN echo a > /a\nFROM busybox\nRUN echo b > /b\n",
            "FROM busybox AS one\nRUN exit 1\nFROM busybox\nRUN echo b > /b\n",
            &[],
        ),
        case(
            "the working directory of a command",
            "FROM busybox\nWORKDIR /a\nRUN pwd\n",
            "FROM busybox\nWORKDIR /b\nRUN pwd\n",
            &["RUN pwd", "WORKDIR /b"],
        ),
        case(
            "the user of a command",
            "FROM busybox\nUSER 1\nRUN id\n",
            "FROM busybox\nUSER 2\nRUN id\n",
            &["RUN id"],
        ),
        case(
            "the shell",
            "FROM busybox\nRUN echo a\n",
            "FROM busybox\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo a\n",
            &["RUN echo a"],
        ),
    ];
    rules.iter().for_each(holds);
}

#[test]
fn edits_of_copies_and_stages() {
    let case = |name, before, after, runs| Rule {
        name,
        before,
        arguments: &[],
        edit: Edit::Dockerfile(after),
        runs,
    };
    let rules = [
        case(
            "where a copy goes",
            CHAIN,
            "FROM busybox\nCOPY a.txt folder /y/\nRUN cat /y/a.txt\n",
            &["COPY a.txt folder /y/", "RUN cat /y/a.txt"],
        ),
        case(
            "who owns a copy",
            CHAIN,
            "FROM busybox\nCOPY --chown=1:2 a.txt folder /x/\nRUN cat /x/a.txt\n",
            &["COPY --chown=1:2 a.txt folder /x/", "RUN cat /x/a.txt"],
        ),
        case(
            "one copy split in two",
            CHAIN,
            "FROM busybox\nCOPY a.txt /x/\nCOPY folder /x/\nRUN cat /x/a.txt\n",
            &["COPY a.txt /x/", "COPY folder /x/", "RUN cat /x/a.txt"],
        ),
        case(
            "the text of a heredoc",
            "FROM busybox\nCOPY <<E /e\none\nE\nRUN cat /e\n",
            "FROM busybox\nCOPY <<E /e\ntwo\nE\nRUN cat /e\n",
            &["COPY <<E /e", "RUN cat /e"],
        ),
        case(
            "a stage with other bytes that are not copied",
            "FROM busybox AS one\nRUN echo a > /a; echo 1 > /b\nFROM busybox\nCOPY --from=one /a /a\nRUN cat /a\n",
            "FROM busybox AS one\nRUN echo a > /a; echo 2 > /b\nFROM busybox\nCOPY --from=one /a /a\nRUN cat /a\n",
            &["RUN echo a > /a; echo 2"],
        ),
        case(
            "a base stage with the same bytes",
            "FROM busybox AS one\nRUN echo a > /a\nFROM one\nRUN cat /a\n",
            "FROM busybox AS one\nRUN echo a > /a ;\nFROM one\nRUN cat /a\n",
            &["RUN cat /a", "RUN echo a > /a ;"],
        ),
    ];
    rules.iter().for_each(holds);
}

#[test]
fn build_arguments() {
    const USED: &str = "FROM busybox\nRUN echo before\nARG A\nRUN echo after\nCOPY a.txt /\n";
    let case = |name, before, arguments, after, runs| Rule {
        name,
        before,
        arguments,
        edit: Edit::Arguments(after),
        runs,
    };
    let rules = [
        case(
            "a changed argument is used by every command below it",
            USED,
            &["--build-arg", "A=1"],
            &["--build-arg", "A=2"],
            &["COPY a.txt /", "RUN echo after"],
        ),
        case(
            "an argument that nothing declares",
            USED,
            &["--build-arg", "A=1"],
            &["--build-arg", "A=1", "--build-arg", "B=2"],
            &[],
        ),
        case(
            "a proxy that nothing declares",
            USED,
            &["--build-arg", "HTTP_PROXY=http://one"],
            &["--build-arg", "HTTP_PROXY=http://two"],
            &[],
        ),
        case(
            "a proxy that the stage declares",
            "FROM busybox\nARG HTTP_PROXY\nRUN echo a\n",
            &["--build-arg", "HTTP_PROXY=http://one"],
            &["--build-arg", "HTTP_PROXY=http://two"],
            &["RUN echo a"],
        ),
        case(
            "a global argument that only names the base",
            "ARG BASE=busybox\nFROM ${BASE}\nRUN echo a\n",
            &[],
            &["--build-arg", "BASE=busybox:latest"],
            &[],
        ),
        case("labels", USED, &[], &["--label", "a=b"], &[]),
        case(
            "another target",
            "FROM busybox AS one\nRUN echo 1\nFROM one AS two\nRUN echo 2\n",
            &[],
            &["--target", "one"],
            &[],
        ),
    ];
    rules.iter().for_each(holds);
}

/// Where BuildKit keeps an old result or rebuilds for nothing.
#[test]
fn where_the_peer_is_wrong() {
    let rules = [
        Rule {
            name: "same size and time, other content",
            before: CHAIN,
            arguments: &[],
            edit: Edit::Files(|scene| {
                let path = scene.project().join("a.txt");
                let time = std::fs::metadata(&path).unwrap().modified().unwrap();
                std::fs::write(&path, "b\n").unwrap();
                std::fs::File::open(&path).unwrap().set_modified(time).unwrap();
            }),
            runs: &["COPY a.txt folder /x/", "RUN cat /x/a.txt"],
        },
        Rule {
            name: "the mode of a copied folder's folder",
            before: "FROM busybox\nCOPY . /x/\n",
            arguments: &[],
            edit: Edit::Files(|scene| mode(scene, "folder", 0o700)),
            runs: &["COPY . /x/"],
        },
        Rule {
            name: "the mode of a file under --chmod",
            before: "FROM busybox\nCOPY --chmod=0600 a.txt /x\n",
            arguments: &[],
            edit: Edit::Files(|scene| mode(scene, "a.txt", 0o755)),
            runs: &[],
        },
        Rule {
            name: "the order of variables",
            before: "FROM busybox\nENV A=1 B=2\nRUN echo a\n",
            arguments: &[],
            edit: Edit::Dockerfile("FROM busybox\nENV B=2 A=1\nRUN echo a\n"),
            runs: &[],
        },
    ];
    rules.iter().for_each(holds);
}

fn write(scene: &Scene, path: &str, text: &str) {
    scene.write(path, text);
}

fn mode(scene: &Scene, path: &str, mode: u32) {
    std::fs::set_permissions(scene.project().join(path), std::fs::Permissions::from_mode(mode)).unwrap();
}
