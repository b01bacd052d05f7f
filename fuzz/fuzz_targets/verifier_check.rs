//! Bytes -> a generated program with mistakes (or, for some inputs, the bytes themselves as instructions) -> a verdict and
//! never a panic; what is accepted runs in the vm's checked mode without a fault.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_isa::{Endian, Raw};
use skep_object::ProgramIdx;
use skep_progen::{Choices, Family, Generated, Options as Kind, generate_from};
use skep_verifier::{Options, Verdict, check};
use skep_vm::context::{Arrival, Needs, supported};
use skep_vm::{Config, Context, FaultKind, Limits, ObjectOptions, Vm};

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let families: Vec<Family> = Family::ALL.iter().copied().filter(|family| family.is_loadable()).collect();
    let family = families[usize::from(*first) % families.len()];
    let program = generate_from(family, &mut Choices::from_bytes(rest), &Kind::mixed());
    let mut spec = program.to_spec();
    let options = Options::default();
    if *first >= 240 {
        // Any slots at all, with the maps of the program.
        let slots = rest.as_chunks::<8>().0.iter().map(|slot| Raw::from_bytes(*slot, Endian::NATIVE));
        spec.programs[0].insns = slots.collect();
        let _ = check(&spec, ProgramIdx(0), &options);
        return;
    }
    if check(&spec, ProgramIdx(0), &options).verdict == Verdict::Pass {
        run(&program);
    }
});

const GET_CURRENT_TASK_BTF: u32 = 158;

fn run(program: &Generated) {
    // Kernel objects and sockets are not in the vm.
    let task = skep_isa::Insn::Call(skep_isa::Call::Helper(GET_CURRENT_TASK_BTF));
    if matches!(program.family.as_str(), "objects" | "sockets") || program.insns.contains(&task) {
        return;
    }
    let limits = Limits { insns: Some(100_000), time: None, ..Limits::default() };
    let vm = Vm::new(Config { limits, cpus: 1, ..Config::default() });
    let Ok(object) = vm.load(&program.to_spec(), &ObjectOptions::default()) else { return };
    let Some(loaded) = object.program(ProgramIdx(0)) else { return };
    let mut context = match supported(program.prog_type, program.attach_type) {
        Ok(Needs::Packet(start)) => {
            let Ok(mut context) = Context::packet_hook(program.prog_type, program.attach_type, 512) else { return };
            let packet: Vec<u8> = (0..90u8).map(|i| i.wrapping_mul(41)).collect();
            context.set_packet(&packet, start, false, &Arrival::default()).expect("a packet");
            context
        }
        Ok(Needs::Words) => Context::words(&[3; 12]),
        Ok(Needs::Registers) => Context::registers(&[3; 168]),
        Ok(Needs::TracepointRecord) => Context::tracepoint(&[3; 64]),
        _ => return,
    };
    if let Err(fault) = vm.run(loaded, &mut context) {
        let fine = matches!(
            fault.kind,
            FaultKind::InsnLimit { .. } | FaultKind::TimeLimit { .. } | FaultKind::Unavailable { .. }
        );
        assert!(fine, "accepted, and then {fault}\n{program}");
    }
}
