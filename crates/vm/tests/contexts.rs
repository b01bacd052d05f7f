//! Every access of every size at every offset of a context struct: the checked mode allows what the kernel's verifier allows.
//!
//! The programs are only loaded into the kernel, not attached.

use skep_abi::{AttachType, ProgramType, context};
use skep_isa::Raw;
use skep_kernel::{LogLevel, Program, ProgramParams};
use skep_vm::context::{Arrival, Needs, Sock, SockAddr, Start, supported};
use skep_vm::{Config, Context, Runner, Vm};
use std::fmt::Write as _;

fn slots(text: &str) -> Vec<Raw> {
    skep_isa::encode(&skep_isa::assemble(text).unwrap())
}

fn allowed_by_kernel(program: ProgramType, attach: Option<AttachType>, slots: &[Raw]) -> bool {
    let mut params = ProgramParams::new("access", program, slots, "GPL");
    params.attach_type = attach;
    Program::load(&params, LogLevel::None).is_ok()
}

fn context(program: ProgramType, attach: Option<AttachType>) -> Option<Context<'static>> {
    let sock = Sock::default();
    match supported(program, attach).ok()? {
        Needs::Packet(start) => {
            let mut context = Context::packet_hook(program, attach, 100).unwrap();
            context.set_packet(&[0; 60], start, start == Start::Network, &Arrival::default()).unwrap();
            Some(context)
        }
        Needs::SockAddr => {
            let address = SockAddr { address: "10.0.0.1:80".parse().unwrap(), source: None, sock };
            Some(Context::sock_addr(attach, &address).unwrap())
        }
        Needs::Sock => Some(Context::sock(attach, &sock).unwrap()),
        _ => None,
    }
}

/// One program, in the vm and in the kernel.
fn compare(wrong: &mut String, vm: &Vm, runner: &mut Runner, row: &context::Access, attach: Option<AttachType>) -> u32 {
    let program = row.program;
    let Some(mut context) = context(program, attach) else { return 0 };
    let mut compared = 0;
    for size in [1u16, 2, 4, 8] {
        for off in 0..row.context.size + 8 {
            for write in [false, true] {
                let bits = size * 8;
                let text = match write {
                    true => format!("r2 = 0\n*(u{bits} *)(r1 + {off}) = r2\nr0 = 1\nexit"),
                    false => format!("r2 = *(u{bits} *)(r1 + {off})\nr0 = 1\nexit"),
                };
                let slots = slots(&text);
                let loaded = vm.load_slots("access", program, &slots).unwrap();
                let here = runner.run(&loaded, &mut context);
                let there = allowed_by_kernel(program, attach, &slots);
                compared += 1;
                if here.is_ok() != there {
                    let verb = if write { "write" } else { "read" };
                    let field = row.context.field_at(off).map_or("nothing", |field| field.name);
                    writeln!(
                        wrong,
                        "{program} {attach:?}: {verb} of {size} bytes at {off} ({field}): the kernel says {there}, the vm \
                         {here:?}"
                    )
                    .unwrap();
                }
            }
        }
    }
    compared
}

#[test]
fn the_checked_mode_allows_what_the_kernel_allows() {
    if !rustix::process::geteuid().is_root() {
        println!("needs root: nothing to compare with");
        return;
    }
    let vm = Vm::new(Config::default());
    let mut runner = vm.runner();
    let mut wrong = String::new();
    let mut compared = 0;
    for row in context::all_access() {
        // Places that share a row share the rules: the first one speaks for all.
        compared += compare(&mut wrong, &vm, &mut runner, row, row.attach.first().copied());
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(compared > 10_000, "only {compared} accesses were compared");
    println!("{compared} accesses");
}
