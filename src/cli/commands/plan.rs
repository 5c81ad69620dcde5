//! `plan` and `why`: what would run and why, and why the last build's steps ran. The texts are pure.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use crate::build::{BuildPlan, End, PlannedStep, ServiceHistory, StepHistory, last_build};
use crate::cli::args::{Plan, PlanFormat, Why, WhyFormat};
use crate::cli::failure::Failure;
use crate::cli::render::text::shorten;
use crate::compose::Project;
use crate::graph::BuildRequest;
use crate::store::Stamp;
use crate::up::human_duration;

use super::build::{Pushing, Work, plan_only, requests};
use super::call::{outline, targets};
use super::project::chosen;
use super::{Context, Ended};

/// Shows the build graph. Runs nothing.
pub(in crate::cli) fn plan(context: &mut Context<'_>, flags: &Plan) -> Ended {
    let project = context.project(&flags.services)?;
    if flags.outline || flags.targets {
        return described(context, &project, flags);
    }
    let Some(plan) = planned(context, &project, &flags.services)? else {
        context.screen.warning("no service has anything to build");
        return Ok(ExitCode::SUCCESS);
    };
    let text = match flags.format {
        PlanFormat::Text => text(&plan),
        PlanFormat::Json => plan.steps.iter().map(json).collect(),
        PlanFormat::Dot => dot(&plan),
    };
    context.screen.result(&text);
    Ok(ExitCode::SUCCESS)
}

/// Shows what the Dockerfiles offer instead of their steps.
fn described(context: &Context<'_>, project: &Project, flags: &Plan) -> Ended {
    let json = match flags.format {
        PlanFormat::Text => false,
        PlanFormat::Json => true,
        PlanFormat::Dot => {
            return Err(Failure::Usage("--outline and --targets are no graph: text or json".to_owned()));
        }
    };
    let requests = requests(context, project)?;
    let wanted = buildable(project, &requests, &flags.services);
    if wanted.is_empty() {
        context.screen.warning("no service has anything to build");
        return Ok(ExitCode::SUCCESS);
    }
    let work = work(project, &requests, &wanted);
    if flags.outline { outline(context, &work, json) } else { targets(context, &work, json) }
}

/// Says for each service why the steps of its last build ran; before there was one, why each would.
pub(in crate::cli) fn why(context: &mut Context<'_>, flags: &Why) -> Ended {
    let project = context.project(&flags.services)?;
    let store = context.store()?;
    let requests = requests(context, &project)?;
    let (mut text, mut unknown) = (String::new(), Vec::new());
    for service in buildable(&project, &requests, &flags.services) {
        match last_build(&store, &project.name, &service) {
            Some(history) => text.push_str(&match flags.format {
                WhyFormat::Text => told(&service, &history, Stamp::now()),
                WhyFormat::Json => told_json(&service, &history),
            }),
            None => unknown.push(service),
        }
    }
    if !unknown.is_empty()
        && let Some(plan) = planned(context, &project, &unknown)?
    {
        text.push_str(&match flags.format {
            WhyFormat::Text => would(&plan, &unknown),
            WhyFormat::Json => would_json(&plan, &unknown),
        });
    }
    context.screen.result(&text);
    Ok(ExitCode::SUCCESS)
}

/// The plan for the named services (none: all); `None` if none of them builds anything.
fn planned(
    context: &Context<'_>,
    project: &Project,
    services: &[String],
) -> Result<Option<BuildPlan>, Failure> {
    let requests = requests(context, project)?;
    let wanted = buildable(project, &requests, services);
    if wanted.is_empty() {
        return Ok(None);
    }
    plan_only(context, &work(project, &requests, &wanted)).map(Some)
}

/// What planning is asked for.
fn work<'w>(project: &'w Project, requests: &'w [BuildRequest], wanted: &'w [String]) -> Work<'w> {
    Work {
        project: &project.name,
        directory: &project.working_dir,
        requests,
        wanted,
        no_cache: false,
        pull: false,
        hand_over: true,
        pushing: Pushing::default(),
        silent_hits: false,
    }
}

fn buildable(project: &Project, requests: &[BuildRequest], services: &[String]) -> Vec<String> {
    let mut wanted = chosen(project, services, false);
    wanted.retain(|service| requests.iter().any(|request| request.service == *service));
    wanted
}

/// A line a step: number, services, place, instruction, key, and `hit` or why it would run.
pub(super) fn text(plan: &BuildPlan) -> String {
    let mut text = String::new();
    for step in &plan.steps {
        let inputs: Vec<_> = step.inputs.iter().map(|input| format!("#{input}")).collect();
        let after = if inputs.is_empty() { String::new() } else { format!("  on {}", inputs.join(", ")) };
        let end = step.reason.as_ref().map_or_else(|| "hit".to_owned(), |reason| format!("because {reason}"));
        let services = step.services.join(", ");
        let _ = writeln!(text, "#{} [{services}] {}  {end}  ({}{after})", step.number, step.text, step.key);
    }
    let misses = plan.steps.iter().filter(|step| step.reason.is_some()).count();
    let _ = match misses {
        0 => writeln!(text, "{} steps: nothing would run", plan.steps.len()),
        misses => writeln!(text, "{} steps: {misses} would run", plan.steps.len()),
    };
    text
}

fn json(value: &impl Serialize) -> String {
    // Strings and numbers only: there is nothing that has no JSON form.
    serde_json::to_string(value).map_or_else(|_| String::new(), |line| line + "\n")
}

/// The graph for Graphviz: steps that would run are filled and say why. Long texts are cut off; the whole
/// instruction is the tooltip.
fn dot(plan: &BuildPlan) -> String {
    const WIDEST: usize = 40;
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let line = |text: &str| quoted(&shorten(text, WIDEST));
    let mut text = "digraph plan {\n  rankdir=BT;\n  node [shape=box, fontname=\"sans-serif\"];\n".to_owned();
    for step in &plan.steps {
        let mut label =
            format!("{}\\n{}", line(&format!("[{}]", step.services.join(", "))), line(&step.text));
        let mut style = String::new();
        if let Some(reason) = &step.reason {
            label.push_str(&format!("\\nbecause {}", line(reason)));
            style.push_str(", style=filled, fillcolor=\"#f2d8a7\"");
        }
        let tooltip = quoted(&step.text);
        let _ = writeln!(text, "  s{} [label=\"{label}\", tooltip=\"{tooltip}\"{style}];", step.number);
        for input in &step.inputs {
            let _ = writeln!(text, "  s{} -> s{input};", step.number);
        }
    }
    text.push_str("}\n");
    text
}

/// Why the steps of a service's last build ran.
fn told(service: &str, history: &ServiceHistory, now: Stamp) -> String {
    let age = human_duration(now.seconds.saturating_sub(history.built.seconds));
    let mut text = format!("{service}: built {age} ago\n");
    for step in &history.steps {
        if let Some(reason) = &step.ran {
            let end = if step.end == End::Failed { "failed; it ran" } else { "ran" };
            let _ = writeln!(text, "  {}  {end} because {reason}", step.text);
        } else if step.end != End::Done {
            let _ = writeln!(text, "  {}  was not reached", step.text);
        }
    }
    let kept = history.steps.iter().filter(|step| outcome(step) == "hit").count();
    if kept > 0 {
        let _ = writeln!(text, "  {kept} of {} steps were hits", history.steps.len());
    }
    text
}

/// How a step of a build ended, in a word.
const fn outcome(step: &StepHistory) -> &'static str {
    match (step.end, &step.ran) {
        (End::Failed, _) => "failed",
        (End::NotReached | End::NeverReached, _) => "not-reached",
        (End::Done, Some(_)) => "ran",
        (End::Done, None) => "hit",
    }
}

/// The last build of a service as one object.
fn told_json(service: &str, history: &ServiceHistory) -> String {
    let step = |step: &StepHistory| {
        serde_json::json!({
            "name": step.name, "text": step.text, "outcome": outcome(step), "took_ms": step.took_ms,
            "reason": step.ran, "misses": step.misses, "first_cause": step.first_cause,
        })
    };
    let steps: Vec<_> = history.steps.iter().map(step).collect();
    json(&serde_json::json!({"service": service, "built": history.built.seconds, "steps": steps}))
}

/// The same for services that were never built: what their steps would do.
fn would_json(plan: &BuildPlan, services: &[String]) -> String {
    let step = |step: &PlannedStep| {
        let outcome = if step.reason.is_some() { "would-run" } else { "hit" };
        serde_json::json!({
            "name": step.step, "text": step.text, "outcome": outcome, "took_ms": null,
            "reason": step.reason, "misses": step.misses, "first_cause": step.first_cause,
        })
    };
    let of = |service: &String| {
        let own = plan.steps.iter().filter(|step| step.services.contains(service));
        let steps: Vec<_> = own.map(step).collect();
        json(&serde_json::json!({"service": service, "built": null, "steps": steps}))
    };
    services.iter().map(of).collect()
}

/// Why the steps of services that were never built would run.
fn would(plan: &BuildPlan, services: &[String]) -> String {
    let mut text = String::new();
    for service in services {
        let _ = writeln!(text, "{service}: not built yet");
        for step in plan.steps.iter().filter(|step| step.services.contains(service)) {
            if let Some(reason) = &step.reason {
                let _ = writeln!(text, "  {}  would run because {reason}", step.text);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> BuildPlan {
        let step = |number: usize, inputs: &[usize], name: &str, reason: Option<&str>| PlannedStep {
            number,
            inputs: inputs.to_vec(),
            services: vec!["web".to_owned()],
            step: format!("0/{number}"),
            text: name.to_owned(),
            key: format!("key{number}"),
            reason: reason.map(str::to_owned),
            reasons: reason.map(str::to_owned).into_iter().collect(),
            misses: Vec::new(),
            first_cause: None,
        };
        let steps =
            vec![step(0, &[], "FROM debian", None), step(1, &[0], "RUN echo \"x\"", Some("never built"))];
        BuildPlan { steps, warnings: Vec::new() }
    }

    #[test]
    fn a_plan_has_a_line_a_step() {
        let expected = "#0 [web] FROM debian  hit  (key0)\n\
            #1 [web] RUN echo \"x\"  because never built  (key1  on #0)\n\
            2 steps: 1 would run\n";
        assert_eq!(text(&plan()), expected);
        assert!(json(&plan().steps[0]).starts_with(r#"{"number":0,"inputs":[],"services":["web"]"#));
    }

    #[test]
    fn a_plan_is_a_graph() {
        let expected = "digraph plan {\n  rankdir=BT;\n  node [shape=box, fontname=\"sans-serif\"];\n  \
            s0 [label=\"[web]\\nFROM debian\", tooltip=\"FROM debian\"];\n  \
            s1 [label=\"[web]\\nRUN echo \\\"x\\\"\\nbecause never built\", \
            tooltip=\"RUN echo \\\"x\\\"\", style=filled, fillcolor=\"#f2d8a7\"];\n  s1 -> s0;\n}\n";
        assert_eq!(dot(&plan()), expected);
    }

    #[test]
    fn before_a_build_it_is_said_what_would_run() {
        let expected = "web: not built yet\n  RUN echo \"x\"  would run because never built\n";
        assert_eq!(would(&plan(), &["web".to_owned()]), expected);
    }
}
