//! Where control goes in a program: blocks, what each function keeps, which functions need an aligned stack.
//!
//! A block begins where a jump leads or after an operation that ends one: jumps, everything that calls, exits. Within a
//! block every operation runs if the first does (but for faults), so that one subtraction counts them all.

use crate::code::{Code, Kind};

/// What the compiler needs to know before it begins.
pub(super) struct Flow {
    /// By operation: whether a jump or a call of the program leads here.
    pub(super) entered: Box<[bool]>,
    /// By operation: whether a jump leads back here.
    pub(super) loops: Box<[bool]>,
    /// By operation: for the first of a block how many it has, else 0.
    pub(super) block_len: Box<[u32]>,
    /// By function.
    pub(super) funcs: Box<[FuncFlow]>,
}

/// What the compiler needs to know of a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct FuncFlow {
    /// It writes r6, r7, r8, r9.
    pub(super) writes: [bool; 4],
    /// It calls something.
    pub(super) calls: bool,
    /// It makes a tail call, after which any register may be another.
    pub(super) tail_calls: bool,
}

impl Flow {
    pub(super) fn of(code: &Code) -> Flow {
        let count = code.ops.len();
        let mut entered = vec![false; count].into_boxed_slice();
        let mut starts = vec![false; count].into_boxed_slice();
        let mut loops = vec![false; count].into_boxed_slice();
        for (at, (kind, op)) in code.kinds.iter().zip(&code.ops).enumerate() {
            if matches!(kind, Kind::Jump | Kind::JumpIf { .. } | Kind::MayGoto | Kind::CallSub)
                && let Some(target) = entered.get_mut(op.target())
            {
                *target = true;
            }
            if matches!(kind, Kind::Jump | Kind::JumpIf { .. })
                && op.target() <= at
                && let Some(head) = loops.get_mut(op.target())
            {
                *head = true;
            }
            if ends_block(*kind)
                && let Some(next) = starts.get_mut(at + 1)
            {
                *next = true;
            }
        }
        for func in &code.funcs {
            if let Some(start) = entered.get_mut(func.start as usize) {
                *start = true;
            }
        }
        let mut block_len = vec![0u32; count].into_boxed_slice();
        let mut first = 0;
        for at in 0..count {
            if at == 0 || starts[at] || entered[at] {
                first = at;
            }
            block_len[first] += 1;
        }
        let funcs = code.funcs.iter().map(|func| {
            let mut flow = FuncFlow::default();
            let range = func.start as usize..func.end as usize;
            for (kind, op) in code.kinds[range.clone()].iter().zip(&code.ops[range]) {
                if let Some(place) = written(*kind, op.dst, op.src).and_then(|reg| usize::from(reg).checked_sub(6))
                    && let Some(writes) = flow.writes.get_mut(place)
                {
                    *writes = true;
                }
                match kind {
                    Kind::TailCall => (flow.calls, flow.tail_calls) = (true, true),
                    Kind::CallHelper | Kind::CallSub | Kind::PacketLoad { .. } => flow.calls = true,
                    _ => {}
                }
            }
            flow
        });
        let funcs = funcs.collect();
        Flow { entered, loops, block_len, funcs }
    }
}

/// Whether what follows the operation need not run when it does.
pub(super) fn ends_block(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Jump
            | Kind::JumpIf { .. }
            | Kind::MayGoto
            | Kind::CallHelper
            | Kind::CallSub
            | Kind::TailCall
            | Kind::Exit
            | Kind::PacketLoad { .. }
    )
}

/// The register that an operation writes by its own operands.
pub(super) fn written(kind: Kind, dst: u8, src: u8) -> Option<u8> {
    match kind {
        Kind::Alu { .. }
        | Kind::Neg { .. }
        | Kind::MovSx(_)
        | Kind::Swap { .. }
        | Kind::Wide
        | Kind::Load(_)
        | Kind::LoadSx(_)
        | Kind::LoadAcquire(_) => Some(dst),
        // Some forms leave it as it is.
        Kind::Atomic { .. } => Some(src),
        _ => None,
    }
}
