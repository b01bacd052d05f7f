//! What a check can be asked for besides a verdict: limits, counts, the registers at each instruction, other kernels.

use std::cell::{Cell, RefCell};

use skep_abi::KernelVersion;
use skep_isa::InsnIdx;
use skep_object::{ObjectSpec, ProgramIdx};
use skep_progen::Generated;
use skep_verifier::{Code, Limits, Options, StepKind, TraceEvent, TraceValue, Verdict, check};

fn program(code: &str) -> ObjectSpec {
    Generated::parse(&format!("type socket_filter\nmap table array key 4 value 64 entries 1\ncode\n{code}\n"))
        .expect("a program")
        .to_spec()
}

fn code_of(spec: &ObjectSpec, options: &Options<'_>) -> Option<Code> {
    match check(spec, ProgramIdx(0), options).verdict {
        Verdict::Fail(rejection) => Some(rejection.code),
        Verdict::Pass => None,
        Verdict::Unsupported(what) => panic!("unsupported: {}", what.feature),
    }
}

const LOOP: &str = "r0 = 0\nloop:\nr0 += 1\nif r0 < 100 goto loop\nr0 = 0\nexit";

#[test]
fn instructions_are_counted_and_limited() {
    let spec = program(LOOP);
    let report = check(&spec, ProgramIdx(0), &Options { want_complexity: true, ..Options::default() });
    assert_eq!(report.verdict, Verdict::Pass);
    assert_eq!(report.stats.insns_processed, 1 + 2 * 100 + 2);
    assert_eq!(report.complexity, [1, 100, 100, 1, 1]);
    assert_eq!(report.stats.longest_path, 203);
    let limit = |insns| Options { limits: Limits { insns, ..Limits::default() }, ..Options::default() };
    assert_eq!(code_of(&spec, &limit(203)), None);
    assert_eq!(code_of(&spec, &limit(202)), Some(Code::TooComplex));
}

#[test]
fn pending_branches_are_limited() {
    let code: String = (0..20).map(|_| "call 7\nif r0 == 0 goto +0\n").collect();
    let spec = program(&format!("{code}r0 = 0\nexit"));
    let limit = |jumps| Options { limits: Limits { jumps, ..Limits::default() }, ..Options::default() };
    assert_eq!(code_of(&spec, &limit(20)), None);
    assert_eq!(code_of(&spec, &limit(19)), Some(Code::TooManyBranches));
}

#[test]
fn each_instruction_can_be_watched() {
    let spec = program("call 7\nr6 = r0\nr6 &= 7\nif r6 > 3 goto out\nr0 = 1\nout:\nr0 = 0\nexit");
    let seen = RefCell::new(Vec::new());
    let count = Cell::new(0);
    let watch = |event: &TraceEvent<'_>| {
        count.set(count.get() + 1);
        assert_eq!(event.registers[10], TraceValue::Pointer);
        if event.insn == InsnIdx(4) {
            let TraceValue::Number(number) = event.registers[6] else { panic!("r6 is a number") };
            seen.borrow_mut().push((number.umin, number.umax));
        }
    };
    let report = check(&spec, ProgramIdx(0), &Options { trace: Some(&watch), ..Options::default() });
    assert_eq!(report.verdict, Verdict::Pass);
    assert_eq!(*seen.borrow(), [(0, 3)]);
    assert_eq!(count.get(), report.stats.insns_processed);
}

#[test]
fn old_kernels_know_less() {
    let spec = program(LOOP);
    let kernel = |major, minor| Options { kernel: KernelVersion::new(major, minor), ..Options::default() };
    assert_eq!(code_of(&spec, &kernel(5, 3)), None);
    assert_eq!(code_of(&spec, &kernel(5, 2)), Some(Code::KernelTooOld));
    let spec = program("r0 = (s8)r1\nr0 = 0\nexit");
    assert_eq!(code_of(&spec, &kernel(6, 6)), None);
    assert_eq!(code_of(&spec, &kernel(6, 5)), Some(Code::KernelTooOld));
    let uninit = program("r0 = *(u64 *)(r10 - 8)\nexit");
    assert_eq!(code_of(&uninit, &kernel(6, 3)), None);
    assert!(matches!(code_of(&uninit, &kernel(6, 2)), Some(Code::UninitStack | Code::StackBounds)));
}

#[test]
fn a_refusal_tells_its_way() {
    let spec =
        program("r8 = map_val(map_by_idx(0)) + 0\ncall 7\nr0 &= 127\nr6 = r0\nr8 += r6\nr0 = *(u8 *)(r8 + 0)\nexit");
    let Verdict::Fail(rejection) = check(&spec, ProgramIdx(0), &Options::default()).verdict else { panic!("it fails") };
    assert_eq!((rejection.code, rejection.insn), (Code::OutOfBounds, InsnIdx(6)));
    assert!(rejection.facts.iter().any(|fact| fact.contains("64 bytes")), "{:?}", rejection.facts);
    assert!(rejection.facts.iter().any(|fact| fact.contains("between 0 and 127")), "{:?}", rejection.facts);
    assert!(rejection.path.iter().any(|step| matches!(step.kind, StepKind::Changed { .. })));
    assert!(rejection.path.is_sorted_by_key(|step| step.insn));
}
