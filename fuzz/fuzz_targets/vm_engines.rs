//! Bytes -> a program that computes -> the same interpreted and compiled, checked and not, and when cut short.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_abi::ProgramType;
use skep_isa::encode;
use skep_progen::{Choices, Family, MEMORY, Options, generate_from};
use skep_vm::{Config, Context, FaultKind, Limits, Memory, Mode, Vm};

fn run(slots: &[skep_isa::Raw], mode: Mode, memory: Memory, insns: Option<u64>) -> (Result<u64, String>, Vec<u8>, u64) {
    let limits = Limits { insns, time: None, ..Limits::default() };
    let vm = Vm::new(Config { mode, memory, limits, cpus: 1, ..Config::default() });
    let program = vm.load_slots("fuzz", ProgramType::Unspec, slots).expect("a program that computes loads");
    let mut bytes: Vec<u8> = (0..MEMORY as u8).map(|i| i.wrapping_mul(37)).collect();
    let mut runner = vm.runner();
    let result = runner.run(&program, &mut Context::memory(&mut bytes));
    let result = result.map_err(|fault| match fault.kind {
        FaultKind::Access(access) => format!("{}: access of {}", fault.insn, access.size),
        other => format!("{}: {other}", fault.insn),
    });
    (result, bytes, runner.used_insns())
}

fuzz_target!(|bytes: &[u8]| {
    let program = generate_from(Family::ArithMemory, &mut Choices::from_bytes(bytes), &Options::valid());
    let slots = encode(&program.insns);
    let whole = run(&slots, Mode::Interpreter, Memory::Checked, Some(100_000));
    assert_eq!(whole, run(&slots, Mode::Compiled, Memory::Checked, Some(100_000)), "{program}");
    let cut = Some(whole.2 / 2);
    let half = run(&slots, Mode::Interpreter, Memory::Checked, cut);
    assert_eq!(half, run(&slots, Mode::Compiled, Memory::Checked, cut), "{program}");
    if whole.0.is_ok() {
        let (result, memory, _) = run(&slots, Mode::Compiled, Memory::Fast, None);
        assert_eq!((&whole.0, &whole.1), (&result, &memory), "{program}");
    }
});
