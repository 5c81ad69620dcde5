//! The stages as a build sees them: each instruction with its words expanded, variables followed from
//! instruction to instruction.
//!
//! Build checks that BuildKit applies while it carries a stage out, and the outline of a target, read this
//! instead of the file. What no Dockerfile says (what each stage begins with, build arguments) is handed in
//! as [`Facts`]. A stage that is not reached has no steps. Triggers of the base image or of the stage below
//! stand at the stage's `FROM`.

use std::cell::{Cell, RefCell};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::base::diag::{Span, closest};

use super::ast::{Dockerfile, Heredoc, Instruction, Kind, Pair, Word};
use super::mount::{Mount, MountOptions};
use super::words;

/// What is known beside the file.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The build arguments that are given.
    pub arguments: BTreeMap<String, String>,
    /// `TARGETPLATFORM` and its kin, as `FROM` sees them.
    pub platform: BTreeMap<String, String>,
    /// What each stage begins with; `None` for a stage that is not built.
    pub stages: Vec<Option<Beginning>>,
}

/// What a stage begins with.
#[derive(Clone, Debug, Default)]
pub struct Beginning {
    /// The stage of the same file that it stands on.
    pub stage: Option<usize>,
    /// The variables of its base, in the order in which they were set. Those of a stage of the same file
    /// are known without.
    pub variables: Vec<(String, String)>,
    /// Whether its base has a shell of its own (`SHELL`).
    pub has_shell: bool,
    /// The `ONBUILD` triggers of its base.
    pub triggers: Vec<Instruction>,
    /// The platforms, where its base image is for another one than the stage.
    pub mismatch: Option<PlatformMismatch>,
}

/// A base image for another platform than the stage's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformMismatch {
    /// The platform that the stage is built for.
    pub expected: String,
    /// The platform of the image.
    pub actual: String,
}

impl Facts {
    /// What the file alone says: every stage is built, and images have no variables.
    pub fn of_file(dockerfile: &Dockerfile) -> Self {
        let beginning = |index: usize| {
            let base = &dockerfile.stages[index].base.text;
            Some(Beginning { stage: dockerfile.stage_before(index, base), ..Beginning::default() })
        };
        Self { stages: (0..dockerfile.stages.len()).map(beginning).collect(), ..Self::default() }
    }
}

/// So many undefined variables of a file get a suggestion.
const MOST_LOOKS: usize = 50;

/// One instruction of a stage that is reached.
pub(super) struct Step<'a> {
    pub(super) instruction: &'a Instruction,
    /// The `FROM` of its stage, if it is a trigger.
    trigger_of: Option<&'a Span>,
    /// Its words by their places.
    values: BTreeMap<(usize, usize), Value>,
    /// The variables that it declares, if it is an `ARG`.
    pub(super) arguments: Vec<Argument<'a>>,
    /// The mounts of a `RUN`; those whose values cannot be read are left out.
    pub(super) mounts: Vec<MountOptions>,
}

/// A variable that an `ARG` declares.
pub(super) struct Argument<'a> {
    pub(super) name: &'a str,
    pub(super) value: Option<String>,
    /// The value is that of the variable at the head of the file, or of the platform.
    pub(super) from_head: bool,
}

/// A word with its variables put in.
struct Value {
    place: Span,
    texts: Vec<String>,
    undefined: Vec<Undefined>,
}

/// A variable that has no value where it is used.
pub(super) struct Undefined {
    pub(super) name: String,
    /// The defined variable that was perhaps meant.
    pub(super) meant: Option<String>,
}

impl Step<'_> {
    /// Where a finding about a part of the instruction stands.
    pub(super) fn place(&self, part: &Span) -> Span {
        self.trigger_of.unwrap_or(part).clone()
    }

    /// What a word of the instruction expands to; nothing where it cannot be expanded.
    pub(super) fn texts(&self, word: &Word) -> &[String] {
        let found = self.values.get(&(word.span.range.start, word.span.range.end));
        found.map_or(&[], |value| &value.texts)
    }

    /// What a word expands to where it is one word; as it is written where it cannot be expanded.
    pub(super) fn text<'s>(&'s self, word: &'s Word) -> &'s str {
        self.texts(word).first().map_or(&word.text, String::as_str)
    }

    /// The undefined variables, each with the place of the word that uses it.
    pub(super) fn undefined(&self) -> impl Iterator<Item = (&Span, &Undefined)> {
        self.values.values().flat_map(|value| value.undefined.iter().map(|name| (&value.place, name)))
    }
}

/// A stage and what is done in it.
pub(super) struct Stage<'a> {
    /// The stage below, if it is one of the file.
    pub(super) base: Option<usize>,
    /// Whether the image below chose a shell of its own.
    pub(super) has_shell: bool,
    pub(super) steps: Vec<Step<'a>>,
    /// Every variable at the end.
    variables: BTreeMap<String, String>,
    /// Every argument that was declared at the end, with a value or without.
    declared: BTreeSet<String>,
}

/// The stages of a file in order; `None` for those that are not reached.
pub(super) fn stages<'a>(dockerfile: &'a Dockerfile, facts: &'a Facts) -> Vec<Option<Stage<'a>>> {
    let globals = globals(dockerfile, &facts.platform, &facts.arguments);
    let (mut traced, looks): (Vec<Option<Stage<'a>>>, _) = (Vec::new(), Cell::new(MOST_LOOKS));
    for (index, stage) in dockerfile.stages.iter().enumerate() {
        let Some(Some(beginning)) = facts.stages.get(index) else {
            traced.push(None);
            continue;
        };
        let below = beginning.stage.and_then(|base| traced.get(base)?.as_ref());
        let mut tracer = Tracer {
            escape: dockerfile.escape(),
            arguments: &facts.arguments,
            globals: &globals,
            variables: below.map(|below| below.variables.clone()).unwrap_or_default(),
            declared: below.map(|below| below.declared.clone()).unwrap_or_default(),
            looks: &looks,
        };
        tracer.variables.extend(beginning.variables.iter().cloned());
        let triggers = beginning.triggers.iter().map(|trigger| (trigger, Some(&stage.span)));
        let own = stage.instructions.iter().map(|instruction| (instruction, None));
        let steps = triggers.chain(own).map(|(instruction, at)| tracer.step(instruction, at)).collect();
        traced.push(Some(Stage {
            base: beginning.stage,
            has_shell: beginning.has_shell,
            steps,
            variables: tracer.variables,
            declared: tracer.declared,
        }));
    }
    traced
}

/// The variables that `FROM` sees: those of the platform, then the arguments at the head of the file with
/// what `given` says in place of their defaults.
pub(super) fn globals(
    dockerfile: &Dockerfile,
    platform: &BTreeMap<String, String>,
    given: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut globals = platform.clone();
    for (name, default) in dockerfile.global_args() {
        let default = || {
            let word = default.as_ref()?;
            words::expand(&word.text, &|name| globals.get(name).cloned(), dockerfile.escape()).ok()
        };
        if let Some(value) = given.get(&name.text).cloned().or_else(default) {
            globals.insert(name.text.clone(), value);
        }
    }
    globals
}

/// The variables of a stage as they are now.
struct Tracer<'a> {
    escape: char,
    arguments: &'a BTreeMap<String, String>,
    globals: &'a BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
    declared: BTreeSet<String>,
    /// How many more names may be looked for.
    looks: &'a Cell<usize>,
}

impl Tracer<'_> {
    fn step<'i>(&mut self, instruction: &'i Instruction, trigger_of: Option<&'i Span>) -> Step<'i> {
        let (mut arguments, mut mounts) = (Vec::new(), Vec::new());
        let values = match &instruction.kind {
            Kind::Arg(pairs) => {
                let mut values = Vec::new();
                for pair in pairs {
                    let (argument, value) = self.argument(pair);
                    arguments.push(argument);
                    values.extend(value);
                }
                values
            }
            Kind::Env(pairs) => self.environment(pairs),
            Kind::Label(pairs) => pairs.iter().flat_map(|pair| self.pair(pair)).collect(),
            Kind::Expose(words) => words.iter().map(|word| self.list(word)).collect(),
            Kind::Volume(words) => words.iter().map(|word| self.value(word)).collect(),
            Kind::User(word) | Kind::Workdir(word) | Kind::StopSignal(word) => vec![self.value(word)],
            Kind::Run(run) => run.mounts.iter().map(|mount| self.mount(mount, &mut mounts)).collect(),
            Kind::Copy(copy) => {
                let paths = copy.sources.iter().chain([&copy.destination]);
                let all = paths.chain(&copy.chown).chain(&copy.chmod).chain(&copy.excludes);
                let values = all.map(|word| self.value(word));
                values.chain(copy.heredocs.iter().map(|heredoc| self.heredoc(heredoc))).collect()
            }
            Kind::Add(add) => {
                let paths = add.sources.iter().chain([&add.destination]).chain(&add.checksum);
                let all = paths.chain(&add.chown).chain(&add.chmod).chain(&add.excludes);
                let values = all.map(|word| self.value(word));
                values.chain(add.heredocs.iter().map(|heredoc| self.heredoc(heredoc))).collect()
            }
            _ => Vec::new(),
        };
        let mut by_place: BTreeMap<(usize, usize), Value> = BTreeMap::new();
        for value in values {
            let range = &value.place.range;
            match by_place.entry((range.start, range.end)) {
                // A continuation inside gives name and value one place: the name is asked for.
                Entry::Occupied(mut known) => known.get_mut().undefined.extend(value.undefined),
                Entry::Vacant(free) => drop(free.insert(value)),
            }
        }
        Step { instruction, trigger_of, values: by_place, arguments, mounts }
    }

    /// One variable of an `ARG`: what is given, else its default, else the one at the head of the file.
    fn argument<'i>(&mut self, (name, default): &'i Pair) -> (Argument<'i>, Option<Value>) {
        let given = self.arguments.get(&name.text).cloned();
        let traced = match default {
            Some(word) if given.is_none() => Some(self.value(word)),
            _ => None,
        };
        let default = traced.as_ref().and_then(|value| value.texts.first().cloned());
        let own = given.or(default);
        let from_head = own.is_none() && self.globals.contains_key(&name.text);
        let value = own.or_else(|| self.globals.get(&name.text).cloned());
        if let Some(value) = &value {
            self.variables.insert(name.text.clone(), value.clone());
        }
        self.declared.insert(name.text.clone());
        (Argument { name: &name.text, value, from_head }, traced)
    }

    /// All values of one `ENV` see the variables as they were before it.
    fn environment(&mut self, pairs: &[Pair]) -> Vec<Value> {
        let values: Vec<_> = pairs.iter().flat_map(|pair| self.pair(pair)).collect();
        for pair in values.chunks_exact(2) {
            if let [name, value] = pair {
                let text = |value: &Value| value.texts.first().cloned().unwrap_or_default();
                self.variables.insert(text(name), text(value));
            }
        }
        values
    }

    /// Name and value.
    fn pair(&self, (name, value): &Pair) -> Vec<Value> {
        std::iter::once(name).chain(value).map(|word| self.value(word)).collect()
    }

    fn value(&self, word: &Word) -> Value {
        self.traced(&word.span, |lookup| Ok(vec![words::expand(&word.text, lookup, self.escape)?]))
    }

    /// A word that may become several. BuildKit does not ask whether its variables are defined.
    fn list(&self, word: &Word) -> Value {
        let value = self.traced(&word.span, |lookup| words::expand_to_list(&word.text, lookup, self.escape));
        Value { undefined: Vec::new(), ..value }
    }

    fn heredoc(&self, heredoc: &Heredoc) -> Value {
        self.traced(&heredoc.span, |lookup| match heredoc.expand {
            true => Ok(vec![words::expand_heredoc(&heredoc.content, lookup)?]),
            false => Ok(Vec::new()),
        })
    }

    fn mount(&self, mount: &Mount, mounts: &mut Vec<MountOptions>) -> Value {
        self.traced(&mount.text.span, |lookup| {
            // What is wrong with the values is found elsewhere.
            mounts.extend(mount.resolve(lookup, self.escape));
            Ok(Vec::new())
        })
    }

    /// The variable that was perhaps meant. So many are looked for: each look goes through all there are.
    fn meant(&self, name: &str) -> Option<String> {
        self.looks.set(self.looks.get().saturating_sub(1));
        let known = self.variables.keys().map(String::as_str);
        (self.looks.get() > 0).then(|| closest(name, known).map(str::to_owned)).flatten()
    }

    /// Expands, and notes each variable that has no value and is no declared argument either.
    fn traced(
        &self,
        place: &Span,
        expand: impl FnOnce(words::Lookup<'_>) -> Result<Vec<String>, words::WordError>,
    ) -> Value {
        let names = RefCell::new(BTreeSet::new());
        let lookup = |name: &str| {
            let value = self.variables.get(name).cloned();
            if value.is_none() && !self.declared.contains(name) {
                names.borrow_mut().insert(name.to_owned());
            }
            value
        };
        let texts = expand(&lookup).unwrap_or_default();
        let undefined = |name: String| Undefined { meant: self.meant(&name), name };
        Value {
            place: place.clone(),
            texts,
            undefined: names.into_inner().into_iter().map(undefined).collect(),
        }
    }
}
