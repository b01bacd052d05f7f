//! A classic filter -> whether Linux takes it, and if not, every reason.
//!
//! The rules are those of `bpf_check_classic` and `check_load_and_stores` in `net/core/filter.c`.

use thiserror::Error;

use super::{Insn, MEM_WORDS, Operand, Problem, SockFilter};

/// Instructions of the longest filter (`BPF_MAXINSNS`).
pub const MAX_INSNS: usize = 4096;

/// Why Linux refuses a filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("instruction {at}: {problem}")]
pub struct CheckError {
    /// Index of the instruction.
    pub at: usize,
    /// What is wrong with it.
    pub problem: CheckProblem,
}

/// What is wrong with an instruction in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CheckProblem {
    /// There is no instruction at all, or more than [`MAX_INSNS`]; `at` is 0.
    #[error("a filter has 1 to {MAX_INSNS} instructions, not {0}")]
    Length(usize),
    /// It is no instruction.
    #[error(transparent)]
    Invalid(Problem),
    /// Division or modulo by the number 0.
    #[error("division by zero")]
    DivisionByZero,
    /// A shift by the number 32 or more.
    #[error("shift by {0}, but A has 32 bits")]
    Shift(u32),
    /// A jump leads behind the last instruction.
    #[error("jump to {target}, behind the last instruction ({last})")]
    JumpOutside {
        /// Index that it leads to.
        target: u64,
        /// Index of the last instruction.
        last: usize,
    },
    /// A jump leads back (its distance, read as signed, is negative), as libpcap's `protochain` needs.
    #[error("jump back to {0}, but Linux only takes jumps forward")]
    JumpBack(i64),
    /// The last instruction does not return.
    #[error("the last instruction must be ret")]
    NoReturn,
    /// A word of scratch memory is read before something is stored in it, on some way here.
    #[error("M[{0}] is read, but not written on every way here")]
    Uninitialized(u8),
}

/// Whether Linux takes the filter.
///
/// # Errors
/// Every reason why not, in order of instructions. Scratch memory is only looked at when nothing else is wrong.
pub fn check(filter: &[SockFilter]) -> Result<(), Vec<CheckError>> {
    let Some(last) = filter.len().checked_sub(1).filter(|_| filter.len() <= MAX_INSNS) else {
        return Err(vec![CheckError { at: 0, problem: CheckProblem::Length(filter.len()) }]);
    };
    let mut program = Vec::with_capacity(filter.len());
    let mut errors = Vec::new();
    for (at, raw) in filter.iter().enumerate() {
        match check_one(at, last, *raw) {
            Ok(insn) => program.push(insn),
            Err(problem) => errors.push(CheckError { at, problem }),
        }
    }
    if errors.is_empty() {
        errors = check_scratch(&program);
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn check_one(at: usize, last: usize, raw: SockFilter) -> Result<Insn, CheckProblem> {
    let insn = raw.decode().map_err(CheckProblem::Invalid)?;
    let jump = |skip: u32| {
        let target = at as u64 + 1 + u64::from(skip);
        if target > last as u64 { Err(CheckProblem::JumpOutside { target, last }) } else { Ok(()) }
    };
    match insn {
        Insn::Alu(super::AluOp::Div | super::AluOp::Mod, Operand::K(0)) => return Err(CheckProblem::DivisionByZero),
        Insn::Alu(super::AluOp::Lsh | super::AluOp::Rsh, Operand::K(k)) if k >= 32 => {
            return Err(CheckProblem::Shift(k));
        }
        Insn::Jump(k) if k.cast_signed() < 0 => {
            return Err(CheckProblem::JumpBack(at as i64 + 1 + i64::from(k.cast_signed())));
        }
        Insn::Jump(k) => jump(k)?,
        Insn::JumpIf { jt, jf, .. } => {
            jump(jt.into())?;
            jump(jf.into())?;
        }
        _ => {}
    }
    if at == last && !matches!(insn, Insn::Ret(_) | Insn::RetA) {
        return Err(CheckProblem::NoReturn);
    }
    Ok(insn)
}

/// Follows which words of scratch memory are written. All jumps go forward, so one pass sees every way to an
/// instruction before the instruction itself.
fn check_scratch(program: &[Insn]) -> Vec<CheckError> {
    const ALL: u16 = u16::MAX;
    const _: () = assert!(MEM_WORDS == u16::BITS, "one bit for each word of scratch memory");
    let mut written_at = vec![ALL; program.len()];
    let mut written: u16 = 0;
    let mut errors = Vec::new();
    for (at, insn) in program.iter().enumerate() {
        written &= written_at.get(at).copied().unwrap_or(ALL);
        let skips = match *insn {
            Insn::Store(_, word) => {
                written |= 1 << word.number();
                continue;
            }
            Insn::LoadMem(_, word) if written & (1 << word.number()) == 0 => {
                errors.push(CheckError { at, problem: CheckProblem::Uninitialized(word.number()) });
                continue;
            }
            Insn::Jump(skip) => [skip, skip],
            Insn::JumpIf { jt, jf, .. } => [jt.into(), jf.into()],
            _ => continue,
        };
        for skip in skips {
            if let Some(mask) = written_at.get_mut(at + 1 + skip as usize) {
                *mask &= written;
            }
        }
        // The next instruction is reached by jumps only, if at all, and they have left their mask there. Linux goes on
        // like this behind ret too, where it keeps what was written before; so does this.
        written = ALL;
    }
    errors
}
