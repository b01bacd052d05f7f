//! Verifier logs to what a person needs of them.
//!
//! [`Refusal::new`] takes the log of a refused program apart: the kernel's reason, the instruction, the source line it
//! was made from (the log quotes it), the state of the registers. Pure text work. [`advice`] says in a programmer's words
//! what a reason means and what is usually done about it.

mod advice;

pub use advice::{Advice, advice};

use crate::error::Errno;
use skep_isa::InsnIdx;
use std::fmt;

/// A program that the kernel refused.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// Name of the program.
    pub program: String,
    /// What bpf(2) returned.
    pub errno: Errno,
    /// The kernel's reason: the line of its log that says it, or what the error number means when there is no log.
    pub message: String,
    /// The instruction that it stopped at.
    pub insn: Option<InsnIdx>,
    /// That instruction as the verifier printed it.
    pub insn_text: Option<String>,
    /// The source line that the instruction was made from.
    pub source: Option<SourceLine>,
    /// The registers as the verifier last printed them.
    pub registers: Option<String>,
    /// The source lines on the way there, oldest first, at most [`Refusal::PATH_LIMIT`] of the last.
    pub path: Vec<SourceLine>,
    /// Counts from the end of the log.
    pub stats: Option<Stats>,
    /// Instructions of this program that a relocation could not satisfy, where the refusal is about reaching one.
    pub poisoned: Option<String>,
    /// The whole log.
    pub log: String,
}

/// A line of C as the log quotes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceLine {
    /// File, `""` if unknown.
    pub file: String,
    /// From 1, 0 if unknown.
    pub line: u32,
    /// From 1, 0 if unknown (the log has columns since 7.0 only; the object's records have them).
    pub column: u32,
    /// Text of the line.
    pub text: String,
}

/// What the verifier counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Instructions walked over, on all paths.
    pub processed_insns: u64,
    /// Most it would have walked over.
    pub limit: u64,
    /// Microseconds (only with statistics asked for).
    pub time_us: Option<u64>,
    /// Bytes of stack of each function, as `32+0`.
    pub stack: Option<String>,
    /// States kept at the most visited instruction.
    pub max_states_per_insn: Option<u64>,
    /// States in all.
    pub total_states: Option<u64>,
    /// States kept at most.
    pub peak_states: Option<u64>,
}

impl Refusal {
    /// Most source lines kept in [`Refusal::path`].
    pub const PATH_LIMIT: usize = 32;

    /// Takes a log apart. `errno` is what bpf(2) returned; an empty log leaves only what that means.
    pub fn new(program: &str, errno: Errno, log: &str) -> Refusal {
        let read = Reader::read(log);
        let mut message = read.message();
        if message.is_empty() {
            message = match (errno.0, log.trim().is_empty()) {
                (libc::E2BIG, true) => "the program has too many instructions (E2BIG)".to_owned(),
                (libc::EINVAL, true) => {
                    "the kernel does not know this kind of program or one of its flags (EINVAL)".to_owned()
                }
                _ => errno.to_string(),
            };
        }
        let named = insn_in_message(&message);
        let last = read.steps.last();
        let insn = named.or(last.map(|s| s.insn));
        let step = insn.and_then(|at| read.steps.iter().rev().find(|s| s.insn == at));
        let source = step.and_then(|s| s.source.as_ref()).or(if step.is_none() { read.source.as_ref() } else { None });
        Refusal {
            program: program.to_owned(),
            errno,
            insn: insn.map(InsnIdx),
            insn_text: step.map(|s| s.text.clone()),
            source: source.cloned(),
            registers: read.registers(),
            path: read.path(),
            stats: read.stats.clone(),
            poisoned: None,
            log: log.to_owned(),
            message,
        }
    }

    /// What is usually done about it.
    pub fn advice(&self) -> Option<Advice> {
        advice(&self.message)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the kernel refused program `{}`: {}", self.program, self.message)
    }
}

impl std::error::Error for Refusal {}

impl Stats {
    /// Reads the counts from the end of a log, of a program that was accepted or refused. `None` if there are none.
    pub fn parse(log: &str) -> Option<Stats> {
        Reader::read(log).stats
    }
}

/// An instruction that the verifier walked over.
#[derive(Clone, Debug)]
struct Step {
    insn: u32,
    text: String,
    source: Option<SourceLine>,
}

/// A log, line by line.
#[derive(Debug, Default)]
struct Reader<'a> {
    steps: Vec<Step>,
    /// The last source line quoted.
    source: Option<SourceLine>,
    /// Lines since the last instruction that are nothing but words.
    words: Vec<&'a str>,
    /// Registers and stack slots by name, in the order they came up.
    state: Vec<(&'a str, &'a str)>,
    stats: Option<Stats>,
    time_us: Option<u64>,
    stack: Option<String>,
}

impl<'a> Reader<'a> {
    fn read(log: &'a str) -> Reader<'a> {
        let mut reader = Reader::default();
        log.lines().map(str::trim_end).for_each(|line| reader.line(line));
        reader
    }

    fn line(&mut self, line: &'a str) {
        if line.is_empty() {
        } else if let Some(quoted) = line.strip_prefix("; ") {
            self.source = Some(SourceLine::parse(quoted));
        } else if let Some(rest) = line.strip_prefix("processed ") {
            self.stats = parse_stats(rest).map(|s| Stats { time_us: self.time_us, stack: self.stack.clone(), ..s });
        } else if let Some(rest) = line.strip_prefix("verification time ") {
            self.time_us = first_number(rest);
        } else if let Some(rest) = line.strip_prefix("stack depth ") {
            self.stack = Some(rest.to_owned());
        } else if let Some((insn, rest)) = numbered(line) {
            self.numbered(insn, rest);
        } else if let Some((from, rest)) = branch(line) {
            if let Some(at) = self.steps.iter().rposition(|s| s.insn == from) {
                self.steps.truncate(at + 1);
            }
            self.words.clear();
            self.state.clear();
            self.merge(rest);
        } else if is_state(line) {
            self.merge(line);
        } else if !is_noise(line) {
            self.words.push(line);
        }
    }

    /// `5: (b7) r0 = 0    ; R0_w=0` or `5: R0=0 R1=ctx()`.
    fn numbered(&mut self, insn: u32, rest: &'a str) {
        if !rest.starts_with('(') {
            self.state.clear();
            self.merge(rest);
            return;
        }
        let (text, state) = match rest.split_once(" ; ") {
            Some((text, state)) => (text.trim_end(), Some(state)),
            None => (rest, None),
        };
        let text = text.split_once(") ").map_or(text, |(_, t)| t).to_owned();
        // A program that the verifier walks for long prints each step; the last ones tell the story.
        if self.steps.len() >= 2 * STEP_LIMIT {
            self.steps.drain(..STEP_LIMIT);
        }
        self.steps.push(Step { insn, text, source: self.source.clone() });
        self.words.clear();
        if let Some(state) = state {
            self.merge(state);
        }
    }

    fn merge(&mut self, state: &'a str) {
        for token in tokens(state) {
            let Some((name, value)) = token.split_once('=') else { continue };
            let name = name.split('_').next().unwrap_or(name);
            if !is_place(name) {
                continue;
            }
            match self.state.iter_mut().find(|(n, _)| *n == name) {
                Some(known) => known.1 = value,
                None => self.state.push((name, value)),
            }
        }
    }

    fn registers(&self) -> Option<String> {
        let text = self.state.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(" ");
        (!text.is_empty()).then_some(text)
    }

    /// What the kernel said last. Some reasons take two lines; the first of them is the more exact then.
    fn message(&self) -> String {
        let last = self.words.len().saturating_sub(2);
        let words: Vec<&str> = self.words.get(last..).unwrap_or(&[]).iter().map(|w| w.trim()).collect();
        match words.as_slice() {
            [first, second] if belongs_together(first, second) => format!("{second}: {first}"),
            [.., last] => (*last).to_owned(),
            [] => String::new(),
        }
    }

    /// The source lines of the conditional jumps on the way.
    fn path(&self) -> Vec<SourceLine> {
        let mut path: Vec<SourceLine> = Vec::new();
        for step in self.steps.iter().filter(|s| s.text.starts_with("if ")) {
            if let Some(source) = &step.source
                && path.last() != Some(source)
            {
                path.push(source.clone());
            }
        }
        let extra = path.len().saturating_sub(Refusal::PATH_LIMIT);
        path.drain(..extra);
        path
    }
}

/// Parts between blanks, but not those within parentheses: `R1=scalar(var_off=(0x0; 0xff)) R10=fp0` are two.
fn tokens(state: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0usize;
    state.split(move |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && c.is_ascii_whitespace()
    })
}

/// Steps kept while a log is read: at least this many, at most twice.
const STEP_LIMIT: usize = 16 << 10;

impl SourceLine {
    /// `text @ file.c:12`, or before 6.10 just `text`.
    fn parse(quoted: &str) -> SourceLine {
        if let Some((text, place)) = quoted.rsplit_once(" @ ") {
            let mut parts = place.split(':');
            if let (Some(file), Some(Ok(line))) = (parts.next(), parts.next().map(str::parse)) {
                let column = parts.next().and_then(|c| c.parse().ok()).unwrap_or(0);
                return SourceLine { file: file.to_owned(), line, column, text: text.trim().to_owned() };
            }
        }
        SourceLine { file: String::new(), line: 0, column: 0, text: quoted.trim().to_owned() }
    }
}

/// `12: rest`
fn numbered(line: &str) -> Option<(u32, &str)> {
    let (number, rest) = line.split_once(": ").or_else(|| line.strip_suffix(':').map(|n| (n, "")))?;
    let insn = number.parse().ok()?;
    let rest = rest.trim_start();
    (rest.is_empty() || rest.starts_with('(') || is_state(rest)).then_some((insn, rest))
}

/// `from 3 to 9: R0=...`, also `from 3 to 9 (speculative execution): ...`
fn branch(line: &str) -> Option<(u32, &str)> {
    let rest = line.strip_prefix("from ")?;
    let (from, rest) = rest.split_once(" to ")?;
    let (_, state) = rest.split_once(':')?;
    Some((from.parse().ok()?, state))
}

/// `R3`, `fp-16`
fn is_place(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    name.strip_prefix('R').or_else(|| name.strip_prefix("fp-")).is_some_and(digits)
}

/// ` R0=0 R1_w=ctx()`, also with `frame1:` before it.
fn is_state(line: &str) -> bool {
    let line = line.trim_start();
    let line = match line.split_once(": ") {
        Some((frame, rest)) if frame.starts_with("frame") => rest.trim_start(),
        _ => line,
    };
    let first = line.split_ascii_whitespace().next().unwrap_or("");
    match first.split_once('=') {
        Some((name, _)) => is_place(name.split('_').next().unwrap_or(name)),
        None => false,
    }
}

/// What the verifier tells of its own work.
fn is_noise(line: &str) -> bool {
    const BEGINNINGS: [&str; 24] = [
        "mark_precise:",
        "last_idx ",
        "regs=",
        "parent ",
        "func#",
        "caller:",
        "callee:",
        "returning from callee",
        "to caller at ",
        "propagating ",
        "Validating ",
        "cur state:",
        "old state:",
        "insn processed ",
        "mark_read ",
        "total_states ",
        "peak_states ",
        "max_states",
        "stack depth",
        "verification time",
        "add_subprog",
        "linfo ",
        "async callback",
        "safe ",
    ];
    let line = line.trim_start();
    BEGINNINGS.iter().any(|b| line.starts_with(b))
        || line.ends_with("is safe for any args that match its prototype")
        || line.ends_with(": safe")
        || (line.starts_with("frame") && line.contains(": "))
        || (line.starts_with("arg#") && line.contains("size cannot be determined"))
}

/// Whether the first of two lines says where, and the second what.
fn belongs_together(first: &str, second: &str) -> bool {
    let pairs = [
        ("invalid access to packet", "offset is outside of the packet"),
        ("Unreleased reference", "would lead to reference leak"),
        ("invalid access to map value", "memory access"),
        ("invalid access to map value", "is outside of the allowed memory range"),
        ("invalid access to map value", "unbounded"),
        ("invalid access to map value", "min value is"),
        ("invalid access to map value", "max value is"),
        ("invalid access to memory", "is outside of the allowed memory range"),
    ];
    pairs.iter().any(|(a, b)| first.starts_with(a) && second.contains(b))
}

/// The instruction that a reason itself names.
fn insn_in_message(message: &str) -> Option<u32> {
    const BEFORE: [&str; 6] = [
        "unreachable insn ",
        "detected at insn ",
        "jump out of range from insn ",
        "back-edge from insn ",
        "invalid BPF_LD_IMM insn",
        "at insn ",
    ];
    BEFORE.iter().find_map(|b| first_number(message.split_once(b)?.1.trim_start()))?.try_into().ok()
}

fn first_number(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.get(..digits)?.parse().ok()
}

/// `5 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0`
fn parse_stats(rest: &str) -> Option<Stats> {
    let after = |name: &str| first_number(rest.split_once(name)?.1);
    Some(Stats {
        processed_insns: first_number(rest)?,
        limit: after("(limit ").unwrap_or(0),
        time_us: None,
        stack: None,
        max_states_per_insn: after("max_states_per_insn "),
        total_states: after("total_states "),
        peak_states: after("peak_states "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As 5.10 writes it: no file names, states on lines of their own, `inv` for numbers.
    const OLD: &str = "func#0 @0\n0: R1=ctx(id=0,off=0,imm=0) R10=fp0\n; int key = 1;\n0: (b7) r1 = 1\n1: R1_w=inv1 R10=fp0\n\
        1: (63) *(u32 *)(r10 -4) = r1\n; value = bpf_map_lookup_elem(&m, &key);\n5: (85) call bpf_map_lookup_elem#1\n\
        6: R0_w=map_value_or_null(id=1,off=0,ks=4,vs=8,imm=0) R10=fp0 fp-8=mmmm????\n; *value = 2;\n\
        6: (b7) r1 = 2\n7: R0_w=map_value_or_null(id=1,off=0,ks=4,vs=8,imm=0) R1_w=inv2 R10=fp0 fp-8=mmmm????\n\
        7: (7b) *(u64 *)(r0 +0) = r1\nR0 invalid mem access 'map_value_or_null'\n\
        processed 8 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0\n";

    #[test]
    fn an_old_log() {
        let r = Refusal::new("p", Errno(libc::EACCES), OLD);
        assert_eq!(r.message, "R0 invalid mem access 'map_value_or_null'");
        assert_eq!(r.insn, Some(InsnIdx(7)));
        assert_eq!(r.insn_text.as_deref(), Some("*(u64 *)(r0 +0) = r1"));
        assert_eq!(r.source.as_ref().map(|s| s.text.as_str()), Some("*value = 2;"));
        let registers = r.registers.as_deref().unwrap_or("");
        assert!(registers.starts_with("R0=map_value_or_null(id=1") && registers.contains("R1=inv2"), "{registers}");
        assert_eq!(r.stats.as_ref().map(|s| (s.processed_insns, s.limit)), Some((8, 1_000_000)));
    }

    #[test]
    fn branches_that_were_left_are_forgotten() {
        let log = "0: R1=ctx() R10=fp0\n; if (a) @ x.c:3\n0: (15) if r1 == 0x0 goto pc+2\n; return 1; @ x.c:4\n\
            1: (b7) r0 = 1 ; R0_w=1\n2: (95) exit\n\nfrom 0 to 3: R1=0 R10=fp0\n; return *p; @ x.c:5:9\n\
            3: (61) r0 = *(u32 *)(r1 +0)\nR1 invalid mem access 'scalar'\n\
            verification time 12 usec\nstack depth 8+0\nprocessed 4 insns (limit 1000000) max_states_per_insn 0\n";
        let r = Refusal::new("p", Errno(libc::EACCES), log);
        assert_eq!(r.insn, Some(InsnIdx(3)));
        let source = r.source.as_ref().expect("a line");
        assert_eq!((source.file.as_str(), source.line, source.column), ("x.c", 5, 9));
        assert_eq!(r.path.iter().map(|p| p.line).collect::<Vec<_>>(), [3]);
        assert_eq!(r.registers.as_deref(), Some("R1=0 R10=fp0"));
        let stats = r.stats.as_ref().expect("counts");
        assert_eq!((stats.time_us, stats.stack.as_deref()), (Some(12), Some("8+0")));
    }

    #[test]
    fn reasons_without_an_instruction() {
        for (log, message, insn) in [
            (
                "last insn is not an exit or jmp\nprocessed 0 insns (limit 1000000)\n",
                "last insn is not an exit or jmp",
                None,
            ),
            ("unreachable insn 3\nprocessed 0 insns\n", "unreachable insn 3", Some(InsnIdx(3))),
            ("", "the kernel does not know this kind of program or one of its flags (EINVAL)", None),
        ] {
            let r = Refusal::new("p", Errno(libc::EINVAL), log);
            assert_eq!(r.message, message);
            assert_eq!(r.insn, insn, "{log}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(log in "\\PC*") {
            Refusal::new("p", Errno(22), &log);
        }

        #[test]
        fn any_piece_of_a_log_is_read(from in 0..OLD.len(), to in 0..OLD.len(), cut in any::<bool>()) {
            let piece = OLD.get(from.min(to)..from.max(to)).unwrap_or("");
            let piece = if cut { piece.replace(' ', "\n") } else { piece.to_owned() };
            let refusal = Refusal::new("p", Errno(13), &piece);
            let _ = refusal.advice();
        }
    }
}
