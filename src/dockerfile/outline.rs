//! What a Dockerfile offers to its users: the stages that can be built, and for one of them the arguments
//! that it takes and the secrets and ssh agents that it asks for (BuildKit's sub-requests `targets` and
//! `outline`).
//!
//! A description is the line of the comment above `FROM` or `ARG` that begins with the name. An argument
//! belongs to a target if one of the stages that the target needs declares it, or if a `FROM` of them uses
//! it, together with those that its default uses. Nothing here is printed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::base::diag::Span;

use super::ast::{Dockerfile, Instruction, Kind, Word};
use super::mount::MountKind;
use super::trace::{self, Facts, Step};
use super::words;

/// A stage that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name in lower case; empty where it has none.
    pub name: String,
    /// What the comment above it says; may be empty.
    pub description: String,
    /// Whether it is built where no target is named.
    pub is_default: bool,
    /// What it stands on, as written.
    pub base: String,
    /// `--platform`, as written.
    pub platform: Option<String>,
    /// Its `FROM`.
    pub span: Span,
}

/// What a target takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The target's name in lower case; empty where it has none.
    pub name: String,
    /// What the comment above it says; may be empty.
    pub description: String,
    /// Its arguments, in the order of the file.
    pub arguments: Vec<OutlineArgument>,
    /// The secrets that its stages mount, in the order of the file.
    pub secrets: Vec<Need>,
    /// The ssh agents that its stages mount, in the order of the file.
    pub agents: Vec<Need>,
}

/// An argument of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineArgument {
    /// Its name.
    pub name: String,
    /// The value that it has now: what is given, else its default; may be empty.
    pub value: String,
    /// What the comment above it says; may be empty.
    pub description: String,
    /// The `ARG` that declares it.
    pub span: Span,
}

/// A secret or an ssh agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Its id.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// The `RUN` that mounts it.
    pub span: Span,
}

/// The stages in the order of the file.
pub fn targets(dockerfile: &Dockerfile) -> Vec<Target> {
    let last = dockerfile.stages.len().saturating_sub(1);
    let target = |(index, stage): (usize, &super::Stage)| {
        let name = name(dockerfile, index);
        Target {
            description: description(&stage.comments, &name),
            name,
            is_default: index == last,
            base: stage.base.text.clone(),
            platform: stage.platform.as_ref().map(|platform| platform.text.clone()),
            span: stage.span.clone(),
        }
    };
    dockerfile.stages.iter().enumerate().map(target).collect()
}

/// What the stage number `target` takes. `facts` has what the stages begin with that it reaches; the others
/// are passed over.
pub fn outline(dockerfile: &Dockerfile, facts: &Facts, target: usize) -> Outline {
    let stages = trace::stages(dockerfile, facts);
    let mut collector = Collector {
        dockerfile,
        head: head(dockerfile, facts),
        arguments: BTreeMap::new(),
        secrets: BTreeMap::new(),
        agents: BTreeMap::new(),
        stages,
        seen: BTreeSet::new(),
    };
    collector.stage(target);
    let comments = dockerfile.stages.get(target).map_or(&[][..], |stage| &stage.comments);
    let name = name(dockerfile, target);
    let mut arguments: Vec<Declared> = collector.arguments.into_values().collect();
    arguments.sort_by_key(|declared| (declared.argument.span.range.start, declared.ordinal));
    let mut outline = Outline {
        description: description(comments, &name),
        name,
        arguments: arguments.into_iter().map(|declared| declared.argument).collect(),
        secrets: collector.secrets.into_values().collect(),
        agents: collector.agents.into_values().collect(),
    };
    outline.secrets.sort_by_key(|need| need.span.range.start);
    outline.agents.sort_by_key(|need| need.span.range.start);
    outline
}

/// An argument, and which of its instruction's it is.
#[derive(Clone)]
struct Declared {
    argument: OutlineArgument,
    ordinal: usize,
}

fn name(dockerfile: &Dockerfile, stage: usize) -> String {
    let name = dockerfile.stages.get(stage).and_then(|stage| stage.name.as_ref());
    name.map_or_else(String::new, |name| name.text.to_lowercase())
}

/// The rest of the line that begins with the name.
fn description(comments: &[Word], name: &str) -> String {
    let rest = |comment: &Word| Some(comment.text.strip_prefix(name)?.strip_prefix(' ')?.to_owned());
    if name.is_empty() { String::new() } else { comments.iter().find_map(rest).unwrap_or_default() }
}

/// An argument at the head of the file, and those that its default uses.
struct Head {
    declared: Declared,
    uses: BTreeSet<String>,
}

fn head(dockerfile: &Dockerfile, facts: &Facts) -> BTreeMap<String, Head> {
    let globals = trace::globals(dockerfile, &facts.platform, &facts.arguments);
    let mut all: BTreeMap<String, Head> = BTreeMap::new();
    for instruction in &dockerfile.head {
        for (ordinal, (name, default)) in instruction.declared().iter().enumerate() {
            let given = facts.arguments.contains_key(&name.text);
            let word = default.as_ref().filter(|_| !given);
            let mut uses = word.map(|word| variables(dockerfile, word)).unwrap_or_default();
            if uses.remove(&name.text) {
                uses.extend(all.get(&name.text).into_iter().flat_map(|earlier| earlier.uses.clone()));
            }
            let value = globals.get(&name.text).cloned().unwrap_or_default();
            let declared = declared(instruction, ordinal, &name.text, value);
            all.insert(name.text.clone(), Head { declared, uses });
        }
    }
    all
}

fn declared(instruction: &Instruction, ordinal: usize, name: &str, value: String) -> Declared {
    let argument = OutlineArgument {
        name: name.to_owned(),
        value,
        description: description(&instruction.comments, name),
        span: instruction.span.clone(),
    };
    Declared { argument, ordinal }
}

/// The names that a word refers to.
fn variables(dockerfile: &Dockerfile, word: &Word) -> BTreeSet<String> {
    let names = RefCell::new(BTreeSet::new());
    let note = |name: &str| {
        names.borrow_mut().insert(name.to_owned());
        Some(String::new())
    };
    // A word that cannot be expanded is a mistake that lowering tells.
    let _ = words::expand(&word.text, &note, dockerfile.escape());
    names.into_inner()
}

/// What the stages ask for; the one nearest to the target says how.
struct Collector<'a> {
    dockerfile: &'a Dockerfile,
    head: BTreeMap<String, Head>,
    stages: Vec<Option<trace::Stage<'a>>>,
    seen: BTreeSet<usize>,
    arguments: BTreeMap<String, Declared>,
    secrets: BTreeMap<String, Need>,
    agents: BTreeMap<String, Need>,
}

impl Collector<'_> {
    fn stage(&mut self, index: usize) {
        let Some(Some(stage)) = self.stages.get_mut(index).map(Option::take) else { return };
        if !self.seen.insert(index) {
            return;
        }
        let mut own = BTreeMap::new();
        let mut used = self.used_by_from(index, stage.base);
        let (mut secrets, mut agents) = (BTreeMap::new(), BTreeMap::new());
        let mut below: Vec<usize> = stage.base.into_iter().collect();
        for step in &stage.steps {
            for (ordinal, argument) in step.arguments.iter().enumerate() {
                used.insert(argument.name.to_owned());
                if !argument.from_head {
                    let value = argument.value.clone().unwrap_or_default();
                    let one = declared(step.instruction, ordinal, argument.name, value);
                    own.insert(argument.name.to_owned(), one);
                }
            }
            needs(step, &mut secrets, &mut agents);
            below.extend(self.sources(index, step));
        }
        self.take_arguments(used, &own);
        add_new(&mut self.secrets, secrets);
        add_new(&mut self.agents, agents);
        below.into_iter().for_each(|below| self.stage(below));
    }

    /// The variables in the `FROM` of a stage and of those of the file that it stands on.
    fn used_by_from(&self, index: usize, base: Option<usize>) -> BTreeSet<String> {
        let stage = &self.dockerfile.stages[index];
        let words = std::iter::once(&stage.base).chain(&stage.platform);
        let mut used: BTreeSet<String> = words.flat_map(|word| variables(self.dockerfile, word)).collect();
        if let Some(base) = base {
            let below = self.stages.get(base).and_then(Option::as_ref).and_then(|stage| stage.base);
            used.extend(self.used_by_from(base, below));
        }
        used
    }

    /// The stages that a step reads from.
    fn sources(&self, index: usize, step: &Step<'_>) -> Vec<usize> {
        let names: Vec<&Word> = match &step.instruction.kind {
            Kind::Copy(copy) => copy.from.iter().collect(),
            Kind::Run(run) => run.mounts.iter().filter_map(|mount| mount.from.as_ref()).collect(),
            _ => Vec::new(),
        };
        names.iter().filter_map(|name| self.dockerfile.source_stage(index, &name.text)).collect()
    }

    /// Adds the arguments that are used: the stage's own, else those at the head with all that they use.
    fn take_arguments(&mut self, used: BTreeSet<String>, own: &BTreeMap<String, Declared>) {
        let mut left: Vec<String> = used.into_iter().collect();
        let mut seen = BTreeSet::new();
        while let Some(name) = left.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let head = self.head.get(&name);
            if !own.contains_key(&name) {
                left.extend(head.into_iter().flat_map(|head| head.uses.clone()));
            }
            if let Some(declared) = own.get(&name).or(head.map(|head| &head.declared)) {
                self.arguments.entry(name).or_insert_with(|| declared.clone());
            }
        }
    }
}

/// Adds what is not there yet.
fn add_new(all: &mut BTreeMap<String, Need>, more: BTreeMap<String, Need>) {
    for (name, need) in more {
        all.entry(name).or_insert(need);
    }
}

/// The secrets and agents of a step. Of several in a stage a required one counts, else the first.
fn needs(step: &Step<'_>, secrets: &mut BTreeMap<String, Need>, agents: &mut BTreeMap<String, Need>) {
    for mount in &step.mounts {
        let id = mount.source.clone().or_else(|| mount.id.clone()).filter(|id| !id.is_empty());
        let base = || Some(mount.target.as_ref()?.rsplit('/').next()?.to_owned());
        let (all, name) = match mount.kind {
            MountKind::Secret => (&mut *secrets, id.or_else(base)),
            MountKind::Ssh => (&mut *agents, id.or_else(|| Some("default".to_owned()))),
            _ => continue,
        };
        let Some(name) = name else { continue };
        if mount.required || !all.contains_key(&name) {
            let span = step.place(&step.instruction.span);
            all.insert(name.clone(), Need { name, required: mount.required, span });
        }
    }
}
