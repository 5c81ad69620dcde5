//! Every difference of a key has a reason; reasons as text and as JSON.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::base::digest::Digest;
use crate::base::listing::What;
use crate::graph::{FORMAT, HOSTNAME, Input, OpRecipe, Recipe, Role, RunMount, RunMountKind, RunNetwork};

fn files(_: usize, _: Option<&Input>) -> MissReason {
    MissReason::FilesUntold { why: Untold::ListGone }
}

/// The reasons as users read them.
fn said(reasons: &[MissReason]) -> Vec<String> {
    reasons.iter().map(ToString::to_string).collect()
}

fn recipe(op: OpRecipe, inputs: Vec<Input>) -> Recipe {
    Recipe { format: FORMAT, platform: "linux/amd64".into(), op, inputs }
}

fn input(role: Role, seed: &str) -> Input {
    Input { role, definition: Digest::of(seed), canonical: None, listing: None }
}

fn run(command: &str, variables: &[(&str, &str)]) -> OpRecipe {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    OpRecipe::Run {
        argv: vec!["/bin/sh".into(), "-c".into(), command.into()],
        environment: variables.iter().map(pair).collect(),
        directory: "/".into(),
        user: String::new(),
        network: RunNetwork::Default,
        hostname: HOSTNAME.into(),
        extra_hosts: Vec::new(),
        shm_size: 1,
        mounts: Vec::new(),
        insecure: false,
    }
}

#[test]
fn each_difference_is_named_with_both_values() {
    let before = recipe(run("make", &[("A", "1"), ("B", "2")]), vec![input(Role::Parent, "p")]);
    let mut op = run("make all", &[("A", "x"), ("C", "3")]);
    let OpRecipe::Run { user, extra_hosts, mounts, insecure, .. } = &mut op else { unreachable!() };
    *user = "app".into();
    extra_hosts.push(("db".into(), "10.0.0.1".into()));
    let kind = RunMountKind::Tmpfs { size: None };
    mounts.push(RunMount { target: "/t".into(), read_only: false, kind });
    *insecure = true;
    let after = recipe(op, vec![input(Role::Parent, "q"), input(Role::Context, "c")]);
    assert_eq!(
        said(&after.diff(&before, &files)),
        [
            "instruction changed: `make` → `make all`",
            "variable A changed: `1` → `x`",
            "variable B removed: it was `2`",
            "variable C added: `3`",
            "user changed: `` → `app`",
            "extra hosts changed: `none` → `db:10.0.0.1`",
            "security changed: `sandbox` → `insecure`",
            "mount added: `tmpfs at /t`",
            "the step before it changed",
            "copied files changed (which cannot be told: the list of the old ones is not in the store)",
        ]
    );
    assert_eq!(after.diff(&after, &files), []);
}

#[test]
fn what_comes_from_elsewhere_is_named() {
    let pull = |seed: &str| OpRecipe::Pull { chain: Digest::of(seed) };
    let file = |seed: &str, modified| OpRecipe::FetchFile {
        name: "a.tar".into(),
        digest: Digest::of(seed),
        modified,
    };
    let git = |commit: &str, password: &str| OpRecipe::FetchGit {
        commit: commit.into(),
        folder: String::new(),
        keeps_git_of: Some(format!("https://me:{password}@example.com/r.git")),
        submodules: true,
    };
    let diff = |before, after| said(&recipe(after, Vec::new()).diff(&recipe(before, Vec::new()), &files));
    let short = |seed: &str| Digest::of(seed).short();
    let (one, two) = (short("1"), short("2"));
    assert_eq!(diff(pull("1"), pull("2")), [format!("base image changed: {one} → {two}")]);
    assert_eq!(diff(file("1", 1), file("2", 1)), [format!("fetched file a.tar changed: {one} → {two}")]);
    assert_eq!(diff(file("1", 1), file("1", 2)), ["Last-Modified changed: `1` → `2`"]);
    assert_eq!(diff(git("aa", "x"), git("bb", "x")), ["fetched commit changed: aa → bb"]);
    let passwords = diff(git("aa", "hunter2"), git("aa", "hunter3"));
    assert!(passwords.len() == 1 && !passwords[0].contains("hunter"), "{passwords:?}");
}

#[test]
fn inputs_that_went_have_a_reason() {
    let merge = |inputs| recipe(OpRecipe::Merge, inputs);
    let (parent, stage) = (|| input(Role::Parent, "p"), || input(Role::Stage, "s"));
    let context = || input(Role::Context, "c");
    let diff = |before, after: Vec<Input>| said(&merge(after).diff(&merge(before), &files));
    assert_eq!(diff(vec![parent()], vec![]), ["it starts from nothing now"]);
    assert_eq!(
        diff(vec![stage(), stage()], vec![stage()]),
        ["it reads another stage than in the last build"]
    );
    let other_way = ["the same files are copied in another way"];
    assert_eq!(diff(vec![context()], vec![]), other_way);
    assert_eq!(diff(vec![context(), stage()], vec![stage(), context()]), other_way);
}

#[test]
fn long_values_are_cut_where_they_still_differ() {
    let long = "apt-get install -y one two three four five six seven eight nine ten eleven";
    let reason = MissReason::Instruction { before: format!("{long} curl"), after: format!("{long} wget") };
    assert_eq!(reason.to_string(), "instruction changed: `…nine ten eleven curl` → `…nine ten eleven wget`");
    let many = MissReason::Files { changes: ["a", "b", "c", "d", "e"].map(added).to_vec(), more: 0 };
    let kept = many.clone().with_files(2);
    assert_eq!(many.to_string(), "`a` added, `b` added, `c` added and 2 more");
    assert_eq!(kept.to_string(), "`a` added, `b` added and 3 more");
}

fn added(path: &str) -> crate::base::listing::Change {
    crate::base::listing::Change { path: path.into(), what: What::Added, before: None, after: None }
}

#[test]
fn reasons_have_a_form_for_programs() {
    let reasons = vec![
        MissReason::NeverBuilt,
        MissReason::Variable { name: "V".into(), before: None, after: Some("2".into()) },
        MissReason::Base { image: Some("busybox".into()), before: "aa".into(), after: "bb".into() },
        MissReason::Files { changes: vec![added("app.py")], more: 0 },
        MissReason::FilesUntold { why: Untold::ListGone },
    ];
    let expected = serde_json::json!([
        {"kind": "never-built"},
        {"kind": "variable", "name": "V", "before": null, "after": "2"},
        {"kind": "base", "image": "busybox", "before": "aa", "after": "bb"},
        {"kind": "files", "changes": [{"path": "app.py", "what": "added"}]},
        {"kind": "files-untold", "why": "list-gone"},
    ]);
    assert_eq!(serde_json::to_value(&reasons).unwrap(), expected);
    assert_eq!(serde_json::from_value::<Vec<MissReason>>(expected).unwrap(), reasons);
}

/// One of each kind.
fn all() -> Vec<MissReason> {
    /// Fails to compile where a kind is added that the list may not have.
    const fn known(reason: &MissReason) {
        use MissReason as R;
        match reason {
            R::NeverBuilt | R::NewInstruction | R::Failed | R::Forced | R::Evicted | R::Format => {}
            R::Instruction { .. } | R::Variable { .. } | R::Setting { .. } | R::Mount { .. } => {}
            R::Base { .. } | R::Fetched { .. } | R::Files { .. } | R::FilesUntold { .. } => {}
            R::Parent | R::Stage | R::OtherParent { .. } | R::OtherStage => {}
        }
    }
    let (before, after) = (String::new, String::new);
    let all = vec![
        MissReason::NeverBuilt,
        MissReason::NewInstruction,
        MissReason::Failed,
        MissReason::Forced,
        MissReason::Evicted,
        MissReason::Format,
        MissReason::Instruction { before: before(), after: after() },
        MissReason::Variable { name: "V".into(), before: None, after: None },
        MissReason::Setting { what: "user".into(), before: before(), after: after() },
        MissReason::Mount { before: None, after: None },
        MissReason::Base { image: None, before: before(), after: after() },
        MissReason::Fetched { what: "commit".into(), before: before(), after: after() },
        MissReason::Files { changes: Vec::new(), more: 1 },
        MissReason::FilesUntold { why: Untold::ListGone },
        MissReason::Parent,
        MissReason::Stage,
        MissReason::OtherParent { before: None, after: None },
        MissReason::OtherStage,
    ];
    all.iter().for_each(known);
    all
}

/// The README's table: | `kind`, `kind` … | `field` … | meaning |
#[test]
fn the_readme_has_every_kind_with_every_field() {
    let readme = include_str!("../../../README.md");
    let section = readme.split("\n## Reasons for programs\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let words =
        |cell: &str| -> BTreeSet<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let mut documented = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').collect();
        documented.extend(words(cells[1]).into_iter().map(|kind| (kind, words(cells[2]))));
    }
    let written = all().into_iter().map(|reason| {
        let value = serde_json::to_value(reason).unwrap();
        let mut fields: BTreeSet<String> = value.as_object().unwrap().keys().cloned().collect();
        fields.remove("kind");
        (value["kind"].as_str().unwrap().to_owned(), fields)
    });
    assert_eq!(documented, written.collect());
}

fn any_op() -> impl Strategy<Value = OpRecipe> {
    let few = || prop_oneof![Just("a".to_owned()), Just("b".to_owned())];
    let command = (few(), few(), few(), any::<bool>(), 0..2u64, few()).prop_map(
        |(command, value, where_, insecure, size, who)| {
            let mut op = run(&command, &[("V", &value)]);
            let OpRecipe::Run { directory, insecure: i, shm_size, user, hostname, network, .. } = &mut op
            else {
                unreachable!()
            };
            (*directory, *i, *shm_size, *user) = (where_.clone(), insecure, size, who);
            *hostname = where_;
            *network = if insecure { RunNetwork::Host } else { RunNetwork::None };
            op
        },
    );
    let option = || proptest::option::of(few());
    let copy = (few(), option(), option(), prop::collection::vec(any::<bool>(), 0..3), few()).prop_map(
        |(destination, owner, mode, unpack, name)| {
            let files = vec![(name.clone(), name)];
            OpRecipe::Copy { destination, owner, mode, unpack, files }
        },
    );
    let git =
        (few(), few(), option(), any::<bool>()).prop_map(|(commit, folder, keeps_git_of, submodules)| {
            OpRecipe::FetchGit { commit, folder, keeps_git_of, submodules }
        });
    let file = (few(), few(), 0..2i64).prop_map(|(name, bytes, modified)| OpRecipe::FetchFile {
        name,
        digest: Digest::of(bytes),
        modified,
    });
    prop_oneof![
        command,
        copy,
        git,
        file,
        Just(OpRecipe::Merge),
        few().prop_map(|seed| OpRecipe::Pull { chain: Digest::of(seed) }),
        few().prop_map(|seed| OpRecipe::FetchArchive { digest: Digest::of(seed) }),
        (few(), few()).prop_map(|(path, user)| OpRecipe::Directory { path, user }),
    ]
}

fn any_recipe() -> impl Strategy<Value = Recipe> {
    let role = prop_oneof![Just(Role::Context), Just(Role::Stage)];
    let inputs = prop::collection::vec((role, 0..2u8), 0..3);
    (any_op(), any::<Option<bool>>(), inputs, 0..2u32).prop_map(|(op, parent, sources, format)| {
        let parent = parent.map(|one| input(Role::Parent, if one { "1" } else { "2" }));
        let sources = sources.into_iter().map(|(role, seed)| input(role, &seed.to_string()));
        Recipe { format, ..recipe(op, parent.into_iter().chain(sources).collect()) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// A miss without a reason is a bug, and so is a reason without a miss.
    #[test]
    fn every_difference_of_a_key_has_a_reason(before in any_recipe(), mut after in any_recipe(), same: bool) {
        if same {
            after.op = before.op.clone();
        }
        let reasons = after.diff(&before, &files);
        prop_assert_eq!(reasons.is_empty(), after.definition_key() == before.definition_key());
        let json = serde_json::to_string(&reasons).unwrap();
        prop_assert_eq!(serde_json::from_str::<Vec<MissReason>>(&json).unwrap(), reasons);
    }
}

#[test]
fn the_first_cause_is_followed_down() {
    use crate::graph::{Directory, Node, Op, Origin};
    use crate::oci::Platform;
    let mut graph = Graph::default();
    let mut add = |text: &str, parent, sources| {
        let origin =
            Origin { service: "s".into(), stage: "0".into(), ordinal: 1, text: text.into(), span: None };
        let op = Op::Directory(Directory { path: text.into(), user: String::new() });
        let (platform, unkeyed_environment) = (Platform::new("linux", "amd64", None), BTreeMap::new());
        graph.add(Node { op, parent, sources, platform, origins: vec![origin], unkeyed_environment })
    };
    let base = add("FROM x", None, vec![]);
    let make = add("RUN make", Some(base), vec![]);
    let copy = add("COPY --from=0", None, vec![make]);
    let last = add("RUN last", Some(copy), vec![]);
    let moved = MissReason::Base { image: None, before: "1".into(), after: "2".into() };
    let by_step = BTreeMap::from([
        (make, vec![MissReason::Parent]),
        (copy, vec![MissReason::Stage]),
        (last, vec![MissReason::Parent]),
    ]);
    let below = BTreeMap::from([(base, vec![moved])]);
    let reasons = Reasons { by_step, below, first: (0..4).map(NodeId).collect() };
    assert_eq!(reasons.line(&graph, last), "`FROM x`: base image changed: 1 → 2");
    assert_eq!(reasons.line(&graph, base), "base image changed: 1 → 2");
    let cause = reasons.cause(&graph, last, Some("s")).unwrap();
    assert_eq!((cause.step.as_str(), cause.text.as_str()), ("0/1", "FROM x"));
}
