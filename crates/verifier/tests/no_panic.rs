//! Whatever comes in, an answer comes out: random slots, random instructions, generated programs with mistakes, for every type
//! of program and several kernels, with and without privileges.

use proptest::collection::vec;
use proptest::prelude::*;
use skep_abi::{KernelVersion, ProgramType};
use skep_btf::Btf;
use skep_isa::{Insn, Raw, encode, strategy};
use skep_object::{ObjectSpec, ProgramIdx};
use skep_progen::{Family, Generated, generate};
use skep_verifier::render::{Layout, render};
use skep_verifier::{Limits, Options, Report, Verdict, check};

fn judge(spec: &ObjectSpec, btf: Option<&Btf>, kernel: KernelVersion, privileged: bool) -> Report {
    let limits = Limits { insns: 20_000, ..Limits::default() };
    let options = Options { target_btf: btf, kernel, privileged, limits, want_complexity: true, ..Options::default() };
    let report = check(spec, ProgramIdx(0), &options);
    let text = render(spec, ProgramIdx(0), &report, &Layout::default());
    assert_eq!(text.is_none(), report.verdict == Verdict::Pass);
    if let Verdict::Fail(rejection) = &report.verdict {
        let len = spec.programs[0].insns.len();
        assert!(rejection.insn.as_usize() <= len, "{} is no instruction of {len}", rejection.insn);
        assert!(!rejection.title.is_empty() && !rejection.label.is_empty());
    }
    report
}

fn plain(insns: Vec<Raw>, prog_type: ProgramType) -> ObjectSpec {
    let mut spec = Generated::parse("type xdp\nmap a array key 4 value 16 entries 1\ncode\n  r0 = 0\n  exit\n")
        .expect("a program")
        .to_spec();
    spec.programs[0].hook.prog_type = prog_type;
    spec.programs[0].insns = insns;
    spec
}

fn program_type() -> impl Strategy<Value = ProgramType> {
    prop::sample::select(ProgramType::ALL)
}

fn kernel() -> impl Strategy<Value = KernelVersion> {
    prop::sample::select(&[(4, 14), (5, 10), (6, 1), (6, 12), (6, 18), (7, 2)][..])
        .prop_map(|(major, minor)| KernelVersion::new(major, minor))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_slots_are_judged(slots in vec(strategy::raw(), 0..24), prog_type in program_type(), kernel in kernel(), privileged: bool) {
        judge(&plain(slots, prog_type), None, kernel, privileged);
    }

    #[test]
    fn any_instructions_are_judged(insns in vec(strategy::insn(), 1..24), prog_type in program_type(), kernel in kernel(), privileged: bool) {
        let mut insns: Vec<Insn> = insns;
        insns.push(Insn::Exit);
        judge(&plain(encode(&insns), prog_type), None, kernel, privileged);
    }
}

#[test]
fn generated_programs_are_judged_the_same_each_time() {
    let btf = std::fs::read("/sys/kernel/btf/vmlinux").ok().and_then(|bytes| Btf::parse(bytes).ok());
    for &family in Family::ALL.iter().filter(|family| family.is_loadable()) {
        for seed in 0..30 {
            let program = generate(family, seed, &skep_progen::Options::mixed());
            let spec = program.to_spec();
            let (major, minor) = [(5, 10), (6, 1), (6, 18), (7, 2)][seed as usize % 4];
            let kernel = KernelVersion::new(major, minor);
            let first = judge(&spec, btf.as_ref(), kernel, seed % 3 != 0);
            let second = judge(&spec, btf.as_ref(), kernel, seed % 3 != 0);
            assert_eq!(first, second, "{family:?} {seed}");
        }
    }
}
