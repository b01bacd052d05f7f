//! What the text cases do not say: limits, faults by place, host functions.

use crate::{Config, Context, FaultKind, Helper, Limits, Vm};
use skep_abi::ProgramType;

fn run_with(config: Config, text: &str, memory: &mut [u8]) -> Result<u64, crate::Fault> {
    let slots = skep_isa::encode(&skep_isa::assemble(text).unwrap());
    let vm = Vm::new(config);
    let program = vm.load_slots("test", ProgramType::Unspec, &slots).unwrap();
    vm.run(&program, &mut Context::memory(memory))
}

fn run(text: &str) -> Result<u64, crate::Fault> {
    run_with(Config::default(), text, &mut [])
}

#[test]
fn calls_keep_r6_to_r9_and_have_a_frame_each() {
    let text = "r6 = 1\nr1 = 5\n*(u64 *)(r10 - 8) = r1\ncall double\nr2 = *(u64 *)(r10 - 8)\nr0 += r2\nr0 += r6\nexit\n\
                double: r6 = 77\n*(u64 *)(r10 - 8) = r6\nr0 = r1\nr0 += r1\nexit";
    assert_eq!(run(text), Ok(16));
}

#[test]
fn endless_recursion_ends_at_the_last_frame() {
    let fault = run("call self\nexit\nself: call self\nexit").unwrap_err();
    assert_eq!(fault.kind, FaultKind::StackDepth { frames: 8 });
}

#[test]
fn the_limit_on_instructions_is_exact() {
    let config = |insns| Config { limits: Limits { insns: Some(insns), time: None, frames: 1 }, ..Config::default() };
    let text = "r0 = 0\nr0 = 1\nr0 = 2\nexit";
    assert_eq!(run_with(config(4), text, &mut []), Ok(2));
    let fault = run_with(config(3), text, &mut []).unwrap_err();
    assert_eq!((fault.insn.0, fault.kind), (3, FaultKind::InsnLimit { limit: 3 }));
}

#[test]
fn a_loop_without_end_ends_at_the_time_limit() {
    let limit = std::time::Duration::from_millis(20);
    let config = Config { limits: Limits { insns: None, time: Some(limit), frames: 1 }, ..Config::default() };
    let fault = run_with(config, "r0 = 0\nhere: r0 += 1\ngoto here", &mut []).unwrap_err();
    assert_eq!(fault.kind, FaultKind::TimeLimit { limit });
}

#[test]
fn a_fault_names_the_nearest_region() {
    let fault = run_with(Config::default(), "r0 = *(u32 *)(r1 + 6)\nexit", &mut [0; 8]).unwrap_err();
    assert!(fault.to_string().contains("byte 6 of the memory, which has 8"), "{fault}");
}

#[test]
fn host_functions_take_and_give_their_types() {
    let config = Config {
        helpers: vec![
            Helper::new(4000, "negate", |n: i32| -n),
            Helper::with_env(4001, "sum", |env, [at, len, ..]| {
                Ok(env.bytes(at, len)?.iter().map(|&byte| u64::from(byte)).sum())
            }),
            Helper::new(4002, "broken", |_: u64| -> u64 { panic!("broken") }),
        ],
        ..Config::default()
    };
    assert_eq!(run_with(config.clone(), "call 4001\nr1 = r0\ncall 4000\nexit", &mut [1, 2, 3]), Ok(-6i64 as u64));
    let fault = run_with(config.clone(), "r2 += 1\ncall 4001\nexit", &mut [1, 2, 3]).unwrap_err();
    assert!(matches!(fault.kind, FaultKind::Access(_)) && fault.insn.0 == 1, "{fault}");
    let fault = run_with(config, "call 4002\nexit", &mut []).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Panic { name: "broken".to_owned() });
}
