//! Build checks on the real program: warnings of a build, `--check` and its exit code, what makes them
//! errors, and what `--call` and `plan` tell of a Dockerfile. None of it needs an engine.

use crate::scene::Scene;

const SHARED: &str = "services:\n  one:\n    build: .\n  two:\n    build: .\n  clean:\n    build: ./clean\n";

/// Three services, two of them from one Dockerfile that the checks have something to say about.
fn scene() -> Scene {
    let scene = Scene::empty();
    scene
        .write("compose.yaml", SHARED)
        .write("Dockerfile", "FROM scratch AS Base\nCOPY Dockerfile $WHERE/\nCMD echo one\n")
        .write("clean/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    scene
}

fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[test]
fn a_build_says_each_finding_once_and_goes_on() {
    if !rustix::process::geteuid().is_root() {
        return crate::scene::skip("root");
    }
    let scene = scene();
    for _ in 0..2 {
        let built = scene.shipway(&["--engine", "none", "build"]).ok();
        for rule in ["StageNameCasing", "UndefinedVar", "JSONArgsRecommended"] {
            assert_eq!(count(&built.err, &format!("warning[{rule}]")), 1, "{}", built.err);
        }
        assert!(built.err.contains("Dockerfile:2:17") && built.err.contains("^^^^^^^"), "{}", built.err);
    }
    let image = scene.shipway(&["--engine", "none", "image", "build", "."]).ok();
    assert_eq!(count(&image.err, "warning["), 3, "{}", image.err);
    let plan = scene.shipway(&["--engine", "none", "plan"]).ok();
    assert_eq!(count(&plan.err, "warning["), 3, "{}", plan.err);
}

#[test]
fn a_failing_build_says_them_too() {
    let scene = Scene::empty();
    scene.write("Dockerfile", "FROM scratch AS Base\nRUN [\"/nothing\"]\n");
    let failed = scene.shipway(&["--engine", "none", "image", "build", "."]);
    assert_eq!((failed.code, count(&failed.err, "warning[StageNameCasing]")), (Some(1), 1), "{}", failed.err);
}

#[test]
fn check_builds_nothing_and_fails_if_there_is_anything_to_say() {
    let scene = scene();
    let checked = scene.shipway(&["--engine", "none", "build", "--check"]).fails(1, &[]);
    assert_eq!(count(&checked.out, "warning["), 3, "{}", checked.out);
    assert!(
        checked.out.contains("[one, two]\nCheck complete, 3 warnings have been found!"),
        "{}",
        checked.out
    );
    assert!(checked.out.contains("[clean]\nCheck complete, no warnings found."), "{}", checked.out);
    let clean = scene.shipway(&["--engine", "none", "build", "--check", "clean"]).ok();
    assert_eq!(clean.out, "Check complete, no warnings found.\n");
    let skipping = ["--engine", "none", "image", "build", "--check", "--build-arg"];
    let all = [&skipping[..], &["BUILDKIT_DOCKERFILE_CHECK=skip=all", "."]].concat();
    scene.shipway(&all).ok();
    let wrong = [&skipping[..], &["BUILDKIT_DOCKERFILE_CHECK=skpi=all", "."]].concat();
    assert!(scene.shipway(&wrong).fails(1, &[]).out.contains("did you mean `skip`?"));
}

#[test]
fn a_check_follows_every_stage_unless_a_target_is_named() {
    let scene = Scene::empty();
    scene.write("Dockerfile", "FROM scratch AS one\nCMD echo 1\nFROM scratch AS two\nCMD echo 2\n");
    let lines = |arguments: &[&str]| {
        let checked = scene.shipway(&[&["--engine", "none", "image", "build"], arguments, &["."]].concat());
        (checked.code, count(&checked.out, "--> Dockerfile:"))
    };
    assert_eq!(lines(&["--check"]), (Some(1), 2));
    assert_eq!(lines(&["--check", "--target", "one"]), (Some(1), 1));
    assert_eq!(lines(&["--call=check,ignorestatus=true"]), (Some(0), 2));
}

#[test]
fn findings_are_errors_where_the_file_says_so() {
    let scene = Scene::empty();
    scene.write("Dockerfile", "# check=error=true\nFROM scratch AS Base\nCOPY Dockerfile /\n");
    scene
        .shipway(&["--engine", "none", "image", "build", "."])
        .fails(1, &["error[StageNameCasing]", "Dockerfile:2:17"]);
    assert!(scene.shipway(&["--engine", "none", "image", "ls", "-q"]).ok().out.is_empty());
    scene.write(
        "Dockerfile",
        "# check=error=true;skip=StageNameCasing\nFROM scratch AS Base\nCOPY Dockerfile /\n",
    );
    scene.shipway(&["--engine", "none", "image", "build", "--check", "."]).ok();
}

#[test]
fn the_json_of_a_check_is_that_of_buildx() {
    let scene = Scene::empty();
    scene.write("Dockerfile", "FROM scratch\nLABEL a=$X \\\n  b=c\nNOTHING\n");
    let check = ["--engine", "none", "image", "build", "--call=check,format=json", "."];
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let broken = json(&scene.shipway(&check).fails(1, &[]).out);
    assert_eq!(broken["buildError"]["location"]["ranges"][0]["start"]["line"], 4, "{broken}");
    scene.write("Dockerfile", "FROM scratch\nLABEL a=$X \\\n  b=c\n");
    let found = json(&scene.shipway(&check).fails(1, &[]).out);
    let warning = &found["warnings"][0];
    assert_eq!(warning["ruleName"], "UndefinedVar");
    assert_eq!(warning["url"], "https://docs.docker.com/go/dockerfile/rule/undefined-var/");
    assert_eq!(warning["location"]["ranges"].as_array().unwrap().len(), 2);
    assert_eq!((&found["sources"][0]["filename"], found.get("buildError")), (&"Dockerfile".into(), None));
}

#[test]
fn targets_and_arguments_of_a_dockerfile_are_shown() {
    let scene = scene();
    let text =
        "# base is below\nFROM scratch AS base\n# V is how\nARG V=1\nFROM base AS top\nCOPY Dockerfile /\n";
    scene.write("clean/Dockerfile", text);
    let call = |call: &str| {
        let flags = ["--engine", "none", "image", "build", "--build-arg", "V=2", call, "clean"];
        scene.shipway(&flags).ok().out
    };
    assert_eq!(
        call("--call=outline"),
        "TARGET: top\n\nBUILD ARG   VALUE     DESCRIPTION\nV           2         is how\n\n"
    );
    assert_eq!(
        call("--call=targets"),
        "TARGET          DESCRIPTION\nbase            is below\ntop (default)   \n"
    );
    let plan = scene.shipway(&["--engine", "none", "plan", "--targets", "clean"]).ok();
    assert_eq!(plan.out, call("--call=targets"));
    let plan = scene.shipway(&["--engine", "none", "plan", "--outline", "--format", "json"]).ok();
    assert_eq!(count(&plan.out, "\"service\": "), 3, "{}", plan.out);
    scene.shipway(&["image", "build", "--call=nothing", "."]).fails(1, &["there is no method `nothing`"]);
}

#[test]
fn build_arguments_of_buildkit_are_honoured_or_said_to_have_no_effect() {
    let Some(scene) = Scene::with_busybox() else { return };
    let proxies = "test \"$http_proxy$HTTP_PROXY$https_proxy\" = one-one-";
    let text = format!("FROM busybox\nRUN --network=none {proxies} && test \"$(hostname)\" = box\n");
    scene.write("Dockerfile", &text);
    let build = |proxy: &str| {
        let flags = ["--engine", "none", "image", "build", "--build-arg", proxy, "--build-arg"];
        let more = ["BUILDKIT_SANDBOX_HOSTNAME=box", "--build-arg", "BUILDKIT_INLINE_CACHE=1", "."];
        scene.shipway(&[&flags[..], &more].concat()).ok()
    };
    let first = build("http_proxy=one-").says(&["`BUILDKIT_INLINE_CACHE` has no effect"]);
    assert!(!first.err.contains("declared by no ARG"), "{}", first.err);
    // A proxy is no part of the key: the step would fail if it ran again.
    build("http_proxy=other");
}
