//! Compiled code against the interpreter: the same program, memory and limits must give the same result, memory, fault
//! and number of instructions, for limits of every length.

use skep_abi::ProgramType;
use skep_progen::{Family, Options, generate};
use skep_vm::{Config, Context, Fault, FaultKind, Limits, Memory, Mode, Vm};

/// A fault without the addresses of this run.
fn told(fault: &Fault) -> String {
    match &fault.kind {
        FaultKind::Access(access) => format!("{} access {} {}", fault.insn, access.size, access.write),
        FaultKind::Misaligned { size, .. } => format!("{} misaligned {size}", fault.insn),
        other => format!("{} {other}", fault.insn),
    }
}

struct Outcome {
    result: Result<u64, String>,
    memory: Vec<u8>,
    used: u64,
}

fn run(mode: Mode, memory: Memory, insns: Option<u64>, text: &str, bytes: &[u8]) -> Outcome {
    let limits = Limits { insns, time: None, ..Limits::default() };
    let vm = Vm::new(Config { mode, memory, limits, ..Config::default() });
    let slots = skep_isa::encode(&skep_isa::assemble(text).unwrap_or_else(|errors| panic!("{errors:?}\n{text}")));
    let program = vm.load_slots("test", ProgramType::Unspec, &slots).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(program.is_compiled(), mode == Mode::Compiled && cfg!(target_arch = "x86_64"));
    let mut copy = bytes.to_vec();
    let mut runner = vm.runner();
    let result = runner.run(&program, &mut Context::memory(&mut copy));
    Outcome { result: result.map_err(|fault| told(&fault)), memory: copy, used: runner.used_insns() }
}

fn agree(text: &str, bytes: &[u8]) {
    agree_to(text, bytes, 64);
}

fn agree_to(text: &str, bytes: &[u8], most: u64) {
    for memory in [Memory::Checked, Memory::Fast] {
        let full = run(Mode::Interpreter, memory, Some(1 << 20), text, bytes);
        if memory == Memory::Fast && full.result.is_err() {
            continue;
        }
        for insns in
            (0..full.used.min(most) + 2).chain([full.used, full.used + 1]).map(Some).chain([Some(1 << 20), None])
        {
            let expected = run(Mode::Interpreter, memory, insns, text, bytes);
            let got = run(Mode::Compiled, memory, insns, text, bytes);
            assert_eq!(got.result, expected.result, "{memory:?}, limit {insns:?}\n{text}");
            assert_eq!(got.memory, expected.memory, "{memory:?}, limit {insns:?}\n{text}");
            if insns.is_some() {
                assert_eq!(got.used, expected.used, "{memory:?}, limit {insns:?}\n{text}");
            }
            if memory == Memory::Fast && got.result.is_err() && insns.is_none() {
                panic!("a fault in fast code");
            }
        }
    }
}

#[test]
fn limits_fall_on_the_same_instruction() {
    agree("r0 = 0\nr0 = 1\nr0 = 2\nexit", &[]);
    agree("r0 = 0\nr1 = 10\nloop: r0 += r1\nr1 += -1\nif r1 != 0 goto loop\nexit", &[]);
    agree(
        "r6 = 1\nr1 = 5\n*(u64 *)(r10 - 8) = r1\ncall f\nr2 = *(u64 *)(r10 - 8)\nr0 += r2\nr0 += r6\nexit\n\
           f: r6 = 77\n*(u64 *)(r10 - 8) = r6\nr0 = r1\nr0 += r1\nif r1 == 0 goto end\nr1 += -1\ncall f\nend: exit",
        &[],
    );
}

#[test]
fn faults_are_the_same() {
    agree("r0 = 1\nr0 = *(u32 *)(r1 + 6)\nr0 = 2\nexit", &[0; 8]);
    agree("r0 = 1\nr0 = *(u32 *)(r1 + 4)\n*(u32 *)(r1 + 5) = 7\nr0 = 2\nexit", &[0; 8]);
    agree("call self\nexit\nself: call self\nexit", &[]);
    agree("r0 = 5\n*(u64 *)(r10 - 16) = 0\n*(u64 *)(r10 - 8) = 0\nlock *(u64 *)(r10 - 15) += r0\nr0 = 1\nexit", &[]);
    agree("r0 = r2\nr0 = *(u8 *)(r10 + 0)\nexit", &[]);
    agree("call f\nr0 = *(u64 *)(r0 + 0)\nexit\nf: r0 = r10\nr0 += -8\n*(u64 *)(r0 + 0) = 5\nexit", &[]);
}

#[test]
fn generated_programs_agree() {
    for seed in 0..60 {
        let program = generate(Family::ArithMemory, seed, &Options::valid());
        let text = program.insns.iter().map(|insn| format!("{insn}\n")).collect::<String>();
        let bytes: Vec<u8> = (0..256u64).map(|i| (i * 37 + seed) as u8).collect();
        agree_to(&text, &bytes, 3);
    }
}
