//! Which system calls stop: a set of numbers -> a classic BPF program for seccomp(2) that stops those and no others.
//!
//! The kernel evaluates such a filter once for each number when it is installed and remembers the calls that it always
//! allows, so an unwanted call costs a bit test. The program is: the architecture; then one range of numbers after the
//! other, each followed by its own "stop". Limits: a filter holds at most 4096 instructions, which is more than the
//! table of calls can take (each range takes three).

use std::collections::BTreeSet;

/// `AUDIT_ARCH_X86_64`.
pub(super) const ARCH_X86_64: u32 = 0xc000_003e;
/// `AUDIT_ARCH_I386`.
pub(super) const ARCH_I386: u32 = 0x4000_0003;

/// What a stop by our filter carries, so that it can be told from one that the command's own filter asks for.
const MARK: u32 = 0x5e9;

const RET_TRACE: u32 = 0x7ff0_0000 | MARK;
const RET_ALLOW: u32 = 0x7fff_0000;

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARG0: u32 = 16;

// Classic BPF: load a word, jump if equal / at least / greater, return.
const LD_W_ABS: u16 = 0x20;
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const JGT: u16 = 0x25;
const RET: u16 = 0x06;

/// The prctl(2) call and its `PR_SET_NAME`: stopped only for that operation.
const PRCTL: u32 = 157;
const PR_SET_NAME: u32 = 15;

/// One instruction, as `struct sock_filter` has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(super) struct Insn {
    pub(super) code: u16,
    pub(super) jt: u8,
    pub(super) jf: u8,
    pub(super) k: u32,
}

fn insn(code: u16, k: u32, jt: u8, jf: u8) -> Insn {
    Insn { code, jt, jf, k }
}

/// The program that stops these calls of 64-bit x86; `all` stops every call, of 32-bit programs too. `naming` adds
/// `prctl(PR_SET_NAME)`.
pub(super) fn program(calls: &BTreeSet<u32>, all: bool, naming: bool) -> Vec<Insn> {
    if all {
        return vec![insn(RET, RET_TRACE, 0, 0)];
    }
    // Another architecture has other numbers: none of its calls is meant.
    let mut program = vec![
        insn(LD_W_ABS, ARCH, 0, 0),
        insn(JEQ, ARCH_X86_64, 1, 0),
        insn(RET, RET_ALLOW, 0, 0),
        insn(LD_W_ABS, NUMBER, 0, 0),
    ];
    for (first, last) in ranges(calls) {
        if first == last {
            program.push(insn(JEQ, first, 0, 1));
        } else {
            program.extend([insn(JGE, first, 0, 2), insn(JGT, last, 1, 0)]);
        }
        program.push(insn(RET, RET_TRACE, 0, 0));
    }
    if naming && !calls.contains(&PRCTL) {
        program.extend([
            insn(JEQ, PRCTL, 0, 3),
            insn(LD_W_ABS, ARG0, 0, 0),
            insn(JEQ, PR_SET_NAME, 0, 1),
            insn(RET, RET_TRACE, 0, 0),
        ]);
    }
    program.push(insn(RET, RET_ALLOW, 0, 0));
    program
}

/// The set as ranges, first and last included.
fn ranges(calls: &BTreeSet<u32>) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &call in calls {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(call) => *last = call,
            _ => ranges.push((call, call)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn stops(program: &[Insn], arch: u32, number: u32, arg0: u32) -> bool {
        let (mut at, mut a) = (0usize, 0u32);
        loop {
            let i = program[at];
            at += 1;
            let jump = |taken: bool| usize::from(if taken { i.jt } else { i.jf });
            match i.code {
                LD_W_ABS => {
                    a = match i.k {
                        NUMBER => number,
                        ARCH => arch,
                        ARG0 => arg0,
                        other => panic!("load of {other}"),
                    }
                }
                JEQ => at += jump(a == i.k),
                JGE => at += jump(a >= i.k),
                JGT => at += jump(a > i.k),
                RET => return i.k == RET_TRACE,
                other => panic!("code {other:#x}"),
            }
        }
    }

    #[test]
    fn stops_what_is_wanted_and_nothing_else() {
        let sets: [&[u32]; 6] = [&[], &[0], &[59], &[0, 1, 2, 3, 9, 257, 435, 436], &[157, 158], &[471]];
        for set in sets {
            let calls: BTreeSet<u32> = set.iter().copied().collect();
            for naming in [false, true] {
                let program = program(&calls, false, naming);
                for number in 0..600 {
                    let wanted = calls.contains(&number);
                    assert_eq!(stops(&program, ARCH_X86_64, number, 0), wanted, "{set:?} {number}");
                    let named = wanted || naming && number == PRCTL;
                    assert_eq!(stops(&program, ARCH_X86_64, number, PR_SET_NAME), named, "{set:?} {number}");
                    assert!(!stops(&program, ARCH_I386, number, PR_SET_NAME));
                }
            }
        }
        assert!(stops(&program(&BTreeSet::new(), true, false), ARCH_I386, 5, 0));
    }

    #[test]
    fn the_largest_set_fits_a_filter() {
        let calls = (0..1200).step_by(2).collect();
        assert!(program(&calls, false, true).len() <= 4096);
    }
}
