//! From tables to a BPF program.
//!
//! A program first finds the architecture's section, then the special system calls, then walks a binary tree
//! over the numbers at which the verdict changes. Jumps go to labels; [`Assembler::finish`] turns labels
//! into the distances that BPF wants. The kernel's data (`struct seccomp_data`): the number at offset 0, the
//! architecture at 4, six arguments of 64 bits from 16.

use super::tables::{CLONE3, LAST, NAMESPACE_FLAGS, PERSONALITIES, REFUSED_FAMILIES, Table};

/// `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) if_true: u8,
    pub(super) if_false: u8,
    pub(super) value: u32,
}

/// `BPF_LD | BPF_W | BPF_ABS`: loads the word at an offset.
pub(super) const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
pub(super) const EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JGE | BPF_K`.
pub(super) const AT_LEAST: u16 = 0x35;
/// `BPF_JMP | BPF_JSET | BPF_K`.
pub(super) const ANY_BIT: u16 = 0x45;
/// `BPF_RET | BPF_K`.
pub(super) const RETURN: u16 = 0x06;

const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
/// The two halves of the first argument; both architectures are little-endian.
const ARGUMENT_LOW: u32 = 16;
const ARGUMENT_HIGH: u32 = 20;

/// What a filter answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    NotPermitted,
    NotKnown,
    Kill,
}

impl Verdict {
    /// `SECCOMP_RET_…`.
    pub(super) const fn value(self) -> u32 {
        match self {
            Self::Allow => 0x7FFF_0000,
            Self::NotPermitted => 0x0005_0000 | libc::EPERM as u32,
            Self::NotKnown => 0x0005_0000 | libc::ENOSYS as u32,
            Self::Kill => 0x8000_0000,
        }
    }
}

/// The filter for processes of these architectures.
pub(super) fn assemble(tables: &[&Table]) -> Vec<Instruction> {
    let mut assembler = Assembler::default();
    for table in tables {
        section(&mut assembler, table);
    }
    assembler.answer(Verdict::Kill);
    assembler.finish()
}

/// One architecture: passes on to what follows unless the call is of it.
fn section(assembler: &mut Assembler, table: &Table) {
    let [own, other, allow, refuse, unknown] = std::array::from_fn(|_| assembler.label());
    assembler.load(ARCHITECTURE);
    assembler.jump(EQUAL, table.architecture, own, other);
    assembler.place(own);
    assembler.load(NUMBER);
    for number in table.private {
        assembler.jump_if(EQUAL, *number, allow);
    }
    assembler.jump_if(AT_LEAST, LAST + 1, unknown);
    assembler.jump_if(EQUAL, CLONE3, unknown);
    let [clone, personality, socket] = std::array::from_fn(|_| assembler.label());
    assembler.jump_if(EQUAL, table.clone, clone);
    assembler.jump_if(EQUAL, table.personality, personality);
    assembler.jump_if(EQUAL, table.socket, socket);
    let refused = table.refused.iter().map(|(number, _)| (*number, *number));
    let ranges: Vec<_> = refused.chain(table.unassigned.iter().copied()).collect();
    search(assembler, &boundaries(ranges), allow, refuse);
    assembler.place(clone);
    assembler.load(ARGUMENT_LOW);
    assembler.jump(ANY_BIT, NAMESPACE_FLAGS, refuse, allow);
    assembler.place(personality);
    load_small_argument(assembler, refuse);
    for personality in PERSONALITIES {
        assembler.jump_if(EQUAL, personality, allow);
    }
    assembler.answer(Verdict::NotPermitted);
    assembler.place(socket);
    load_small_argument(assembler, refuse);
    search(assembler, &boundaries(REFUSED_FAMILIES.to_vec()), allow, refuse);
    for (label, verdict) in
        [(allow, Verdict::Allow), (refuse, Verdict::NotPermitted), (unknown, Verdict::NotKnown)]
    {
        assembler.place(label);
        assembler.answer(verdict);
    }
    assembler.place(other);
}

/// Loads the first argument; one that does not fit into 32 bits is refused.
fn load_small_argument(assembler: &mut Assembler, refuse: Label) {
    let small = assembler.label();
    assembler.load(ARGUMENT_HIGH);
    assembler.jump(EQUAL, 0, small, refuse);
    assembler.place(small);
    assembler.load(ARGUMENT_LOW);
}

/// The numbers at which allowed turns into refused and back, from refused ranges in any order: starting
/// allowed at 0, every entry changes the verdict.
fn boundaries(mut ranges: Vec<(u32, u32)>) -> Vec<u32> {
    ranges.sort_unstable();
    let mut changes: Vec<u32> = Vec::new();
    for (first, last) in ranges {
        match changes.last() {
            Some(end) if *end == first => {
                changes.pop();
            }
            _ => changes.push(first),
        }
        if last < u32::MAX {
            changes.push(last + 1);
        }
    }
    changes
}

/// A binary tree over `changes`: jumps to `allow` if an even number of them is at most the loaded word.
fn search(assembler: &mut Assembler, changes: &[u32], allow: Label, refuse: Label) {
    let tree = assembler.label();
    descend(assembler, changes, 0, changes.len(), [allow, refuse], tree);
}

/// Places `here` and decides between the segments `first..=last`; segment `n` lies below `changes[n]`.
fn descend(
    assembler: &mut Assembler,
    changes: &[u32],
    first: usize,
    last: usize,
    verdicts: [Label; 2],
    here: Label,
) {
    assembler.place(here);
    let middle = usize::midpoint(first, last);
    let [below, above] = std::array::from_fn(|_| assembler.label());
    let target = |single: bool, segment: usize, label| if single { verdicts[segment % 2] } else { label };
    let (below_single, above_single) = (first == middle, middle + 1 == last);
    assembler.jump(
        AT_LEAST,
        changes[middle],
        target(above_single, last, above),
        target(below_single, first, below),
    );
    if !below_single {
        descend(assembler, changes, first, middle, verdicts, below);
    }
    if !above_single {
        descend(assembler, changes, middle + 1, last, verdicts, above);
    }
}

/// A place in the program that is jumped to.
#[derive(Clone, Copy, Debug)]
struct Label(usize);

/// An instruction whose jumps are still labels.
struct Unresolved {
    code: u16,
    value: u32,
    jumps: Option<(Label, Label)>,
}

/// Collects instructions and where labels are.
#[derive(Default)]
struct Assembler {
    instructions: Vec<Unresolved>,
    places: Vec<usize>,
}

impl Assembler {
    fn label(&mut self) -> Label {
        self.places.push(usize::MAX);
        Label(self.places.len() - 1)
    }

    /// `label` is the next instruction.
    fn place(&mut self, label: Label) {
        self.places[label.0] = self.instructions.len();
    }

    fn load(&mut self, offset: u32) {
        self.instructions.push(Unresolved { code: LOAD, value: offset, jumps: None });
    }

    fn answer(&mut self, verdict: Verdict) {
        self.instructions.push(Unresolved { code: RETURN, value: verdict.value(), jumps: None });
    }

    fn jump(&mut self, code: u16, value: u32, if_true: Label, if_false: Label) {
        self.instructions.push(Unresolved { code, value, jumps: Some((if_true, if_false)) });
    }

    /// Goes on with the next instruction if the condition does not hold.
    fn jump_if(&mut self, code: u16, value: u32, if_true: Label) {
        let next = self.label();
        self.jump(code, value, if_true, next);
        self.place(next);
    }

    fn finish(self) -> Vec<Instruction> {
        let distance = |from: usize, label: Label| {
            let distance = self.places[label.0] - from - 1;
            u8::try_from(distance).expect("a section is shorter than 256 instructions, as a test proves")
        };
        let resolve = |(at, instruction): (usize, &Unresolved)| {
            let jump = |label| distance(at, label);
            let (if_true, if_false) = instruction.jumps.map_or((0, 0), |(yes, no)| (jump(yes), jump(no)));
            Instruction { code: instruction.code, if_true, if_false, value: instruction.value }
        };
        self.instructions.iter().enumerate().map(resolve).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::{AARCH64, ARM, I386, X86_64};
    use super::*;

    /// What the kernel would answer.
    fn answer(program: &[Instruction], architecture: u32, number: u32, argument: u64) -> u32 {
        let (mut at, mut word) = (0, 0);
        loop {
            let instruction = program[at];
            at += 1;
            let holds = match instruction.code {
                RETURN => return instruction.value,
                LOAD => {
                    word = match instruction.value {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        ARGUMENT_LOW => argument as u32,
                        ARGUMENT_HIGH => (argument >> 32) as u32,
                        other => panic!("loads from {other}"),
                    };
                    continue;
                }
                EQUAL => word == instruction.value,
                AT_LEAST => word >= instruction.value,
                ANY_BIT => word & instruction.value != 0,
                other => panic!("unknown instruction {other:#x}"),
            };
            at += usize::from(if holds { instruction.if_true } else { instruction.if_false });
        }
    }

    const MACHINES: [[(&str, &Table); 2]; 2] =
        [[("x86_64", &X86_64), ("i386", &I386)], [("aarch64", &AARCH64), ("arm", &ARM)]];

    fn published(architecture: &str) -> Vec<(u32, String, String)> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/sandbox/seccomp");
        let text = std::fs::read_to_string(format!("{folder}/{architecture}.txt")).unwrap();
        let parse = |line: &str| {
            let mut words = line.splitn(3, ' ');
            let number = words.next().unwrap().parse().unwrap();
            (number, words.next().unwrap().to_owned(), words.next().unwrap().to_owned())
        };
        text.lines().map(parse).collect()
    }

    /// Arguments that matter to the call and what the profile says to each.
    fn cases(verdict: &str) -> Vec<(u64, Verdict)> {
        let (yes, no) = (Verdict::Allow, Verdict::NotPermitted);
        match verdict {
            "allow" => vec![(0, yes), (u64::MAX, yes)],
            "errno 1" => vec![(0, no), (u64::MAX, no)],
            "errno 38" => vec![(0, Verdict::NotKnown)],
            "clone" => vec![
                (0x11, yes),
                (0x0003_D0F00, yes),
                (0x1000_0000, no),
                (0x0002_0000, no),
                (0x4000_0011, no),
            ],
            "personality" => {
                let values = [0, 8, 0x20000, 0x20008, 0xFFFF_FFFF];
                let mut cases: Vec<_> = values.into_iter().map(|value| (value, yes)).collect();
                cases.extend([(0x40000, no), (1, no), (0x1_0000_0000, no)]);
                cases
            }
            "socket" => {
                let allowed = [0..=11, 13..=18, 21..=22, 24..=24, 26..=33, 35..=36, 39..=39, 41..=45];
                let is_allowed = |family| allowed.iter().any(|range| range.contains(&family));
                let mut cases: Vec<_> =
                    (0..60).map(|family| (family, if is_allowed(family) { yes } else { no })).collect();
                cases.push((0x1_0000_0001, no));
                cases
            }
            other => panic!("unknown verdict {other}"),
        }
    }

    #[test]
    fn every_system_call_gets_the_published_verdict() {
        for machine in MACHINES {
            let program = assemble(&machine.map(|(_, table)| table));
            for (name, table) in machine {
                for (number, call, verdict) in published(name) {
                    for (argument, expected) in cases(&verdict) {
                        let answer = answer(&program, table.architecture, number, argument);
                        assert_eq!(answer, expected.value(), "{name}: {call}({argument:#x})");
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_without_a_call_are_refused_and_newer_ones_unknown() {
        for machine in MACHINES {
            let program = assemble(&machine.map(|(_, table)| table));
            for (name, table) in machine {
                let known: Vec<_> = published(name).into_iter().map(|(number, ..)| number).collect();
                for number in (0..1200).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
                    let expected = match number {
                        number if known.contains(&number) => continue,
                        number if number <= LAST => Verdict::NotPermitted,
                        _ => Verdict::NotKnown,
                    };
                    assert_eq!(answer(&program, table.architecture, number, 0), expected.value());
                }
            }
        }
    }

    #[test]
    fn the_tables_name_what_the_profile_refuses() {
        for (name, table) in MACHINES.concat() {
            let refused: Vec<_> = published(name)
                .into_iter()
                .filter(|(.., verdict)| verdict == "errno 1")
                .map(|(number, call, _)| (number, call))
                .collect();
            let ours: Vec<_> =
                table.refused.iter().map(|(number, call)| (*number, (*call).to_owned())).collect();
            assert_eq!(ours, refused, "{name}");
        }
    }

    #[test]
    fn foreign_architectures_end_the_process() {
        let program = assemble(&[&X86_64, &I386]);
        assert_eq!(answer(&program, AARCH64.architecture, 0, 0), Verdict::Kill.value());
        assert!(program.len() < 4096);
    }
}
